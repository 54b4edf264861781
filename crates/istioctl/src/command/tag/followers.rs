//! Who moves with a tag at the next restart: namespaces, and the workloads in them whose pods another revision injected.

use std::collections::{BTreeMap, BTreeSet};

use inject::workload::Workload;
use install::object::{Object, strings};
use install::tag::TagObjects;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use revision::decision::{Injector, Match, PodView, decide};
use revision::selector::Labels;
use revision::webhook::IGNORED_NAMESPACES;
use serde_json::Value;

use crate::command::proxy_status::unconnected;
use crate::policies::Policies;
use crate::restart::restart as remedy;

/// Followers of a tag: for each namespace, how many pods of which workloads go elsewhere when they restart.
pub type Followers = BTreeMap<String, BTreeMap<String, usize>>;

/// What is followed.
#[derive(Clone, Copy, Debug)]
pub enum Leader<'a> {
    /// A tag.
    Tag(&'a str),
    /// A revision by its own name.
    Revision(&'a str),
    /// A revision, by its own name or by a tag that points at it.
    Injectors(&'a str),
}

impl Leader<'_> {
    fn leads(self, found: &Match) -> bool {
        match self {
            Self::Tag(tag) => found.tag.as_deref() == Some(tag),
            Self::Revision(revision) => found.tag.is_none() && found.revision == revision,
            Self::Injectors(revision) => found.revision == revision,
        }
    }
}

/// Whose followers are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who is followed.
    pub leader: Leader<'a>,
    /// The revision that injects them, or will: whom its policy leaves alone follows nobody.
    pub admits: &'a str,
    /// The revision whose pods need not move any more; none where nobody moves, and all that follow are asked for.
    pub is_there: Option<&'a str>,
}

/// Webhook configurations once a tag's objects are written.
pub fn webhooks(before: &[Object], built: &TagObjects) -> Vec<Object> {
    let made = built.apply.iter().chain(&built.deactivate);
    let made = made.filter(|object| object.kind() == "MutatingWebhookConfiguration");
    let stays = |object: &&Object| made.clone().all(|made| made.name() != object.name());
    before.iter().filter(stays).chain(made.clone()).cloned().collect()
}

/// What injectors decide for every namespace, and for every pod in one that has not ended: made once, asked often.
pub struct Decided<'a> {
    namespaces: BTreeMap<&'a str, Vec<Match>>,
    pods: Vec<(&'a Object, Labels, Vec<Match>)>,
}

impl<'a> Decided<'a> {
    /// Decides with the injectors among these webhook configurations.
    pub fn new(webhooks: &[Object], namespaces: &'a [Object], pods: &'a [Object]) -> Self {
        let injectors: Vec<Injector> = webhooks.iter().filter_map(injector).collect();
        let known = namespaces.iter().filter(|n| !IGNORED_NAMESPACES.contains(&n.name()));
        let known: BTreeMap<&str, Labels> = known.map(|n| (n.name(), n.labels())).collect();
        let pods = pods.iter().filter(|pod| !unconnected::is_over(pod)).filter_map(|pod| {
            let (namespace, labels) = (known.get(pod.namespace())?, pod.labels());
            let matches = decide(namespace, &labels, &injectors).matches;
            Some((pod, labels, matches))
        });
        Self {
            pods: pods.collect(),
            namespaces: known
                .iter()
                .map(|(name, labels)| (*name, decide(labels, &Labels::new(), &injectors).matches))
                .collect(),
        }
    }

    /// Who follows whom the question is about.
    pub fn followers(&self, question: Question<'_>, policies: &Policies) -> Followers {
        let follows = |matches: &[Match]| matches.iter().any(|found| question.leader.leads(found));
        let whole = self.namespaces.iter().filter(|(_, matches)| follows(matches));
        let mut followers: Followers = whole.map(|(name, _)| ((*name).to_owned(), BTreeMap::new())).collect();
        for (pod, labels, matches) in &self.pods {
            if !follows(matches) || !is_admitted(pod, labels, question.admits, policies) {
                continue;
            }
            // The namespace follows with this pod, whether it has to move or not.
            let workloads = followers.entry(pod.namespace().to_owned()).or_default();
            let now = unconnected::has_proxy(pod).then(|| unconnected::revision(pod));
            if now.is_some() && now.as_deref() == question.is_there {
                continue;
            }
            let workload = Workload::of(&pod.0, pod.namespace());
            let name = format!("{}/{}", workload.kind.to_lowercase(), workload.name);
            *workloads.entry(name).or_default() += 1;
        }
        followers
    }
}

