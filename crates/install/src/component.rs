//! Components of an installation: which are on, and what each renders (revisions.md §1.1).

use serde_json::{Value, json};

use crate::assets::Assets;
use crate::chart::{Chart, ChartError, Release};
use crate::input::Operator;
use crate::object::Object;
use crate::overlay::{self, OverlayError};
use crate::settings;
use crate::values::merge;

/// Name of every release: labels of objects say so, whatever the component or revision.
const RELEASE: &str = "istio";

/// Why a component did not render.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Its chart failed.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// An overlay does not fit.
    #[error("component {component}: {source}")]
    Overlay {
        /// Name of the component.
        component: &'static str,
        /// What is wrong.
        source: OverlayError,
    },
    /// A component that this distribution does not have.
    #[error("component {0} is enabled, but this release has none: set spec.components.{1}.enabled to false")]
    Missing(&'static str, &'static str),
}

/// What a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What all revisions share.
    Base,
    /// The control plane of one revision.
    Pilot,
    /// Gateways for incoming traffic.
    IngressGateways,
    /// Gateways for outgoing traffic.
    EgressGateways,
}

impl Kind {
    /// All, in the order in which they are installed.
    pub const ALL: [Kind; 4] = [Self::Base, Self::Pilot, Self::IngressGateways, Self::EgressGateways];

    /// Value of the label `operator.istio.io/component`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Base => "Base",
            Self::Pilot => "Pilot",
            Self::IngressGateways => "IngressGateways",
            Self::EgressGateways => "EgressGateways",
        }
    }

    /// How progress names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "Istio core",
            Self::Pilot => "Istiod",
            Self::IngressGateways => "Ingress gateways",
            Self::EgressGateways => "Egress gateways",
        }
    }

    /// Its picture in progress.
    pub fn icon(self) -> &'static str {
        match self {
            Self::Base => "⛵️",
            Self::Pilot => "🧠",
            Self::IngressGateways => "🛬",
            Self::EgressGateways => "🛫",
        }
    }

    fn chart(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Pilot => "istiod",
            Self::IngressGateways => "gateways/istio-ingress",
            Self::EgressGateways => "gateways/istio-egress",
        }
    }

    /// Key of the gateway's values, for gateways, and the name of one that is given none.
    pub(crate) fn gateway(self) -> Option<&'static str> {
        match self {
            Self::IngressGateways => Some("istio-ingressgateway"),
            Self::EgressGateways => Some("istio-egressgateway"),
            Self::Base | Self::Pilot => None,
        }
    }
}

/// A component and its objects.
#[derive(Clone, Debug)]
pub struct Component {
    /// Which.
    pub kind: Kind,
    /// Its objects, in chart order.
    pub objects: Vec<Object>,
}

/// How to render, beside what is in the specification.
#[derive(Clone, Debug, Default)]
pub struct Rendering<'a> {
    /// Version in labels; the charts' own if there is none.
    pub version: Option<&'a str>,
    /// Whether the control plane is there already: then fields that istiod keeps at run time are left out.
    pub is_upgrade: bool,
}

/// Renders every component that is on. A component that is off is not in the result.
pub fn render(operator: &Operator, assets: &Assets, how: &Rendering<'_>) -> Result<Vec<Component>, ComponentError> {
    let spec = &operator.document["spec"];
    for (name, key) in [("Cni", "cni"), ("Ztunnel", "ztunnel")] {
        if spec
            .pointer(&format!("/components/{key}/enabled"))
            .and_then(Value::as_bool)
            == Some(true)
        {
            return Err(ComponentError::Missing(name, key));
        }
    }
    let mut components = Vec::new();
    for kind in Kind::ALL {
        let mut objects = Vec::new();
        for instance in instances(kind, spec) {
            objects.extend(one(kind, &instance, operator, assets, how)?);
        }
        if !objects.is_empty() {
            components.push(Component { kind, objects });
        }
    }
    Ok(components)
}

