//! Parts of Envoy's configuration dump.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Kind of the parts that hold extensions.
const ECDS: &str = "EcdsConfigDump";

fn is_of(part: &Value, kind: &str) -> bool {
    let url = part["@type"].as_str();
    url.is_some_and(|url| url.rsplit('.').next() == Some(kind))
}

/// The part of a kind, for example `ClustersConfigDump`.
pub fn part<'a>(dump: &'a Value, kind: &str) -> Result<&'a Value, Failure> {
    let configs = dump.get("configs").and_then(Value::as_array);
    let found = configs.into_iter().flatten().find(|part| is_of(part, kind));
    found.ok_or_else(|| Failure::new(format!("config dump has no configuration type {kind}")))
}

/// Extensions, which Envoy dumps once for each place that they are used at, and not at all where there are none.
pub fn extensions(dump: &Value) -> Result<Value, Failure> {
    // Whatever is no dump at all is told.
    part(dump, "BootstrapConfigDump").or_else(|_| part(dump, ECDS))?;
    let parts = dump["configs"].as_array().into_iter().flatten();
    let same = parts.filter(|part| is_of(part, ECDS));
    let entries: Vec<&Value> = same
        .flat_map(|part| part["ecds_filters"].as_array().into_iter().flatten())
        .collect();
    Ok(json!({"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": entries}))
}

/// An item in the JSON that other tools write (lowerCamelCase, no `@type` of its own). Of a kind that is not known, or
/// that holds one, the names of fields are converted alone.
pub fn canonical(item: &Value) -> Value {
    let convert = || -> Option<Value> {
        let mut fields = item.as_object()?.clone();
        let url = fields.shift_remove("@type")?;
        let descriptor = xds::json::descriptors().get_message_by_name(xds::json::type_name(url.as_str()?))?;
        let message = DynamicMessage::deserialize(descriptor, Value::Object(fields)).ok()?;
        xds::json::message_to_json(&message).ok()
    };
    convert().unwrap_or_else(|| {
        let mut renamed = camel(item);
        if let Some(fields) = renamed.as_object_mut() {
            fields.shift_remove("@type");
        }
        renamed
    })
}

/// Fields that are maps: what is below them is data, not names of fields.
const MAPS: [&str; 6] = [
    "filter_metadata",
    "typed_filter_metadata",
    "key_values",
    "metadata",
    "fields",
    "policies",
];

/// `snake_case` names of fields as protobuf's JSON writes them.
fn camel(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(camel).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let is_map = MAPS.contains(&name.as_str());
                (camel_name(name), if is_map { value.clone() } else { camel(value) })
            })
            .collect(),
        other => other.clone(),
    }
}

/// A `snake_case` name in lowerCamelCase.
pub fn camel_name(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

/// The items of several lists of a part, each below a field.
pub fn items(part: &Value, lists: &[(&str, &str)]) -> Vec<Value> {
    let mut all = Vec::new();
    for (list, field) in lists {
        for entry in part.get(list).and_then(Value::as_array).into_iter().flatten() {
            if let Some(item) = entry.pointer(field) {
                all.push(item.clone());
            }
        }
    }
    all
}

/// Text at a JSON pointer, empty if there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list at a JSON pointer.
pub fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// `<name>.<ns>` of the object that an item was made from: istiod leaves its path in it,
/// `/apis/networking.istio.io/v1/namespaces/<ns>/<kind>/<name>`.
pub fn origin(item: &Value) -> Option<String> {
    let path = item.pointer("/metadata/filter_metadata/istio/config")?.as_str()?;
    Some(match path.split('/').collect::<Vec<_>>()[..] {
        ["", "apis", _, _, _, namespace, _, name] => format!("{name}.{namespace}"),
        _ => "<unknown>".to_owned(),
    })
}
