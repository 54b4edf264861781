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

/// What a restart does to pods of namespaces that nobody would inject, in place of a command.
pub fn loses(namespaces: &BTreeSet<&str>) -> String {
    let names = namespaces.iter().copied().collect::<Vec<_>>().join(", ");
    format!(
        "A restart takes their proxy away from pods in {names}: nobody would inject the new ones. If they are to keep it, \
         first label the namespace for a revision that is here, or make the tag anew that it names: istioctl tag set TAG \
         --revision REVISION (for istio-injection=enabled the tag is default)."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kinds: &[&str], expected: &str) {
        assert_eq!(restart("app", &kinds.iter().copied().collect()), expected);
    }

    #[test]
    fn where_a_restart_takes_the_proxy_away_no_restart_is_advised() {
        let told = loses(&BTreeSet::from(["web", "app"]));
        assert!(
            told.starts_with("A restart takes their proxy away from pods in app, web: "),
            "{told}"
        );
        assert!(!told.contains("kubectl rollout restart"), "{told}");
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
