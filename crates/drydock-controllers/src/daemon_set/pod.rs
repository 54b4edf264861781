//! A DaemonSet's pods: bound to their node by affinity, tolerating what ails a node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Toleration,
};

use crate::scheduler::fit;
use crate::{history, meta, pods};

/// Taints that a daemon puts up with: key and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The revision that a pod was made from.
pub(crate) fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata
        .labels
        .as_ref()?
        .get(history::HASH_LABEL)
        .map(String::as_str)
}

/// The node that a pod is on, or meant for.
pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    fields
        .filter(|field| field.key == "metadata.name")
        .find_map(|field| field.values.as_ref()?.first().map(String::as_str))
}

/// Whether a node should have a pod of the DaemonSet.
pub(crate) fn fits(set: &DaemonSet, node: &Node) -> bool {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = Pod {
        metadata: template.metadata.unwrap_or_default(),
        spec: template.spec,
        status: None,
    };
    tolerate(&mut pod);
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerations: Vec<_> = tolerations.collect();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let bearable = |taint: &k8s_openapi::api::core::v1::Taint| {
        taint.effect == "PreferNoSchedule" || tolerations.iter().any(|toleration| fit::tolerates(toleration, taint))
    };
    fit::selected(&pod, node) && taints.into_iter().all(bearable)
}

fn tolerate(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The pod for a node.
pub(crate) fn make(set: &DaemonSet, node: &str, revision: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let prefix = format!("{}-", meta::name(&set.metadata));
    let mut pod = pods::from_template(
        &template,
        &prefix,
        meta::namespace(&set.metadata),
        meta::controller_ref(set),
    );
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(history::HASH_LABEL.into(), revision.to_owned());
    labels.insert(
        "pod-template-generation".into(),
        set.metadata.generation.unwrap_or(1).to_string(),
    );
    tolerate(&mut pod);
    if let Some(spec) = &mut pod.spec {
        let affinity = spec
            .affinity
            .get_or_insert_default()
            .node_affinity
            .get_or_insert_with(NodeAffinity::default);
        let field = NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.to_owned()]),
        };
        // Replaces what the template requires: that was weighed when the node was chosen.
        affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_fields: Some(vec![field]),
                match_expressions: None,
            }],
        });
    }
    pod
}
