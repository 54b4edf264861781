//! YAML as templates write and read it.

/// Block YAML of a JSON value, without a final line break. Keys keep the order of the value.
pub fn to_yaml(json: &serde_json::Value) -> String {
    match json {
        // The emitter's own forms for these differ between versions; these are Go's.
        serde_json::Value::Null => "null".to_owned(),
        serde_json::Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        serde_json::Value::Array(items) if items.is_empty() => "[]".to_owned(),
        _ => serde_saphyr::to_string(json)
            .map(|text| text.trim_end().to_owned())
            .unwrap_or_default(),
    }
}
