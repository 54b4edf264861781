//! What an installation remembers of its gateways, beside its values: their entries in the specification, so that a
//! gateway that another revision upgraded in place can be put back as it was, and never goes with that one.

use std::fmt;

use api::names::label;
use api::names::object::values_config_map;
use serde_json::{Map, Value, json};

use crate::api_server::{ApiServer, RequestError, kind};
use crate::component::Kind;
use crate::input::Operator;
use crate::object::Object;

/// Key of the entries in the ConfigMap with the values.
const KEY: &str = "gateways";

/// Lists of the specification, by component.
fn list(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::IngressGateways => Some("ingressGateways"),
        Kind::EgressGateways => Some("egressGateways"),
        Kind::Base | Kind::Pilot => None,
    }
}

/// A gateway, as an entry of the specification names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway<'a> {
    kind: Kind,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Gateway<'a> {
    /// The gateway that an object of an installation belongs to. The charts name all that they make after it.
    pub fn of(object: &'a Object) -> Option<Self> {
        let component = object.label(label::OPERATOR_COMPONENT);
        let kind = [Kind::IngressGateways, Kind::EgressGateways]
            .into_iter()
            .find(|kind| kind.label() == component)?;
        let suffix = match object.kind() {
            "ServiceAccount" => "-service-account",
            "Role" | "RoleBinding" => "-sds",
            _ => "",
        };
        let name = object.name();
        Some(Self {
            kind,
            namespace: object.namespace(),
            name: name.strip_suffix(suffix).unwrap_or(name),
        })
    }

    /// Ingress or egress.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// `name.namespace`.
impl fmt::Display for Gateway<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// What a revision remembers of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It was installed with it.
    Had,
    /// It was installed without it, but knows the name, as the profile `minimal` does.
    Off,
    /// It was installed without a gateway of this name.
    Nothing,
    /// Nobody knows: Helm installed the revision, or a version that remembered no gateways.
    Unrecorded,
}

/// Writes the entries into the ConfigMap with the values; other objects stay as they are.
pub(crate) fn remember(object: &mut Object, operator: &Operator) {
    if object.kind() != "ConfigMap" || object.name() != values_config_map(operator.revision()) {
        return;
    }
    let components = &operator.document["spec"]["components"];
    let lists = [Kind::IngressGateways, Kind::EgressGateways]
        .into_iter()
        .filter_map(list);
    let entries: Map<String, Value> = lists
        .filter_map(|list| Some((list.to_owned(), components.get(list)?.clone())))
        .collect();
    if let Some(data) = object.0.get_mut("data").and_then(Value::as_object_mut) {
        data.insert(KEY.to_owned(), Value::Object(entries).to_string().into());
    }
}

/// Reads the ConfigMap with the values of a revision; empty if there is none.
pub async fn read(server: &ApiServer, namespace: &str, revision: &str) -> Result<Object, RequestError> {
    let mut id = kind("", "v1", "ConfigMap");
    namespace.clone_into(&mut id.namespace);
    id.name = values_config_map(revision);
    Ok(server.get(&id).await?.unwrap_or_else(|| Object(json!({}))))
}

fn parsed(values: &Object, key: &str) -> Option<Value> {
    serde_json::from_str(values.0.pointer("/data")?.get(key)?.as_str()?).ok()
}

/// The entry of a gateway in the ConfigMap with the values of a revision, if that names it.
pub fn entry(values: &Object, gateway: &Gateway<'_>) -> Option<Value> {
    let entries = parsed(values, KEY)?;
    let entries = entries.get(list(gateway.kind)?)?.as_array()?;
    let is_it = |entry: &&Value| {
        let name = entry["name"].as_str().or(gateway.kind.gateway());
        let namespace = entry["namespace"].as_str().unwrap_or(values.namespace());
        name == Some(gateway.name) && namespace == gateway.namespace
    };
    entries.iter().find(is_it).cloned()
}

/// What a revision remembers of a gateway in the ConfigMap with its values.
pub fn memory(values: &Object, gateway: &Gateway<'_>) -> Memory {
    if parsed(values, KEY).is_none() {
        return Memory::Unrecorded;
    }
    let Some(entry) = entry(values, gateway) else {
        return Memory::Nothing;
    };
    // The older spelling, in values, turns the profile's gateway on too.
    let by_value = || {
        let merged = parsed(values, "merged-values")?;
        (gateway.kind.gateway() == Some(gateway.name)).then(|| merged["gateways"][gateway.name]["enabled"] == true)
    };
    if entry["enabled"] != false || by_value().unwrap_or(false) {
        Memory::Had
    } else {
        Memory::Off
    }
}

/// What the other revisions remember.
#[derive(Debug, Default)]
pub(crate) struct Others(Vec<(String, Object)>);

