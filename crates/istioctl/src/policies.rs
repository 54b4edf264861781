//! Whom the istiod of each revision leaves alone although a webhook selects it, and which proxy it gives to others: the
//! injector configurations, as istiod itself reads them.

use std::collections::BTreeMap;

use inject::Config;
use install::api_server::kind;
use install::object::Object;
use revision::decision::{PodView, Policy, Skip};
use revision::name::DEFAULT;

use crate::cluster::Cluster;

/// ConfigMap of the unnamed revision; a named one appends `-<revision>`.
const CONFIG_MAP: &str = "istio-sidecar-injector";

/// What the injector configurations say, by revision. A policy that is not known is taken for what the charts set: whoever
/// does not refuse is injected.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    policies: BTreeMap<String, Policy>,
    /// Images of proxies.
    pub images: BTreeMap<String, String>,
}

impl Policies {
    /// Reads those of the namespace; what cannot be read is noted, since the rest of an answer holds without it.
    pub async fn read(cluster: &Cluster, system: &str) -> Self {
        let mut maps = kind("", "v1", "ConfigMap");
        system.clone_into(&mut maps.namespace);
        let (policies, problems) = match cluster.server.list(&maps, "").await {
            Ok(maps) => Self::of(&maps),
            Err(error) => (Self::default(), vec![error.to_string()]),
        };
        for problem in problems {
            anstream::eprintln!("❗ whom an injector leaves alone is not known, taken for the default: {problem}");
        }
        policies
    }

    /// Policies of the injector configurations among ConfigMaps, and which of these cannot be used.
    fn of(maps: &[Object]) -> (Self, Vec<String>) {
        let mut policies = Self::default();
        let mut problems = Vec::new();
        for map in maps {
            let Some(suffix) = map.name().strip_prefix(CONFIG_MAP) else {
                continue;
            };
            let Some(revision) = suffix.strip_prefix('-').or(suffix.is_empty().then_some(DEFAULT)) else {
                continue;
            };
            // Values that cannot be read are istiod's concern: they do not change whom it injects.
            match Config::parse(map.text("/data/config"), "{}") {
                Ok(mut config) => {
                    let values = install::yaml::document(map.text("/data/values")).unwrap_or_default();
                    if values.get("global").is_some() {
                        config.values = values;
                        policies.images.insert(revision.to_owned(), config.image("proxy", None));
                    }
                    policies.policies.insert(revision.to_owned(), config.policy);
                }
                Err(error) => problems.push(format!("ConfigMap {} in {}: {error}", map.name(), map.namespace())),
            }
        }
        (policies, problems)
    }

    /// Why the istiod of a revision would leave a pod alone, if it would; without a revision, why any would.
    pub fn skip(&self, revision: Option<&str>, pod: PodView<'_>) -> Option<Skip> {
        let usual = Policy {
            policy: "enabled".to_owned(),
            ..Policy::default()
        };
        let policy = revision
            .and_then(|revision| self.policies.get(revision))
            .unwrap_or(&usual);
        policy.admits(pod).err()
    }
}

/// Policies for tests.
#[cfg(test)]
pub mod fixture {
    use serde_json::json;

    use super::*;

    /// Those of injector configurations, by name of their ConfigMap.
    pub fn policies(maps: &[(&str, &str)]) -> (Policies, Vec<String>) {
        let map = |(name, config): &(&str, &str)| {
            Object(json!({"metadata": {"name": name, "namespace": "istio-system"}, "data": {"config": config}}))
        };
        Policies::of(&maps.iter().map(map).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use revision::selector::Labels;
    use serde_json::json;

    use super::*;

    const NEVER: &str = "policy: enabled\nneverInjectSelector: [{matchLabels: {batch: 'yes'}}]";
    const ALWAYS: &str = "policy: disabled\nalwaysInjectSelector: [{matchLabels: {batch: 'yes'}}]";

    fn check(revision: &str, labels: &[(&str, &str)], expected: Option<Skip>) {
        let maps = [
            ("istio-sidecar-injector", "policy: disabled"),
            ("istio-sidecar-injector-never", NEVER),
            ("istio-sidecar-injector-always", ALWAYS),
            ("istio-sidecar-injectors", "not one"),
            ("istio", "mesh: of another kind"),
        ];
        let (policies, problems) = fixture::policies(&maps);
        assert_eq!(problems, [""; 0]);
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let pod = PodView {
            namespace: "app",
            labels: &labels,
            annotations: &Labels::new(),
            host_network: false,
        };
        assert_eq!(
            policies.skip(Some(revision), pod),
            expected,
            "{revision} with {labels:?}"
        );
    }

    #[test]
    fn each_revision_decides_by_its_own_configuration() {
        let (batch, refuses, asks) = (
            ("batch", "yes"),
            ("sidecar.istio.io/inject", "false"),
            ("sidecar.istio.io/inject", "true"),
        );
        check("default", &[], Some(Skip::PolicyDisabled));
        check("default", &[asks], None);
        check("never", &[], None);
        check("never", &[batch], Some(Skip::NeverSelector));
        check("never", &[batch, asks], None);
        check("always", &[], Some(Skip::PolicyDisabled));
        check("always", &[batch], None);
        check("always", &[batch, refuses], Some(Skip::Refused));
        check("unknown", &[], None);
        check("unknown", &[refuses], Some(Skip::Refused));
    }

    #[test]
    fn the_image_is_what_the_values_say() {
        let check = |values: &str, image: Option<&str>| {
            let map = Object(json!({"metadata": {"name": "istio-sidecar-injector-canary"},
                "data": {"config": "policy: enabled", "values": values}}));
            let (policies, problems) = Policies::of(&[map]);
            assert_eq!(policies.images.get("canary").map(String::as_str), image, "{values}");
            assert_eq!(problems, [""; 0]);
        };
        let values = r#"{"global": {"hub": "docker.io/trysail", "tag": "0.2.0", "proxy": {"image": "proxyv2"}}}"#;
        check(values, Some("docker.io/trysail/proxyv2:0.2.0"));
        check(
            r#"{"global": {"proxy": {"image": "example.com/own:1"}}}"#,
            Some("example.com/own:1"),
        );
        check("", None);
        check("{", None);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_named() {
        let (_, problems) = fixture::policies(&[("istio-sidecar-injector-odd", "policy: [")]);
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}")
        };
        assert!(
            problem.starts_with("ConfigMap istio-sidecar-injector-odd in istio-system: "),
            "{problem}"
        );
    }
}
