//! Who injected each pod, and who would inject it now: pods on the right and the wrong side of a revision.
//!
//! Read once and decided here for all commands that show it, by the same function that the injector uses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::names::{PROXY_CONTAINER, annotation};
use inject::workload::Workload;
use install::api_server::kind;
use install::object::{Object, strings};
use revision::decision::{Decision, Injector, PodView, Skip, decide};
use revision::selector::Labels;
use serde_json::Value;

use crate::carried::{self, Carried};
use crate::cluster::{Cluster, within};
use crate::command::injection;
use crate::command::proxy_status::unconnected::{has_proxy, is_over, revision};
use crate::failure::Failure;
use crate::policies::Policies;

/// Namespaces, pods and injectors of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// Labels of each namespace that may be injected.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods that concern a mesh, by namespace and name.
    pub pods: Vec<Pod>,
    /// Installed injectors, by name.
    pub injectors: Vec<Injector>,
    /// Image of the proxy that each revision injects.
    pub images: BTreeMap<String, String>,
}

/// A pod as far as injection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Revision that injected it.
    pub now: Option<String>,
    /// Revision that would inject it at its next restart.
    pub next: Option<String>,
    /// No webhook would: the proxy of that revision stands in the template of its workload.
    pub carried: bool,
    /// No webhook would: it brings its proxy along, like a gateway of the charts.
    pub own: bool,
    /// Whether its own label or annotation says that it is not to be injected.
    pub refuses: bool,
    /// Image of its proxy.
    pub image: String,
    /// Kind of the workload that made it, in small letters.
    pub kind: String,
}

impl Pod {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// Whether it has a proxy and no webhook would inject another.
    fn leaves(&self) -> bool {
        self.now.is_some() && self.next.is_none()
    }

    /// Whether a restart changes who injects it.
    pub fn needs_restart(&self) -> bool {
        self.now != self.next
    }
}

/// Namespaces that are Kubernetes' own are never injected.
fn is_hidden(namespace: &str) -> bool {
    revision::webhook::IGNORED_NAMESPACES.contains(&namespace)
}

/// Reads everything at once, within a limit; of namespaces and pods just those of one namespace, if one is named, which
/// must be there.
pub async fn read(cluster: &Cluster, system: &str, only: Option<&str>, limit: Duration) -> Result<Sides, Failure> {
    let mut pods = kind("", "v1", "Pod");
    pods.namespace = only.unwrap_or_default().to_owned();
    let namespaces = kind("", "v1", "Namespace");
    let reading = async {
        let (pods, namespaces, injectors, policies) = futures::join!(
            cluster.server.list(&pods, ""),
            cluster.server.list(&namespaces, ""),
            injection::injectors(cluster),
            Policies::read(cluster, system)
        );
        Ok((pods?, namespaces?, injectors?, policies))
    };
    let (pods, mut namespaces, injectors, policies) = within(limit, reading).await?;
    if let Some(only) = only {
        namespaces.retain(|namespace| namespace.name() == only);
        if namespaces.is_empty() {
            return Err(injection::no_namespace(only));
        }
    }
    let mut sides = build(&pods, &namespaces, injectors, &policies);
    let leaving: BTreeSet<(&str, &str)> = sides.pods.iter().filter(|pod| pod.leaves()).map(Pod::key).collect();
    let leaving: Vec<&Object> = pods
        .iter()
        .filter(|pod| leaving.contains(&(pod.namespace(), pod.name())))
        .collect();
    let carried = carried::read(cluster, &leaving, limit).await;
    sides.carry(&carried);
    Ok(sides)
}

/// Decides for every pod.
pub fn build(pods: &[Object], namespaces: &[Object], injectors: Vec<Injector>, policies: &Policies) -> Sides {
    let namespaces: BTreeMap<String, Labels> = namespaces
        .iter()
        .filter(|namespace| !is_hidden(namespace.name()))
        .map(|namespace| (namespace.name().to_owned(), namespace.labels()))
        .collect();
    let mut found: Vec<Pod> = pods
        .iter()
        .filter(|pod| !is_over(pod))
        .filter_map(|pod| {
            let namespace = namespaces.get(pod.namespace())?;
            Some(side(pod, namespace, &injectors, policies))
        })
        .collect();
    found.sort_by(|left, right| (&left.namespace, &left.name).cmp(&(&right.namespace, &right.name)));
    Sides {
        namespaces,
        pods: found,
        injectors,
        images: policies.images.clone(),
    }
}

