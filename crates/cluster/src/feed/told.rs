//! An object as the API server tells it: JSON, of which a watch reads only what it goes by. Reading all of it into a type
//! and writing it out again takes several times as long, and there are tens of thousands at a start.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object, without `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Namespace, name and resource version.
    meta: ObjectMeta,
    fields: Map<String, Value>,
}

impl Told {
    /// All of it, as an object of that kind: items of a list do not say what they are.
    pub fn into_value(mut self, api_version: &str, kind: &str) -> Value {
        self.fields.insert("apiVersion".to_owned(), api_version.into());
        self.fields.insert("kind".to_owned(), kind.into());
        Value::Object(self.fields)
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let mut meta = ObjectMeta::default();
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.remove("managedFields");
            let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
            meta.namespace = text("namespace");
            meta.name = text("name");
            meta.resource_version = text("resourceVersion");
        }
        Ok(Self { meta, fields })
    }
}

impl Resource for Told {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_stays_as_it_was_told_but_for_what_nobody_reads() {
        let told = r#"{"metadata":{"name":"x","namespace":"a","resourceVersion":"7","labels":{"b":"c"},
            "managedFields":[{"manager":"kubectl"}]},"spec":{"ports":[{"port":80}]}}"#;
        let told: Told = serde_json::from_str(told).unwrap();
        assert_eq!(told.meta().resource_version.as_deref(), Some("7"));
        let expected = serde_json::json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "x", "namespace": "a", "resourceVersion": "7", "labels": { "b": "c" } },
            "spec": { "ports": [{ "port": 80 }] },
        });
        assert_eq!(told.into_value("v1", "Service"), expected);
    }
}
