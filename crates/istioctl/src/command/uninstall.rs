//! `istioctl uninstall`: exactly one revision, or everything with `--purge`.

mod purge;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use api::names::{DEFAULT_REVISION, label};
use clap::Args;
use install::api_server::{RequestError, kind};
use install::inventory;
use install::object::Object;
use install::stays;
use install::tag::Inventory;
use install::uninstall::{self, Plan, Removed, Scope, Stays};
use status::forward::Forward;
use status::gather;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::install::Wanted;
use crate::command::proxy_status::unconnected::{revision as injected_by, should_be_connected};
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::names::present;
use crate::out::put;

/// Most proxies named one by one.
const NAMED: usize = 30;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The revision to remove (`default` is the unnamed one).
    #[arg(short, long, value_name = "NAME")]
    revision: Option<String>,
    /// File with the IstioOperator it was installed with: the revision that the file resolves to is removed.
    #[arg(short, long, value_name = "FILE")]
    filename: Option<String>,
    /// Settings it was installed with, for example `--set revision=canary`.
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Remove everything of Istio, custom resource definitions included.
    #[arg(long)]
    purge: bool,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Stop if anything still uses the control plane.
    #[arg(long)]
    if_unused: bool,
    /// Folder with charts and profiles instead of those of this program.
    #[arg(short = 'd', long, value_name = "FOLDER")]
    manifests: Option<PathBuf>,
    /// Go on in spite of mistakes in the settings.
    #[arg(long)]
    force: bool,
    /// Name every object that is going to be removed.
    #[arg(short, long)]
    verbose: bool,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Removes.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let (scope, namespace) = scope(global, &flags)?;
    let cluster = Cluster::connect(global).await?;
    if flags.purge && (flags.revision.is_some() || flags.filename.is_some() || sets_revision(&flags.set)) {
        put("Purge uninstall will remove all Istio resources, ignoring the specified revision or operator file\n");
    }
    let mut before = inventory::read(&cluster.server, &namespace).await?;
    let mut owned = uninstall::owned(&cluster.server, flags.purge).await?;
    uninstall::disown(&cluster.server, &mut owned, &mut before).await;
    let plan = uninstall::plan(&scope, &namespace, &owned, &before);
    if let (Scope::Revision(revision), [first, ..]) = (&scope, plan.releases.as_slice()) {
        return Err(Failure::new(format!(
            "revision {revision:?} was installed by Helm, which keeps a record of it: helm uninstall {first}"
        )));
    }
    if let (Scope::Revision(revision), true, true) = (&scope, plan.remove.is_empty(), flags.revision.is_some()) {
        return Err(Failure::new(not_found(revision, &namespace, &before)));
    }
    let (message, used) = match &scope {
        Scope::Purge => {
            let users = users(&cluster, &namespace, None).await;
            purge::describe(&users, &plan, &before.revisions())
        }
        Scope::Revision(revision) => {
            let other = plan.successor(&before).unwrap_or("<REVISION>");
            describe(&cluster, &namespace, revision, &plan, other, flags.verbose).await
        }
    };
    put(&message);
    if plan.remove.is_empty() {
        put("Nothing was there to uninstall.\n");
        return Ok(());
    }
    if let Some(refusal) = used.refusal().filter(|_| flags.if_unused) {
        return Err(Failure::new(refusal));
    }
    if flags.dry_run {
        for id in &plan.remove {
            put(&format!("Not pruning object {id} because of dry run.\n"));
        }
        return Ok(());
    }
    let is_asked = used != Use::No || flags.purge || !plan.applied_by.is_empty();
    if is_asked && !flags.skip_confirmation && !confirm::ask("Proceed? (y/N)", Silence::Stop)? {
        return Err(Failure::cancelled());
    }
    let mut failed = Vec::new();
    let mut report = |removed: Removed| match removed {
        Removed::DefaultMoved(revision) => put(&format!(
            "  The default revision is now {revision:?}: it injects istio-injection=enabled and validates.\n"
        )),
        Removed::ValidatorStays(Stays::With(other)) => put(&format!("  The validator asks {other:?} now.\n")),
        Removed::ValidatorStays(Stays::Open) => put("  The validator lets pass everything now.\n"),
        Removed::Object(id) => put(&format!("  Removed {id}.\n")),
        Removed::Absent(id) => put(&format!(
            "object: {id} is not being deleted because it no longer exists\n"
        )),
        Removed::Failed(id, error) => {
            put(&format!("  Not removed: {id}\n"));
            failed.push(error);
        }
    };
    uninstall::execute(&cluster.server, &plan, &namespace, &mut report).await?;
    if !failed.is_empty() {
        return Err(Failure::new(format!(
            "failed to delete control plane resources by revision: {}",
            failed.join("; ")
        )));
    }
    let stays = stays::read(&cluster.server, &namespace).await?;
    let stays = stays.told(&scope, &plan.others, &namespace);
    if !stays.is_empty() {
        put(&format!("{stays}\n"));
    }
    put("✔ Uninstall complete\n");
    Ok(())
}

