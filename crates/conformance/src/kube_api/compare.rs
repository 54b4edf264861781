//! Expectation against answer.

use serde_json::Value;

/// Differences listed at most.
const MAX: usize = 8;

/// Where `actual` is not `expected`.
pub fn same(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    exact("", expected, actual, &mut found);
    found.truncate(MAX);
    found
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 700 {
        text
    } else {
        format!("{}…", text.chars().take(700).collect::<String>())
    }
}

fn exact(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => exact(&format!("{path}.{key}"), value, other, found),
                    None => found.push(format!("{path}.{key} is missing, wanted {}", short(value))),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                found.push(format!("{path}.{key} is too much: {}", short(value)));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (value, other)) in a.iter().zip(b).enumerate() {
                exact(&format!("{path}[{index}]"), value, other, found);
            }
        }
        (a, b) if number(a).is_some() && number(a) == number(b) => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path} is {}, wanted {}", short(b), short(a))),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// Where `actual` does not contain `expected`.
pub fn contains(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    part("", expected, actual, &mut found);
    found.truncate(MAX);
    found
}

fn part(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(a), _) if a.is_empty() => {}
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => part(&format!("{path}.{key}"), value, other, found),
                    None => found.push(format!("{path}.{key} is missing, wanted {}", short(value))),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let mut rest = b.iter();
            for (index, value) in a.iter().enumerate() {
                let hit = rest.any(|other| contains(value, other).is_empty());
                if !hit {
                    let closest = b
                        .get(index)
                        .map(|other| contains(value, other).join("; "))
                        .unwrap_or_default();
                    found.push(format!(
                        "{path}[{index}] is not there, wanted {}; closest: {closest}",
                        short(value)
                    ));
                    return;
                }
            }
            if a.is_empty() && !b.is_empty() {
                found.push(format!("{path} is {}, wanted an empty list", short(actual)));
            }
        }
        (a, b) => exact(path, a, b, found),
    }
}

/// The value at a path as `metadata.uid` or `items[0].name`.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut node = value;
    for part in path.split('.') {
        let (name, indices) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        if !name.is_empty() {
            node = node.get(name)?;
        }
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            node = node.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(node)
}
