//! Validates an object against its schema, worded as the real server does.

use super::{
    format,
    node::{MAX_DEPTH, additional, embedded, flag, join, kind, properties},
};
use crate::field::{Cause, FieldError, printed};
use regex::Regex;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Most compiled patterns that are kept.
const MAX_PATTERNS: usize = 2048;

/// Problems of `value`; what is equal to `old` is not judged again. `base` is the field the value sits in,
/// empty for a whole object.
#[must_use]
pub fn problems(schema: &Value, value: &Value, old: Option<&Value>, base: &str) -> Vec<FieldError> {
    let mut check = Check { base, out: Vec::new() };
    check.node(schema, value, old, "", 0);
    check.out
}

struct Check<'a> {
    base: &'a str,
    out: Vec<FieldError>,
}

impl Check<'_> {
    fn field(&self, path: &str) -> String {
        match (self.base, path) {
            ("", path) => path.to_owned(),
            (base, "") => base.to_owned(),
            (base, path) if path.starts_with('[') => format!("{base}{path}"),
            (base, path) => join(base, path),
        }
    }

    /// A problem in words of the validator: `path in body …`.
    fn wrong(&mut self, path: &str, value: &Value, text: &str) {
        self.out.push(FieldError::invalid(
            self.field(path),
            value,
            format!("{path} in body {text}"),
        ));
    }

    fn wrong_type(&mut self, path: &str, value: &Value, expected: &str) {
        let mut error = FieldError::invalid(
            self.field(path),
            value,
            format!("{path} in body must be of type {expected}: {}", printed(value)),
        );
        error.cause = Cause::TypeInvalid;
        self.out.push(error);
    }

    /// A problem without a field: the real server prints `<nil>` when it judges a whole object.
    fn whole(&mut self, text: String) {
        let field = if self.base.is_empty() {
            "<nil>".to_owned()
        } else {
            self.base.to_owned()
        };
        self.out.push(FieldError::invalid(field, &json!(""), text));
    }

    fn node(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str, depth: usize) {
        if old == Some(value) || depth > MAX_DEPTH {
            return;
        }
        self.types(schema, value, path);
        match value {
            Value::String(text) => self.string(schema, value, text, path),
            Value::Number(_) => self.number(schema, value, path),
            Value::Array(list) => self.list(schema, list, old, path, depth),
            Value::Object(_) => self.object(schema, value, old, path, depth),
            _ => {}
        }
        self.allowed(schema, value, path);
        self.combinations(schema, value, path, depth);
    }

    fn types(&mut self, schema: &Value, value: &Value, path: &str) {
        let wanted: Vec<&str> = if flag(schema, "x-kubernetes-int-or-string") {
            vec!["integer", "string"]
        } else {
            match kind(schema) {
                "" => return,
                one => vec![one],
            }
        };
        if value.is_null() {
            if !flag(schema, "nullable") {
                self.wrong_type(path, &json!("null"), &wanted.join(","));
            }
            return;
        }
        let (actual, actual_format) = actual_type(value);
        let format = schema["format"].as_str().unwrap_or_default();
        let whole_float =
            actual == "number" && value.as_f64().is_some_and(|f| f.fract() == 0.0) && wanted.contains(&"integer");
        let integer_as_number = actual == "integer" && wanted.contains(&"number");
        let plain = !matches!(value, Value::String(_) | Value::Array(_));
        if plain
            && !format.is_empty()
            && !wanted.contains(&actual)
            && format != actual_format
            && !whole_float
            && !integer_as_number
        {
            self.wrong_type(path, &json!(actual_format), format);
            return;
        }
        let numeric = wanted.contains(&"number") || wanted.contains(&"integer");
        if !numeric && !format.is_empty() && !plain {
            return;
        }
        if !wanted.contains(&actual) && !whole_float && !integer_as_number {
            self.wrong_type(path, &json!(actual), &wanted.join(","));
        }
    }

    /// Length and pattern: the first that fails is the one that is told; the format is another check.
    fn string(&mut self, schema: &Value, value: &Value, text: &str, path: &str) {
        let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        let max = schema["maxLength"].as_u64().filter(|max| length > *max);
        let min = schema["minLength"].as_u64().filter(|min| length < *min);
        let source = schema["pattern"]
            .as_str()
            .filter(|s| pattern(s).is_ok_and(|p| !p.is_match(text)));
        if let Some(max) = max {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            self.out.push(FieldError::too_long(self.field(path), max));
        } else if let Some(min) = min {
            self.wrong(path, value, &format!("should be at least {min} chars long"));
        } else if let Some(source) = source {
            self.wrong(path, value, &format!("should match '{source}'"));
        }
        if let Some(name) = schema["format"].as_str()
            && format::matches(name, text) == Some(false)
        {
            self.wrong_type(path, value, name);
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let expected = kind(schema);
        if !matches!(expected, "integer" | "number") {
            return;
        }
        let format = schema["format"].as_str().unwrap_or_default();
        if expected == "integer" && !in_range(value, format) {
            let format = if format.is_empty() {
                "(default format)".to_owned()
            } else {
                format!("with format {format}")
            };
            self.whole(format!("Checked value must be of type integer {format} in {}", path));
        }
        let Some(number) = value.as_f64() else { return };
        if let Some(of) = schema["multipleOf"].as_f64()
            && of > 0.0
            && ((number / of) - (number / of).round()).abs() > f64::EPSILON
        {
            self.wrong(
                path,
                value,
                &format!("should be a multiple of {}", schema["multipleOf"]),
            );
        }
        if let Some(max) = schema["maximum"].as_f64() {
            let exclusive = flag(schema, "exclusiveMaximum");
            if number > max || (exclusive && number >= max) {
                let words = if exclusive {
                    "less than"
                } else {
                    "less than or equal to"
                };
                self.wrong(path, value, &format!("should be {words} {}", schema["maximum"]));
            }
        }
        if let Some(min) = schema["minimum"].as_f64() {
            let exclusive = flag(schema, "exclusiveMinimum");
            if number < min || (exclusive && number <= min) {
                let words = if exclusive {
                    "greater than"
                } else {
                    "greater than or equal to"
                };
                self.wrong(path, value, &format!("should be {words} {}", schema["minimum"]));
            }
        }
    }

    fn too_many(&mut self, path: &str, count: usize, max: u64) {
        let noun = if max == 1 { "item" } else { "items" };
        self.out.push(FieldError {
            cause: Cause::TooMany,
            field: self.field(path),
            value: Some(count.to_string()),
            detail: format!("must have at most {max} {noun}"),
        });
    }

    fn list(&mut self, schema: &Value, list: &[Value], old: Option<&Value>, path: &str, depth: usize) {
        if let Some(items) = schema.get("items") {
            let old_list = old.and_then(Value::as_array);
            for (at, item) in list.iter().enumerate() {
                let before = old_list.and_then(|l| counterpart(schema, item, l));
                self.node(items, item, before, &format!("{path}[{at}]"), depth + 1);
            }
        }
        let count = u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(min) = schema["minItems"].as_u64()
            && count < min
        {
            self.wrong(path, &json!(count), &format!("should have at least {min} items"));
        }
        if let Some(max) = schema["maxItems"].as_u64()
            && count > max
        {
            self.too_many(path, list.len(), max);
        }
        if flag(schema, "uniqueItems") && list.iter().enumerate().any(|(at, item)| list[..at].contains(item)) {
            self.wrong(path, &Value::Array(list.to_vec()), "shouldn't contain duplicates");
        }
    }

    fn object(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str, depth: usize) {
        let Some(map) = value.as_object() else { return };
        let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
        if let Some(min) = schema["minProperties"].as_u64()
            && count < min
        {
            self.wrong(path, &json!(count), &format!("should have at least {min} properties"));
        }
        if let Some(max) = schema["maxProperties"].as_u64()
            && count > max
        {
            self.too_many(path, map.len(), max);
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !map.contains_key(name) {
                self.out.push(FieldError::required(self.field(&join(path, name)), ""));
            }
        }
        for (name, below) in map {
            let declared = properties(schema)
                .and_then(|p| p.get(name))
                .or_else(|| additional(schema));
            if let Some(node) = declared {
                self.node(node, below, old.and_then(|o| o.get(name)), &join(path, name), depth + 1);
            }
        }
        if depth > 0 && embedded(schema) {
            for name in ["apiVersion", "kind"] {
                if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    self.out.push(FieldError::required(self.field(&join(path, name)), ""));
                }
            }
        }
    }

    fn allowed(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(values) = schema["enum"].as_array() else {
            return;
        };
        if values.contains(value) || (value.is_null() && flag(schema, "nullable")) {
            return;
        }
        let names: Vec<String> = values
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.out
            .push(FieldError::not_supported(self.field(path), value, &names));
    }

    fn combinations(&mut self, schema: &Value, value: &Value, path: &str, depth: usize) {
        let branches = |key: &str| schema[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let judge = |branch: &Value| {
            let mut inner = Check {
                base: self.base,
                out: Vec::new(),
            };
            inner.node(branch, value, None, path, depth + 1);
            inner.out
        };
        let any: Vec<_> = branches("anyOf").iter().map(judge).collect();
        let one: Vec<_> = branches("oneOf").iter().map(judge).collect();
        let all: Vec<_> = branches("allOf").iter().map(judge).collect();
        let not = schema.get("not").filter(|n| n.is_object()).map(judge);
        if !any.is_empty() && !any.iter().any(Vec::is_empty) {
            self.whole(format!("{path:?} must validate at least one schema (anyOf)"));
            self.out.extend(any.into_iter().next().unwrap_or_default());
        }
        let valid = one.iter().filter(|found| found.is_empty()).count();
        if !one.is_empty() && valid != 1 {
            let found = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            self.whole(format!(
                "{path:?} must validate one and only one schema (oneOf). {found}"
            ));
            if valid == 0 {
                self.out.extend(one.into_iter().next().unwrap_or_default());
            }
        }
        let failed = all.iter().filter(|found| !found.is_empty()).count();
        if failed > 0 {
            let none = if failed == all.len() { ". None validated" } else { "" };
            self.whole(format!("{path:?} must validate all the schemas (allOf){none}"));
            self.out.extend(all.into_iter().flatten());
        }
        if not.is_some_and(|found| found.is_empty()) {
            self.whole(format!("{path:?} must not validate the schema (not)"));
        }
    }
}

