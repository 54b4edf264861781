//! Pods that have a proxy which no control plane knows: the second table of `proxy-status`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::names::{PROXY_CONTAINER, annotation, label};
use install::api_server::kind;
use install::component::Kind;
use install::object::Object;
use install::proof::injected_by;
use revision::decision::Injector;
use revision::name::DEFAULT;
use revision::selector::Labels;
use serde::Serialize;
use serde_json::Value;
use status::gather::{Answer, Instance};
use status::proxy::Proxy;

use super::show::PADDING;
use crate::carried::{self, Carried};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::injection::injectors;
use crate::failure::Failure;
use crate::policies::Policies;
use crate::sides::side;
use crate::table::{columns, row};

/// A pod whose proxy is connected nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unconnected {
    /// `<pod>.<namespace>`.
    pub name: String,
    /// Revision that injected it.
    pub revision: String,
    /// Whether its proxy says that it is ready.
    pub ready: bool,
    /// What is wrong, as far as can be seen from here.
    pub reason: String,
}

/// Pods, and what decides who would inject them at a restart.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// Pods of the namespace that is looked at, or of all.
    pub pods: Vec<Object>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// The namespace that is looked at is not there.
    pub nowhere: bool,
    /// Injectors.
    pub injectors: Vec<Injector>,
    /// Whom they leave alone.
    pub policies: Policies,
    /// Proxies that come back without them.
    pub carried: Carried,
}

impl Pods {
    /// The revision that would inject a pod now.
    fn next(&self, pod: &Object) -> Option<String> {
        let labels = self.namespaces.get(pod.namespace())?;
        side(pod, labels, &self.injectors, &self.policies).next
    }
}

fn labelled(namespace: &Object) -> (String, Labels) {
    let labels = namespace.labels();
    (namespace.name().to_owned(), labels)
}

/// Reads them, but for what workloads carry; whoever may not see namespaces and injectors is told less.
pub async fn read(cluster: &Cluster, global: &Global) -> Result<Pods, Failure> {
    let mut pods = kind("", "v1", "Pod");
    pods.namespace = global.namespace.clone().unwrap_or_default();
    let namespaces = kind("", "v1", "Namespace");
    let (pods, namespaces, injectors, policies) = futures::join!(
        cluster.server.list(&pods, ""),
        cluster.server.list(&namespaces, ""),
        injectors(cluster),
        Policies::read(cluster, &global.istio_namespace)
    );
    // Whoever may not see namespaces is not told that one is not there.
    let is_absent = |name: &String| {
        let known = namespaces.as_ref().ok();
        known.is_some_and(|known| !known.iter().any(|namespace| namespace.name() == name))
    };
    Ok(Pods {
        pods: pods?,
        nowhere: global.namespace.as_ref().is_some_and(is_absent),
        namespaces: namespaces.iter().flatten().map(labelled).collect(),
        injectors: injectors.unwrap_or_default(),
        policies,
        carried: Carried::default(),
    })
}

/// Asks whose proxy the workloads of lost pods carry, which matters only to those whose revision none of the control planes
/// is of, and that nobody else would inject.
pub async fn carry(cluster: &Cluster, read: &mut Pods, planes: &Planes<'_>, limit: Duration) {
    let runs = |revision: &str| planes.instances.iter().any(|instance| instance.revision == revision);
    let leaving: Vec<&Object> = lost(read, planes.answers)
        .filter(|pod| !runs(&revision(pod)) && read.next(pod).is_none())
        .collect();
    read.carried = carried::read(cluster, &leaving, limit).await;
}

/// Control planes, and which proxies they know.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Those that run.
    pub instances: &'a [Instance],
    /// What those that were asked say.
    pub answers: &'a [Answer<Vec<Proxy>>],
}

/// Pods that should be connected and are known to none.
fn lost<'a>(read: &'a Pods, answers: &'a [Answer<Vec<Proxy>>]) -> impl Iterator<Item = &'a Object> {
    let proxies = answers.iter().filter_map(|answer| answer.result.as_ref().ok());
    let known: BTreeSet<&str> = proxies.flatten().map(|proxy| proxy.id.as_str()).collect();
    read.pods
        .iter()
        .filter(|pod| should_be_connected(pod))
        .filter(move |pod| !known.contains(id(pod).as_str()))
}

/// As a proxy names itself.
fn id(pod: &Object) -> String {
    format!("{}.{}", pod.name(), pod.namespace())
}