/// Do settings say which revision is meant?
fn sets_revision(set: &[String]) -> bool {
    set.iter()
        .any(|s| s.starts_with("revision=") || s.starts_with("values.revision="))
}

/// What to remove, and the namespace it is in.
fn scope(global: &Global, flags: &Flags) -> Result<(Scope, String), Failure> {
    // --istioNamespace is weaker than what the settings say.
    let mut set = vec![format!("values.global.istioNamespace={}", global.istio_namespace)];
    set.extend(flags.set.clone());
    let wanted = Wanted {
        filename: flags.filename.iter().cloned().collect(),
        set,
        revision: flags.revision.clone(),
        manifests: flags.manifests.clone(),
        force: flags.force,
    };
    // A mistake in a setting is told as such, also where it leaves nothing to say what is to go.
    let operator = wanted.resolve(&wanted.assets()?)?;
    if flags.revision.is_none() && flags.filename.is_none() && !flags.purge && !sets_revision(&flags.set) {
        return Err(Failure::new(
            "at least one of the --revision (or --set revision=<revision>), --filename or --purge flags must be set",
        ));
    }
    let scope = if flags.purge {
        Scope::Purge
    } else {
        Scope::Revision(operator.revision_label().to_owned())
    };
    Ok((scope, operator.namespace().to_owned()))
}

/// Whether somebody uses a control plane, as far as is known; a later one outweighs those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    No,
    /// Nobody is known, but none of its istiods tells of proxies outside of this cluster.
    Silent,
    /// Nobody is known, but pods or gateways may not be listed.
    Unlisted,
    Yes,
}

impl Use {
    /// Why `--if-unused` removes nothing.
    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Silent => Some(
                "no istiod of the control plane answers, so that proxies outside of this cluster are not known, and \
                 --if-unused was given: nothing was removed. Nobody else is known to use it; if nobody does, leave \
                 --if-unused out",
            ),
            Self::Unlisted => Some(
                "whether the control plane is still used is not known (what could not be listed is named above), and \
                 --if-unused was given: nothing was removed",
            ),
            Self::Yes => Some("the control plane is still used, and --if-unused was given: nothing was removed"),
        }
    }
}

