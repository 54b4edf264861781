//! What values may look like: the defaults of charts say which there are and of what type, short tables say the rest.
//!
//! One truth for both ways to install: `istioctl` checks values by it, and every chart's `values.schema.json`, by which
//! Helm checks them, is written from it (`crates/install/tests/schema.rs`).

use std::collections::BTreeMap;
use std::fmt;

use api::install::Shape;
use api::nearest::nearest;
use serde_json::{Map, Value, json};

use crate::assets::Assets;
use crate::validate::{Mistake, brief};
use crate::values::merge;
use crate::yaml;

/// Charts that read an IstioOperator's `values`.
const CHARTS: [&str; 4] = ["base", "istiod", "gateways/istio-ingress", "gateways/istio-egress"];
/// The chart of gateways that a control plane injects; it has values of its own.
const GATEWAY: &str = "gateway";

/// Maps whose keys are the user's, whatever their defaults hold.
const OPEN: [&str; 12] = [
    "annotations",
    "defaultNodeSelector",
    "env",
    "labels",
    "limits",
    "meshConfig",
    "meshNetworks",
    "nodeSelector",
    "podAnnotations",
    "requests",
    "selectorLabels",
    "templates",
];
/// Whole numbers or percentages.
const AMOUNTS: [&str; 4] = [
    "maxUnavailable",
    "minAvailable",
    "rollingMaxSurge",
    "rollingMaxUnavailable",
];
/// Texts that may look like a number.
const SCALARS: [&str; 6] = [
    "compatibilityVersion",
    "excludeInboundPorts",
    "excludeOutboundPorts",
    "includeInboundPorts",
    "includeOutboundPorts",
    "tag",
];
/// Values whose default does not tell what else they may be.
const ANY: [&str; 2] = ["targetMemoryUtilizationPercentage", "healthCheckNodePort"];
/// Texts of a fixed set; the empty one is the default of whoever reads it.
const CHOICES: [(&str, &[&str]); 11] = [
    ("autoInject", &["enabled", "disabled"]),
    ("externalTrafficPolicy", &["", "Cluster", "Local"]),
    ("imagePullPolicy", &["", "Always", "IfNotPresent", "Never"]),
    (
        "ipFamilyPolicy",
        &["", "SingleStack", "PreferDualStack", "RequireDualStack"],
    ),
    ("kind", &["", "Deployment", "DaemonSet"]),
    ("reinvocationPolicy", &["Never", "IfNeeded"]),
    ("revisionLabelPrecedence", &["namespace", "pod"]),
    (
        "trafficDistribution",
        &["", "PreferClose", "PreferSameZone", "PreferSameNode"],
    ),
    (
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "None", "NodePort"],
    ),
    ("unhealthyPodEvictionPolicy", &["", "IfHealthyBudget", "AlwaysAllow"]),
    ("validationFailurePolicy", &["", "Fail", "Ignore", "Runtime"]),
];
/// A DNS label, or nothing.
const LABEL: &str = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$";

/// What a part of a tree may look like.
#[derive(Clone, Debug)]
pub enum Schema {
    /// Anything; checked elsewhere or by Kubernetes.
    Any,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole,
    /// Any number.
    Number,
    /// A whole number or a percentage.
    Amount,
    /// Text.
    Text,
    /// Any single value.
    Scalar,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Name of a revision or tag.
    Label,
    /// A map with keys of the user's choice.
    Map(Box<Schema>),
    /// A list.
    List(Box<Schema>),
    /// A map with these fields and no others.
    Fields(BTreeMap<String, Schema>),
}

impl From<&'static Shape> for Schema {
    fn from(shape: &'static Shape) -> Self {
        match shape {
            Shape::Any => Self::Any,
            Shape::Text => Self::Text,
            Shape::Flag => Self::Flag,
            Shape::Whole => Self::Whole,
            Shape::Amount => Self::Amount,
            Shape::Scalar => Self::Scalar,
            Shape::Map(inner) => Self::Map(Box::new(Self::from(*inner))),
            Shape::List(inner) => Self::List(Box::new(Self::from(*inner))),
            Shape::Fields(fields) => Self::Fields(
                fields
                    .iter()
                    .map(|(name, inner)| ((*name).to_owned(), Self::from(inner)))
                    .collect(),
            ),
        }
    }
}