/// Reads a webhook configuration, if it is an injector's.
pub fn injector(object: &Object) -> Option<Injector> {
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(object.0.clone()).ok()?;
    Injector::from_configuration(&configuration)
}

/// Whether the revision that the tag goes to would inject the pod.
fn is_admitted(pod: &Object, labels: &Labels, target: &str, policies: &Policies) -> bool {
    let annotations = strings(pod.0.pointer("/metadata/annotations"));
    let view = PodView {
        namespace: pod.namespace(),
        labels,
        annotations: &annotations,
        host_network: pod.0.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true),
    };
    policies.skip(Some(target), view).is_none()
}

/// What is told before a tag points at `target`: whose new pods will, or would, go there; of pods that nobody would inject
/// none is told to restart.
pub fn foretold(target: &str, followers: &Followers, restart: Restart, verb: &str) -> String {
    if followers.is_empty() {
        return "No namespace follows it.\n".to_owned();
    }
    let listed = listed(followers, restart);
    let running = match restart {
        Restart::Moves => "running ones when they restart",
        Restart::Harms => "running ones stay as they are",
    };
    format!("New pods of these namespaces {verb} go to {target:?}; {running}:\n{listed}")
}

/// What a restart does to pods that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It moves them.
    Moves,
    /// They would be refused, or start without a proxy.
    Harms,
}

/// What is told where pods may not be listed.
pub fn without_pods(followers: &Followers, error: &str) -> String {
    let names: Vec<&str> = followers.keys().map(String::as_str).collect();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    format!("Namespaces that follow it: {names}. Which workloads do is not known: {error}\n")
}

/// Kinds of workloads.
pub fn kinds(workloads: &BTreeMap<String, usize>) -> BTreeSet<&str> {
    let names = workloads.keys();
    names.filter_map(|name| Some(name.split_once('/')?.0)).collect()
}

