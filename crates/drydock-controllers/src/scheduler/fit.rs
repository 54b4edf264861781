//! Whether a pod may run on a node: readiness, node name, selector, affinity, taints.
//!
//! Requests for CPU and memory are not weighed. drydock's node is somebody's own machine, and what an example asks for
//! (two control planes with 2 GiB each) is not what it uses.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

/// Why a node does not take a pod, in the words of Kubernetes' scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The node has a taint that the pod does not tolerate.
    Taint,
    /// `nodeSelector` or required node affinity does not select the node.
    Affinity,
    /// The node is cordoned.
    Unschedulable,
    /// The node does not report itself ready.
    NotReady,
}

impl Refusal {
    /// The scheduler's words, after a number of nodes.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Refusal::Taint => "node(s) had untolerated taint(s)",
            Refusal::Affinity => "node(s) didn't match Pod's node affinity/selector",
            Refusal::Unschedulable => "node(s) were unschedulable",
            Refusal::NotReady => "node(s) were not ready",
        }
    }
}

/// Whether `pod` may be placed on `node`.
///
/// # Errors
/// The first reason against it.
pub fn fits(pod: &Pod, node: &Node) -> Result<(), Refusal> {
    if !is_ready(node) {
        return Err(Refusal::NotReady);
    }
    let spec = pod.spec.as_ref();
    let tolerations: Vec<&Toleration> = spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Default::default()
        };
        if !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            return Err(Refusal::Unschedulable);
        }
    }
    if !selected(pod, node) {
        return Err(Refusal::Affinity);
    }
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let untolerated = taints.any(|taint| {
        taint.effect != "PreferNoSchedule" && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    });
    if untolerated { Err(Refusal::Taint) } else { Ok(()) }
}

/// Whether the node's `Ready` condition is true.
#[must_use]
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True")
}

/// Whether `toleration` tolerates `taint`.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = given(&toleration.key);
    if key.as_ref().is_some_and(|key| *key != taint.key) {
        return false;
    }
    match given(&toleration.operator).as_deref() {
        Some("Exists") => true,
        None | Some("Equal") => {
            key.is_some()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    }
}

/// Whether `nodeSelector` and required node affinity select the node.
#[must_use]
pub fn selected(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    if !spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_selects(term, node)))
}

fn term_selects(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false; // an empty term selects nothing
    }
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let field = |key: &str| {
        (key == "metadata.name")
            .then_some(node.metadata.name.as_deref())
            .flatten()
    };
    expressions.iter().all(|term| holds(term, label(&term.key)))
        && fields.iter().all(|term| holds(term, field(&term.key)))
}

fn holds(term: &NodeSelectorRequirement, given: Option<&str>) -> bool {
    let values = term.values.as_deref().unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let numbers = (number(given), number(values.first().map(String::as_str)));
    match term.operator.as_str() {
        "In" => given.is_some_and(|given| values.iter().any(|value| value == given)),
        "NotIn" => given.is_none_or(|given| values.iter().all(|value| value != given)),
        "Exists" => given.is_some(),
        "DoesNotExist" => given.is_none(),
        "Gt" => matches!(numbers, (Some(given), Some(bound)) if given > bound),
        "Lt" => matches!(numbers, (Some(given), Some(bound)) if given < bound),
        _ => false,
    }
}