/// Where in a tree something is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Part>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A field of a map.
    Key(String),
    /// An item of a list.
    Index(usize),
}

impl Path {
    /// The path of a tree's fields, one below the other.
    pub fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|field| Part::Key((*field).to_owned())).collect())
    }

    /// The path of a field below this one.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Part::Key(name.to_owned()));
        path
    }

    /// The path of an item below this one.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Part::Index(index));
        path
    }

    /// Its steps.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

/// `spec.values.list[2].name`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the document");
        }
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(name) if at == 0 => f.write_str(name)?,
                Part::Key(name) => write!(f, ".{name}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Schema {
    /// The values of a control plane with its gateways, as an IstioOperator has them. All charts that read them accept
    /// the whole, so that one file of values does for all.
    pub fn of_control_plane(assets: &Assets) -> Self {
        let mut tree = accepted();
        for chart in CHARTS {
            let defaults = defaults(assets, chart);
            if chart == "istiod" {
                // The classic spelling puts these below `pilot`.
                extend(&mut tree, &json!({ "pilot": defaults }));
            }
            extend(&mut tree, &defaults);
        }
        derive("", &tree)
    }

    /// The values of the chart `gateway`.
    pub fn of_gateway(assets: &Assets) -> Self {
        let mut tree = json!({"global": {}, "profile": "", "platform": "", "compatibilityVersion": ""});
        extend(&mut tree, &defaults(assets, GATEWAY));
        tree["global"] = json!({});
        derive("", &tree)
    }

    /// All mistakes of a tree, in its order.
    pub fn mistakes(&self, value: &Value, path: &Path) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        self.check(value, path, &mut mistakes);
        mistakes
    }

    fn check(&self, value: &Value, path: &Path, mistakes: &mut Vec<Mistake>) {
        match (self, value) {
            // Nothing given is nothing wrong.
            (_, Value::Null) | (Self::Any, _) => {}
            (Self::Text, Value::String(_)) | (Self::Flag, Value::Bool(_)) | (Self::Number, Value::Number(_)) => {}
            // A revision of digits is read as a number; its name is checked where the whole specification is.
            (Self::Scalar | Self::Label, Value::String(_) | Value::Number(_)) | (Self::Scalar, Value::Bool(_)) => {}
            (Self::Amount, Value::String(_)) => {}
            (Self::Whole | Self::Amount, Value::Number(number)) if number.as_i64().is_some() => {}
            (Self::Choice(known), Value::String(text)) if known.contains(&text.as_str()) => {}
            (Self::Map(inner), Value::Object(fields)) => {
                for (key, value) in fields {
                    inner.check(value, &path.field(key), mistakes);
                }
            }
            (Self::List(inner), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    inner.check(value, &path.item(index), mistakes);
                }
            }
            (Self::Fields(known), Value::Object(fields)) => {
                for (key, value) in fields {
                    match known.get(key) {
                        Some(inner) => inner.check(value, &path.field(key), mistakes),
                        None => mistakes.push(Mistake::Unknown {
                            path: path.clone(),
                            field: key.clone(),
                            nearest: nearest(key, known.keys().map(String::as_str)).map(str::to_owned),
                        }),
                    }
                }
            }
            _ => mistakes.push(Mistake::Type {
                path: path.clone(),
                wants: self.wants(),
                has: brief(value),
            }),
        }
    }

    /// How a map is called in [`Mistake::Type`].
    pub(crate) const MAP: &str = "a map";
    /// How a list is called there.
    pub(crate) const LIST: &str = "a list";

    fn wants(&self) -> String {
        match self {
            Self::Any | Self::Scalar => "a single value",
            Self::Flag => "true or false",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Amount => "a whole number or a percentage",
            Self::Text => "text",
            Self::Label => "a name",
            Self::Map(_) | Self::Fields(_) => Self::MAP,
            Self::List(_) => Self::LIST,
            Self::Choice(known) => {
                let known: Vec<&str> = known.iter().copied().filter(|text| !text.is_empty()).collect();
                return format!("one of {}", known.join(", "));
            }
        }
        .to_owned()
    }

    /// The text of `values.schema.json`.
    pub fn to_json(&self) -> String {
        let mut root = self.json();
        if let Some(fields) = root.get_mut("properties").and_then(Value::as_object_mut) {
            // A chart around this one turns it on and off by this value, which no template reads.
            fields.insert("enabled".to_owned(), json!({"type": ["boolean", "null"]}));
            // Its charts share what is global, so others' values are here too.
            if let Some(global) = fields.get_mut("global").and_then(Value::as_object_mut) {
                global.shift_remove("additionalProperties");
            }
        }
        let mut text = json!({"$schema": "http://json-schema.org/draft-07/schema#"});
        merge(&mut text, &root);
        format!("{:#}\n", yaml::sorted(&text))
    }

    fn json(&self) -> Value {
        match self {
            Self::Any => json!({}),
            Self::Flag => json!({"type": ["boolean", "null"]}),
            Self::Whole => json!({"type": ["integer", "null"]}),
            Self::Number => json!({"type": ["number", "null"]}),
            Self::Text => json!({"type": ["string", "null"]}),
            Self::Amount => json!({"type": ["integer", "string", "null"]}),
            Self::Scalar => json!({"type": ["string", "number", "boolean", "null"]}),
            Self::Choice(known) => {
                let known: Vec<Value> = known.iter().map(|text| json!(text)).chain([Value::Null]).collect();
                json!({ "enum": known })
            }
            Self::Label => json!({"type": ["string", "integer", "null"], "pattern": LABEL}),
            Self::Map(inner) if matches!(**inner, Self::Any) => json!({"type": ["object", "null"]}),
            Self::Map(inner) => json!({"type": ["object", "null"], "additionalProperties": inner.json()}),
            Self::List(inner) if matches!(**inner, Self::Any) => json!({"type": ["array", "null"]}),
            Self::List(inner) => json!({"type": ["array", "null"], "items": inner.json()}),
            Self::Fields(fields) => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|(name, inner)| (name.clone(), inner.json()))
                    .collect();
                json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
            }
        }
    }
}

