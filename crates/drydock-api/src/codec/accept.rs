//! What the client wants to read, and the answers in that form.

use serde_json::Value;

/// Notation of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Format {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// Form of objects in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum View {
    /// As they are.
    #[default]
    Full,
    /// `meta.k8s.io` Table in this version.
    Table(String),
    /// `PartialObjectMetadata` in this version.
    Partial(String),
    /// `PartialObjectMetadataList` in this version.
    PartialList(String),
    /// Aggregated discovery in this version.
    Discovery(String),
}

/// The chosen entry of an `Accept` header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    /// Notation.
    pub format: Format,
    /// Form.
    pub view: View,
}

/// Entries looked at.
const MAX_ENTRIES: usize = 32;

impl Accept {
    /// Picks the first entry that can be served; `None` if there is none (406).
    /// `transforms` says whether Table and PartialObjectMetadata are possible here, `discovery` whether
    /// aggregated discovery is.
    pub fn negotiate(header: Option<&str>, transforms: bool, discovery: bool) -> Option<Self> {
        let Some(header) = header.filter(|header| !header.trim().is_empty()) else {
            return Some(Self::default());
        };
        header
            .split(',')
            .take(MAX_ENTRIES)
            .find_map(|entry| Self::entry(entry, transforms, discovery))
    }

    fn entry(entry: &str, transforms: bool, discovery: bool) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let format = match parts.next()? {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            "application/vnd.kubernetes.protobuf" => Format::Protobuf,
            _ => return None,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let view = match (kind, group) {
            ("", _) => View::Full,
            ("Table", "meta.k8s.io") if transforms && matches!(version, "v1" | "v1beta1") => {
                View::Table(version.to_owned())
            }
            ("PartialObjectMetadata", "meta.k8s.io") if transforms && matches!(version, "v1" | "v1beta1") => {
                View::Partial(version.to_owned())
            }
            ("PartialObjectMetadataList", "meta.k8s.io") if transforms && matches!(version, "v1" | "v1beta1") => {
                View::PartialList(version.to_owned())
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io") if discovery && matches!(version, "v2" | "v2beta1") => {
                View::Discovery(version.to_owned())
            }
            _ => return None,
        };
        Some(Self { format, view })
    }
}

/// YAML as the real server writes it: keys sorted, lists not indented under their key.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0),
        Value::Array(list) if !list.is_empty() => write_list(&mut out, list, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn write_map(out: &mut String, map: &serde_json::Map<String, Value>, indent: usize) {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    for (at, key) in keys.into_iter().enumerate() {
        let value = &map[key];
        if at > 0 || !out.ends_with("- ") {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        write_text(out, key, 0, true);
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                write_map(out, map, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                write_list(out, list, indent);
            }
            scalar => {
                out.push(' ');
                write_scalar(out, scalar, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn write_list(out: &mut String, list: &[Value], indent: usize) {
    for (at, value) in list.iter().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => write_map(out, map, indent + 2),
            Value::Array(list) if !list.is_empty() => write_list(out, list, indent + 2),
            scalar => {
                write_scalar(out, scalar, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(text) => write_text(out, text, indent, false),
        other => out.push_str(&other.to_string()),
    }
}

fn write_text(out: &mut String, text: &str, indent: usize, key: bool) {
    if !key
        && text.contains('\n')
        && text.chars().all(|c| c == '\n' || !c.is_control())
        && !text.starts_with([' ', '\n'])
    {
        let kept = text.trim_end_matches('\n');
        out.push('|');
        match text.len() - kept.len() {
            0 => out.push('-'),
            1 => {}
            _ => out.push('+'),
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(line);
            }
        }
        return;
    }
    if is_plain(text) {
        out.push_str(text);
    } else if text.chars().any(|c| c.is_control()) {
        out.push_str(&Value::from(text).to_string());
    } else if text.contains('\'') || !could_be_other(text) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// Texts that plain YAML would read as something else than text.
fn could_be_other(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | ".nan" | ".inf" | "<<"
    ) || text.parse::<f64>().is_ok()
        || text.starts_with("0x")
        || text.starts_with("0o")
        || (text.len() >= 8
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.parse::<jiff::Timestamp>().is_ok())
        || (text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok())
}

fn is_plain(text: &str) -> bool {
    let first_bad = |c: char| "-?:,[]{}#&*!|>'\"%@`= ".contains(c);
    let Some(first) = text.chars().next() else { return false };
    let dash_word = matches!(first, '-' | '?' | ':') && text.len() > 1 && !text[1..].starts_with(' ');
    !could_be_other(text)
        && (!first_bad(first) || dash_word)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_possible_entry_is_taken() {
        let header = "application/json;as=Table;v=v9;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io";
        let accept = Accept::negotiate(Some(header), true, false);
        assert_eq!(accept.map(|accept| accept.view), Some(View::Table("v1".into())));
        assert_eq!(Accept::negotiate(Some("text/html"), true, false), None);
        assert_eq!(Accept::negotiate(None, true, false), Some(Accept::default()));
    }

    #[test]
    fn yaml_is_written_sorted() {
        let value = serde_json::json!({"b": ["x", {"c": 1, "a": "true"}], "a": {}, "t": "x\ny\n", "e": ""});
        assert_eq!(
            to_yaml(&value),
            "a: {}\nb:\n- x\n- a: \"true\"\n  c: 1\ne: \"\"\nt: |\n  x\n  y\n"
        );
    }
}