/// What is said before anything happens, and whether somebody still uses the control plane. `other` is the revision that
/// gateways may go to.
async fn describe(
    cluster: &Cluster,
    namespace: &str,
    revision: &str,
    plan: &Plan,
    other: &str,
    verbose: bool,
) -> (String, Use) {
    let mut text = String::new();
    let mut used = Use::No;
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if plan.remove.is_empty() {
        say("No resources will be pruned from the cluster. Please double check the input configs");
        return (text, Use::No);
    }
    if !plan.applied_by.is_empty() {
        say(&applied(revision, &plan.applied_by));
    }
    // What nobody marked as his own is shown, so that a person can judge it.
    if verbose || !plan.applied_by.is_empty() {
        say("The following resources will be pruned from the cluster:");
        for id in &plan.remove {
            say(&format!("  {}", id.path()));
        }
    }
    let users = users(cluster, namespace, Some(revision)).await;
    used = used.max(users.known());
    users.told(revision).iter().for_each(|line| say(line));
    let gateways = uninstall::gateways(&cluster.server).await;
    let by_gateways = if gateways.is_ok() { Use::Yes } else { Use::Unlisted };
    if let Some(line) = deployed(revision, &plan.tags, gateways) {
        used = used.max(by_gateways);
        say(&line);
    }
    let going = plan
        .remove
        .iter()
        .filter(|id| id.kind == "Deployment" && id.name.contains("gateway"));
    let going: Vec<&str> = going.map(|id| id.name.as_str()).collect();
    if !going.is_empty() {
        used = Use::Yes;
        say(&format!(
            "You are about to remove the following gateways: {}. To avoid downtime, please quit this command and reinstall \
             the gateway(s) with a revision that is not being removed from the cluster.",
            going.join(", ")
        ));
    }
    for gateway in &plan.gateways {
        used = Use::Yes;
        say(&format!(
            "The gateway {}.{} runs on revision {revision} and stays. Put it on another one with: istioctl gateway revert --revision {other} -y",
            gateway.name, gateway.namespace
        ));
    }
    if !plan.tags.is_empty() {
        used = Use::Yes;
        say(&format!(
            "Tags that point at {revision} and go with it: {}",
            plan.tags.join(", ")
        ));
    }
    if plan.tags.iter().any(|tag| tag == DEFAULT_REVISION) && !plan.others.is_empty() {
        let (goes, them) = match plan.validator {
            Some(_) => ("", "it"),
            None => (", and validation", "them"),
        };
        say(&format!(
            "With the tag \"default\" goes the injection of istio-injection=enabled{goes}. To keep {them}, move it first: \
             istioctl tag set default --revision {other}"
        ));
    }
    match &plan.validator {
        Some(Stays::With(other)) => say(&format!(
            "The validator of configuration without a revision stays, and asks {other} from now on."
        )),
        Some(Stays::Open) => say(
            "The validator of configuration without a revision stays, and lets pass everything: nobody is left to ask.",
        ),
        None => {}
    }
    if let Some(target) = &plan.default_moves_to {
        used = Use::Yes;
        say(&format!(
            "The default revision moves to {target}, the only one that remains and is ready."
        ));
    }
    plan.bereft.iter().for_each(|line| say(line));
    if !plan.namespaces.is_empty() {
        used = Use::Yes;
        say(&format!(
            "Namespaces whose new pods {revision} injects: {}",
            plan.namespaces.join(", ")
        ));
    }
    (text, used)
}

/// What is said of a revision that no installer marked as its own. Helm itself applies only releases, and of this one it
/// has no record: what is left would otherwise be left to it.
fn applied(revision: &str, by: &[String]) -> String {
    if by.iter().any(|manager| manager == "helm") {
        return format!(
            "Revision {revision} was installed by Helm, which has no record of it any more, so that this is left of it."
        );
    }
    format!(
        "Revision {revision} was not installed by istioctl: {} applied its manifests. Whoever applies them again brings it \
         back.",
        by.join(", ")
    )
}

/// What is said of gateways that the revision deploys; where they cannot be listed nobody knows that it is unused.
fn deployed(revision: &str, tags: &[String], gateways: Result<Vec<Object>, RequestError>) -> Option<String> {
    let gateways = match gateways {
        Ok(gateways) => gateways,
        Err(error) => {
            return Some(format!(
                "Whether {revision} deploys gateways or waypoints is not known: {error}"
            ));
        }
    };
    let names: Vec<String> = uninstall::deployed(revision, tags, &gateways)
        .iter()
        .map(|id| format!("{}.{}", id.name, id.namespace))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "Gateways and waypoints that {revision} deploys; what it made for them stays as it is: {}",
            names.join(", ")
        )
    })
}

/// Proxies of a revision, from both who may know.
struct Users {
    /// Did one of its istiods answer?
    answered: bool,
    /// Connected ones, as its istiods say.
    connected: Vec<String>,
    /// Pods that it injected, as the API server says; known also when no istiod is alive.
    pods: Result<Vec<String>, Failure>,
}

impl Users {
    /// All of them by name, each once.
    fn all(&self) -> BTreeSet<&String> {
        self.connected.iter().chain(self.pods.iter().flatten()).collect()
    }

    /// Does anybody use the revision, as far as is known? Where none of its istiods tells, that is not known: proxies may
    /// be outside of this cluster (revisions.md §8.3).
    fn known(&self) -> Use {
        match (self.answered, &self.pods) {
            _ if !self.all().is_empty() => Use::Yes,
            (true, _) => Use::No,
            (false, Ok(_)) => Use::Silent,
            (false, Err(_)) => Use::Unlisted,
        }
    }