/// Defaults of a chart. One whose defaults cannot be read fails when it is rendered, with the reason.
fn defaults(assets: &Assets, chart: &str) -> Value {
    let text = assets.get(&format!("charts/{chart}/values.yaml")).unwrap_or_default();
    yaml::document(text).unwrap_or_else(|_| json!({}))
}

/// Adds what is not there yet; nothing is replaced, so that what is open stays open.
fn extend(tree: &mut Value, more: &Value) {
    let mut below = more.clone();
    merge(&mut below, tree);
    *tree = below;
}

/// What a value may be, from its name and its default.
fn derive(name: &str, default: &Value) -> Schema {
    let any_map = || Schema::Map(Box::new(Schema::Any));
    if let (Value::String(_), Some((_, choices))) = (default, CHOICES.iter().find(|(key, _)| *key == name)) {
        return Schema::Choice(choices);
    }
    match (name, default) {
        (name, _) if ANY.contains(&name) => Schema::Any,
        (name, _) if AMOUNTS.contains(&name) => Schema::Amount,
        (name, Value::String(_)) if SCALARS.contains(&name) => Schema::Scalar,
        ("revision" | "defaultRevision", _) => Schema::Label,
        ("revisionTags", _) => Schema::List(Box::new(Schema::Label)),
        (name, Value::Object(_)) if OPEN.contains(&name) => any_map(),
        (_, Value::Null) => Schema::Any,
        (_, Value::Bool(_)) => Schema::Flag,
        (_, Value::Number(number)) if number.is_f64() => Schema::Number,
        (_, Value::Number(_)) => Schema::Whole,
        (_, Value::String(_)) => Schema::Text,
        (_, Value::Array(_)) => Schema::List(Box::new(Schema::Any)),
        (_, Value::Object(fields)) if fields.is_empty() => any_map(),
        (_, Value::Object(fields)) => Schema::Fields(
            fields
                .iter()
                .map(|(name, default)| (name.clone(), derive(name, default)))
                .collect(),
        ),
    }
}

