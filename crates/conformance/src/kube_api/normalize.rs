//! Takes out of an answer what differs from run to run.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

/// What the names of this run are written as.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Text and its placeholder, longest first.
    pub replace: Vec<(String, String)>,
    /// Whether `managedFields` stay.
    pub managed_fields: bool,
}

fn regex(pattern: &str) -> Regex {
    #[allow(clippy::expect_used, reason = "the patterns are constants and tested by their use")]
    Regex::new(pattern).expect("a constant pattern")
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| regex($text));
    };
}

pattern!(UUID, r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
pattern!(JWT, r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+");
pattern!(
    TIME,
    r"20(?:2[6-9]|[3-9][0-9])-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?(?:Z|[+-][0-9:]{5})"
);
pattern!(IP, r"\b10\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b");
pattern!(PORT, r":3[0-9]{4}/");
pattern!(TOKEN_VOLUME, r"kube-api-access-[a-z0-9]{5}");
pattern!(HASH, r"-[bcdfghjklmnpqrstvwxz2456789]{8,10}\b");
pattern!(META_VERSION, r"in object meta: [0-9]+");
pattern!(RECORD, r"in record \([0-9]+\)");
pattern!(TOO_OLD, r"too old resource version: [0-9]+ \([0-9]+\)");
pattern!(TOO_LARGE, r"(Too large resource version: [0-9]+, current: )[0-9]+");
pattern!(OBJECT, r#"Invalid value: "\{(?:[^"\\]|\\.)*\}""#);
pattern!(AGE, r"^(?:[0-9]+(?:y|d|h|m|s))+$");

/// A text of an answer.
pub fn text(text: &str, names: &Names) -> String {
    let mut out = text.to_owned();
    for (from, to) in &names.replace {
        if out.contains(from.as_str()) {
            out = out.replace(from.as_str(), to);
        }
    }
    out = UUID.replace_all(&out, "<uid>").into_owned();
    out = JWT.replace_all(&out, "<jwt>").into_owned();
    out = TIME
        .replace_all(&out, |found: &Captures<'_>| {
            if found.get(1).is_some() {
                "<microtime>"
            } else {
                "<time>"
            }
        })
        .into_owned();
    out = IP.replace_all(&out, "<ip>").into_owned();
    out = PORT.replace_all(&out, ":<port>/").into_owned();
    out = TOKEN_VOLUME.replace_all(&out, "kube-api-access-<5>").into_owned();
    out = META_VERSION.replace_all(&out, "in object meta: <rv>").into_owned();
    out = RECORD.replace_all(&out, "in record (<rv>)").into_owned();
    out = TOO_OLD
        .replace_all(&out, "too old resource version: <rv> (<rv>)")
        .into_owned();
    out = TOO_LARGE.replace_all(&out, "${1}<rv>").into_owned();
    out = OBJECT.replace_all(&out, "Invalid value: \"<object>\"").into_owned();
    HASH.replace_all(&out, "-<hash>").into_owned()
}

/// A value of an answer.
pub fn value(value: &mut Value, names: &Names) {
    match value {
        Value::String(text_value) => *text_value = text(text_value, names),
        Value::Array(list) => list.iter_mut().for_each(|item| self::value(item, names)),
        Value::Object(map) => object(map, names),
        _ => {}
    }
}

fn object(map: &mut Map<String, Value>, names: &Names) {
    generated_name(map);
    if !names.managed_fields
        && let Some(Value::Object(metadata)) = map.get_mut("metadata")
    {
        metadata.shift_remove("managedFields");
    }
    let keys: Vec<String> = map.keys().cloned().collect();
    let is_table = map.contains_key("columnDefinitions");
    for key in keys {
        let Some(item) = map.get_mut(&key) else { continue };
        match key.as_str() {
            "resourceVersion" if digits(item) => *item = "<rv>".into(),
            "nodePort" | "healthCheckNodePort" if item.as_i64().is_some_and(|port| port > 0) => *item = "<port>".into(),
            "continue" if item.as_str().is_some_and(|text| !text.is_empty()) => *item = "<continue>".into(),
            "pod-template-hash" | "controller-revision-hash" | "storageVersionHash" if item.is_string() => {
                *item = "<hash>".into();
            }
            "serverAddress" => *item = "<server>".into(),
            "managedFields" => managed(item, names),
            "causes" => {
                value(item, names);
                sort_by(item, &["field", "message", "reason"]);
            }
            "columnDefinitions" if is_table => columns(item),
            "rows" if is_table => rows(item, names),
            _ => value(item, names),
        }
        let renamed = text(&key, names);
        if renamed != key
            && let Some(item) = map.shift_remove(&key)
        {
            map.insert(renamed, item);
        }
    }
    sort_message(map);
    let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "APIResourceList" => sort_field(map, "resources", "/name"),
        "APIGroupList" => sort_field(map, "groups", "/name"),
        "APIGroupDiscoveryList" => sort_field(map, "items", "/metadata/name"),
        _ => {}
    }
}

fn digits(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text != "0" && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `metadata.name` made from `generateName`.
fn generated_name(map: &mut Map<String, Value>) {
    let Some(generate) = map.get("generateName").and_then(Value::as_str).map(str::to_owned) else {
        return;
    };
    if let Some(Value::String(name)) = map.get_mut("name")
        && name.strip_prefix(&generate).is_some_and(|rest| rest.len() == 5)
    {
        *name = format!("{generate}<5>");
    }
}

fn managed(entries: &mut Value, names: &Names) {
    if let Value::Array(list) = entries {
        list.retain(|entry| entry["manager"] != "kube-controller-manager");
    }
    value(entries, names);
    sort_by(entries, &["manager", "operation", "apiVersion", "subresource"]);
}

fn sort_by(list: &mut Value, fields: &[&str]) {
    if let Value::Array(list) = list {
        list.sort_by_key(|entry| {
            fields
                .iter()
                .map(|field| entry[*field].as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        });
    }
}

fn sort_field(map: &mut Map<String, Value>, field: &str, pointer: &str) {
    if let Some(Value::Array(list)) = map.get_mut(field) {
        list.sort_by_key(|entry| {
            entry
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        });
    }
}

/// The bracketed list in a message, in the order of the causes.
fn sort_message(map: &mut Map<String, Value>) {
    let Some(causes) = map
        .get("details")
        .and_then(|details| details["causes"].as_array())
        .cloned()
    else {
        return;
    };
    let Some(Value::String(message)) = map.get_mut("message") else {
        return;
    };
    let Some((head, rest)) = message.split_once(": [") else {
        return;
    };
    let mut parts: Vec<String> = Vec::new();
    for cause in &causes {
        let part = format!(
            "{}: {}",
            cause["field"].as_str().unwrap_or_default(),
            cause["message"].as_str().unwrap_or_default()
        );
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let joined = parts.join(", ");
    if rest.len() == joined.len() + 1 && rest.ends_with(']') && parts.iter().all(|part| rest.contains(part.as_str())) {
        *message = format!("{head}: [{joined}]");
    }
}

fn columns(columns: &mut Value) {
    for column in columns.as_array_mut().into_iter().flatten() {
        if column["description"]
            .as_str()
            .is_some_and(|text| text.chars().count() > 40)
        {
            column["description"] = "<text>".into();
        }
    }
}

fn rows(rows: &mut Value, names: &Names) {
    for row in rows.as_array_mut().into_iter().flatten() {
        value(row, names);
        for cell in row["cells"].as_array_mut().into_iter().flatten() {
            if cell.as_str().is_some_and(|text| AGE.is_match(text)) {
                *cell = "<age>".into();
            }
        }
    }
}
