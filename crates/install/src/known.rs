//! Which values charts know: their defaults say so, and a few more are accepted for Istio's sake.

use serde_json::{Value, json};

use crate::assets::Assets;
use crate::validate::{Mistake, brief, nearest};
use crate::values::merge;
use crate::yaml;

/// Charts that read an IstioOperator's `values`.
const CHARTS: [&str; 4] = ["base", "istiod", "gateways/istio-ingress", "gateways/istio-egress"];

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

/// The known values as one tree; a map without keys may hold any.
#[derive(Debug, Clone)]
pub(crate) struct Known(Value);

impl Known {
    /// Reads the defaults of the charts.
    pub(crate) fn of(assets: &Assets) -> Self {
        let mut tree = accepted();
        for chart in CHARTS {
            let text = assets.get(&format!("charts/{chart}/values.yaml")).unwrap_or_default();
            // A chart whose defaults cannot be read fails when it is rendered, with the reason.
            let Ok(defaults) = yaml::document(text) else { continue };
            if chart == "istiod" {
                // The classic spelling puts these below `pilot`.
                extend(&mut tree, &json!({ "pilot": defaults }));
            }
            extend(&mut tree, &defaults);
        }
        Self(tree)
    }

    /// Values that no chart knows, and single values where a chart has a map.
    pub(crate) fn unknown(&self, values: &Value) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        walk(&self.0, values, "spec.values", &mut mistakes);
        mistakes
    }
}

/// Adds what is not there yet; nothing is replaced, so that what is open stays open.
fn extend(tree: &mut Value, more: &Value) {
    let mut below = more.clone();
    merge(&mut below, tree);
    *tree = below;
}

fn walk(known: &Value, values: &Value, path: &str, mistakes: &mut Vec<Mistake>) {
    let Some(known) = known.as_object().filter(|known| !known.is_empty()) else {
        return;
    };
    let Some(values) = values.as_object() else {
        if !values.is_null() {
            mistakes.push(Mistake::Type {
                path: path.to_owned(),
                wants: "a map of settings",
                has: brief(values),
            });
        }
        return;
    };
    for (key, value) in values {
        match known.get(key) {
            Some(_) if OPEN.contains(&key.as_str()) => {}
            Some(inner) => walk(inner, value, &format!("{path}.{key}"), mistakes),
            None => mistakes.push(Mistake::Unknown {
                path: path.to_owned(),
                field: key.clone(),
                nearest: nearest(key, known.keys().map(String::as_str)).map(str::to_owned),
            }),
        }
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
        "base": {"enableCRDTemplates": true, "excludedCRDs": [], "validationFailurePolicy": ""},
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
        let known = Known::of(&Assets::embedded());
        let mistakes: Vec<String> = known.unknown(&values).iter().map(ToString::to_string).collect();
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
