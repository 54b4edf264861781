//! The part of JSONPath that printer columns, scale and field selectors use:
//! `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`, with or without braces and `$`.

use serde_json::Value;

/// Longest path that is read, bytes.
const MAX_PATH: usize = 1000;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: Vec<Step>, equal: bool, value: Value },
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH {
            return Err(format!("path is longer than {MAX_PATH} bytes"));
        }
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(inner);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        steps(inner).map(JsonPath)
    }

    /// All values the path leads to.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        follow(&self.0, value)
    }

    /// Sets the value at a path of plain fields, making objects on the way; false for any other path.
    pub fn set(&self, value: &mut Value, new: Value) -> bool {
        let mut at = value;
        for step in &self.0 {
            let Step::Field(name) = step else { return false };
            if !at.is_object() {
                *at = Value::Object(serde_json::Map::new());
            }
            at = &mut at[name.as_str()];
        }
        *at = new;
        true
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = field_end(after);
            if end > 0 {
                let name = after[..end].replace("\\.", ".");
                out.push(if name == "*" { Step::All } else { Step::Field(name) });
            }
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = bracket_end(after).ok_or_else(|| format!("unterminated [ in {text:?}"))?;
            out.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else {
            return Err(format!("unexpected {rest:?} in {text:?}"));
        }
    }
    Ok(out)
}

fn field_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'.' | b'[' => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where the bracket closes, quotes and nested brackets respected.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, String> {
    let inner = inner.trim();
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(quoted) = unquoted(inner) {
        return Ok(Step::Field(quoted.to_owned()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        for (operator, equal) in [("==", true), ("!=", false)] {
            if let Some((path, value)) = filter.split_once(operator) {
                let path = path
                    .trim()
                    .strip_prefix('@')
                    .ok_or_else(|| format!("filter {filter:?} must begin with @"))?;
                let value = value.trim();
                let value = match unquoted(value) {
                    Some(text) => Value::String(text.to_owned()),
                    None => serde_json::from_str(value).map_err(|_| format!("{value:?} is not a value"))?,
                };
                return Ok(Step::Filter {
                    path: steps(path)?,
                    equal,
                    value,
                });
            }
        }
        return Err(format!("filter {filter:?} has no == or !="));
    }
    inner
        .parse()
        .map(Step::Index)
        .map_err(|_| format!("{inner:?} is not an index"))
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

fn follow<'a>(path: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = path.split_first() else {
        return vec![value];
    };
    let next: Vec<&Value> = match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(at), Value::Array(list)) => {
            let length = i64::try_from(list.len()).unwrap_or(0);
            let at = if *at < 0 { at + length } else { *at };
            usize::try_from(at)
                .ok()
                .and_then(|at| list.get(at))
                .into_iter()
                .collect()
        }
        (Step::All, Value::Array(list)) => list.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (
            Step::Filter {
                path,
                equal,
                value: wanted,
            },
            Value::Array(list),
        ) => list
            .iter()
            .filter(|item| {
                follow(path, item)
                    .first()
                    .is_some_and(|found| (*found == wanted) == *equal)
            })
            .collect(),
        _ => Vec::new(),
    };
    next.into_iter().flat_map(|v| follow(rest, v)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({"spec": {"hosts": ["a", "b"], "n": 3}, "metadata": {"annotations": {"x.y/z": "v"}},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let check = |path: &str, expected: &[Value]| {
            let found: Vec<Value> = JsonPath::parse(path)
                .unwrap()
                .find(&object)
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(found, expected, "{path}");
        };
        check(".spec.hosts", &[json!(["a", "b"])]);
        check(".spec.hosts[*]", &[json!("a"), json!("b")]);
        check(".spec.hosts[1]", &[json!("b")]);
        check("{$.spec.n}", &[json!(3)]);
        check(r#".status.conditions[?(@.type=="Ready")].status"#, &[json!("True")]);
        check(r".metadata.annotations.x\.y/z", &[json!("v")]);
        check(".metadata.annotations['x.y/z']", &[json!("v")]);
        check(".spec.absent", &[]);
        assert!(JsonPath::parse(".a[").is_err());
        let mut target = json!({});
        assert!(JsonPath::parse(".spec.replicas").unwrap().set(&mut target, json!(2)));
        assert_eq!(target, json!({"spec": {"replicas": 2}}));
    }
}