/// The JSON type and the format the real validator infers from a value.
fn actual_type(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(n) if n.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn in_range(value: &Value, format: &str) -> bool {
    let whole = value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| {
            // A float counts when it holds a whole number that an integer can express.
            value
                .as_f64()
                .filter(|f| f.fract() == 0.0 && f.abs() < 9.3e18)
                .map(|f| f as i128)
        });
    let Some(number) = whole else { return false };
    match format {
        "int32" => i32::try_from(number).is_ok(),
        "uint32" => u32::try_from(number).is_ok(),
        "uint64" => u64::try_from(number).is_ok(),
        _ => i64::try_from(number).is_ok(),
    }
}

/// The element of the old list that `item` continues: by key in maps, by value elsewhere.
#[must_use]
pub fn counterpart<'a>(schema: &Value, item: &Value, old: &'a [Value]) -> Option<&'a Value> {
    match (
        schema["x-kubernetes-list-type"].as_str(),
        schema["x-kubernetes-list-map-keys"].as_array(),
    ) {
        (Some("map"), Some(keys)) => old.iter().find(|o| {
            keys.iter()
                .filter_map(Value::as_str)
                .all(|key| o.get(key) == item.get(key))
        }),
        _ => old.iter().find(|o| *o == item),
    }
}

/// What compiling a pattern gave.
type Compiled = Result<Arc<Regex>, String>;

