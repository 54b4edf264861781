//! How pods are restarted, by the kinds of what made them.

use std::collections::BTreeSet;

/// Kinds that kubectl restarts.
const RESTARTED: [&str; 3] = ["daemonset", "deployment", "statefulset"];

/// What restarts the pods of workloads of these kinds in a namespace. A command names only kinds that are there, since a
/// kind left out stays on the old side unnoticed.
pub fn restart(namespace: &str, kinds: &BTreeSet<&str>) -> String {
    let (restarted, other): (Vec<&str>, Vec<&str>) = kinds.iter().partition(|kind| RESTARTED.contains(kind));
    let other = other.join(", ");
    match (restarted.is_empty(), other.is_empty()) {
        (true, true) => "nothing has to restart".to_owned(),
        (true, false) => format!("kubectl restarts no {other}: create them anew"),
        (false, none_other) => {
            let command = format!("kubectl rollout restart {} -n {namespace}", restarted.join(","));
            if none_other {
                command
            } else {
                format!("{command} (restarts no {other}: create them anew)")
            }
        }
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
