//! `istioctl experimental revision list|describe`: revisions, what points at them, and pods on either side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::names::label;
use clap::{Args, Subcommand};
use install::inventory;
use install::served::{self, Absence};
use install::tag::Inventory;
use serde::Serialize;
use status::forward::Forward;
use status::gather;

use crate::cli::{Global, duration};
use crate::cluster::{Cluster, within};
use crate::failure::Failure;
use crate::names::Names;
use crate::out::{self, Format};
use crate::restart::{loses, restart};
use crate::sides::{self, Pod, Sides};
use crate::table::{columns, row};

/// Spaces between columns.
const PADDING: usize = 3;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists revisions with their control planes, tags, namespaces and pods.
    #[command(visible_alias = "ls")]
    List(Flags),
    /// Shows one revision: what points at it, and which pods are on the wrong side of it.
    #[command(visible_alias = "show")]
    Describe(DescribeFlags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Output format.
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// How long each istiod, and the API server, may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// Flags of `describe`.
#[derive(Debug, Args)]
pub struct DescribeFlags {
    /// The revision, or a tag.
    revision: String,
    #[command(flatten)]
    flags: Flags,
}

/// A pod of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlPlane {
    /// Its name.
    pub pod: String,
    /// Whether it is ready.
    pub ready: bool,
    /// What it says, empty if it did not answer.
    pub version: String,
}

/// A pod on one side of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// `<pod>.<namespace>`.
    pub name: String,
    /// Revision that injected it.
    pub now: Option<String>,
    /// Revision after its next restart.
    #[serde(rename = "afterRestart")]
    pub next: Option<String>,
    /// Whether it gets it from its workload's template.
    #[serde(rename = "inTemplate", skip_serializing_if = "std::ops::Not::not")]
    pub carried: bool,
    /// Whether it says itself that it is to have no proxy.
    #[serde(skip)]
    pub refuses: bool,
    /// Kind of the workload that made it.
    #[serde(skip)]
    pub kind: String,
}

/// A revision and everything that concerns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its name.
    pub revision: String,
    /// Whether namespaces with `istio-injection=enabled` go to it.
    pub default: bool,
    /// Whether an injector of its own is installed.
    pub injector: bool,
    /// Its control plane.
    pub control_planes: Vec<ControlPlane>,
    /// Tags that point at it.
    pub tags: Vec<String>,
    /// Namespaces whose new pods it injects.
    pub namespaces: Vec<String>,
    /// Pods that it injected and would inject again.
    pub settled: Vec<Placed>,
    /// Pods that it would inject, but has not: they need a restart.
    pub arriving: Vec<Placed>,
    /// Pods that it injected and would not inject again.
    pub leaving: Vec<Placed>,
}

impl Revision {
    /// In one word, and with a count, how its control plane does.
    fn state(&self) -> String {
        let ready = self.control_planes.iter().filter(|pod| pod.ready).count();
        match (ready, self.control_planes.len()) {
            (0, 0) if self.injector => "NO ISTIOD".to_owned(),
            (0, 0) => "NOT INSTALLED".to_owned(),
            (0, all) => format!("NO ISTIOD (0/{all} ready)"),
            (ready, all) => format!("{ready}/{all} ready"),
        }
    }

