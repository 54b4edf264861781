//! One form for what is made and what is expected: without what a stock Envoy lacks, sets in order.

use serde_json::Value;
use translate::contrib::ALPN_SUBSTITUTE;

/// Filters that only Istio's Envoy has, and ours that stands in for one.
const LEFT_OUT: [&str; 5] = [
    "istio.metadata_exchange",
    "istio.alpn",
    "istio.stats",
    "envoy.filters.network.mysql_proxy",
    ALPN_SUBSTITUTE,
];
/// Lists whose order means nothing.
const SETS: [&str; 5] = [
    "queryParameters",
    "dynamicMetadata",
    "lbEndpoints",
    "domains",
    "filterChains",
];

/// Brings a resource into the form.
pub fn normalize(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(normalize);
            for (key, value) in map.iter_mut() {
                let Value::Array(items) = value else { continue };
                if key == "alpnProtocols" {
                    items.retain(|i| i != "istio-peer-exchange");
                }
                if SETS.contains(&key.as_str()) {
                    items.sort_by_cached_key(Value::to_string);
                }
            }
            if let Some(istio) = map.get_mut("istio").and_then(Value::as_object_mut) {
                istio.remove("alpn_override");
                istio.remove("disable_mx");
            }
            map.retain(|key, value| {
                let emptied = key == "filters" && value.as_array().is_some_and(Vec::is_empty);
                !emptied
            });
            map.sort_keys();
        }
        Value::Array(items) => {
            items.iter_mut().for_each(normalize);
            items.retain(|item| {
                let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
                !LEFT_OUT.contains(&name)
            });
        }
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15) {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}
