//! What an installation remembers of its gateways, beside its values: their entries in the specification, so that a
//! gateway that another revision upgraded in place can be put back as it was.

use api::names::object::values_config_map;
use serde_json::{Map, Value};

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

/// The entry of a gateway in the ConfigMap with the values of a revision, if that installed one of this name.
pub fn entry(values: &Object, kind: Kind, name: &str) -> Option<Value> {
    let entries: Value = serde_json::from_str(values.0.pointer("/data")?.get(KEY)?.as_str()?).ok()?;
    let entries = entries.get(list(kind)?)?.as_array()?;
    entries.iter().find(|entry| entry["name"] == name).cloned()
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
            let mut object =
                Object(json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"merged-values": "{}"}}));
            remember(&mut object, &operator);
            object
        };
        let values = config_map("values-old");
        let mine = entry(&values, Kind::IngressGateways, "mine").unwrap();
        assert_eq!(mine["k8s"], json!({"replicaCount": 3}));
        assert_eq!(entry(&values, Kind::IngressGateways, "other"), None);
        assert_eq!(entry(&values, Kind::EgressGateways, "mine"), None);
        assert_eq!(entry(&config_map("istio-old"), Kind::IngressGateways, "mine"), None);
    }
}
