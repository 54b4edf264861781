//! Namespace deletion: all that is in a namespace goes, of whatever kind, then the namespace itself.

mod controller;

pub use controller::start;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::jiff::Timestamp;

use crate::meta;

/// The finalizer in `spec.finalizers` that stands for this controller.
pub const FINALIZER: &str = "kubernetes";

/// What a sweep through a namespace found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Objects that are still there, by resource (`pods.`).
    pub remaining: BTreeMap<String, usize>,
    /// Finalizers that hold them, with how many objects each holds.
    pub finalizers: BTreeMap<String, usize>,
    /// Deletions that the server refused.
    pub failures: Vec<String>,
}

impl Findings {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Findings) -> Findings {
        self.remaining.extend(other.remaining);
        for (name, count) in other.finalizers {
            *self.finalizers.entry(name).or_default() += count;
        }
        self.failures.extend(other.failures);
        self
    }
}

/// What is to be done with a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It is not being deleted, or others hold it.
    Nothing,
    /// Write these conditions (if any changed) and look again later.
    Wait(Option<Vec<NamespaceCondition>>),
    /// It is empty: give up our finalizer.
    Finalize(Box<Namespace>),
}

/// Whether the namespace is to be swept.
#[must_use]
pub fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    meta::is_terminating(&namespace.metadata) && finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
}

/// Decides after a sweep.
#[must_use]
pub fn decide(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Step {
    if !is_ours(namespace) {
        return Step::Nothing;
    }
    if findings.remaining.is_empty() && findings.failures.is_empty() {
        let mut done = namespace.clone();
        if let Some(finalizers) = done.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        return Step::Finalize(Box::new(done));
    }
    let before = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut after = before.clone();
    for (kind, holds, reason, message) in told(findings) {
        let current = after.iter_mut().find(|condition| condition.type_ == kind);
        let status = if holds { "True" } else { "False" };
        let new = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(meta::time(now)),
        };
        match current {
            None => after.push(new),
            Some(current) if current.status != new.status => *current = new,
            Some(current) => {
                current.reason = new.reason;
                current.message = new.message;
            }
        }
    }
    Step::Wait((after != before).then_some(after))
}

/// The conditions in Kubernetes' words: type, whether it holds, reason, message.
fn told(findings: &Findings) -> [(&'static str, bool, &'static str, String); 5] {
    let discovered = "All resources successfully discovered".to_owned();
    let parsed = "All legacy kube types successfully parsed".to_owned();
    let content = match findings.failures.is_empty() {
        true => (
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        false => (
            "ContentDeletionFailed",
            format!("Failed to delete all resource types: {}", findings.failures.join(", ")),
        ),
    };
    let remaining: Vec<_> = findings
        .remaining
        .iter()
        .map(|(name, count)| format!("{name} has {count} resource instances"))
        .collect();
    let remaining = match remaining.is_empty() {
        true => ("ContentRemoved", "All content successfully removed".to_owned()),
        false => (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", remaining.join(", ")),
        ),
    };
    let held: Vec<_> = findings
        .finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let held = match held.is_empty() {
        true => (
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        ),
        false => (
            "SomeFinalizersRemain",
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                held.join(", ")
            ),
        ),
    };
    [
        // Without discovery there is no sweep, and nothing is decided.
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            discovered,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            parsed,
        ),
        (
            "NamespaceDeletionContentFailure",
            !findings.failures.is_empty(),
            content.0,
            content.1,
        ),
        (
            "NamespaceContentRemaining",
            !findings.remaining.is_empty(),
            remaining.0,
            remaining.1,
        ),
        (
            "NamespaceFinalizersRemaining",
            !findings.finalizers.is_empty(),
            held.0,
            held.1,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(deleted: bool) -> Namespace {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let finalizers = json!({"finalizers": ["kubernetes", "mine"]});
        let namespace = json!({"metadata": {"name": "ns", "deletionTimestamp": deleted}, "spec": finalizers});
        serde_json::from_value(namespace).unwrap()
    }

    #[test]
    fn living_namespaces_are_left_alone() {
        assert!(!is_ours(&namespace(false)));
        assert_eq!(
            decide(&namespace(false), &Findings::default(), Timestamp::UNIX_EPOCH),
            Step::Nothing
        );
    }

    #[test]
    fn empty_namespace_loses_our_finalizer_only() {
        let Step::Finalize(done) = decide(&namespace(true), &Findings::default(), Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        assert_eq!(done.spec.unwrap().finalizers.unwrap(), ["mine"]);
    }

    #[test]
    fn what_remains_is_told_once() {
        let findings = Findings {
            remaining: [("pods.".to_owned(), 2)].into(),
            ..Default::default()
        };
        let mut namespace = namespace(true);
        let Step::Wait(Some(conditions)) = decide(&namespace, &findings, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        let told: Vec<_> = conditions
            .iter()
            .map(|c| format!("{}={} {}", c.type_, c.status, c.message.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(
            told,
            [
                "NamespaceDeletionDiscoveryFailure=False All resources successfully discovered",
                "NamespaceDeletionGroupVersionParsingFailure=False All legacy kube types successfully parsed",
                "NamespaceDeletionContentFailure=False All content successfully deleted, may be waiting on finalization",
                "NamespaceContentRemaining=True Some resources are remaining: pods. has 2 resource instances",
                "NamespaceFinalizersRemaining=False All content-preserving finalizers finished",
            ]
        );
        namespace.status.get_or_insert_default().conditions = Some(conditions);
        assert_eq!(decide(&namespace, &findings, Timestamp::now()), Step::Wait(None));
    }
}