/// Decides for one pod of a namespace with these labels.
pub fn side(pod: &Object, namespace: &Labels, injectors: &[Injector], policies: &Policies) -> Pod {
    let labels = pod.labels();
    let annotations = strings(pod.0.pointer("/metadata/annotations"));
    let now = has_proxy(pod)
        .then(|| revision(pod))
        .filter(|revision| !revision.is_empty());
    let decision = decide(namespace, &labels, injectors);
    let view = PodView {
        namespace: pod.namespace(),
        labels: &labels,
        annotations: &annotations,
        host_network: pod.0.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true),
    };
    let admitted = |revision: &&str| policies.skip(Some(revision), view).is_none();
    let next = decision.revision().filter(admitted).map(str::to_owned);
    // What a pod says itself counts on the node's network too.
    let own_network = PodView {
        host_network: false,
        ..view
    };
    let refuses = policies.skip(None, own_network) == Some(Skip::Refused);
    // A gateway of the charts brings its proxy along; a restart changes nothing about it.
    let own = now.is_some() && !annotations.contains_key(annotation::STATUS);
    Pod {
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        next: if own { now.clone() } else { next },
        carried: false,
        own,
        now,
        refuses: refuses && !own,
        image: image(pod),
        kind: Workload::of(&pod.0, pod.namespace()).kind.to_lowercase(),
    }
}

/// Image of a pod's proxy, empty if there is none.
pub fn image(pod: &Object) -> String {
    let containers = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod.0["spec"][list].as_array().into_iter().flatten());
    let mut proxies = containers.filter(|container| container["name"] == PROXY_CONTAINER);
    let image = proxies.next().and_then(|container| container["image"].as_str());
    image.unwrap_or_default().to_owned()
}

impl Sides {
    /// Pods whose template has a proxy get it back at a restart.
    pub fn carry(&mut self, carried: &Carried) {
        for pod in self.pods.iter_mut().filter(|pod| pod.leaves()) {
            pod.next = carried.get(&(pod.namespace.clone(), pod.name.clone())).cloned();
            pod.carried = pod.next.is_some();
        }
    }

    /// Who injects a pod of a namespace that says nothing itself.
    pub fn of_namespace(&self, namespace: &str) -> Decision {
        let labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        decide(&labels, &Labels::new(), &self.injectors)
    }

