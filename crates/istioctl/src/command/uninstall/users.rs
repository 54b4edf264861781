//! Who uses what goes: proxies, and namespaces whose new pods it injects.

use std::collections::BTreeSet;
use std::time::Duration;

use api::names::label;
use install::api_server::{RequestError, kind};
use install::object::Object;
use install::tag::Inventory;
use status::forward::Forward;
use status::gather;

use crate::cluster::Cluster;
use crate::command::proxy_status::unconnected::{revision as injected_by, should_be_connected};
use crate::command::tag::followers::{Decided, Leader, Question};
use crate::policies::Policies;

/// Most proxies named one by one.
pub const NAMED: usize = 30;

/// Whether somebody uses a control plane, as far as is known; a later one outweighs those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Nobody does.
    No,
    /// Nobody is known, but one of its istiods does not tell of its proxies outside of this cluster.
    Partly,
    /// Nobody is known, but none of its istiods tells of proxies outside of this cluster.
    Silent,
    /// Nobody is known, but pods or gateways may not be listed.
    Unlisted,
    /// Somebody does.
    Yes,
}

impl Use {
    /// Why `--if-unused` removes nothing.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Partly => Some(
                "an istiod of the control plane does not answer, so that its proxies outside of this cluster are not known, \
                 and --if-unused was given: nothing was removed. Nobody else is known to use it; if nobody does, leave \
                 --if-unused out",
            ),
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

/// Which of a revision's istiods answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// None, or there is none.
    None,
    /// One at least, and one did not.
    Some,
    /// Every one.
    All,
}

impl Answered {
    /// So many of all.
    fn of(answered: usize, all: usize) -> Self {
        match answered {
            0 => Self::None,
            some if some < all => Self::Some,
            _ => Self::All,
        }
    }
}

/// Proxies of a revision, from both who may know.
#[derive(Debug)]
pub struct Users {
    /// Which of its istiods answered.
    pub answered: Answered,
    /// Connected ones, as its istiods say.
    pub connected: Vec<String>,
    /// Pods that it injected, as the API server says, or why it does not; known also when no istiod is alive.
    pub pods: Result<Vec<String>, String>,
}

impl Users {
    /// All of them by name, each once.
    pub fn all(&self) -> BTreeSet<&String> {
        self.connected.iter().chain(self.pods.iter().flatten()).collect()
    }

    /// Does anybody use the revision, as far as is known? Where one of its istiods does not tell, that is not known: proxies
    /// may be outside of this cluster (revisions.md §8.3). Nor is it where pods may not be listed: one may be disconnected.
    pub fn known(&self) -> Use {
        match (self.answered, &self.pods) {
            _ if !self.all().is_empty() => Use::Yes,
            (_, Err(_)) => Use::Unlisted,
            (Answered::None, Ok(_)) => Use::Silent,
            (Answered::Some, Ok(_)) => Use::Partly,
            (Answered::All, Ok(_)) => Use::No,
        }
    }

    /// What is said of them.
    pub fn told(&self, revision: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let ids = self.all();
        match (self.answered, &self.pods) {
            (Answered::None, _) if !ids.is_empty() => lines.push(format!(
                "No istiod of revision {revision} answers; its proxies are known by their pods."
            )),
            (Answered::None, Ok(_)) => lines.push(format!(
                "Unable to find any proxies pointing to the {revision} control plane. This may be because the control \
                 plane cannot be connected or there is no {revision} control plane."
            )),
            (Answered::None, Err(error)) => lines.push(format!(
                "Whether proxies point to the {revision} control plane is not known: none of its istiods answers, and {error}"
            )),
            (Answered::Some | Answered::All, _) => {}
        }
        if self.answered == Answered::Some {
            lines.push(format!(
                "Not every istiod of revision {revision} answers; proxies outside of this cluster that are connected to one \
                 that does not are not known."
            ));
        }
        if let (Answered::Some | Answered::All, Err(error)) = (self.answered, &self.pods) {
            lines.push(format!(
                "Whether more proxies point to the {revision} control plane is not known: {error}"
            ));
        }
        if !ids.is_empty() {
            let these = if ids.len() == 1 { "this proxy" } else { "these proxies" };
            lines.push(format!(
                "{} pointing to the control plane revision {revision}",
                still(ids.len())
            ));
            if ids.len() <= NAMED {
                lines.extend(ids.into_iter().cloned());
            }
            lines.push(format!(
                "If you proceed with the uninstall, {these} will become detached from any control plane and will not \
                 function correctly."
            ));
        }
        lines
    }
}

