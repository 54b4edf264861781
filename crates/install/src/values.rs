//! Trees of values: merging, and the paths of `--set` (revisions.md §1.3).

use serde_json::{Map, Value};

/// Deepest path and merge, so that hostile input cannot exhaust the stack.
const DEEPEST: usize = 64;

/// Why a `--set` was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetError {
    /// A path element has no name.
    #[error("bad path {0:?}: a part of it is empty; write a path like values.pilot.env.NAME")]
    Empty(String),
    /// A path goes too deep.
    #[error("bad path {0:?}: more than 64 parts")]
    Deep(String),
    /// `[` without `]`, or something other than an index or `key:value` in between.
    #[error("bad path {0:?}: {1:?} is no list selector; write [2] or [name:value]")]
    Selector(String, String),
    /// The path goes through a value that is no map or list.
    #[error("bad path {0:?}: {1:?} is set and holds no fields")]
    Scalar(String, String),
}

/// Lays `over` on `base`: maps merge key by key, everything else (lists included) is replaced, `null` removes.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.shift_remove(key);
                } else if let (Some(below @ Value::Object(_)), Value::Object(_)) = (base.get_mut(key), value) {
                    merge(below, value);
                } else {
                    base.insert(key.clone(), value.clone());
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// One element of a path.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Step {
    /// Field of a map.
    Field(String),
    /// Index in a list.
    Index(usize),
    /// The list element that is a map with this field.
    Match(String, String),
    /// The list element that is this scalar.
    Item(String),
}

/// Splits `a.b\.c.[0].[name:x].d` into steps.
pub(crate) fn path(text: &str) -> Result<Vec<Step>, SetError> {
    let mut steps = Vec::new();
    for part in split_unescaped(text, '.') {
        // `ports[0]` is `ports.[0]`.
        let (field, mut selectors) = match part.find('[') {
            Some(0) => ("", part.as_str()),
            Some(at) if part.ends_with(']') => (&part[..at], &part[at..]),
            _ => (part.as_str(), ""),
        };
        if !field.is_empty() {
            steps.push(Step::Field(field.to_owned()));
        } else if selectors.is_empty() {
            return Err(SetError::Empty(text.to_owned()));
        }
        while !selectors.is_empty() {
            let wrong = || SetError::Selector(text.to_owned(), selectors.to_owned());
            let (inside, rest) = selectors
                .strip_prefix('[')
                .and_then(|s| s.split_once(']'))
                .ok_or_else(wrong)?;
            steps.push(match (inside.parse::<usize>(), inside.split_once(':')) {
                (Ok(index), _) => Step::Index(index),
                (_, Some((key, value))) => Step::Match(key.to_owned(), value.to_owned()),
                _ if inside.is_empty() => return Err(wrong()),
                _ => Step::Item(inside.to_owned()),
            });
            selectors = rest;
        }
        if steps.len() > DEEPEST {
            return Err(SetError::Deep(text.to_owned()));
        }
    }
    Ok(steps)
}

fn split_unescaped(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    let mut bracket = false;
    for c in text.chars() {
        let last = parts.len() - 1;
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '[' if !escaped => bracket = true,
            ']' if !escaped => bracket = false,
            _ => {}
        }
        if c == separator && !escaped && !bracket {
            parts.push(String::new());
        } else {
            parts[last].push(c);
        }
        escaped = false;
    }
    parts
}

/// The value of `--set path=text`: number, flag or text, as the text looks. Versions and environment stay text.
pub fn scalar(path: &str, text: &str) -> Value {
    let text = text.replace("\\,", ",");
    let textual = path == "tag"
        || path.ends_with(".tag")
        || path == "revision"
        || path.ends_with(".revision")
        || path.contains("proxyMetadata")
        || path == "compatibilityVersion"
        || path.ends_with(".compatibilityVersion");
    if textual {
        return Value::String(text);
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<f64>()
        && number.is_finite()
        && text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
    {
        return number.into();
    }
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        // `{a,b}` is a list, as with helm.
        list if list.starts_with('{') && list.ends_with('}') => {
            let inside = &list[1..list.len() - 1];
            inside
                .split(',')
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.trim().to_owned()))
                .collect()
        }
        _ => Value::String(text),
    }
}

/// Writes `value` at `text` (a path), making maps and list elements on the way.
pub fn set(tree: &mut Value, text: &str, value: Value) -> Result<(), SetError> {
    let steps = path(text)?;
    let mut at = tree;
    for step in &steps {
        at = descend(at, step).ok_or_else(|| SetError::Scalar(text.to_owned(), format!("{step:?}")))?;
    }
    *at = value;
    Ok(())
}

