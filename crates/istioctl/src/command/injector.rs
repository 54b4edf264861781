//! `istioctl experimental injector list`: namespaces by the revision that injects them, and injectors with their image
//! (revisions.md §5.9).

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use revision::decision::decide;
use revision::selector::Labels;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out;
use crate::sides::{self, Sides};
use crate::table::{columns, row};

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists injectors, the namespaces they inject, and pods that need a restart.
    List(Flags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::List(Flags {}) = command;
    let cluster = Cluster::connect(global).await?;
    let sides = sides::read(&cluster, global).await?;
    out::put(&format!("{}\n{}", namespaces(&sides), hooks(&sides)));
    Ok(())
}

/// Pods of a namespace that one revision injected.
#[derive(Default)]
struct Count {
    pods: usize,
    disabled: usize,
    restart: usize,
}

fn cell(revision: &str, count: &Count) -> String {
    if count.pods == 0 {
        return "<no pods>".to_owned();
    }
    let mut text = format!("{revision}: {}", count.pods);
    if count.disabled > 0 {
        text.push_str(&format!(" (injection disabled: {})", count.disabled));
    }
    if count.restart > 0 {
        text.push_str(&format!(" NEEDS RESTART: {}", count.restart));
    }
    text
}

/// Namespaces that are injected, or hold pods that were.
fn namespaces(sides: &Sides) -> String {
    let mut rows = vec![row(["NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS"])];
    for namespace in sides.namespaces.keys() {
        let decision = sides.of_namespace(namespace);
        let revision = decision.revision().unwrap_or_default();
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for pod in sides.pods.iter().filter(|pod| pod.namespace == *namespace) {
            // A pod that neither has a proxy nor would get one is none of the mesh's.
            if pod.now.is_none() && pod.next.is_none() && revision.is_empty() {
                continue;
            }
            let count = counts.entry(pod.now.as_deref().unwrap_or("<non-Istio>")).or_default();
            count.pods += 1;
            count.disabled += usize::from(pod.refuses);
            count.restart += usize::from(pod.needs_restart());
        }
        if counts.is_empty() && !revision.is_empty() {
            counts.insert(revision, Count::default());
        }
        for (by, count) in &counts {
            rows.push(row([namespace, revision, &cell(by, count)]));
        }
    }
    if rows.len() == 1 {
        return "No Istio injected namespaces present.\n".to_owned();
    }
    columns(&rows, 1)
}

/// Injectors, a line for each namespace that they inject.
fn hooks(sides: &Sides) -> String {
    if sides.injectors.is_empty() {
        return "No Istio injection hooks present.\n".to_owned();
    }
    let mut rows = vec![row(["NAMESPACES", "INJECTOR-HOOK", "ISTIO-REVISION", "SIDECAR-IMAGE"])];
    for injector in &sides.injectors {
        let images: BTreeSet<&str> = sides
            .pods
            .iter()
            .filter(|pod| pod.now.as_deref() == Some(&injector.revision))
            .map(|pod| pod.image.as_str())
            .collect();
        let images = images.into_iter().collect::<Vec<_>>().join(", ");
        let own = std::slice::from_ref(injector);
        let mut any = false;
        for (namespace, labels) in &sides.namespaces {
            if !decide(labels, &Labels::new(), own).matches.is_empty() {
                any = true;
                rows.push(row([namespace, &injector.config, &injector.revision, &images]));
            }
        }
        if !any {
            rows.push(row([
                "DOES NOT AUTOINJECT",
                &injector.config,
                &injector.revision,
                &images,
            ]));
        }
    }
    columns(&rows, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sides::fixture;

    #[test]
    fn namespaces_and_injectors() {
        let sides = fixture::sides();
        insta::assert_snapshot!(format!("{}\n{}", namespaces(&sides), hooks(&sides)));
        let nothing = Sides::default();
        assert_eq!(
            format!("{}{}", namespaces(&nothing), hooks(&nothing)),
            "No Istio injected namespaces present.\nNo Istio injection hooks present.\n"
        );
    }
}
