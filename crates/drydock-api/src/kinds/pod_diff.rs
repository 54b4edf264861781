//! The server's internal form of objects, as it shows in some error messages: Go field names, every field present.

use serde_json::{Map, Value};

use crate::schema::{self, Presence, Schema, Type};

/// An object in the internal form of a built-in struct, fields in the order of their protobuf numbers.
pub fn internal(name: &str, object: &Value) -> Value {
    schema::builtin(name).map_or(Value::Null, |schema| convert(schema, object))
}

fn convert(schema: &Schema, value: &Value) -> Value {
    let node = schema.resolve();
    match (node.ty, value) {
        (Type::Object, Value::Object(map)) => {
            let mut fields: Vec<(&String, &Schema)> = node.fields.iter().collect();
            fields.sort_by_key(|(_, field)| {
                let mut numbers = field.number.split('.').map(|number| number.parse::<u64>().unwrap_or(u64::MAX));
                (numbers.next(), numbers.next())
            });
            let converted = fields.into_iter().map(|(name, field)| {
                let value = match map.get(name) {
                    Some(value) if !value.is_null() => convert(field, value),
                    _ => absent(field),
                };
                (go_name(name), value)
            });
            Value::Object(converted.collect())
        }
        (Type::List, Value::Array(list)) => {
            Value::Array(list.iter().map(|item| node.items.as_deref().map_or(Value::Null, |items| convert(items, item))).collect())
        }
        _ => value.clone(),
    }
}

fn absent(field: &Schema) -> Value {
    if matches!(field.presence, Presence::Pointer | Presence::AlwaysPointer) {
        return Value::Null;
    }
    match field.resolve().ty {
        Type::Boolean => false.into(),
        Type::Int32 | Type::Int64 | Type::Number => 0.into(),
        Type::String => "".into(),
        Type::Object => convert(field, &Value::Object(Map::new())),
        _ => Value::Null,
    }
}

/// The Go name of a JSON field: `allowPrivilegeEscalation` → `AllowPrivilegeEscalation`, `dnsPolicy` → `DNSPolicy`.
fn go_name(name: &str) -> String {
    const INITIALS: [(&str, &str); 7] = [
        ("dns", "DNS"), ("tty", "TTY"), ("http", "HTTP"), ("tcp", "TCP"), ("grpc", "GRPC"), ("seLinux", "SELinux"), ("uid", "UID"),
    ];
    for (lower, upper) in INITIALS {
        if let Some(rest) = name.strip_prefix(lower) {
            return format!("{upper}{rest}");
        }
    }
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The unified diff of two pods' specifications in internal form.
pub fn spec_diff(pod: &Value, old: &Value) -> String {
    let text = |pod: &Value| {
        let value = internal("core.v1.PodSpec", &pod["spec"]);
        indented(&value, 0)
    };
    unified(&text(old), &text(pod))
}

/// JSON indented by one space.
fn indented(value: &Value, depth: usize) -> String {
    let pad = " ".repeat(depth + 1);
    let close = " ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            let lines: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{pad}{}: {}", Value::from(key.as_str()), indented(value, depth + 1)))
                .collect();
            format!("{{\n{}\n{close}}}", lines.join(",\n"))
        }
        Value::Array(list) if !list.is_empty() => {
            let lines: Vec<String> = list.iter().map(|value| format!("{pad}{}", indented(value, depth + 1))).collect();
            format!("[\n{}\n{close}]", lines.join(",\n"))
        }
        other => other.to_string(),
    }
}

/// Context lines around a difference.
const CONTEXT: usize = 3;

/// A unified diff without file names. The part between the common head and tail counts as changed.
fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let start = head.saturating_sub(CONTEXT);
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let after = tail.min(CONTEXT);
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        start + 1,
        old_end + after - start,
        start + 1,
        new_end + after - start
    );
    for (mark, lines) in [
        (' ', &old[start..head]),
        ('-', &old[head..old_end]),
        ('+', &new[head..new_end]),
        (' ', &old[old_end..old_end + after]),
    ] {
        for line in lines {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A pod template as it is printed: its labels and annotations, then the internal form of its specification.
pub fn internal_template(template: &Value) -> Value {
    let mut shown = Map::new();
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field) {
            shown.insert(field.into(), value.clone());
        }
    }
    shown.insert("Spec".into(), internal("core.v1.PodSpec", &template["spec"]));
    Value::Object(shown)
}