/// The entries of `spec.components` for a kind that are on.
fn instances(kind: Kind, spec: &Value) -> Vec<Value> {
    let components = &spec["components"];
    let enabled = |entry: &Value| entry.get("enabled").and_then(Value::as_bool);
    let on = |entry: &Value| enabled(entry).unwrap_or(false);
    // The older spelling, in values, turns a component on too.
    let wanted = |pointer: &str| spec.pointer(pointer).and_then(Value::as_bool) == Some(true);
    match kind {
        Kind::Base => Some(&components["base"])
            .filter(|entry| on(entry))
            .cloned()
            .into_iter()
            .collect(),
        Kind::Pilot => {
            let entry = &components["pilot"];
            Some(entry)
                .filter(|entry| on(entry) || wanted("/values/pilot/enabled"))
                .cloned()
                .into_iter()
                .collect()
        }
        Kind::IngressGateways | Kind::EgressGateways => {
            let list = if kind == Kind::IngressGateways {
                "ingressGateways"
            } else {
                "egressGateways"
            };
            let entries = components[list].as_array().cloned().unwrap_or_default();
            let name = kind.gateway().unwrap_or_default();
            let by_value = |entry: &Value| entry["name"] == name && wanted(&format!("/values/gateways/{name}/enabled"));
            // Who lists a gateway wants it, unless he says otherwise.
            entries
                .into_iter()
                .filter(|entry| enabled(entry).unwrap_or(true) || by_value(entry))
                .collect()
        }
    }
}

fn one(
    kind: Kind,
    entry: &Value,
    operator: &Operator,
    assets: &Assets,
    how: &Rendering<'_>,
) -> Result<Vec<Object>, ComponentError> {
    let namespace = entry
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or(operator.namespace());
    let release = Release {
        name: RELEASE,
        namespace,
        is_upgrade: how.is_upgrade,
    };
    let mut chart = Chart::load(assets, kind.chart())?;
    if let Some(version) = how.version {
        chart = chart.with_version(version);
    }
    let mut values = operator.values().clone();
    // The control plane's own image: what is global names the images of the proxies, too.
    let images = if kind == Kind::Pilot { "pilot" } else { "global" };
    for key in ["hub", "tag"] {
        if let Some(value) = entry.get(key) {
            merge(&mut values, &json!({images: {key: value}}));
        }
    }
    if let Some(owner) = operator.name() {
        merge(&mut values, &json!({"ownerName": owner}));
    }
    if let Some(gateway) = kind.gateway() {
        let mut own = json!({});
        if let Some(name) = entry.get("name") {
            own["name"] = name.clone();
        }
        if let Some(labels) = entry.get("label").filter(|labels| labels.is_object()) {
            own["labels"] = labels.clone();
        }
        // The ports of its Service are its container's, too.
        if let Some(ports) = ports(entry) {
            own["ports"] = ports.clone();
        }
        merge(&mut own, &scaling(entry));
        merge(&mut values, &json!({"gateways": {gateway: own}}));
    }
    if kind == Kind::Pilot {
        merge(&mut values, &json!({"pilot": scaling(entry)}));
    }
    let mut objects = chart.render(&release, &values)?;
    let workload = match kind {
        Kind::Base => String::new(),
        Kind::Pilot => api::names::object::istiod(operator.revision()),
        Kind::IngressGateways | Kind::EgressGateways => entry
            .get("name")
            .and_then(Value::as_str)
            .or(kind.gateway())
            .unwrap_or_default()
            .to_owned(),
    };
    if let Some(k8s) = entry.get("k8s") {
        let mut settings = k8s.clone();
        if kind.gateway().is_some()
            && let Some(service) = settings.get_mut("service").and_then(Value::as_object_mut)
        {
            // They are in the values already.
            service.shift_remove("ports");
        }
        settings::apply(&mut objects, &workload, &settings);
        overlay::apply(&mut objects, k8s).map_err(|source| ComponentError::Overlay {
            component: kind.label(),
            source,
        })?;
    }
    Ok(objects)
}

/// The ports that an entry gives its Service, in place of the chart's.
fn ports(entry: &Value) -> Option<&Value> {
    let ports = entry.pointer("/k8s/service/ports")?;
    ports.as_array().filter(|ports| !ports.is_empty()).map(|_| ports)
}

/// Numbers of replicas are values too: charts decide by them whether there is something to disrupt.
fn scaling(entry: &Value) -> Value {
    let mut values = json!({});
    for (pointer, name) in [
        ("/k8s/hpaSpec/minReplicas", "autoscaleMin"),
        ("/k8s/hpaSpec/maxReplicas", "autoscaleMax"),
        ("/k8s/replicaCount", "replicaCount"),
    ] {
        if let Some(number) = entry.pointer(pointer) {
            values[name] = number.clone();
        }
    }
    values
}
