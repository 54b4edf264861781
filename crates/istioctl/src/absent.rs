//! Commands of Istio's that are not here, and what there is instead (the table is docs/istioctl.md's, too).

use clap::error::{ContextKind, ContextValue};

/// Names of a command with what is above it, and what takes its place.
const ABSENT: [(&[&str], &str); 14] = [
    (
        &["admin", "istiod"],
        "istiod's flag --log_output_level, and kubectl logs",
    ),
    (&["authz"], "istioctl x authz"),
    (&["create-remote-secret"], "nothing: an istiod reads its own cluster"),
    (
        &["dashboard", "dash", "d"],
        "kubectl port-forward to port 15000 of a proxy or 15014 of istiod",
    ),
    (
        &["manifest translate"],
        "nothing: the charts take as values what is below spec.values; docs/helm.md has an upgrade by Helm",
    ),
    (&["operator"], "istioctl install: there is no operator in the cluster"),
    (
        &["options"],
        "--help of each command, which shows the flags of all commands too",
    ),
    (&["validate", "v"], "istioctl analyze --use-kube=false FILE"),
    (
        &["verify-install"],
        "istioctl install, which waits and says what is not ready, and istioctl x precheck",
    ),
    (
        &["x config"],
        "flags, the environment variables that --help names, and istioNamespace of ~/.istioctl/config.yaml",
    ),
    (
        &["x envoy-stats", "x es"],
        "kubectl exec POD -c istio-proxy -- pilot-agent request GET stats",
    ),
    (
        &["x internal-debug"],
        "kubectl port-forward to port 15014 of istiod, and its pages below /debug",
    ),
    (
        &["x metrics", "x m"],
        "a Prometheus of your own: proxies have their metrics at port 15090, /stats/prometheus",
    ),
    (&["ztunnel-config", "zc"], "nothing: there is no ztunnel"),
];

/// What to say of a command that Istio has and this program has not.
pub fn instead(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let command = above(error) + name;
    let (_, instead) = ABSENT.iter().find(|(names, _)| names.contains(&command.as_str()))?;
    Some(format!("istioctl {command} does not exist here. Instead: {instead}"))
}

/// The commands before a mistake, each with a space after it, as the usage of the mistake names them.
pub(crate) fn above(error: &clap::Error) -> String {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return String::new();
    };
    let usage = usage.to_string();
    let words = usage.split_whitespace().skip_while(|word| *word != "istioctl").skip(1);
    words
        .take_while(|word| !word.starts_with(['[', '<', '-']))
        .map(|word| format!("{} ", if word == "experimental" { "x" } else { word }))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn told(line: &str) -> Option<String> {
        let arguments = std::iter::once("istioctl").chain(line.split(' '));
        instead(&Cli::try_parse_from(arguments).unwrap_err())
    }

    #[test]
    fn every_absent_command_says_what_there_is_instead_and_is_in_the_docs() {
        let docs = include_str!("../../../docs/istioctl.md");
        for (names, instead) in ABSENT {
            for name in names {
                let expected = format!("istioctl {name} does not exist here. Instead: {instead}");
                assert_eq!(told(name), Some(expected));
            }
            assert!(docs.contains(&format!("\n| `{}`", names[0])), "{}", names[0]);
        }
        let (_, table) = docs.split_once("\n| absent | instead |\n").unwrap();
        assert_eq!(
            table.lines().skip(1).take_while(|line| line.starts_with('|')).count(),
            ABSENT.len()
        );
    }

    #[test]
    fn flags_before_a_command_and_another_name_of_its_group_change_nothing() {
        let check = |line: &str, begins: &str| {
            let told = told(line).unwrap_or_default();
            assert!(told.starts_with(begins), "{line}: {told}");
        };
        check("experimental metrics web", "istioctl x metrics does not exist here.");
        check("exp -n x config list", "istioctl x config does not exist here.");
        check("-n x dashboard kiali", "istioctl dashboard does not exist here.");
        assert_eq!(told("metrics"), None);
        assert_eq!(told("x dashboard"), None);
        assert_eq!(told("bogus"), None);
    }
}
