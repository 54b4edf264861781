//! A Kubernetes object as data, and what is known of its kind.

use std::collections::BTreeMap;
use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// A Kubernetes object. Its fields are read by JSON pointer; nothing is assumed to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object(pub Value);

/// Which object: kind, namespace (empty for cluster-scoped ones) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Group of the API, empty for the core.
    pub group: String,
    /// Version of the API.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Id {
    /// `Kind/namespace/name`, as progress and errors spell it.
    pub fn path(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind, self.name)
        } else {
            format!("{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }

    /// How the client addresses this kind.
    pub fn resource(&self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(&self.group, &self.version, &self.kind);
        ApiResource::from_gvk_with_plural(&gvk, &plural(&self.kind))
    }
}

/// `apps/v1, Kind=Deployment/istiod.istio-system`, as `istioctl uninstall` prints it (revisions.md §8.4).
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            version,
            kind,
            name,
            namespace,
        } = self;
        write!(f, "{group}/{version}, Kind={kind}/{name}.{namespace}")
    }
}

impl Object {
    /// Text at a JSON pointer, empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Value of a label, empty if it has none.
    pub fn label(&self, key: &str) -> &str {
        self.0
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// All labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        strings(self.0.pointer("/metadata/labels"))
    }

    /// Of a webhook configuration: the namespace of the Service that it calls, empty where it calls a URL.
    pub fn called_namespace(&self) -> &str {
        self.text("/webhooks/0/clientConfig/service/namespace")
    }

    /// Sets a label, making room for it.
    pub fn set_label(&mut self, key: &str, value: &str) {
        let Some(object) = self.0.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(empty);
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        let labels = metadata.entry("labels").or_insert_with(empty);
        if labels.is_null() {
            *labels = empty();
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(key.to_owned(), value.into());
        }
    }

    /// Does another object own it, so that it goes with that one (an EndpointSlice has its Service's labels)?
    pub fn is_dependent(&self) -> bool {
        self.0
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .is_some_and(|owners| !owners.is_empty())
    }

    /// Which object this is.
    pub fn id(&self) -> Id {
        let (group, version) = match self.text("/apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", self.text("/apiVersion")),
        };
        Id {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: self.kind().to_owned(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }
}

/// The texts of a map, such as labels or annotations.
pub fn strings(map: Option<&Value>) -> BTreeMap<String, String> {
    let fields = map.and_then(Value::as_object).into_iter().flatten();
    fields
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// URL name of a kind. English plurals cover every kind that charts here render.
pub(crate) fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        // policy → policies, but gateway → gateways
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if lower.ends_with(['s', 'x']) => format!("{lower}es"),
        _ => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals() {
        for (kind, expected) in [
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("GatewayClass", "gatewayclasses"),
            ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            ("EndpointSlice", "endpointslices"),
        ] {
            assert_eq!(plural(kind), expected);
        }
    }

    #[test]
    fn an_object_says_which_it_is() {
        let object = Object(serde_json::json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-canary", "namespace": "istio-system"}
        }));
        assert_eq!(
            object.id().to_string(),
            "apps/v1, Kind=Deployment/istiod-canary.istio-system"
        );
        assert_eq!(object.id().path(), "Deployment/istio-system/istiod-canary");
    }
}