    /// Namespaces whose new pods a revision injects: as a whole, or because one of their pods chooses for itself.
    pub fn namespaces_of(&self, revision: &str) -> Vec<&str> {
        let chosen = |pod: &&Pod| pod.next.as_deref() == Some(revision) && !pod.carried && !pod.own;
        let with_pods = self.pods.iter().filter(chosen).map(|pod| pod.namespace.as_str());
        let names = self.namespaces.keys().map(String::as_str);
        let whole = names.filter(|name| self.of_namespace(name).revision() == Some(revision));
        whole.chain(with_pods).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// A mesh with two revisions, a tag, and pods on both sides of them.
#[cfg(test)]
pub mod fixture {
    use revision::name::{Revision, Tag};
    use revision::webhook;
    use serde_json::json;

    use super::*;

    fn injector(config: &str, revision: &str, tag: Option<&str>) -> Injector {
        let webhooks = match tag {
            Some(tag) => Tag::parse(tag).map(|tag| webhook::of_tag(&tag, webhook::Options::default())),
            None => {
                Revision::parse(revision).map(|revision| webhook::of_revision(&revision, webhook::Options::default()))
            }
        };
        Injector {
            config: config.to_owned(),
            revision: revision.to_owned(),
            tag: tag.map(str::to_owned),
            webhooks: webhooks.unwrap_or_default(),
        }
    }

    fn pod(namespace: &str, name: &str, now: &str, labels: Value) -> Object {
        let mut pod = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels.clone()}, "status": {"phase": "Running"}});
        let (kind, owner) = match name {
            "leftover" => ("StatefulSet", name.to_owned()),
            _ => ("ReplicaSet", format!("{name}-5f6d")),
        };
        pod["metadata"]["generateName"] = format!("{owner}-").into();
        pod["metadata"]["labels"]["pod-template-hash"] = "5f6d".into();
        pod["metadata"]["ownerReferences"] =
            json!([{"controller": true, "apiVersion": "apps/v1", "kind": kind, "name": owner}]);
        if !now.is_empty() {
            pod["metadata"]["annotations"] = if labels["sidecar.istio.io/inject"] == "false" {
                json!({"istio.io/rev": now})
            } else {
                json!({"sidecar.istio.io/status": json!({"revision": now}).to_string()})
            };
            pod["spec"]["containers"] =
                json!([{"name": "istio-proxy", "image": format!("docker.io/trysail/proxyv2:{now}")}]);
        }
        Object(pod)
    }

    fn namespace(name: &str, labels: Value) -> Object {
        Object(json!({"metadata": {"name": name, "labels": labels}}))
    }

    /// The mesh.
    pub fn sides() -> Sides {
        let injectors = vec![
            injector("istio-revision-tag-default", "1-22-1", Some("default")),
            injector("istio-revision-tag-prod", "1-23-1", Some("prod")),
            injector("istio-sidecar-injector-1-22-1", "1-22-1", None),
            injector("istio-sidecar-injector-1-23-1", "1-23-1", None),
            injector("istio-sidecar-injector-unused", "unused", None),
        ];
        let namespaces = [
            namespace("app-1", json!({"istio.io/rev": "prod"})),
            namespace("app-2", json!({"istio-injection": "enabled"})),
            namespace("empty", json!({"istio.io/rev": "1-23-1"})),
            namespace("istio-system", json!({})),
            namespace("kube-system", json!({})),
            namespace("plain", json!({})),
        ];
        let pods = [
            pod("app-1", "moved", "1-23-1", json!({"app": "moved"})),
            pod("app-1", "not-restarted", "1-22-1", json!({"app": "not-restarted"})),
            pod("app-1", "refuses", "", json!({"sidecar.istio.io/inject": "false"})),
            pod("app-2", "late", "", json!({"app": "late"})),
            pod("app-2", "settled", "1-22-1", json!({"app": "settled"})),
            pod(
                "istio-system",
                "gateway",
                "1-23-1",
                json!({"sidecar.istio.io/inject": "false"}),
            ),
            pod("kube-system", "dns", "", json!({})),
            pod("plain", "database", "", json!({})),
            pod("plain", "leftover", "gone", json!({})),
        ];
        build(&pods, &namespaces, injectors, &Policies::default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policies::fixture::policies;

    fn check(labels: &Value, host_network: bool, next: Option<&str>, refuses: bool) {
        let injectors = fixture::sides().injectors;
        let config = "policy: enabled\nneverInjectSelector: [{matchLabels: {batch: 'yes'}}]";
        let (policies, _) = policies(&[("istio-sidecar-injector-1-23-1", config)]);
        let namespace = Labels::from([("istio.io/rev".to_owned(), "prod".to_owned())]);
        let pod = json!({"metadata": {"name": "a", "namespace": "app", "labels": labels}, "spec": {"hostNetwork": host_network}});
        let side = side(&Object(pod), &namespace, &injectors, &policies);
        assert_eq!((side.next.as_deref(), side.refuses), (next, refuses), "{labels}");
    }

    #[test]
    fn a_namespace_is_a_revisions_also_by_one_pod() {
        let mut sides = fixture::sides();
        assert_eq!(sides.namespaces_of("1-23-1"), ["app-1", "empty"]);
        let database = sides.pods.iter_mut().find(|pod| pod.name == "database");
        if let Some(pod) = database {
            pod.next = Some("1-23-1".to_owned());
        }
        assert_eq!(sides.namespaces_of("1-23-1"), ["app-1", "empty", "plain"]);
        // What stands in a template needs no injector.
        for pod in &mut sides.pods {
            pod.carried = true;
        }
        assert_eq!(sides.namespaces_of("1-23-1"), ["app-1", "empty"]);
    }

    #[test]
    fn who_is_injected_next_is_what_istiod_would_decide() {
        let inject = |value: &str| json!({"sidecar.istio.io/inject": value});
        check(&json!({}), false, Some("1-23-1"), false);
        check(&json!({}), true, None, false);
        check(&json!({"batch": "yes"}), false, None, false);
        check(&inject("false"), false, None, true);
        check(&inject("false"), true, None, true);
        for other in ["perhaps", "False", "0", ""] {
            check(&inject(other), false, Some("1-23-1"), false);
        }
    }
}
