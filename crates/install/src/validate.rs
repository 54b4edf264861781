//! Does a document have the shape of an IstioOperator, and do its settings make sense?

use api::install::{OPERATOR, Shape};
use serde_json::Value;

/// A mistake in a document, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Mistake {
    /// A field that an IstioOperator does not have.
    #[error("could not unmarshal: {path}: unknown field {field:?}{}", hint(.nearest))]
    Unknown {
        /// Path of the map that holds the field.
        path: String,
        /// The field.
        field: String,
        /// The field that was probably meant.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("could not unmarshal: {path}: wants {wants}, has {has}")]
    Type {
        /// Path of the value.
        path: String,
        /// What belongs there.
        wants: &'static str,
        /// What is there.
        has: String,
    },
    /// A revision that is no DNS label.
    #[error("invalid revision specified: {0}: a revision is a DNS label: letters, digits and dashes, like 1-23-1")]
    Revision(String),
    /// A hub that is no registry path.
    #[error("bad hub: {0:?} is no image repository like docker.io/trysail")]
    Hub(String),
    /// A tag that is no image tag.
    #[error("bad tag: {0:?} is no image tag")]
    Tag(String),
    /// A gateway without a usable name.
    #[error("{path}: {name:?} is no name for a gateway: lower-case letters, digits, dots and dashes")]
    GatewayName {
        /// Path of the gateway.
        path: String,
        /// Its name.
        name: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|field| format!(" (did you mean {field:?}?)"))
        .unwrap_or_default()
}

/// All mistakes in a document, in its order.
pub fn document(document: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    check(&OPERATOR, document, "", &mut mistakes);
    mistakes
}

/// Mistakes in the merged specification that its shape cannot show.
pub fn specification(spec: &Value) -> Vec<Mistake> {
    let text = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let mut mistakes = Vec::new();
    if let Some(name) = text("/revision")
        && revision::name::Revision::parse(name).is_err()
    {
        mistakes.push(Mistake::Revision(name.to_owned()));
    }
    for pointer in ["/hub", "/values/global/hub"] {
        if let Some(hub) = text(pointer)
            && (hub.starts_with('/')
                || hub.ends_with('/')
                || !hub.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c)))
        {
            mistakes.push(Mistake::Hub(hub.to_owned()));
        }
    }
    for pointer in ["/tag", "/values/global/tag"] {
        if let Some(tag) = text(pointer)
            && (tag.len() > 128 || !tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-@:".contains(c)))
        {
            mistakes.push(Mistake::Tag(tag.to_owned()));
        }
    }
    for kind in ["ingressGateways", "egressGateways"] {
        let gateways = spec.pointer(&format!("/components/{kind}")).and_then(Value::as_array);
        for (index, gateway) in gateways.into_iter().flatten().enumerate() {
            let name = gateway.get("name").and_then(Value::as_str).unwrap_or_default();
            let usable = (1..=254).contains(&name.len())
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-');
            if !usable {
                let path = format!("spec.components.{kind}[{index}].name");
                mistakes.push(Mistake::GatewayName {
                    path,
                    name: name.to_owned(),
                });
            }
        }
    }
    mistakes
}

fn check(shape: &'static Shape, value: &Value, path: &str, mistakes: &mut Vec<Mistake>) {
    let mut wrong = |wants| {
        mistakes.push(Mistake::Type {
            path: shown(path),
            wants,
            has: brief(value),
        });
    };
    match (shape, value) {
        // Nothing given is nothing wrong.
        (_, Value::Null) | (Shape::Any, _) => {}
        (Shape::Text, Value::String(_)) | (Shape::Flag, Value::Bool(_)) => {}
        (Shape::Scalar, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {}
        (Shape::Amount, Value::String(_)) => {}
        (Shape::Whole | Shape::Amount, Value::Number(number)) if number.as_i64().is_some() => {}
        (Shape::Map(inner), Value::Object(fields)) => {
            for (key, value) in fields {
                check(inner, value, &format!("{path}.{key}"), mistakes);
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                check(inner, value, &format!("{path}[{index}]"), mistakes);
            }
        }
        (Shape::Fields(known), Value::Object(fields)) => {
            for (key, value) in fields {
                match known.iter().find(|(name, _)| name == key) {
                    Some((_, inner)) => check(inner, value, &format!("{path}.{key}"), mistakes),
                    None => mistakes.push(Mistake::Unknown {
                        path: shown(path),
                        field: key.clone(),
                        nearest: nearest(key, known.iter().map(|(name, _)| *name)).map(str::to_owned),
                    }),
                }
            }
        }
        (Shape::Text, _) => wrong("text"),
        (Shape::Flag, _) => wrong("true or false"),
        (Shape::Scalar, _) => wrong("a single value"),
        (Shape::Whole, _) => wrong("a whole number"),
        (Shape::Amount, _) => wrong("a whole number or a percentage"),
        (Shape::Map(_) | Shape::Fields(_), _) => wrong("a map"),
        (Shape::List(_), _) => wrong("a list"),
    }
}

fn shown(path: &str) -> String {
    match path.strip_prefix('.') {
        Some(path) => path.to_owned(),
        None => "the document".to_owned(),
    }
}

/// A value in an error, cut to a readable length.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The known name closest to a mistyped one, if any is close.
pub(crate) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (typed.chars().count() / 3).max(1);
    known
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two names, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (row[j] + 1).min(row[j + 1] + 1).min(corner + usize::from(x != y));
            corner = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &str) {
        let mistakes = document(&json!({"spec": spec}));
        assert_eq!(mistakes.first().map(ToString::to_string).unwrap_or_default(), expected);
    }

    #[test]
    fn mistakes_are_named_with_their_path() {
        check(json!({"profile": "minimal", "tag": 1.23}), "");
        check(
            json!({"components": {"pilot": {"k8s": {"replicaCout": 1}}}}),
            r#"could not unmarshal: spec.components.pilot.k8s: unknown field "replicaCout" (did you mean "replicaCount"?)"#,
        );
        check(
            json!({"components": {"ztunnel": {"k8s": {"tolerations": [{"thats": "not-a-real-field"}]}}}}),
            r#"could not unmarshal: spec.components.ztunnel.k8s.tolerations[0]: unknown field "thats""#,
        );
        check(
            json!({"components": {"pilot": {"enabled": "yes"}}}),
            r#"could not unmarshal: spec.components.pilot.enabled: wants true or false, has "yes""#,
        );
        check(
            json!({"values": "x"}),
            r#"could not unmarshal: spec.values: wants a map, has "x""#,
        );
    }

    #[test]
    fn a_revision_is_a_label() {
        assert_eq!(
            specification(&json!({"revision": "1.23.1"})),
            [Mistake::Revision("1.23.1".into())]
        );
        assert_eq!(
            specification(&json!({"revision": "1-23-1", "hub": "docker.io/trysail", "tag": "0.2.0"})),
            []
        );
    }
}
