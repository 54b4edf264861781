//! `istioctl experimental injector list`: namespaces by the revision that injects them, and injectors with their image
//! (revisions.md §5.9).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use install::served::Absence;
use revision::decision::decide;
use revision::selector::Labels;
use revision::webhook::{INJECTION_KEY, REVISION_KEY};

use crate::cli::{Global, duration};
use crate::cluster::{Cluster, within};
use crate::command::injection;
use crate::failure::Failure;
use crate::out;
use crate::restart::loses;
use crate::sides::{self, Pod, Sides};
use crate::table::{columns, row};

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists injectors, the namespaces they inject, and pods that need a restart.
    List(Flags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// How long the API server may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    out::put(&text(global, command).await?);
    Ok(())
}

/// What is printed.
pub async fn text(global: &Global, command: Command) -> Result<String, Failure> {
    let Command::List(flags) = command;
    let cluster = Cluster::connect(global).await?;
    let (system, only) = (&global.istio_namespace, global.namespace.as_deref());
    let (sides, asleep) = futures::join!(
        sides::read(&cluster, system, only, flags.timeout),
        within(flags.timeout, async { Ok(injection::asleep(&cluster, system).await) })
    );
    let (sides, asleep) = (sides?, asleep?);
    Ok(format!(
        "{}{}\n{}",
        namespaces(&sides, &asleep),
        absences(&sides, &asleep),
        hooks(&sides, only)
    ))
}

/// Pods of a namespace that one revision injected.
#[derive(Default)]
struct Count {
    pods: usize,
    disabled: usize,
    restart: usize,
    /// The revision that is to inject them has no istiod: a restart would be refused.
    asleep: usize,
    /// Their revision is not here any more and nobody would inject them instead: a restart takes the proxy away.
    abandoned: usize,
    /// Their revision is here, but nobody would inject them: a restart takes the proxy away, too.
    bereft: usize,
}

impl Count {
    fn add(&mut self, pod: &Pod, sides: &Sides, asleep: &BTreeMap<String, Absence>) {
        self.pods += 1;
        self.disabled += usize::from(pod.refuses);
        if is_abandoned(pod, sides) {
            self.abandoned += 1;
        } else if is_bereft(pod) {
            self.bereft += 1;
        } else if pod.needs_restart() {
            let is_asleep = pod.next.as_ref().is_some_and(|next| asleep.contains_key(next));
            *(if is_asleep { &mut self.asleep } else { &mut self.restart }) += 1;
        }
    }
}

fn is_abandoned(pod: &Pod, sides: &Sides) -> bool {
    let is_here = |revision: &String| sides.injectors.iter().any(|injector| injector.revision == *revision);
    is_bereft(pod) && pod.now.as_ref().is_some_and(|now| !is_here(now))
}

/// Whether a restart takes away a proxy that the pod has not refused.
fn is_bereft(pod: &Pod) -> bool {
    pod.now.is_some() && pod.next.is_none() && !pod.refuses
}

fn cell(revision: &str, count: &Count) -> String {
    if count.pods == 0 {
        return "<no pods>".to_owned();
    }
    let mut text = format!("{revision}: {}", count.pods);
    if count.disabled > 0 {
        text.push_str(&format!(" (injection disabled: {})", count.disabled));
    }
    for (state, pods) in [
        ("NEEDS RESTART", count.restart),
        ("NO ISTIOD", count.asleep),
        ("NOT INSTALLED", count.abandoned),
        ("LOSES PROXY", count.bereft),
    ] {
        if pods > 0 {
            text.push_str(&format!(" {state}: {pods}"));
        }
    }
    text
}

/// What is really the matter with pods that no restart would help.
fn absences(sides: &Sides, asleep: &BTreeMap<String, Absence>) -> String {
    let mut text = String::new();
    let next = |revision: &String| {
        sides.pods.iter().any(|pod| pod.next.as_ref() == Some(revision)) || !sides.namespaces_of(revision).is_empty()
    };
    for (revision, absence) in asleep.iter().filter(|(revision, _)| next(revision)) {
        text.push_str(&format!("\n{}\n", absence.told(revision)));
    }
    let mut abandoned: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pod in sides.pods.iter().filter(|pod| is_abandoned(pod, sides)) {
        let revision = pod.now.as_deref().unwrap_or_default();
        abandoned.entry(revision).or_default().insert(&pod.namespace);
    }
    for (revision, namespaces) in abandoned {
        let namespaces = namespaces.into_iter().collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "\nRevision {revision} is not installed: its pods in {namespaces} lose their proxy when they restart. Install it \
             again, or label the namespace for another revision first.\n"
        ));
    }
    let bereft = sides
        .pods
        .iter()
        .filter(|pod| is_bereft(pod) && !is_abandoned(pod, sides));
    let bereft: BTreeSet<&str> = bereft.map(|pod| pod.namespace.as_str()).collect();
    if !bereft.is_empty() {
        text.push_str(&format!("\n{}\n", loses(&bereft)));
    }
    text
}

