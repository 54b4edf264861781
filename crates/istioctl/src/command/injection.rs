//! What injection commands share: the installed injectors, and the workload that is asked about.

use std::collections::BTreeMap;

use install::api_server::kind;
use install::inventory;
use install::object::{Id, Object, strings};
use install::served::{self, Absence};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use revision::decision::{Injector, disagreeing};
use revision::selector::Labels;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;

/// A pod, or the pods of a workload or namespace, by its labels.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the user sees, for example `deployment/sleep`.
    pub title: String,
    /// Namespace.
    pub namespace: String,
    /// Labels of the pods; `None` for a namespace as a whole.
    pub labels: Option<Labels>,
    /// Whether the pods share the node's network.
    pub host_network: bool,
    /// Annotations of the pods.
    pub annotations: Labels,
}

/// All injectors of the cluster, by name of their configuration.
pub async fn injectors(cluster: &Cluster) -> Result<Vec<Injector>, Failure> {
    let configurations = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
    let mut injectors = Vec::new();
    for object in cluster.server.list(&configurations, "").await? {
        let configuration: MutatingWebhookConfiguration = serde_json::from_value(object.0)?;
        injectors.extend(Injector::from_configuration(&configuration));
    }
    injectors.sort_by(|left, right| left.config.cmp(&right.config));
    Ok(injectors)
}

/// What is wrong with the injectors as a whole: revisions that disagree whose label wins.
pub fn disagreement(injectors: &[Injector]) -> Option<String> {
    let others = disagreeing(injectors);
    let (first, odd) = (
        injectors.iter().find(|injector| !injector.is_deactivated())?,
        others.first()?,
    );
    let names: Vec<&str> = others.iter().map(|injector| injector.config.as_str()).collect();
    Some(format!(
        "ERROR: revisions disagree whose label istio.io/rev wins: {} says {}, but {} {}; a pod that selects another \
         revision than its namespace is injected twice or not at all. Install all with the same \
         values.sidecarInjectorWebhook.revisionLabelPrecedence, then set their tags again.",
        first.config,
        first.precedence().value(),
        names.join(", "),
        odd.precedence().value(),
    ))
}

/// Revisions behind whose injectors no istiod is ready.
pub async fn asleep(cluster: &Cluster, system: &str) -> BTreeMap<String, Absence> {
    match inventory::read(&cluster.server, system).await {
        Ok(inventory) => served::unserved(system, &inventory),
        Err(error) => {
            anstream::eprintln!("❗ whether an istiod is ready to inject is not known: {error}");
            BTreeMap::new()
        }
    }
}

/// What it means to be injected by such a revision.
pub fn refusal(revision: &str, absence: Absence, system: &str) -> String {
    if absence.gone {
        return format!("WARNING: {}", absence.told(revision));
    }
    format!(
        "WARNING: no istiod of revision {revision:?} is ready, and until one is, new pods that it injects {}: restart none. \
         See kubectl get pods -n {system} -l app=istiod,istio.io/rev={revision}",
        absence.effect()
    )
}

/// Labels of a namespace.
pub async fn namespace_labels(cluster: &Cluster, name: &str) -> Result<Labels, Failure> {
    let id = Id {
        name: name.to_owned(),
        ..kind("", "v1", "Namespace")
    };
    match cluster.server.get(&id).await? {
        Some(namespace) => Ok(namespace.labels()),
        None => Err(no_namespace(name)),
    }
}

/// A name after `-n` that means nothing.
pub fn no_namespace(name: &str) -> Failure {
    Failure::new(format!("namespace {name:?} does not exist"))
}

/// Kinds that have pods, by the names users give them.
const WORKLOADS: [(&[&str], &str, &str); 6] = [
    (&["deployment", "deployments", "deploy"], "apps", "Deployment"),
    (&["statefulset", "statefulsets", "sts"], "apps", "StatefulSet"),
    (&["daemonset", "daemonsets", "ds"], "apps", "DaemonSet"),
    (&["replicaset", "replicasets", "rs"], "apps", "ReplicaSet"),
    (&["job", "jobs"], "batch", "Job"),
    (&["pod", "pods", "po"], "", "Pod"),
];

/// Group and kind of what has pods, by the name that users give it.
pub fn workload(type_name: &str) -> Option<(&'static str, &'static str)> {
    let (_, group, kind_name) = WORKLOADS.iter().find(|(names, ..)| names.contains(&type_name))?;
    Some((*group, *kind_name))
}

/// Name and namespace of `name[.namespace]`. Names of pods may have dots, those of namespaces have none.
pub fn name_and_namespace<'a>(text: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    text.rsplit_once('.').unwrap_or((text, namespace))
}

/// Finds `[type/]name[.namespace]`; a bare name is a pod's, and of `namespaces/name` the namespace itself.
pub async fn find(cluster: &Cluster, text: &str, namespace: &str) -> Result<Subject, Failure> {
    let (type_name, rest) = text.split_once('/').unwrap_or(("pod", text));
    if matches!(type_name, "namespace" | "namespaces" | "ns") {
        return Ok(Subject {
            title: format!("namespace/{rest}"),
            namespace: rest.to_owned(),
            labels: None,
            host_network: false,
            annotations: Labels::new(),
        });
    }
    let Some((names, group, kind_name)) = WORKLOADS.iter().find(|(names, ..)| names.contains(&type_name)) else {
        let known: Vec<&str> = WORKLOADS
            .iter()
            .map(|(names, ..)| names[0])
            .chain(["namespace"])
            .collect();
        return Err(Failure::new(format!(
            "{type_name:?} has no pods; use one of {}",
            known.join(", ")
        )));
    };
    let (name, namespace) = name_and_namespace(rest, namespace);
    let id = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind(group, "v1", kind_name)
    };
    let Some(object) = cluster.server.get(&id).await? else {
        return Err(Failure::new(format!(
            "{}/{name} does not exist in namespace {namespace:?}",
            names[0]
        )));
    };
    Ok(subject(format!("{}/{name}", names[0]), namespace, &object))
}

fn subject(title: String, namespace: &str, object: &Object) -> Subject {
    let pod = object.0.pointer("/spec/template").unwrap_or(&object.0);
    Subject {
        title,
        namespace: namespace.to_owned(),
        labels: Some(strings(pod.pointer("/metadata/labels"))),
        host_network: pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true),
        annotations: strings(pod.pointer("/metadata/annotations")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revision::name::Revision;
    use revision::webhook::{Options, Precedence, of_revision};

    fn injector(config: &str, precedence: Precedence) -> Injector {
        let options = Options {
            precedence,
            ..Options::default()
        };
        Injector {
            config: config.to_owned(),
            revision: config.to_owned(),
            tag: None,
            webhooks: Revision::parse(config)
                .map(|revision| of_revision(&revision, options))
                .unwrap_or_default(),
        }
    }

    #[test]
    fn a_namespace_follows_the_last_dot() {
        assert_eq!(name_and_namespace("web-v1.2-0.app", "default"), ("web-v1.2-0", "app"));
        assert_eq!(name_and_namespace("web", "default"), ("web", "default"));
    }

    #[test]
    fn disagreement_on_precedence_is_told() {
        let (old, new) = (injector("old", Precedence::Namespace), injector("new", Precedence::Pod));
        assert_eq!(disagreement(std::slice::from_ref(&new)), None);
        let told = disagreement(&[old, new]).unwrap_or_default();
        assert!(told.contains("old says namespace, but new pod"), "{told}");
    }
}