    /// What is said of them.
    fn told(&self, revision: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let ids = self.all();
        match (self.answered, &self.pods) {
            (false, _) if !ids.is_empty() => lines.push(format!(
                "No istiod of revision {revision} answers; its proxies are known by their pods."
            )),
            (false, Ok(_)) => lines.push(format!(
                "Unable to find any proxies pointing to the {revision} control plane. This may be because the control \
                 plane cannot be connected or there is no {revision} control plane."
            )),
            (false, Err(error)) => lines.push(format!(
                "Whether proxies point to the {revision} control plane is not known: none of its istiods answers, and {}",
                error.message()
            )),
            (true, _) => {}
        }
        if !ids.is_empty() {
            lines.push(format!(
                "There are still {} proxies pointing to the control plane revision {revision}",
                ids.len()
            ));
            if ids.len() <= NAMED {
                lines.extend(ids.into_iter().cloned());
            }
            lines.push(
                "If you proceed with the uninstall, these proxies will become detached from any control plane and will not \
                 function correctly."
                    .to_owned(),
            );
        }
        lines
    }
}

/// Why nothing can be removed of a revision by its name.
fn not_found(revision: &str, namespace: &str, before: &Inventory) -> String {
    let known = before.revisions();
    if !known.contains(&revision) {
        let known = present(known.into_iter());
        return format!("could not find target revision {revision:?}; {known}");
    }
    let of_revision =
        |object: &&Object| object.label(label::REVISION) == revision && object.label(label::TAG).is_empty();
    let elsewhere = before.webhooks.iter().filter(of_revision).find_map(|webhook| {
        let of = webhook.text("/webhooks/0/clientConfig/service/namespace");
        (!of.is_empty() && of != namespace).then_some(of)
    });
    if let Some(elsewhere) = elsewhere {
        return format!(
            "revision {revision:?} is in namespace {elsewhere:?}: istioctl uninstall --revision {revision} -i {elsewhere}"
        );
    }
    let found = before.webhooks.iter().chain(&before.services).filter(of_revision);
    let commands: Vec<String> = found
        .map(|object| {
            let within = match object.namespace() {
                "" => String::new(),
                namespace => format!(" -n {namespace}"),
            };
            format!(
                "kubectl delete {} {}{within}",
                object.kind().to_lowercase(),
                object.name()
            )
        })
        .collect();
    format!(
        "nothing of revision {revision:?} carries the labels of an installer (istio.io/rev and \
         operator.istio.io/component), so that only you know whose it is. What names it goes with: {}",
        commands.join("; ")
    )
}

/// Those of a revision, or of all.
async fn users(cluster: &Cluster, namespace: &str, revision: Option<&str>) -> Users {
    let instances = cluster.istiods(namespace, revision).await.unwrap_or_default();
    let ask = Forward::new(cluster.reach.clone(), namespace);
    let answers = gather::proxies(&ask, &instances, Duration::from_secs(5)).await;
    let heard: Vec<_> = answers.into_iter().filter_map(|answer| answer.result.ok()).collect();
    Users {
        answered: !heard.is_empty(),
        connected: heard.into_iter().flatten().map(|proxy| proxy.id).collect(),
        pods: injected(cluster, revision).await,
    }
}