/// How many proxies there are.
pub fn still(proxies: usize) -> String {
    match proxies {
        1 => "There is still 1 proxy".to_owned(),
        several => format!("There are still {several} proxies"),
    }
}

/// Reads the proxies of a revision, or of all, and names in `namespaces` everybody whose new pods it injects.
pub async fn read(
    cluster: &Cluster,
    system: &str,
    revision: Option<&str>,
    before: &Inventory,
    namespaces: &mut Vec<String>,
) -> Users {
    let instances = cluster.istiods(system, revision).await.unwrap_or_default();
    let ask = Forward::new(cluster.reach.clone(), system);
    let everywhere = kind("", "v1", "Pod");
    let (answers, pods, policies) = futures::join!(
        gather::proxies(&ask, &instances, Duration::from_secs(5)),
        cluster.server.list(&everywhere, ""),
        Policies::read(cluster, system)
    );
    let asked = answers.len();
    let heard: Vec<_> = answers.into_iter().filter_map(|answer| answer.result.ok()).collect();
    let known = pods.as_deref().unwrap_or_default();
    let all: BTreeSet<String> = namespaces
        .drain(..)
        .chain(following(revision, before, &policies, known))
        .collect();
    namespaces.extend(all);
    Users {
        answered: Answered::of(heard.len(), asked),
        connected: heard.into_iter().flatten().map(|proxy| proxy.id).collect(),
        pods: injected(revision, pods),
    }
}

/// Pods with a proxy of the revision, or of any, that have not ended.
fn injected(revision: Option<&str>, pods: Result<Vec<Object>, RequestError>) -> Result<Vec<String>, String> {
    let pods = pods.map_err(|error| error.to_string())?;
    let runs = |pod: &&Object| should_be_connected(pod) && revision.is_none_or(|revision| injected_by(pod) == revision);
    let ids = pods.iter().filter(runs);
    Ok(ids.map(|pod| format!("{}.{}", pod.name(), pod.namespace())).collect())
}

