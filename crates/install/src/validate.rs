//! Does a document have the shape of an IstioOperator, and do its settings make sense?

use std::fmt;

use api::install::OPERATOR;
use serde_json::Value;

use crate::schema::{Path, Schema};

mod network;
mod snippet;

/// A mistake in a document, and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Mistake {
    /// A field that an IstioOperator does not have.
    #[error("could not unmarshal: {path}: unknown field {field:?}{}", hint(.nearest))]
    Unknown {
        /// Path of the map that holds the field.
        path: Path,
        /// The field.
        field: String,
        /// The field that was probably meant.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("could not unmarshal: {path}: wants {wants}, has {has}")]
    Type {
        /// Path of the value.
        path: Path,
        /// What belongs there.
        wants: String,
        /// What is there.
        has: String,
    },
    /// A revision that is no DNS label.
    #[error("invalid revision specified: {0}: a revision is a DNS label: letters, digits and dashes, like 1-23-1")]
    Revision(String),
    /// A hub that is no registry path.
    #[error("bad hub: {hub:?} is no image repository like docker.io/trysail{}", own(.hub))]
    Hub {
        /// Path of the value.
        path: Path,
        /// What is there.
        hub: String,
    },
    /// A tag that is no image tag.
    #[error("bad tag: {tag:?} is no image tag{}", own(.tag))]
    Tag {
        /// Path of the value.
        path: Path,
        /// What is there.
        tag: String,
    },
    /// A gateway without a usable name.
    #[error("{path}: {name:?} is no name for a gateway: lower-case letters, digits, dots and dashes")]
    GatewayName {
        /// Path of the name.
        path: Path,
        /// What is there.
        name: String,
    },
    /// A port that a gateway could listen on only as root.
    #[error(
        "port {port} invalid: targetPort is set to {target}, which requires root. Set targetPort to be greater than 1024 \
         or configure values.gateways.{values}.runAsRoot=true"
    )]
    LowPort {
        /// Path of the port.
        path: Path,
        /// Its name and number, and whose it is.
        port: String,
        /// Where it leads; 0 if nothing is said.
        target: i64,
        /// The gateway's values.
        values: &'static str,
    },
    /// A text that is no range of addresses.
    #[error("{path}: {range:?} is no range of addresses like 10.0.0.0/8")]
    Range {
        /// Path of the value.
        path: Path,
        /// What is there.
        range: String,
    },
    /// A text that is no port.
    #[error("{path}: {port:?} is no port between 0 and 65535")]
    Port {
        /// Path of the value.
        path: Path,
        /// What is there.
        port: String,
    },
    /// A piece of a Kubernetes object that Kubernetes would not know.
    #[error("invalid schema for {place}: {}", told(.mistake))]
    Snippet {
        /// Where in the values it is.
        place: &'static str,
        /// What is wrong with it.
        mistake: Box<Mistake>,
    },
}

fn told(mistake: &Mistake) -> String {
    let text = mistake.to_string();
    match text.strip_prefix("could not unmarshal: ") {
        Some(text) => text.to_owned(),
        None => text,
    }
}

impl Mistake {
    /// Is something else where a map or a list belongs?
    pub fn is_structural(&self) -> bool {
        matches!(self, Self::Type { wants, .. } if wants == Schema::MAP || wants == Schema::LIST)
    }

    /// Where it is in the document.
    pub fn path(&self) -> Path {
        match self {
            Self::Unknown { path, field, .. } => path.field(field),
            Self::Revision(_) => Path::of(&["spec", "revision"]),
            Self::Type { path, .. }
            | Self::Hub { path, .. }
            | Self::Tag { path, .. }
            | Self::GatewayName { path, .. }
            | Self::LowPort { path, .. }
            | Self::Range { path, .. }
            | Self::Port { path, .. } => path.clone(),
            Self::Snippet { mistake, .. } => mistake.path(),
        }
    }
}

/// A mistake with the place in the user's input that it comes from: `mesh.yaml:7` or `--set a.b=c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The place, if the user wrote it.
    pub place: Option<String>,
    /// The mistake.
    pub mistake: Mistake,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        self.mistake.fmt(f)
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|field| format!(" (did you mean {field:?}?)"))
        .unwrap_or_default()
}

