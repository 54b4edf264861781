//! Whom the istiod of each revision leaves alone although a webhook selects it: the policies of the injector
//! configurations, as istiod itself reads them.

use std::collections::BTreeMap;

use inject::Config;
use install::api_server::kind;
use install::object::Object;
use revision::decision::{PodView, Policy, Skip};
use revision::name::DEFAULT;

use crate::cluster::Cluster;

/// ConfigMap of the unnamed revision; a named one appends `-<revision>`.
const CONFIG_MAP: &str = "istio-sidecar-injector";

/// Policies by revision. One whose configuration is not known is taken for what the charts set: whoever does not refuse
/// is injected.
#[derive(Clone, Debug, Default)]
pub struct Policies(BTreeMap<String, Policy>);

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
        let mut policies = BTreeMap::new();
        let mut problems = Vec::new();
        for map in maps {
            let Some(suffix) = map.name().strip_prefix(CONFIG_MAP) else {
                continue;
            };
            let Some(revision) = suffix.strip_prefix('-').or(suffix.is_empty().then_some(DEFAULT)) else {
                continue;
            };
            // Templates and values are istiod's concern.
            match Config::parse(map.text("/data/config"), "{}") {
                Ok(config) => {
                    policies.insert(revision.to_owned(), config.policy);
                }
                Err(error) => problems.push(format!("ConfigMap {} in {}: {error}", map.name(), map.namespace())),
            }
        }
        (Self(policies), problems)
    }

    /// Why the istiod of a revision would leave a pod alone, if it would; without a revision, why any would.
    pub fn skip(&self, revision: Option<&str>, pod: PodView<'_>) -> Option<Skip> {
        let usual = Policy {
            policy: "enabled".to_owned(),
            ..Policy::default()
        };
        let policy = revision.and_then(|revision| self.0.get(revision)).unwrap_or(&usual);
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
            ("sidecar.istio.io/inject", "0"),
            ("sidecar.istio.io/inject", "True"),
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