/// Pods with a proxy of the revision, or of any, that have not ended.
async fn injected(cluster: &Cluster, revision: Option<&str>) -> Result<Vec<String>, Failure> {
    let pods = cluster.server.list(&kind("", "v1", "Pod"), "").await?;
    let runs = |pod: &&Object| should_be_connected(pod) && revision.is_none_or(|revision| injected_by(pod) == revision);
    let ids = pods.iter().filter(runs);
    Ok(ids.map(|pod| format!("{}.{}", pod.name(), pod.namespace())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(gateways: Result<Vec<Object>, RequestError>, expected: Option<&str>) {
        let tags = ["prod".to_owned()];
        assert_eq!(deployed("old", &tags, gateways).as_deref(), expected);
    }

    #[test]
    fn what_is_said_of_proxies_does_not_contradict_itself() {
        let check = |answered: bool, connected: &[&str], pods: Result<&[&str], &str>, used: Use, expected: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let users = Users {
                answered,
                connected: names(connected),
                pods: pods.map(names).map_err(Failure::new),
            };
            assert_eq!(users.known(), used);
            let told = users.told("old");
            let starts = |(line, start): (&String, &&str)| line.starts_with(*start);
            assert!(
                told.len() == expected.len() && told.iter().zip(expected).all(starts),
                "{told:#?}, expected {expected:#?}"
            );
        };
        let still = "There are still 2 proxies pointing to the control plane revision old";
        let detached = "If you proceed with the uninstall, these proxies will become detached";
        check(true, &[], Ok(&[]), Use::No, &[]);
        check(
            true,
            &["a.x"],
            Ok(&["a.x", "b.x"]),
            Use::Yes,
            &[still, "a.x", "b.x", detached],
        );
        check(
            false,
            &[],
            Ok(&[]),
            Use::Silent,
            &["Unable to find any proxies pointing to the old control plane."],
        );
        check(
            false,
            &[],
            Ok(&["a.x", "b.x"]),
            Use::Yes,
            &[
                "No istiod of revision old answers; its proxies are known by their pods.",
                still,
                "a.x",
                "b.x",
                detached,
            ],
        );
        check(
            false,
            &[],
            Err("cannot list Pod: forbidden"),
            Use::Unlisted,
            &[
                "Whether proxies point to the old control plane is not known: none of its istiods answers, and cannot list Pod: forbidden",
            ],
        );
    }

    #[test]
    fn if_unused_names_the_real_reason() {
        let check = |used: Use, expected: Option<&str>| {
            let refusal = used.refusal();
            let fits = match (refusal, expected) {
                (Some(refusal), Some(start)) => refusal.starts_with(start),
                (refusal, expected) => refusal == expected,
            };
            assert!(fits, "{refusal:?}");
        };
        check(Use::No, None);
        check(Use::No.max(Use::Silent), Some("no istiod of the control plane answers"));
        check(
            Use::Silent.max(Use::Unlisted),
            Some("whether the control plane is still used is not known"),
        );
        check(Use::Yes.max(Use::Silent), Some("the control plane is still used"));
    }

    #[test]
    fn a_revision_that_cannot_be_removed_by_its_name_is_explained() {
        let check = |revision: &str, namespace: &str, expected: &str| {
            let before = Inventory {
                webhooks: vec![Object(json!({"kind": "MutatingWebhookConfiguration",
                    "metadata": {"name": "istio-sidecar-injector-old", "labels": {"istio.io/rev": "old"}},
                    "webhooks": [{"clientConfig": {"service": {"namespace": "mesh", "name": "istiod-old"}}}]}))],
                services: vec![Object(json!({"kind": "Service",
                    "metadata": {"name": "istiod-old", "namespace": "mesh", "labels": {"istio.io/rev": "old", "app": "istiod"}}}))],
                ..Inventory::default()
            };
            assert_eq!(not_found(revision, namespace, &before), expected);
        };
        check(
            "new",
            "mesh",
            "could not find target revision \"new\"; revisions here: old",
        );
        check(
            "old",
            "istio-system",
            "revision \"old\" is in namespace \"mesh\": istioctl uninstall --revision old -i mesh",
        );
        check(
            "old",
            "mesh",
            "nothing of revision \"old\" carries the labels of an installer (istio.io/rev and \
             operator.istio.io/component), so that only you know whose it is. What names it goes with: kubectl delete \
             mutatingwebhookconfiguration istio-sidecar-injector-old; kubectl delete service istiod-old -n mesh",
        );
    }

    #[test]
    fn who_brought_a_revision_that_nobody_marked_is_said() {
        let check = |by: &str, expected: &str| assert!(applied("old", &[by.to_owned()]).contains(expected), "{by}");
        check("kubectl", "kubectl applied its manifests");
        check("helm", "Helm, which has no record of it any more");
    }

    #[test]
    fn a_revision_is_unused_only_if_its_gateways_may_be_listed() {
        let gateway = |name: &str, revision: &str| {
            Object(json!({"metadata": {"name": name, "namespace": "app", "labels": {"istio.io/rev": revision}}}))
        };
        check(Ok(vec![gateway("other", "new")]), None);
        check(
            Ok(vec![gateway("own", "old"), gateway("tagged", "prod")]),
            Some("Gateways and waypoints that old deploys; what it made for them stays as it is: own.app, tagged.app"),
        );
        let refused = RequestError::Refused {
            verb: "list",
            object: "Gateway".to_owned(),
            message: "forbidden".to_owned(),
            code: 403,
        };
        check(
            Err(refused),
            Some("Whether old deploys gateways or waypoints is not known: cannot list Gateway: forbidden"),
        );
    }
}