fn listed(followers: &Followers, restart: Restart) -> String {
    let mut text = String::new();
    for (namespace, workloads) in followers {
        text += &match restart {
            Restart::Moves => format!("  {namespace}: {}\n", remedy(namespace, &kinds(workloads))),
            Restart::Harms => format!("  {namespace}\n"),
        };
        for (name, pods) in workloads {
            let plural = if *pods == 1 { "" } else { "s" };
            text += &format!("    {name} ({pods} pod{plural})\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::tag::fixture::configuration;
    use crate::policies::fixture::policies;
    use revision::name::{Revision, Tag};
    use revision::webhook::{Options, of_revision, of_tag};
    use serde_json::json;

    fn pod(namespace: &str, name: &str, labels: Value, now: Option<&str>) -> Object {
        let mut pod = json!({"metadata": {"namespace": namespace, "name": format!("{name}-5f6d-x"), "generateName": format!("{name}-5f6d-"),
            "labels": labels, "ownerReferences": [{"controller": true, "kind": "ReplicaSet", "apiVersion": "apps/v1", "name": format!("{name}-5f6d")}]}});
        pod["metadata"]["labels"]["pod-template-hash"] = "5f6d".into();
        if let Some(revision) = now {
            pod["metadata"]["annotations"] =
                json!({"sidecar.istio.io/status": json!({"revision": revision}).to_string()});
            pod["spec"]["containers"] = json!([{"name": "istio-proxy", "image": "proxy"}]);
        }
        Object(pod)
    }

    #[test]
    fn namespaces_and_workloads_that_follow_are_named() {
        let options = Options::default();
        let webhooks = [
            configuration(
                "old",
                "old",
                "",
                &of_revision(&Revision::parse("old").unwrap(), options),
            ),
            configuration("tag", "old", "prod", &of_tag(&Tag::parse("prod").unwrap(), options)),
        ];
        let namespace = |name: &str, labels: Value| Object(json!({"metadata": {"name": name, "labels": labels}}));
        let namespaces = [
            namespace("app", json!({"istio.io/rev": "prod"})),
            namespace("idle", json!({"istio.io/rev": "prod"})),
            namespace("plain", json!({})),
            namespace("settled", json!({})),
            namespace("staying", json!({"istio.io/rev": "old"})),
        ];
        let mut set = pod("app", "db", json!({}), Some("old"));
        set.0["metadata"]["ownerReferences"][0]["kind"] = "StatefulSet".into();
        set.0["metadata"]["ownerReferences"][0]["name"] = "db".into();
        let pods = [
            pod("app", "web", json!({}), Some("old")),
            pod("app", "web", json!({}), Some("old")),
            pod("app", "late", json!({}), None),
            pod("app", "moved", json!({}), Some("new")),
            set,
            pod("app", "refuses", json!({"sidecar.istio.io/inject": "false"}), None),
            pod("app", "never", json!({"batch": "yes"}), None),
            pod("plain", "chooses", json!({"istio.io/rev": "prod"}), Some("old")),
            pod("plain", "database", json!({}), None),
            pod("settled", "chooses", json!({"istio.io/rev": "prod"}), Some("new")),
            pod("staying", "other", json!({}), Some("old")),
        ];
        let never = "policy: enabled\nneverInjectSelector: [{matchLabels: {batch: 'yes'}}]";
        let (policies, _) = policies(&[("istio-sidecar-injector-new", never)]);
        let question = |is_there| Question {
            leader: Leader::Tag("prod"),
            admits: "new",
            is_there,
        };
        let followers = Decided::new(&webhooks, &namespaces, &pods).followers(question(Some("new")), &policies);
        insta::assert_snapshot!(foretold("new", &followers, Restart::Moves, "will"), @r#"
        New pods of these namespaces will go to "new"; running ones when they restart:
          app: kubectl rollout restart deployment,statefulset -n app
            deployment/late (1 pod)
            deployment/web (2 pods)
            statefulset/db (1 pod)
          idle: nothing has to restart
          plain: kubectl rollout restart deployment -n plain
            deployment/chooses (1 pod)
          settled: nothing has to restart
        "#);
        // Where nobody moves, who is there already follows as well.
        let all = Decided::new(&webhooks, &namespaces, &pods).followers(question(None), &policies);
        assert_eq!(all["app"].get("deployment/moved"), Some(&1));
        // A revision that is not ready: nobody is told to restart anything.
        let told = foretold("new", &followers, Restart::Harms, "will");
        assert!(
            !told.contains("kubectl") && told.contains("    deployment/web (2 pods)\n"),
            "{told}"
        );
    }

    #[test]
    fn a_tag_that_is_not_there_yet_tells_who_would_follow() {
        let request = install::tag::Request {
            tag: Tag::parse("default").unwrap(),
            revision: Revision::parse("old").unwrap(),
            namespace: "istio-system".to_owned(),
            overwrite: false,
            force: true,
            take_over: false,
            automatic: false,
            webhook_name: None,
            labels: BTreeMap::new(),
        };
        let revision = of_revision(&request.revision, Options::default());
        let before = install::tag::Inventory {
            webhooks: vec![configuration("old", "old", "", &revision)],
            namespaces: vec![Object(
                json!({"metadata": {"name": "app", "labels": {"istio-injection": "enabled"}}}),
            )],
            ..Default::default()
        };
        let built = install::tag::build(&request, &before, false).unwrap();
        let pods = [pod("app", "web", json!({}), None)];
        let check = |webhooks: &[Object], pods: &[Object]| {
            let question = Question {
                leader: Leader::Tag("default"),
                admits: "old",
                is_there: Some("old"),
            };
            Decided::new(webhooks, &before.namespaces, pods).followers(question, &Policies::default())
        };
        assert_eq!(check(&before.webhooks, &pods), Followers::new());
        let webhooks = webhooks(&before.webhooks, &built);
        insta::assert_snapshot!(foretold("old", &check(&webhooks, &pods), Restart::Moves, "would"), @r#"
        New pods of these namespaces would go to "old"; running ones when they restart:
          app: kubectl rollout restart deployment -n app
            deployment/web (1 pod)
        "#);
        insta::assert_snapshot!(without_pods(&check(&webhooks, &[]), "cannot list Pod: forbidden"), @"Namespaces that follow it: app. Which workloads do is not known: cannot list Pod: forbidden");
        // The same configuration once more is no second one.
        assert_eq!(super::webhooks(&webhooks, &built), webhooks);
    }
}