impl Others {
    /// From the ConfigMaps of the system namespace.
    pub(crate) fn among(revisions: &[String], namespace: &str, objects: &[Object]) -> Self {
        let values = |revision: &String| {
            let name = values_config_map(revision);
            let is_its = |object: &&Object| {
                object.kind() == "ConfigMap" && object.namespace() == namespace && object.name() == name
            };
            let found = objects.iter().find(is_its).cloned();
            (revision.clone(), found.unwrap_or_else(|| Object(json!({}))))
        };
        Self(revisions.iter().map(values).collect())
    }

    /// From the cluster.
    pub(crate) async fn read(server: &ApiServer, namespace: &str, revisions: &[String]) -> Result<Self, RequestError> {
        let mut found = Vec::new();
        for revision in revisions {
            found.push((revision.clone(), read(server, namespace, revision).await?));
        }
        Ok(Self(found))
    }

    /// Revisions that remember this of a gateway.
    pub(crate) fn with(&self, wanted: &[Memory], gateway: &Gateway<'_>) -> Vec<String> {
        let found = self
            .0
            .iter()
            .filter(|(_, values)| wanted.contains(&memory(values, gateway)));
        found.map(|(revision, _)| revision.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::assets::Assets;
    use crate::input::{Input, resolve};
    use serde_json::json;

    #[test]
    fn a_gateway_is_remembered_with_its_settings() {
        let text = json!({"spec": {"revision": "old", "components": {"ingressGateways": [
            {"name": "mine", "enabled": true, "k8s": {"replicaCount": 3}}]}}});
        let input = Input {
            files: vec![("a.yaml".to_owned(), text.to_string())],
            ..Input::default()
        };
        let operator = resolve(&input, &Assets::embedded()).unwrap();
        let config_map = |name: &str| {
            let mut object = Object(
                json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": "istio-system"}, "data": {"merged-values": "{}"}}),
            );
            remember(&mut object, &operator);
            object
        };
        let values = config_map("values-old");
        let gateway = |kind, name| Gateway {
            kind,
            namespace: "istio-system",
            name,
        };
        let mine = gateway(Kind::IngressGateways, "mine");
        let entry_of_mine = entry(&values, &mine).unwrap();
        assert_eq!(entry_of_mine["k8s"], json!({"replicaCount": 3}));
        assert_eq!(entry(&values, &gateway(Kind::IngressGateways, "other")), None);
        assert_eq!(entry(&values, &gateway(Kind::EgressGateways, "mine")), None);
        assert_eq!(entry(&config_map("istio-old"), &mine), None);
    }

    #[test]
    fn what_a_revision_remembers_of_a_gateway() {
        let check = |gateways: &str, values: &str, name: &str, expected: Memory| {
            let object = Object(
                json!({"kind": "Deployment", "metadata": {"name": name, "namespace": "istio-system",
                "labels": {"operator.istio.io/component": "IngressGateways"}}}),
            );
            let values = Object(json!({"metadata": {"name": "values-old", "namespace": "istio-system"},
                "data": {"gateways": gateways, "merged-values": values}}));
            assert_eq!(
                memory(&values, &Gateway::of(&object).unwrap()),
                expected,
                "{name} in {gateways}"
            );
        };
        let profile = r#"{"ingressGateways": [{"name": "istio-ingressgateway", "enabled": false}, {"name": "edge"}]}"#;
        check(profile, "{}", "edge", Memory::Had);
        check(profile, "{}", "istio-ingressgateway", Memory::Off);
        let by_value = r#"{"gateways": {"istio-ingressgateway": {"enabled": true}}}"#;
        check(profile, by_value, "istio-ingressgateway", Memory::Had);
        check(profile, "{}", "other", Memory::Nothing);
        let elsewhere = r#"{"ingressGateways": [{"name": "edge", "namespace": "elsewhere"}]}"#;
        check(elsewhere, "{}", "edge", Memory::Nothing);
        check("", "{}", "edge", Memory::Unrecorded);
    }

    #[test]
    fn all_objects_of_a_gateway_are_its_own() {
        let check = |kind: &str, name: &str, component: &str, expected: Option<&str>| {
            let object = Object(json!({"kind": kind, "metadata": {"name": name, "namespace": "edge",
                "labels": {"operator.istio.io/component": component}}}));
            let found = Gateway::of(&object).map(|gateway| gateway.to_string());
            assert_eq!(found.as_deref(), expected, "{kind} {name}");
        };
        check("Service", "gw", "IngressGateways", Some("gw.edge"));
        check(
            "ServiceAccount",
            "gw-service-account",
            "EgressGateways",
            Some("gw.edge"),
        );
        check("RoleBinding", "gw-sds", "IngressGateways", Some("gw.edge"));
        check("Deployment", "gw-sds", "IngressGateways", Some("gw-sds.edge"));
        check("Service", "istiod", "Pilot", None);
    }
}