/// Values of Istio's charts that ours have no use for, and those that have no default.
fn accepted() -> Value {
    let gateway = json!({
        "enabled": false, "affinity": {}, "autoscaleBehavior": {}, "customService": false, "ingressPorts": [],
        "meshExpansionPorts": [], "podAntiAffinityLabelSelector": [], "podAntiAffinityTermLabelSelector": [],
        "replicaCount": 1,
    });
    json!({
        "profile": "", "platform": "", "compatibilityVersion": "", "defaultRevision": "",
        "cni": {}, "istio_cni": {}, "ztunnel": {}, "experimental": {}, "gatewayClasses": {}, "telemetry": {},
        "base": {"enableCRDTemplates": true, "excludedCRDs": []},
        "pilot": {"enabled": true, "crlConfigMapName": "", "replicaCount": 1, "cni": {}, "taint": {}},
        "taint": {},
        "istiodRemote": {"enabledLocalInjectorIstiod": false},
        "gateways": {"istio-ingressgateway": gateway, "istio-egressgateway": gateway},
        "global": {
            "arch": {}, "autoscalingv2API": true, "certSigners": [], "configCluster": false, "enabled": true,
            "defaultTolerations": [], "defaultNodeSelector": {}, "operatorManageWebhooks": false, "platform": "",
            "podDNSSearchNamespaces": [], "profile": "", "readerServiceAccount": {}, "resourceScope": "",
            "trustBundleName": "", "trustDomain": "", "waypoint": {}, "oneNamespace": false, "logging": {},
            "proxy": {
                "capNetBindService": "", "holdApplicationUntilProxyStarts": false, "lifecycle": {}, "enableCoreDump": false,
                "excludeInterfaces": "", "waypoint": {},
            },
            "sts": {}, "sds": {}, "multiCluster": {},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: Value, expected: &[&str]) {
        let schema = Schema::of_control_plane(&Assets::embedded());
        let mistakes = schema.mistakes(&values, &Path::of(&["spec", "values"]));
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn mistyped_values_are_named_with_what_was_meant() {
        check(
            json!({"pilot": {"autoscaleMinn": 2}, "global": {"proxy": {"logLevle": "debug"}}}),
            &[
                r#"could not unmarshal: spec.values.pilot: unknown field "autoscaleMinn" (did you mean "autoscaleMin"?)"#,
                r#"could not unmarshal: spec.values.global.proxy: unknown field "logLevle" (did you mean "logLevel"?)"#,
            ],
        );
    }

    #[test]
    fn a_value_has_the_type_of_its_default() {
        check(
            json!({
                "pilot": {"autoscaleEnabled": "yes", "autoscaleMin": 1.5, "traceSampling": 50, "rollingMaxSurge": 1},
                "global": {"imagePullPolicy": "Sometimes", "tag": 1.24, "imagePullSecrets": "mine"},
            }),
            &[
                r#"could not unmarshal: spec.values.pilot.autoscaleEnabled: wants true or false, has "yes""#,
                "could not unmarshal: spec.values.pilot.autoscaleMin: wants a whole number, has 1.5",
                r#"could not unmarshal: spec.values.global.imagePullPolicy: wants one of Always, IfNotPresent, Never, has "Sometimes""#,
                r#"could not unmarshal: spec.values.global.imagePullSecrets: wants a list, has "mine""#,
            ],
        );
    }

    #[test]
    fn what_is_the_users_own_is_not_looked_at() {
        check(
            json!({
                "pilot": {"env": {"ANY": "thing"}, "nodeSelector": {"disk": "ssd"}},
                "meshConfig": {"defaultConfig": {"proxyMetadata": {"A": "b"}}},
                "gateways": {"istio-ingressgateway": {"labels": {"my": "label"}, "enabled": true}},
                "sidecarInjectorWebhook": {"templates": {"mine": "spec: {}"}},
            }),
            &[],
        );
    }
}