/// Namespaces that follow a revision, or any, by its name or by a tag: as a whole, or with pods that choose for themselves.
fn following(revision: Option<&str>, before: &Inventory, policies: &Policies, pods: &[Object]) -> BTreeSet<String> {
    let all = before.webhooks.iter().map(|webhook| webhook.label(label::REVISION));
    let going: BTreeSet<&str> = all
        .filter(|of| revision.is_none_or(|revision| *of == revision))
        .collect();
    let decided = Decided::new(&before.webhooks, &before.namespaces, pods);
    let followers = going.into_iter().map(|revision| {
        let question = Question {
            leader: Leader::Injectors(revision),
            admits: revision,
            is_there: None,
        };
        decided.followers(question, policies)
    });
    followers.flat_map(|found| found.into_keys()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use revision::name::{Revision, Tag};
    use revision::webhook::{Options, of_revision, of_tag};
    use serde_json::{Value, json};

    use super::*;
    use crate::command::tag::fixture::configuration;

    #[test]
    fn what_is_said_of_proxies_does_not_contradict_itself() {
        let check =
            |answered: Answered, connected: &[&str], pods: Result<&[&str], &str>, used: Use, expected: &[&str]| {
                let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
                let users = Users {
                    answered,
                    connected: names(connected),
                    pods: pods.map(names).map_err(str::to_owned),
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
        check(Answered::All, &[], Ok(&[]), Use::No, &[]);
        let one = "There is still 1 proxy pointing to the control plane revision old";
        check(
            Answered::All,
            &["a.x"],
            Ok(&["a.x"]),
            Use::Yes,
            &[one, "a.x", "If you proceed with the uninstall, this proxy will"],
        );
        check(
            Answered::All,
            &["a.x"],
            Ok(&["a.x", "b.x"]),
            Use::Yes,
            &[still, "a.x", "b.x", detached],
        );
        check(
            Answered::None,
            &[],
            Ok(&[]),
            Use::Silent,
            &["Unable to find any proxies pointing to the old control plane."],
        );
        check(
            Answered::None,
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
            Answered::None,
            &[],
            Err("cannot list Pod: forbidden"),
            Use::Unlisted,
            &[
                "Whether proxies point to the old control plane is not known: none of its istiods answers, and cannot list Pod: forbidden",
            ],
        );
        // One istiod of several is silent, or pods may not be listed: nobody says that there are no others.
        let partly = "Not every istiod of revision old answers; proxies outside of this cluster";
        check(Answered::Some, &[], Ok(&[]), Use::Partly, &[partly]);
        check(
            Answered::Some,
            &["a.x"],
            Ok(&["b.x"]),
            Use::Yes,
            &[partly, still, "a.x", "b.x", detached],
        );
        let more = "Whether more proxies point to the old control plane is not known: cannot list Pod: forbidden";
        let forbidden = "cannot list Pod: forbidden";
        check(Answered::All, &[], Err(forbidden), Use::Unlisted, &[more]);
        check(Answered::Some, &[], Err(forbidden), Use::Unlisted, &[partly, more]);
    }

    #[test]
    fn one_silent_istiod_is_not_all_of_them() {
        let check = |answered: usize, all: usize, expected: Answered| assert_eq!(Answered::of(answered, all), expected);
        check(0, 0, Answered::None);
        check(0, 2, Answered::None);
        check(1, 2, Answered::Some);
        check(2, 2, Answered::All);
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
        check(
            Use::No.max(Use::Partly),
            Some("an istiod of the control plane does not answer"),
        );
        check(Use::No.max(Use::Silent), Some("no istiod of the control plane answers"));
        check(
            Use::Silent.max(Use::Unlisted),
            Some("whether the control plane is still used is not known"),
        );
        check(Use::Yes.max(Use::Silent), Some("the control plane is still used"));
    }

    #[test]
    fn whoever_follows_what_goes_is_named_also_by_pods_alone() {
        let options = Options::default();
        let of = |name: &str| {
            let webhooks = of_revision(&Revision::parse(name).unwrap(), options);
            configuration(name, name, "", &webhooks)
        };
        let tag = configuration("prod", "old", "prod", &of_tag(&Tag::parse("prod").unwrap(), options));
        let namespace = |name: &str, labels: Value| Object(json!({"metadata": {"name": name, "labels": labels}}));
        let pod = |namespace: &str, labels: Value| {
            Object(json!({"metadata": {"name": "a", "namespace": namespace, "labels": labels}}))
        };
        let before = Inventory {
            webhooks: vec![of("old"), of("new"), tag],
            namespaces: vec![
                namespace("by-name", json!({"istio.io/rev": "old"})),
                namespace("by-pod", json!({})),
                namespace("by-pods-tag", json!({})),
                namespace("other", json!({"istio.io/rev": "new"})),
                namespace("plain", json!({})),
            ],
            ..Inventory::default()
        };
        let pods = [
            pod("by-pod", json!({"istio.io/rev": "old"})),
            pod("by-pods-tag", json!({"istio.io/rev": "prod"})),
            pod("plain", json!({})),
        ];
        let check = |revision: Option<&str>, expected: &[&str]| {
            let found = following(revision, &before, &Policies::default(), &pods);
            assert_eq!(
                found.iter().map(String::as_str).collect::<Vec<_>>(),
                expected,
                "{revision:?}"
            );
        };
        check(Some("old"), &["by-name", "by-pod", "by-pods-tag"]);
        check(Some("new"), &["other"]);
        check(None, &["by-name", "by-pod", "by-pods-tag", "other"]);
    }
}