static PATTERNS: LazyLock<Mutex<HashMap<String, Compiled>>> = LazyLock::new(Mutex::default);

/// The compiled pattern.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(source: &str) -> Compiled {
    let mut known = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(source) {
        return found.clone();
    }
    if known.len() >= MAX_PATTERNS {
        known.clear();
    }
    let fresh = regex::RegexBuilder::new(source)
        .size_limit(1 << 20)
        .build()
        .map(Arc::new)
        .map_err(|e| e.to_string());
    known.insert(source.to_owned(), fresh.clone());
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, value: Value, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"spec": schema}});
        let mut found: Vec<String> = problems(&schema, &json!({"spec": value}), None, "")
            .iter()
            .map(|p| format!("{}: {}", p.field, p.body()))
            .collect();
        found.sort();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn each_keyword_has_its_words() {
        let integer = json!({"type": "integer", "minimum": 1, "maximum": 9, "multipleOf": 2});
        check(
            integer.clone(),
            json!(0),
            &["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        );
        check(
            integer.clone(),
            json!("4"),
            &[r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#],
        );
        check(
            integer,
            json!(2.5),
            &[
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec"#,
                r#"spec: Invalid value: "number": spec in body must be of type integer: "number""#,
                "spec: Invalid value: 2.5: spec in body should be a multiple of 2",
            ],
        );
        check(
            json!({"type": "integer", "format": "int64"}),
            json!(1.5),
            &[
                r#"<nil>: Invalid value: "": Checked value must be of type integer with format int64 in spec"#,
                r#"spec: Invalid value: "float64": spec in body must be of type int64: "float64""#,
            ],
        );
        check(json!({"type": "integer", "format": "int32"}), json!(1.0), &[]);
        check(
            json!({"type": "string", "maxLength": 4}),
            json!("ABCDE"),
            &["spec: Too long: may not be more than 4 bytes"],
        );
        check(
            json!({"type": "string", "enum": ["A", "B"]}),
            json!("C"),
            &[r#"spec: Unsupported value: "C": supported values: "A", "B""#],
        );
        check(
            json!({"x-kubernetes-int-or-string": true}),
            json!([1]),
            &[r#"spec: Invalid value: "array": spec in body must be of type integer,string: "array""#],
        );
        check(
            json!({"type": "string", "format": "ipv4"}),
            json!("1.2.3"),
            &[r#"spec: Invalid value: "1.2.3": spec in body must be of type ipv4: "1.2.3""#],
        );
        check(
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", 1]),
            &[
                "spec: Too many: 2: must have at most 1 item",
                r#"spec[1]: Invalid value: "integer": spec[1] in body must be of type string: "integer""#,
            ],
        );
    }

    #[test]
    fn exactly_one_branch_must_hold() {
        let schema = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        check(
            schema.clone(),
            json!({}),
            &[
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value",
            ],
        );
        check(
            schema.clone(),
            json!({"a": 1, "b": 1}),
            &[
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        );
        check(schema, json!({"a": 1}), &[]);
    }

    #[test]
    fn what_did_not_change_is_not_judged_again() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["good"]}, "b": {"type": "string"}}});
        let old = json!({"a": "bad", "b": "x"});
        assert!(problems(&schema, &json!({"a": "bad", "b": "y"}), Some(&old), "").is_empty());
        assert_eq!(
            problems(&schema, &json!({"a": "worse", "b": "x"}), Some(&old), "").len(),
            1
        );
    }
}