/// The value at `text` (a path), if there is one.
pub fn get<'a>(tree: &'a Value, text: &str) -> Result<Option<&'a Value>, SetError> {
    let steps = path(text)?;
    Ok(steps.iter().try_fold(tree, |at, step| match step {
        Step::Field(name) => at.get(name),
        Step::Index(index) => at.get(index),
        Step::Match(key, wanted) => {
            let mut items = at.as_array()?.iter();
            items.find(|item| item.get(key).is_some_and(|value| is_text(value, wanted)))
        }
        Step::Item(wanted) => at.as_array()?.iter().find(|item| is_text(item, wanted)),
    }))
}

fn descend<'a>(at: &'a mut Value, step: &Step) -> Option<&'a mut Value> {
    match step {
        Step::Field(name) => {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            Some(at.as_object_mut()?.entry(name.clone()).or_insert(Value::Null))
        }
        Step::Index(index) => {
            let list = list(at)?;
            // Beyond the end means: append.
            let index = (*index).min(list.len());
            if index == list.len() {
                list.push(Value::Null);
            }
            list.get_mut(index)
        }
        Step::Match(key, wanted) => {
            let list = list(at)?;
            let found = list
                .iter()
                .position(|item| item.get(key).is_some_and(|value| is_text(value, wanted)));
            let index = found.unwrap_or_else(|| {
                list.push(serde_json::json!({ key: wanted }));
                list.len() - 1
            });
            list.get_mut(index)
        }
        Step::Item(wanted) => {
            let list = list(at)?;
            let found = list.iter().position(|item| is_text(item, wanted));
            let index = found.unwrap_or_else(|| {
                list.push(Value::Null);
                list.len() - 1
            });
            list.get_mut(index)
        }
    }
}

fn list(at: &mut Value) -> Option<&mut Vec<Value>> {
    if at.is_null() {
        *at = Value::Array(Vec::new());
    }
    at.as_array_mut()
}

pub(crate) fn is_text(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => wanted == if *flag { "true" } else { "false" },
        Value::Number(number) => wanted.parse().is_ok_and(|wanted: serde_json::Number| wanted == *number),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn get_reads_where_the_path_says() {
        let tree = json!({"a": {"l": [{"name": "x", "v": 1}, "y"], "istio.io/rev": true}});
        let check = |path: &str, expected: Option<Value>| assert_eq!(get(&tree, path).unwrap(), expected.as_ref());
        check("a.l[0].v", Some(json!(1)));
        check("a.l.[name:x].v", Some(json!(1)));
        check("a.l.[y]", Some(json!("y")));
        check(r"a.istio\.io/rev", Some(json!(true)));
        check("a.absent.v", None);
    }

    fn check(settings: &[&str], expected: Value) {
        let mut tree = json!({"list": [{"name": "a", "v": 1}]});
        for setting in settings {
            let (path, text) = setting.split_once('=').unwrap();
            set(&mut tree, path, scalar(path, text)).unwrap();
        }
        assert_eq!(tree, expected, "{settings:?}");
    }

    #[test]
    fn set_writes_where_the_path_says() {
        check(
            &["a.b=1", "a.c=true", "a.d=x"],
            json!({"list": [{"name": "a", "v": 1}], "a": {"b": 1, "c": true, "d": "x"}}),
        );
        check(&["list.[name:a].v=2"], json!({"list": [{"name": "a", "v": 2}]}));
        check(
            &["list[0].v=2", "list[9].name=b"],
            json!({"list": [{"name": "a", "v": 2}, {"name": "b"}]}),
        );
        check(
            &[r"m.istio\.io/rev=x"],
            json!({"list": [{"name": "a", "v": 1}], "m": {"istio.io/rev": "x"}}),
        );
        check(
            &["tag=1.10", "values.global.tag=2", "revision=1"],
            json!({
                "list": [{"name": "a", "v": 1}], "tag": "1.10", "values": {"global": {"tag": "2"}}, "revision": "1"
            }),
        );
    }

    #[test]
    fn mistakes_name_the_path() {
        let error = |path: &str| set(&mut json!({"a": 1}), path, Value::Null).unwrap_err().to_string();
        assert!(error("a..b").contains("is empty"));
        assert!(error("a.b").contains("holds no fields"));
        assert!(error("list[]").contains("no list selector"));
    }

    #[test]
    fn maps_merge_and_lists_are_replaced() {
        let mut base = json!({"a": {"x": 1, "y": 2}, "l": [1, 2]});
        merge(&mut base, &json!({"a": {"y": 3, "x": null}, "l": [9]}));
        assert_eq!(base, json!({"a": {"y": 3}, "l": [9]}));
    }
}
