//! Short hashes for names and labels, e.g. the `bdf5948d5` in `istiod-canary-bdf5948d5-htddg`.

use serde::Serialize;

/// Letters and digits that form no words and cannot be confused (those of Kubernetes' generated names).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits: what Kubernetes hashes templates with.
fn fnv32a(bytes: &[u8], seed: u32) -> u32 {
    bytes
        .iter()
        .fold(seed, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Hash of a template and the number of collisions met so far, in the alphabet of generated names.
///
/// The template counts by its JSON with keys in order, so that equal templates have equal hashes.
pub fn template_hash<T: Serialize>(template: &T, collisions: Option<i32>) -> String {
    // Through Value only to have the keys in order; k8s-openapi types always serialise.
    let value = serde_json::to_value(template).unwrap_or_default();
    let mut hash = fnv32a(ordered(&value).to_string().as_bytes(), 0x811c_9dc5);
    if let Some(collisions) = collisions {
        hash = fnv32a(&collisions.to_le_bytes(), hash);
    }
    safe_encode(&hash.to_string())
}

/// Maps each byte into the safe alphabet, as Kubernetes' `rand.SafeEncodeString` does.
fn safe_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()]))
        .collect()
}

fn ordered(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.clone(), ordered(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn digits_become_safe_letters() {
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn key_order_does_not_matter_and_content_does() {
        let one = template_hash(&json!({"a": 1, "b": {"c": [1, 2], "d": 3}}), None);
        let same = template_hash(&json!({"b": {"d": 3, "c": [1, 2]}, "a": 1}), None);
        let other = template_hash(&json!({"a": 1, "b": {"c": [2, 1], "d": 3}}), None);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert!(one.len() <= 10 && one.bytes().all(|b| SAFE.contains(&b)), "{one}");
    }

    #[test]
    fn collisions_change_the_hash() {
        let hashes: std::collections::BTreeSet<_> = [None, Some(0), Some(1), Some(2)]
            .into_iter()
            .map(|c| template_hash(&json!({"a": 1}), c))
            .collect();
        assert_eq!(hashes.len(), 4);
    }
}
