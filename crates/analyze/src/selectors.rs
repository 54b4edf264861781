//! Label selectors as they stand in objects, read into those of the rules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use revision::selector::Selector;
use serde_json::Value;

/// A selector, or nothing if it cannot be read. One that is absent selects everything.
pub(crate) fn read(selector: &Value) -> Option<Selector> {
    if selector.is_null() {
        return Some(Selector::default());
    }
    serde_json::from_value::<LabelSelector>(selector.clone())
        .ok()
        .map(|selector| Selector::from(&selector))
}