/// Namespaces that are injected, or hold pods that were.
fn namespaces(sides: &Sides, asleep: &BTreeMap<String, Absence>) -> String {
    let mut rows = vec![row(["NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS"])];
    for (namespace, labels) in &sides.namespaces {
        let decision = sides.of_namespace(namespace);
        let missing = labels
            .get(REVISION_KEY)
            .filter(|_| decision.matches.is_empty() && !labels.contains_key(INJECTION_KEY))
            .map(|name| format!("MISSING/{name}"));
        let revision = decision.revision().or(missing.as_deref()).unwrap_or_default();
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for pod in sides.pods.iter().filter(|pod| pod.namespace == *namespace) {
            // A pod that neither has a proxy nor would get one is none of the mesh's.
            if pod.now.is_none() && pod.next.is_none() && revision.is_empty() {
                continue;
            }
            let count = counts.entry(pod.now.as_deref().unwrap_or("<non-Istio>")).or_default();
            count.add(pod, sides, asleep);
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

/// Injectors, a line for each namespace that they inject; of one namespace, only those that inject it.
fn hooks(sides: &Sides, only: Option<&str>) -> String {
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
        let mut images = images.into_iter().collect::<Vec<_>>().join(", ");
        if images.is_empty() {
            // Nobody has been injected: it is what the next one gets.
            images = sides.images.get(&injector.revision).cloned().unwrap_or_default();
        }
        let own = std::slice::from_ref(injector);
        let mut any = false;
        for (namespace, labels) in &sides.namespaces {
            if !decide(labels, &Labels::new(), own).matches.is_empty() {
                any = true;
                rows.push(row([namespace, &injector.config, &injector.revision, &images]));
            }
        }
        if !any && only.is_none() {
            rows.push(row([
                "DOES NOT AUTOINJECT",
                &injector.config,
                &injector.revision,
                &images,
            ]));
        }
    }
    match only {
        Some(only) if rows.len() == 1 => format!("No injection hook selects namespace {only} as a whole.\n"),
        _ => columns(&rows, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sides::fixture;

    fn shown(sides: &Sides, asleep: &BTreeMap<String, Absence>) -> String {
        namespaces(sides, asleep) + &absences(sides, asleep)
    }

    #[test]
    fn namespaces_and_injectors() {
        let mut sides = fixture::sides();
        let image = |revision: &str| (revision.to_owned(), format!("docker.io/trysail/proxyv2:of-{revision}"));
        sides.images.extend([image("1-23-1"), image("unused")]);
        let awake = BTreeMap::new();
        insta::assert_snapshot!(format!("{}\n{}", shown(&sides, &awake), hooks(&sides, None)));
        let nothing = Sides::default();
        assert_eq!(
            format!("{}{}", shown(&nothing, &awake), hooks(&nothing, None)),
            "No Istio injected namespaces present.\nNo Istio injection hooks present.\n"
        );
    }

    #[test]
    fn a_label_that_names_nobody_is_shown_as_such() {
        let mut sides = fixture::sides();
        let label = |key: &str| (key.to_owned(), "nobody".to_owned());
        sides.namespaces = BTreeMap::from([
            ("lost".to_owned(), Labels::from([label(REVISION_KEY)])),
            (
                "off".to_owned(),
                Labels::from([label(REVISION_KEY), label(INJECTION_KEY)]),
            ),
        ]);
        sides.pods.clear();
        assert_eq!(
            namespaces(&sides, &BTreeMap::new()),
            "NAMESPACE ISTIO-REVISION POD-REVISIONS\nlost      MISSING/nobody <no pods>\n"
        );
    }

    #[test]
    fn of_one_namespace_nothing_is_said_of_others() {
        let check = |only: &str, expected: &str| {
            let mut sides = fixture::sides();
            sides.namespaces.retain(|name, _| name == only);
            sides.pods.retain(|pod| pod.namespace == only);
            assert_eq!(hooks(&sides, Some(only)), expected);
        };
        check(
            "app-1",
            "NAMESPACES INJECTOR-HOOK           ISTIO-REVISION SIDECAR-IMAGE\n\
             app-1      istio-revision-tag-prod 1-23-1         docker.io/trysail/proxyv2:1-23-1\n",
        );
        check("plain", "No injection hook selects namespace plain as a whole.\n");
    }

    #[test]
    fn a_restart_that_takes_the_proxy_away_is_not_needed() {
        let mut sides = fixture::sides();
        sides
            .injectors
            .retain(|injector| injector.tag.as_deref() != Some("prod"));
        for pod in sides.pods.iter_mut().filter(|pod| pod.namespace == "app-1") {
            pod.next = None;
        }
        let told = shown(&sides, &BTreeMap::new());
        assert!(told.contains("1-23-1: 1 LOSES PROXY: 1\n"), "{told}");
        assert!(
            told.contains("A restart takes their proxy away from pods in app-1: "),
            "{told}"
        );
        let rows = told.lines().filter(|line| line.starts_with("app-1 "));
        assert!(
            rows.clone().count() > 0 && rows.clone().all(|row| !row.contains("NEEDS RESTART")),
            "{told}"
        );
    }

    #[test]
    fn a_restart_is_named_only_where_it_helps() {
        let absence = |gone| Absence { gone, refuses: true };
        let asleep = BTreeMap::from([
            ("1-22-1".to_owned(), absence(true)),
            ("1-23-1".to_owned(), absence(false)),
            ("unused".to_owned(), absence(false)),
        ]);
        insta::assert_snapshot!(shown(&fixture::sides(), &asleep), @"
        NAMESPACE    ISTIO-REVISION POD-REVISIONS
        app-1        1-23-1         1-22-1: 1 NO ISTIOD: 1
        app-1        1-23-1         1-23-1: 1
        app-1        1-23-1         <non-Istio>: 1 (injection disabled: 1)
        app-2        1-22-1         1-22-1: 1
        app-2        1-22-1         <non-Istio>: 1 NO ISTIOD: 1
        empty        1-23-1         <no pods>
        istio-system                1-23-1: 1
        plain                       gone: 1 NOT INSTALLED: 1

        Revision 1-22-1 is gone, but its injector is not: new pods that it selects are refused. Restart none of them before the revision is installed again, or its rest removed: istioctl uninstall --revision 1-22-1

        No istiod of revision 1-23-1 is ready: until one is, new pods that it injects are refused. Restart none of them.

        Revision gone is not installed: its pods in plain lose their proxy when they restart. Install it again, or label the namespace for another revision first.
        ");
    }
}