/// What helps who gave nothing: the images would have no registry, or no tag.
fn own(given: &str) -> &'static str {
    match given {
        "" => "; leave it out for the one of this program",
        _ => "",
    }
}

/// All mistakes in a document, in its order.
pub fn document(document: &Value) -> Vec<Mistake> {
    Schema::from(&OPERATOR).mistakes(document, &Path::default())
}

/// Mistakes in the merged specification that its shape cannot show.
pub fn specification(spec: &Value) -> Vec<Mistake> {
    let text = |path: &[&str]| {
        let found = path.iter().try_fold(spec, |at, field| at.get(field));
        found.and_then(Value::as_str)
    };
    let below_spec = |path: &[&str]| path.iter().fold(Path::of(&["spec"]), |path, field| path.field(field));
    let mut mistakes = Vec::new();
    if let Some(name) = text(&["revision"]).filter(|name| !name.is_empty())
        && revision::name::Revision::parse(name).is_err()
    {
        mistakes.push(Mistake::Revision(name.to_owned()));
    }
    for path in [&["hub"][..], &["values", "global", "hub"]] {
        if let Some(hub) = text(path)
            && (hub.is_empty()
                || hub.starts_with('/')
                || hub.ends_with('/')
                || !hub.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c)))
        {
            mistakes.push(Mistake::Hub {
                path: below_spec(path),
                hub: hub.to_owned(),
            });
        }
    }
    for path in [&["tag"][..], &["values", "global", "tag"]] {
        if let Some(tag) = text(path)
            && (tag.is_empty()
                || tag.len() > 128
                || !tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-@:".contains(c)))
        {
            mistakes.push(Mistake::Tag {
                path: below_spec(path),
                tag: tag.to_owned(),
            });
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
                let list = below_spec(&["components", kind]);
                mistakes.push(Mistake::GatewayName {
                    path: list.item(index).field("name"),
                    name: name.to_owned(),
                });
            }
        }
    }
    mistakes.extend(network::mistakes(spec));
    mistakes.extend(snippet::mistakes(spec));
    // The short spelling is carried to the long one, so both have the same.
    mistakes.dedup_by_key(|mistake| mistake.to_string());
    mistakes
}

/// What in the merged specification has no effect, and why.
pub fn without_effect(spec: &Value) -> Vec<String> {
    let scales = |values: &str| {
        let flag = spec.pointer(&format!("/values/{values}/autoscaleEnabled"));
        flag.and_then(Value::as_bool) == Some(true)
    };
    let replicas = |entry: &Value| {
        entry
            .pointer("/k8s/replicaCount")
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let sentence = |component: &str, values: &str| {
        format!(
            "components.{component}.k8s.replicaCount should not be set when values.{values}.autoscaleEnabled is true"
        )
    };
    let mut told = Vec::new();
    // One replica is what it begins with.
    if scales("pilot") && replicas(&spec["components"]["pilot"]) > 1 {
        told.push(sentence("pilot", "pilot"));
    }
    for direction in ["ingress", "egress"] {
        let values = format!("gateways/istio-{direction}gateway");
        if !scales(&values) {
            continue;
        }
        let entries = spec
            .pointer(&format!("/components/{direction}Gateways"))
            .and_then(Value::as_array);
        for entry in entries.into_iter().flatten().filter(|entry| replicas(entry) != 0) {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            told.push(sentence(
                &format!("{direction}Gateways[name={name}]"),
                &format!("gateways.istio-{direction}gateway"),
            ));
        }
    }
    told
}

/// A value in an error, cut to a readable length.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
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
    fn a_number_of_replicas_beside_scaling_is_told() {
        let spec = json!({
            "components": {"pilot": {"k8s": {"replicaCount": 2}}, "ingressGateways": [{"name": "a", "k8s": {"replicaCount": 1}}],
                "egressGateways": [{"name": "b", "k8s": {"replicaCount": 2}}]},
            "values": {"pilot": {"autoscaleEnabled": true}, "gateways": {"istio-ingressgateway": {"autoscaleEnabled": true}}},
        });
        assert_eq!(
            without_effect(&spec),
            [
                "components.pilot.k8s.replicaCount should not be set when values.pilot.autoscaleEnabled is true",
                "components.ingressGateways[name=a].k8s.replicaCount should not be set when values.gateways.istio-ingressgateway.autoscaleEnabled is true",
            ]
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