    fn version(&self) -> String {
        let versions: BTreeSet<&str> = self
            .control_planes
            .iter()
            .map(|pod| pod.version.as_str())
            .filter(|version| !version.is_empty())
            .collect();
        or_dash(&versions.into_iter().collect::<Vec<_>>().join(","))
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let (flags, one) = match command {
        Command::List(flags) => (flags, None),
        Command::Describe(DescribeFlags { revision, flags }) => (flags, Some(revision)),
    };
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let inventory = async { Ok(inventory::read(&cluster.server, system).await?) };
    let instances = within(flags.timeout, cluster.istiods(system, None));
    let (inventory, sides, instances) = futures::join!(
        within(flags.timeout, inventory),
        sides::read(&cluster, system, global.namespace.as_deref(), flags.timeout),
        instances
    );
    let (inventory, sides) = (inventory?, sides?);
    let ask = Forward::new(cluster.reach.clone(), system);
    let answers = gather::versions(&ask, &instances?, flags.timeout).await;
    let mut versions = BTreeMap::new();
    for answer in &answers {
        match &answer.result {
            Ok(build) => {
                versions.insert(answer.instance.pod.clone(), build.version.clone());
            }
            Err(error) => anstream::eprintln!("❗ {} does not say its version: {error}", answer.instance.pod),
        }
    }
    let revisions = build(&inventory, &sides, &versions);
    let asleep = served::unserved(system, &inventory);
    let Some(name) = one else {
        return print(&flags, &revisions, || list(&revisions, &asleep));
    };
    let names = Names::of(Some(&inventory.webhooks), &inventory.pods, system);
    let target = names.target(&name);
    let Some(found) = revisions.iter().find(|revision| revision.revision == target) else {
        return Err(Failure::new(names.absent(&name)));
    };
    print(&flags, found, || describe(found, &asleep))
}

fn print(flags: &Flags, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Failure> {
    match flags.output {
        Format::Table => {
            out::put(&table());
            Ok(())
        }
        format => out::data(value, format),
    }
}

/// Every revision that is installed, or that something still points at.
fn build(inventory: &Inventory, sides: &Sides, versions: &BTreeMap<String, String>) -> Vec<Revision> {
    let tagged = |object: &&install::object::Object| !object.label(label::TAG).is_empty();
    let tags: BTreeMap<&str, &str> = inventory
        .webhooks
        .iter()
        .chain(&inventory.services)
        .filter(tagged)
        .map(|object| (object.label(label::TAG), object.label(label::REVISION)))
        .collect();
    let mut names: BTreeSet<&str> = inventory.revisions().into_iter().collect();
    names.extend(tags.values());
    names.extend(inventory.pods.iter().map(|pod| pod.label(label::REVISION)));
    names.extend(sides.pods.iter().flat_map(|pod| &pod.now).map(String::as_str));
    names.remove("");
    let default = tags.get("default").copied();
    names
        .into_iter()
        .map(|name| {
            let is = |side: &Option<String>| side.as_deref() == Some(name);
            let pods = |keep: &dyn Fn(&Pod) -> bool| -> Vec<Placed> {
                sides.pods.iter().filter(|pod| keep(pod)).map(placed).collect()
            };
            Revision {
                revision: name.to_owned(),
                default: default == Some(name) || (default.is_none() && name == "default"),
                injector: sides
                    .injectors
                    .iter()
                    .any(|injector| injector.revision == name && injector.tag.is_none()),
                control_planes: inventory
                    .pods
                    .iter()
                    .filter(|pod| pod.label(label::REVISION) == name)
                    .map(|pod| ControlPlane {
                        pod: pod.name().to_owned(),
                        ready: install::ready::is_pod_ready(pod),
                        version: versions.get(pod.name()).cloned().unwrap_or_default(),
                    })
                    .collect(),
                tags: tags
                    .iter()
                    .filter(|(_, target)| **target == name)
                    .map(|(tag, _)| (*tag).to_owned())
                    .collect(),
                namespaces: sides.namespaces_of(name).into_iter().map(str::to_owned).collect(),
                settled: pods(&|pod| is(&pod.now) && is(&pod.next)),
                arriving: pods(&|pod| !is(&pod.now) && is(&pod.next)),
                leaving: pods(&|pod| is(&pod.now) && !is(&pod.next)),
            }
        })
        .collect()
}

fn placed(pod: &Pod) -> Placed {
    Placed {
        name: format!("{}.{}", pod.name, pod.namespace),
        now: pod.now.clone(),
        next: pod.next.clone(),
        carried: pod.carried,
        refuses: pod.refuses,
        kind: pod.kind.clone(),
    }
}

/// What is wrong with revisions that would not inject pods.
fn refusals<'a>(revisions: impl Iterator<Item = &'a str>, asleep: &BTreeMap<String, Absence>) -> String {
    let absent = revisions.filter_map(|revision| Some((revision, asleep.get(revision)?)));
    absent
        .map(|(revision, absence)| format!("\n{}\n", absence.told(revision)))
        .collect()
}

/// The table; `asleep` are revisions without an istiod that is ready.
fn list(revisions: &[Revision], asleep: &BTreeMap<String, Absence>) -> String {
    if revisions.is_empty() {
        return "No Istio revisions found.\n".to_owned();
    }
    let mut rows = vec![row([
        "REVISION",
        "ISTIOD",
        "VERSION",
        "TAGS",
        "NAMESPACES",
        "PODS",
        "TO ARRIVE",
        "TO LEAVE",
    ])];
    rows.extend(revisions.iter().map(|revision| {
        row([
            &revision.revision,
            &revision.state(),
            &revision.version(),
            &or_dash(&revision.tags.join(",")),
            &or_dash(&revision.namespaces.join(",")),
            &(revision.settled.len() + revision.leaving.len()).to_string(),
            &revision.arriving.len().to_string(),
            &revision.leaving.len().to_string(),
        ])
    }));
    let mut text = columns(&rows, PADDING);
    if revisions
        .iter()
        .any(|revision| !revision.arriving.is_empty() || !revision.leaving.is_empty())
    {
        text.push_str(
            "\nPods that are to arrive or leave do so when they restart: istioctl x revision describe REVISION names them.\n",
        );
    }
    let used = revisions.iter().filter(|revision| {
        let points = !revision.namespaces.is_empty() || !revision.tags.is_empty();
        let is_used = points || !revision.arriving.is_empty() || !revision.settled.is_empty();
        is_used && asleep.contains_key(&revision.revision)
    });
    text + &refusals(used.map(|revision| revision.revision.as_str()), asleep)
}

fn describe(revision: &Revision, asleep: &BTreeMap<String, Absence>) -> String {
    let mut rows = vec![
        row(["Revision:", &revision.revision]),
        row(["Default:", if revision.default { "yes" } else { "no" }]),
        row([
            "Injector:",
            if revision.injector {
                "installed"
            } else {
                "not installed"
            },
        ]),
        row(["Control plane:", &revision.state()]),
    ];
    rows.extend(revision.control_planes.iter().map(|pod| {
        let ready = if pod.ready { "ready" } else { "not ready" };
        let version = if pod.version.is_empty() {
            "version unknown"
        } else {
            &pod.version
        };
        row(["", &format!("{} ({ready}, {version})", pod.pod)])
    }));
    rows.push(row(["Tags:", &or_dash(&revision.tags.join(", "))]));
    rows.push(row(["Namespaces:", &or_dash(&revision.namespaces.join(", "))]));
    let mut text = columns(&rows, 2);
    for (title, pods) in [
        (
            if asleep.contains_key(&revision.revision) && !revision.settled.is_empty() {
                "Pods on the right side, if an istiod were ready"
            } else {
                "Pods on the right side"
            },
            &revision.settled,
        ),
        ("Pods that come here when they restart", &revision.arriving),
        ("Pods that leave when they restart", &revision.leaving),
    ] {
        text.push_str(&format!("\n{title}: {}\n", pods.len()));
        if pods.is_empty() {
            continue;
        }
        let mut rows = vec![row(["  NAME", "NOW", "AFTER RESTART"])];
        rows.extend(pods.iter().map(|pod| {
            let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| "no proxy".to_owned());
            let next = shown(&pod.next) + if pod.carried { " (in its template)" } else { "" };
            row([&format!("  {}", pod.name), &shown(&pod.now), &next])
        }));
        text.push_str(&columns(&rows, PADDING));
    }
    if revision.settled.iter().chain(&revision.leaving).any(|pod| pod.carried) {
        text.push_str(
            "\nA proxy in a template stays there until istioctl kube-inject -r REVISION puts another in its place.\n",
        );
    }
    // Of a namespace of which one pod would be refused nobody is told to restart the pods.
    let mut moving: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // Nor where one would lose its proxy without having asked for it.
    let mut bereft: BTreeSet<&str> = BTreeSet::new();
    for pod in revision.arriving.iter().chain(&revision.leaving) {
        let namespace = pod.name.rsplit('.').next().unwrap_or_default();
        moving.entry(namespace).or_default().extend(pod.next.as_deref());
        kinds.entry(namespace).or_default().insert(&pod.kind);
        if pod.now.is_some() && pod.next.is_none() && !pod.refuses {
            bereft.insert(namespace);
        }
    }
    let mut refusing: BTreeSet<&str> = asleep
        .keys()
        .map(String::as_str)
        .filter(|of| *of == revision.revision)
        .collect();
    refusing.extend(moving.values().flatten().filter(|next| asleep.contains_key(**next)));
    text.push_str(&refusals(refusing.into_iter(), asleep));
    let can_move = moving.iter().filter(|(namespace, next)| {
        !bereft.contains(*namespace) && !next.iter().any(|next| asleep.contains_key(*next))
    });
    for (namespace, kinds) in can_move.filter_map(|(namespace, _)| kinds.get_key_value(namespace)) {
        text.push_str(&format!("\nTo move them: {}", restart(namespace, kinds)));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if !bereft.is_empty() {
        text.push_str(&format!("\n{}\n", loses(&bereft)));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sides::fixture;
    use install::object::Object;
    use serde_json::json;

    fn revisions() -> Vec<Revision> {
        let webhook = |name: &str, revision: &str, tag: &str| {
            let mut labels = json!({"istio.io/rev": revision});
            if !tag.is_empty() {
                labels["istio.io/tag"] = tag.into();
            }
            Object(json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels}}))
        };
        let istiod = |name: &str, revision: &str, ready: &str| {
            Object(json!({"metadata": {"name": name, "labels": {"istio.io/rev": revision}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let inventory = Inventory {
            webhooks: vec![
                webhook("istio-sidecar-injector-1-22-1", "1-22-1", ""),
                webhook("istio-sidecar-injector-1-23-1", "1-23-1", ""),
                webhook("istio-sidecar-injector-unused", "unused", ""),
                webhook("istio-revision-tag-prod", "1-23-1", "prod"),
                webhook("istio-revision-tag-default", "1-22-1", "default"),
            ],
            pods: vec![
                istiod("istiod-1-22-1-a", "1-22-1", "True"),
                istiod("istiod-1-23-1-a", "1-23-1", "True"),
                istiod("istiod-1-23-1-b", "1-23-1", "False"),
            ],
            ..Inventory::default()
        };
        let versions = BTreeMap::from([("istiod-1-22-1-a".to_owned(), "1.22.1".to_owned())]);
        build(&inventory, &fixture::sides(), &versions)
    }

    #[test]
    fn every_revision_that_something_points_at_is_listed() {
        insta::assert_snapshot!(list(&revisions(), &BTreeMap::new()));
    }

    #[test]
    fn a_control_plane_that_is_not_ready_is_none() {
        let state = |ready: &[bool]| {
            let control_planes = ready.iter().map(|ready| ControlPlane {
                pod: String::new(),
                ready: *ready,
                version: String::new(),
            });
            let mut revision = revisions().swap_remove(0);
            revision.control_planes = control_planes.collect();
            revision.state()
        };
        assert_eq!(state(&[]), "NO ISTIOD");
        assert_eq!(state(&[false, false]), "NO ISTIOD (0/2 ready)");
        assert_eq!(state(&[true, false]), "1/2 ready");
    }

    #[test]
    fn pods_are_on_the_right_or_the_wrong_side() {
        let revisions = revisions();
        let of = |name: &str| {
            describe(
                revisions.iter().find(|revision| revision.revision == name).unwrap(),
                &BTreeMap::new(),
            )
        };
        insta::assert_snapshot!(format!("{}\n---\n{}", of("1-23-1"), of("gone")));
    }

    #[test]
    fn nobody_is_told_to_restart_pods_that_would_be_refused() {
        let revisions = revisions();
        let absence = Absence {
            gone: false,
            refuses: true,
        };
        let asleep = BTreeMap::from([("1-23-1".to_owned(), absence)]);
        let told = list(&revisions, &asleep);
        assert!(
            told.ends_with(
                "\nNo istiod of revision 1-23-1 is ready: until one is, new pods that it injects are refused. Restart none of \
                 them.\n"
            ),
            "{told}"
        );
        let arriving = revisions.iter().find(|revision| revision.revision == "1-23-1").unwrap();
        insta::assert_snapshot!(describe(arriving, &asleep));
        let leaving = revisions.iter().find(|revision| revision.revision == "1-22-1").unwrap();
        let told = describe(leaving, &asleep);
        assert!(told.contains("No istiod of revision 1-23-1 is ready"), "{told}");
        assert!(!told.contains("-n app-1"), "{told}");
    }

    #[test]
    fn nobody_is_told_to_restart_pods_that_would_lose_their_proxy() {
        let mut sides = fixture::sides();
        let settled = sides.pods.iter_mut().find(|pod| pod.name == "settled").unwrap();
        settled.next = None;
        let of = |sides: &Sides| {
            let revisions = build(&Inventory::default(), sides, &BTreeMap::new());
            let left = revisions.iter().find(|revision| revision.revision == "1-22-1").unwrap();
            describe(left, &BTreeMap::new())
        };
        let told = of(&sides);
        assert!(
            told.contains("A restart takes their proxy away from pods in app-2: "),
            "{told}"
        );
        assert!(told.contains("kubectl rollout restart deployment -n app-1"), "{told}");
        assert!(!told.contains("-n app-2"), "{told}");
        // Whoever said that he wants none is helped to get rid of it.
        sides.pods.iter_mut().find(|pod| pod.name == "settled").unwrap().refuses = true;
        let told = of(&sides);
        assert!(told.contains("kubectl rollout restart deployment -n app-2"), "{told}");
        assert!(!told.contains("takes their proxy away"), "{told}");
    }

    #[test]
    fn what_a_template_carries_comes_back() {
        let mut sides = fixture::sides();
        sides.carry(&[(("plain".to_owned(), "leftover".to_owned()), "gone".to_owned())].into());
        let revisions = build(&Inventory::default(), &sides, &BTreeMap::new());
        let gone = revisions.iter().find(|revision| revision.revision == "gone").unwrap();
        insta::assert_snapshot!(describe(gone, &BTreeMap::new()), @r"
        Revision:       gone
        Default:        no
        Injector:       not installed
        Control plane:  NOT INSTALLED
        Tags:           -
        Namespaces:     -

        Pods on the right side: 1
          NAME             NOW    AFTER RESTART
          leftover.plain   gone   gone (in its template)

        Pods that come here when they restart: 0

        Pods that leave when they restart: 0

        A proxy in a template stays there until istioctl kube-inject -r REVISION puts another in its place.
        ");
        assert_eq!(serde_json::to_value(&gone.settled[0]).unwrap()["inTemplate"], true);
    }

    #[test]
    fn programs_get_the_same() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&revisions()[0]).unwrap());
    }
}
