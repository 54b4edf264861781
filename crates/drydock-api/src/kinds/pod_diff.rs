//! The server's internal form of objects, as it shows in some error messages: Go field names, every field present.

use serde_json::{Map, Value};

use crate::schema::{self, Presence, Schema, Type};

/// An object in the internal form of a built-in struct, fields in the order of their declaration.
pub fn internal(name: &str, object: &Value) -> Value {
    schema::builtin(name).map_or(Value::Null, |schema| convert(schema, object))
}

fn convert(schema: &Schema, value: &Value) -> Value {
    let node = schema.resolve();
    // Shared machinery types have no internal form: they print as JSON.
    if schema
        .reference
        .as_deref()
        .is_some_and(|name| name.starts_with("meta."))
    {
        return value.clone();
    }
    match (node.ty, value) {
        (Type::Object, Value::Object(map)) => {
            let mut fields: Vec<(&String, &Schema)> = node.fields.iter().collect();
            fields.sort_by_key(|(_, field)| field.order);
            let converted = fields.into_iter().map(|(name, field)| {
                let value = match map.get(name) {
                    Some(value) if !value.is_null() => convert(field, value),
                    _ => absent(field),
                };
                (go_name(name), value)
            });
            let mut converted: Map<String, Value> = converted.collect();
            if schema.reference.as_deref() == Some("core.v1.PodSpec") || converted.contains_key("EphemeralContainers") {
                regroup(&mut converted);
            }
            Value::Object(converted)
        }
        (Type::List, Value::Array(list)) => Value::Array(
            list.iter()
                .map(|item| node.items.as_deref().map_or(Value::Null, |items| convert(items, item)))
                .collect(),
        ),
        _ => value.clone(),
    }
}

/// What the internal pod specification has elsewhere: host namespaces belong to the security context.
fn regroup(spec: &mut Map<String, Value>) {
    spec.shift_remove("ServiceAccount");
    let moved: Map<String, Value> = [
        "HostNetwork",
        "HostPID",
        "HostIPC",
        "ShareProcessNamespace",
        "HostUsers",
    ]
    .iter()
    .filter_map(|name| Some(((*name).to_owned(), spec.shift_remove(*name)?)))
    .collect();
    if let Some(Value::Object(context)) = spec.get_mut("SecurityContext") {
        let own = std::mem::replace(context, moved);
        context.extend(own);
        move_after(context, "FSGroupChangePolicy", "FSGroup");
    }
    for (field, before) in [
        ("SetHostnameAsFQDN", "Subdomain"),
        ("PreemptionPolicy", "Priority"),
        ("Overhead", "RuntimeClassName"),
        ("EnableServiceLinks", "Overhead"),
    ] {
        move_after(spec, field, before);
    }
}

/// Puts one field right behind another.
fn move_after(map: &mut Map<String, Value>, field: &str, before: &str) {
    let Some(value) = map.shift_remove(field) else { return };
    let at = map.keys().position(|key| key == before).map_or(map.len(), |at| at + 1);
    map.shift_insert(at, field.to_owned(), value);
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
    const INITIALS: [(&str, &str); 9] = [
        ("dns", "DNS"),
        ("tty", "TTY"),
        ("http", "HTTP"),
        ("tcp", "TCP"),
        ("grpc", "GRPC"),
        ("seLinux", "SELinux"),
        ("uid", "UID"),
        ("fsGroup", "FSGroup"),
        ("api", "API"),
    ];
    if name == "os" {
        return "OS".into();
    }
    for (lower, upper) in INITIALS {
        if let Some(rest) = name.strip_prefix(lower) {
            return format!("{upper}{rest}");
        }
    }
    let mut chars = name.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The unified diff of two specifications (`spec` of a built-in struct) in internal form.
pub fn spec_diff(name: &str, new: &Value, old: &Value) -> String {
    let text = |spec: &Value| indented(&internal(name, spec), 0);
    unified(&text(old), &text(new))
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
            let lines: Vec<String> = list
                .iter()
                .map(|value| format!("{pad}{}", indented(value, depth + 1)))
                .collect();
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
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
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