/// Pods that should be connected and are not, by name.
pub fn find(read: &Pods, planes: &Planes<'_>) -> Vec<Unconnected> {
    let mut found: Vec<Unconnected> = lost(read, planes.answers)
        .map(|pod| {
            let revision = revision(pod);
            let proxy = proxy_status(pod);
            Unconnected {
                name: id(pod),
                ready: proxy.is_some_and(|status| status["ready"] == true),
                reason: without_istiod(read, pod, &revision, planes.instances)
                    .unwrap_or_else(|| reason(&revision, proxy, planes.answers)),
                revision,
            }
        })
        .collect();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// The table, with the blank line before it; `incomplete` if some istiod did not answer.
pub fn table(lost: &[Unconnected], incomplete: bool) -> String {
    let mut rows = vec![row(["NOT CONNECTED", "REVISION", "READY", "WHY"])];
    rows.extend(lost.iter().map(|pod| {
        row([
            &pod.name,
            &pod.revision,
            if pod.ready { "yes" } else { "no" },
            &pod.reason,
        ])
    }));
    let doubt = if incomplete {
        "Some of these may be connected to a control plane that did not answer.\n"
    } else {
        ""
    };
    format!("\n{}{doubt}", columns(&rows, PADDING))
}

/// Revision that a pod says it was injected by.
pub fn revision(pod: &Object) -> String {
    let said = || {
        Some(
            pod.0["metadata"]["annotations"][annotation::REVISION]
                .as_str()?
                .to_owned(),
        )
    };
    injected_by(pod).or_else(said).unwrap_or_default()
}

/// Whether an injector put a proxy into a pod.
pub fn has_proxy(pod: &Object) -> bool {
    let annotations = &pod.0["metadata"]["annotations"];
    let injected = annotations.get(annotation::STATUS).is_some() || annotations.get(annotation::REVISION).is_some();
    injected
        && ["containers", "initContainers"].iter().any(|list| {
            let containers = pod.0["spec"][list].as_array().into_iter().flatten();
            containers
                .into_iter()
                .any(|container| container["name"] == PROXY_CONTAINER)
        })
}

/// Jobs that have ended and pods that go are connected no more, and rightly so.
pub fn should_be_connected(pod: &Object) -> bool {
    has_proxy(pod) && !is_over(pod)
}

/// Whether a pod has ended or goes.
pub fn is_over(pod: &Object) -> bool {
    matches!(pod.text("/status/phase"), "Succeeded" | "Failed")
        || pod.0.pointer("/metadata/deletionTimestamp").is_some()
}

fn proxy_status(pod: &Object) -> Option<&Value> {
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|list| pod.0["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == PROXY_CONTAINER)
}

/// Why a pod whose revision has no istiod is connected nowhere, and what brings it back.
fn without_istiod(read: &Pods, pod: &Object, revision: &str, instances: &[Instance]) -> Option<String> {
    let runs = |revision: &str| instances.iter().any(|instance| instance.revision == revision);
    if revision.is_empty() || runs(revision) {
        return None;
    }
    let component = pod.label(label::OPERATOR_COMPONENT);
    let is_gateway = [Kind::IngressGateways, Kind::EgressGateways]
        .iter()
        .any(|kind| kind.label() == component);
    let next = read.next(pod).filter(|next| next != revision && runs(next));
    let carried = (pod.namespace().to_owned(), pod.name().to_owned());
    let is_carried = next.is_none() && read.carried.contains_key(&carried);
    let way = match (is_gateway, next, another(read, instances)) {
        (false, _, None) if is_carried => "bring it back".to_owned(),
        (false, _, Some(other)) if is_carried => {
            format!("bring it back, or put a proxy of another into its template: istioctl kube-inject -r {other}")
        }
        (true, _, Some(other)) => {
            format!("bring it back, or put the gateway on another: istioctl gateway revert --revision {other} -y")
        }
        (false, Some(next), _) => format!("its namespace follows {next} already, restart the pod"),
        _ => "bring it back, or move the namespace to another and restart the pod".to_owned(),
    };
    Some(format!("no istiod of revision {revision} runs: {way}"))
}

/// The revision that runs and is the first choice for whoever needs another: the default one, if it does.
fn another<'a>(read: &'a Pods, instances: &'a [Instance]) -> Option<&'a str> {
    let mut tags = read.injectors.iter();
    let tagged = tags.find(|injector| injector.tag.as_deref() == Some(DEFAULT));
    let default = tagged.map_or(DEFAULT, |injector| injector.revision.as_str());
    let mut running = instances.iter().map(|instance| instance.revision.as_str());
    running.clone().find(|revision| *revision == default).or(running.next())
}

fn reason(revision: &str, proxy: Option<&Value>, answers: &[Answer<Vec<Proxy>>]) -> String {
    let of_revision = |instance: &Instance| instance.revision == revision;
    if answers
        .iter()
        .any(|answer| of_revision(&answer.instance) && answer.result.is_err())
    {
        return "an istiod of its revision did not answer".to_owned();
    }
    match proxy {
        None => "the pod has not been started yet".to_owned(),
        Some(status) => match status.pointer("/state/waiting/reason").and_then(Value::as_str) {
            Some(waiting) => format!("its proxy waits: {waiting}"),
            None if status.pointer("/state/terminated").is_some() => "its proxy has ended".to_owned(),
            None => "its proxy runs; kubectl logs -c istio-proxy says why it does not connect".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, revision: &str, state: Value, phase: &str) -> Object {
        let status = json!({"revision": revision}).to_string();
        Object(json!({
            "metadata": {"name": name, "namespace": "app", "annotations": {"sidecar.istio.io/status": status}},
            "spec": {"initContainers": [{"name": "istio-proxy"}]},
            "status": {"phase": phase, "initContainerStatuses": [{"name": "istio-proxy", "ready": state.get("running").is_some(), "state": state}]},
        }))
    }

    fn answer(revision: &str, result: Result<Vec<Proxy>, String>) -> Answer<Vec<Proxy>> {
        let instance = Instance {
            pod: format!("istiod-{revision}"),
            revision: revision.to_owned(),
            component: "istiod".to_owned(),
        };
        Answer { instance, result }
    }

    #[test]
    fn every_pod_with_a_proxy_is_connected_or_told_with_a_reason() {
        let connected = Proxy {
            id: "connected.app".to_owned(),
            namespace: "app".to_owned(),
            cluster: String::new(),
            version: String::new(),
            types: Default::default(),
        };
        let answers = [
            answer("canary", Ok(vec![connected])),
            answer("old", Err("no answer".to_owned())),
        ];
        let instances: Vec<Instance> = answers.iter().map(|answer| answer.instance.clone()).collect();
        let running = || json!({"running": {}});
        let pods = [
            pod("connected", "canary", running(), "Running"),
            pod("runs", "canary", running(), "Running"),
            pod(
                "waits",
                "canary",
                json!({"waiting": {"reason": "ImagePullBackOff"}}),
                "Pending",
            ),
            pod("orphan", "gone", running(), "Running"),
            pod("unsure", "old", running(), "Running"),
            pod("done", "canary", json!({"terminated": {}}), "Succeeded"),
            Object(
                json!({"metadata": {"name": "plain", "namespace": "app"}, "spec": {}, "status": {"phase": "Running"}}),
            ),
        ];
        let mut pods = Pods {
            pods: pods.to_vec(),
            ..Pods::default()
        };
        let planes = Planes {
            instances: &instances,
            answers: &answers,
        };
        insta::assert_snapshot!(table(&find(&pods, &planes), true));

        // The way back is another for a gateway, and for a namespace that was moved already.
        let mut gateway = pod("gateway", "gone", running(), "Running");
        gateway.set_label(label::OPERATOR_COMPONENT, Kind::IngressGateways.label());
        pods.pods = vec![pod("orphan", "gone", running(), "Running"), gateway];
        let app = Object(json!({"metadata": {"name": "app", "labels": {"istio.io/rev": "canary"}}}));
        pods.namespaces.extend([labelled(&app)]);
        let canary = revision::name::Revision::parse("canary").map(|canary| Injector {
            config: "istio-sidecar-injector-canary".to_owned(),
            revision: "canary".to_owned(),
            tag: None,
            webhooks: revision::webhook::of_revision(&canary, revision::webhook::Options::default()),
        });
        pods.injectors.extend(canary);
        let mut written = pod("written", "gone", running(), "Running");
        written.0["metadata"]["namespace"] = "other".into();
        pods.pods.push(written);
        let key = ("other".to_owned(), "written".to_owned());
        pods.carried.insert(key, "gone".to_owned());
        insta::assert_snapshot!(table(&find(&pods, &planes), false), @r"

        NOT CONNECTED     REVISION     READY     WHY
        gateway.app       gone         yes       no istiod of revision gone runs: bring it back, or put the gateway on another: istioctl gateway revert --revision canary -y
        orphan.app        gone         yes       no istiod of revision gone runs: its namespace follows canary already, restart the pod
        written.other     gone         yes       no istiod of revision gone runs: bring it back, or put a proxy of another into its template: istioctl kube-inject -r canary
        ");

        // Of several that run, it is the default one.
        pods.injectors.extend(pods.injectors.clone());
        pods.injectors[1].tag = Some("default".to_owned());
        pods.injectors[1].revision = "old".to_owned();
        let told = table(&find(&pods, &planes), false);
        assert!(told.contains("istioctl gateway revert --revision old -y"), "{told}");
        assert!(told.contains("istioctl kube-inject -r old\n"), "{told}");
    }
}
