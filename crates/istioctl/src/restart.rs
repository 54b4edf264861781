//! How pods are restarted, by the kinds of what made them.

use std::collections::BTreeSet;

/// Kinds that kubectl restarts.
const RESTARTED: [&str; 3] = ["daemonset", "deployment", "statefulset"];

/// The command that restarts the pods of workloads of these kinds in a namespace, if kubectl restarts one of them. It names
/// only kinds that are there, since a kind left out stays on the old side unnoticed.
pub fn command(namespace: &str, kinds: &BTreeSet<&str>) -> Option<String> {
    let restarted: Vec<&str> = kinds.iter().copied().filter(|kind| RESTARTED.contains(kind)).collect();
    (!restarted.is_empty()).then(|| format!("kubectl rollout restart {} -n {namespace}", restarted.join(",")))
}

/// What is to be done about those that it does not restart, if there are any.
pub fn note(kinds: &BTreeSet<&str>) -> Option<String> {
    let other: Vec<&str> = kinds.iter().copied().filter(|kind| !RESTARTED.contains(kind)).collect();
    (!other.is_empty()).then(|| format!("restarts no {}: create them anew", other.join(", ")))
}

/// Both for a person.
pub fn restart(namespace: &str, kinds: &BTreeSet<&str>) -> String {
    match (command(namespace, kinds), note(kinds)) {
        (None, None) => "nothing has to restart".to_owned(),
        (None, Some(note)) => format!("kubectl {note}"),
        (Some(command), None) => command,
        (Some(command), Some(note)) => format!("{command} ({note})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kinds: &[&str], expected: &str) {
        assert_eq!(restart("app", &kinds.iter().copied().collect()), expected);
    }

    #[test]
    fn every_kind_that_is_there_is_restarted_or_named() {
        check(&[], "nothing has to restart");
        check(&["deployment"], "kubectl rollout restart deployment -n app");
        check(
            &["statefulset", "deployment", "daemonset"],
            "kubectl rollout restart daemonset,deployment,statefulset -n app",
        );
        check(&["pod", "job"], "kubectl restarts no job, pod: create them anew");
        check(
            &["pod", "deployment"],
            "kubectl rollout restart deployment -n app (restarts no pod: create them anew)",
        );
    }
}
