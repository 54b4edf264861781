//! Where two JSON values differ.

use serde_json::Value;

/// Most differences that are listed of one value.
const MOST: usize = 12;

/// Paths at which `made` is not as `expected`.
pub fn differences(expected: &Value, made: &Value) -> Vec<String> {
    let mut list = Vec::new();
    walk("", expected, made, &mut list);
    list
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(300).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}

fn walk(path: &str, expected: &Value, made: &Value, list: &mut Vec<String>) {
    if list.len() >= MOST {
        return;
    }
    match (expected, made) {
        (Value::Object(e), Value::Object(m)) => {
            for (key, value) in e {
                let path = format!("{path}/{key}");
                match m.get(key) {
                    Some(other) => walk(&path, value, other, list),
                    None => list.push(format!("{path}: missing, expected {}", short(value))),
                }
            }
            for (key, value) in m {
                if !e.contains_key(key) {
                    list.push(format!("{path}/{key}: unexpected {}", short(value)));
                }
            }
        }
        (Value::Array(e), Value::Array(m)) => {
            for (index, value) in e.iter().enumerate() {
                let path = format!("{path}/{index}");
                match m.get(index) {
                    Some(other) => walk(&path, value, other, list),
                    None => list.push(format!("{path}: missing, expected {}", short(value))),
                }
            }
            for (index, value) in m.iter().enumerate().skip(e.len()) {
                list.push(format!("{path}/{index}: unexpected {}", short(value)));
            }
        }
        _ if expected == made => {}
        _ => list.push(format!("{path}: expected {}, made {}", short(expected), short(made))),
    }
}
