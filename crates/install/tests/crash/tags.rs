//! Tag commands, killed after each write.

use std::time::Duration;

use install::api_server::{ApiServer, kind};
use install::inventory;
use install::object::Object;
use install::proof::{self, ProofError};
use install::retag::{self, ChangeError};
use install::tag::{self, Inventory, Request};
use revision::decision::decide;
use revision::name::{Revision, Tag};
use revision::selector::Labels;
use revision::webhook::{Options, of_revision};
use serde_json::{Value, json};

use super::cluster::{Cluster, NAMESPACES, labels};
use super::dying;
use super::injector::Injectors;

const SYSTEM: &str = "istio-system";

/// A cluster with revisions whose injectors answer, and namespaces that follow them.
async fn cluster(injectors: &Injectors, revisions: &[&str]) -> Cluster {
    let cluster = Cluster::start().await;
    let make = async |object: Value| {
        cluster
            .server
            .apply(&Object(object), "istio-operator", false)
            .await
            .unwrap();
    };
    make(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})).await;
    for (index, label) in NAMESPACES.into_iter().enumerate() {
        let metadata = json!({"name": format!("app-{index}"), "labels": labels(label)});
        make(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await;
    }
    for name in revisions {
        let revision = Revision::parse(name).unwrap();
        let webhooks: Vec<Value> = of_revision(&revision, Options::default())
            .iter()
            .map(|webhook| {
                json!({
                    "name": webhook.name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                    "clientConfig": {"url": injectors.url(name), "caBundle": injectors.authority},
                    "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
                    "namespaceSelector": webhook.namespaces.to_label_selector(),
                    "objectSelector": webhook.objects.to_label_selector(),
                })
            })
            .collect();
        let labels = json!({"app": "istiod", "istio.io/rev": revision.label()});
        make(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": revision.injector_webhook(SYSTEM), "labels": labels}, "webhooks": webhooks,
        }))
        .await;
        make(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": revision.istiod(), "namespace": SYSTEM, "labels": labels},
            "spec": {"ports": [{"name": "https-webhook", "port": 443}]},
        }))
        .await;
    }
    cluster
}

async fn change(server: &ApiServer, request: &Request, before: &Inventory) -> Result<(), ChangeError> {
    let built = tag::build(request, before, false)?;
    retag::set(server, request, &built, before).await
}

async fn set(server: &ApiServer, tag: &str, revision: &str) -> Result<(), ChangeError> {
    let before = inventory::read(server, SYSTEM).await?;
    change(server, &request(tag, revision, false), &before).await
}

async fn move_to(server: &ApiServer, tag: &str, revision: &str) -> Result<(), ChangeError> {
    let before = inventory::read(server, SYSTEM).await?;
    change(server, &request(tag, revision, true), &before).await
}

async fn undo(server: &ApiServer, tag: &str) -> Result<(), ChangeError> {
    let before = inventory::read(server, SYSTEM).await?;
    let previous = before.previous(tag).unwrap().to_owned();
    change(server, &request(tag, &previous, true), &before).await
}

async fn remove(server: &ApiServer, tag: &str) -> Result<(), ChangeError> {
    let before = inventory::read(server, SYSTEM).await?;
    retag::remove(server, tag, &before).await
}

fn request(tag: &str, revision: &str, overwrite: bool) -> Request {
    Request {
        tag: Tag::parse(tag).unwrap(),
        revision: Revision::parse(revision).unwrap(),
        namespace: SYSTEM.to_owned(),
        overwrite,
        force: false,
        take_over: false,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    }
}

/// What must hold at every moment: no pod has two webhooks, no webhook fails closed without somebody behind it, and the
/// API server itself refuses no pod and has every one injected whose namespace is served.
async fn assert_sound(cluster: &Cluster, when: &str, served: &[&str]) {
    cluster.assert_sound(when, served).await;
    for (index, namespace) in NAMESPACES.into_iter().enumerate() {
        for pod in ["", "sidecar.istio.io/inject=true", "istio.io/rev=prod"] {
            let metadata = json!({"name": "pod", "namespace": format!("app-{index}"), "labels": labels(pod)});
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": {"automountServiceAccountToken": false, "containers": [{"name": "app", "image": "app"}]}});
            let tried = cluster.server.try_create(&Object(object)).await;
            let tried = tried.unwrap_or_else(|error| panic!("{when}: pod {pod:?} in namespace {namespace:?}: {error}"));
            if served.contains(&namespace) {
                let injected = proof::injected_by(&tried).is_some();
                assert!(injected, "{when}: pod {pod:?} in namespace {namespace:?} has no proxy");
            }
        }
    }
}

/// Objects of tags, and what else a tag command writes, without what the server adds, and without what a proof leaves
/// behind that was cut off: that selects nothing, and a later proof removes it.
async fn state(cluster: &Cluster) -> Vec<Value> {
    cluster.settled().await;
    let mut state = Vec::new();
    for (group, name) in [
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("", "Service"),
    ] {
        for object in cluster.server.list(&kind(group, "v1", name), "").await.unwrap() {
            if object.name().starts_with("trysail-probe-") {
                continue;
            }
            let metadata = &object.0["metadata"];
            state.push(json!({
                "id": object.id().path(), "labels": metadata["labels"], "annotations": metadata["annotations"],
                "webhooks": object.0["webhooks"], "selector": object.0["spec"]["selector"],
            }));
        }
    }
    state
}

/// Kills `operation` after each of its writes, looks, and runs it again. `before` makes what it begins with.
async fn check(
    cluster: &Cluster,
    what: &str,
    before: impl AsyncFn(&ApiServer),
    operation: impl AsyncFn(&ApiServer) -> Result<(), ChangeError>,
    served: &[&str],
) {
    before(&cluster.server).await;
    let (counter, server) = dying(cluster, usize::MAX);
    operation(&server).await.unwrap();
    assert_sound(cluster, what, served).await;
    let (expected, total) = (state(cluster).await, counter.writes());
    for writes in 0..total {
        before(&cluster.server).await;
        let (_, server) = dying(cluster, writes);
        let when = format!("{what}, killed after {writes} of {total} writes");
        assert!(operation(&server).await.is_err(), "{when}");
        assert_sound(cluster, &when, served).await;
        operation(&cluster.server)
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(state(cluster).await, expected, "{when}");
    }
}

/// Removes tags that are there, so that a case begins where it says.
async fn clear(server: &ApiServer) {
    for tag in ["prod", "default"] {
        remove(server, tag).await.ok();
    }
}

const REVISIONS: [&str; 2] = ["istio.io/rev=old", "istio.io/rev=new"];
const TAGGED: [&str; 3] = ["istio.io/rev=old", "istio.io/rev=new", "istio.io/rev=prod"];
const DEFAULT: [&str; 4] = [
    "istio.io/rev=old",
    "istio.io/rev=new",
    "istio.io/rev=default",
    "istio-injection=enabled",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_tag_command_is_finished_by_the_next() {
    let injectors = Injectors::start().await;
    let cluster = cluster(&injectors, &["old", "new"]).await;
    let at_old = async |server: &ApiServer, tag: &str| {
        clear(server).await;
        set(server, tag, "old").await.unwrap();
    };
    check(
        &cluster,
        "a new tag",
        clear,
        async |s| set(s, "prod", "old").await,
        &REVISIONS,
    )
    .await;
    check(
        &cluster,
        "a move",
        async |s| at_old(s, "prod").await,
        async |s| move_to(s, "prod", "new").await,
        &TAGGED,
    )
    .await;
    check(
        &cluster,
        "an undo",
        async |s| {
            at_old(s, "prod").await;
            move_to(s, "prod", "new").await.unwrap();
        },
        // What was undone already is not undone again: only the last write moves the tag.
        async |s| undo(s, "prod").await,
        &TAGGED,
    )
    .await;
    check(
        &cluster,
        "a removal",
        async |s| at_old(s, "prod").await,
        async |s| remove(s, "prod").await,
        &REVISIONS,
    )
    .await;
    check(
        &cluster,
        "the first default",
        clear,
        async |s| set(s, "default", "old").await,
        &REVISIONS,
    )
    .await;
    check(
        &cluster,
        "a move of the default",
        async |s| at_old(s, "default").await,
        async |s| set(s, "default", "new").await,
        &DEFAULT,
    )
    .await;
    check(
        &cluster,
        "removal of the default",
        async |s| at_old(s, "default").await,
        async |s| remove(s, "default").await,
        &REVISIONS,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_somebody_made_or_moved_meanwhile_is_not_overwritten() {
    let injectors = Injectors::start().await;
    let cluster = cluster(&injectors, &["old", "new"]).await;
    for tag in ["prod", "default"] {
        let before_it_is_made = inventory::read(&cluster.server, SYSTEM).await.unwrap();
        set(&cluster.server, tag, "old").await.unwrap();
        let before_it_moves = inventory::read(&cluster.server, SYSTEM).await.unwrap();
        move_to(&cluster.server, tag, "new").await.unwrap();
        let expected = state(&cluster).await;
        for before in [before_it_is_made, before_it_moves] {
            let error = change(&cluster.server, &request(tag, "old", true), &before)
                .await
                .unwrap_err();
            assert!(
                matches!(&error, ChangeError::Request(error) if error.is_conflict()),
                "{error}"
            );
            assert_eq!(state(&cluster).await, expected, "{tag}");
        }
        // What was made by one write is moved by another, and back.
        undo(&cluster.server, tag).await.unwrap();
        move_to(&cluster.server, tag, "new").await.unwrap();
        assert_eq!(state(&cluster).await, expected, "{tag}");
    }
}

/// Beside an unnamed revision that is active (Helm makes it so), two objects have to change: a pod may be sent to both,
/// but is never left without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_default_tag_leaves_no_pod_without_a_proxy() {
    let injectors = Injectors::start().await;
    let cluster = cluster(&injectors, &["old", "default"]).await;
    let enabled = Labels::from([("istio-injection".to_owned(), "enabled".to_owned())]);
    for writes in 0.. {
        let (_, server) = dying(&cluster, writes);
        let done = set(&server, "default", "old").await.is_ok();
        let decision = decide(&enabled, &Labels::new(), &cluster.injectors().await);
        let revisions: Vec<&str> = decision.matches.iter().map(|found| found.revision.as_str()).collect();
        if done {
            assert_eq!(revisions, ["old"]);
            return;
        }
        assert!(!revisions.is_empty(), "killed after {writes} writes");
    }
}

/// One proof waits for a proxy that never comes; another of the same tag is made meanwhile, and does not take its
/// configuration away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_prove_the_same_tag_at_once() {
    let injectors = Injectors::start().await;
    let cluster = cluster(&injectors, &["old", "new"]).await;
    let before = inventory::read(&cluster.server, SYSTEM).await.unwrap();
    let planned = tag::build(&request("prod", "new", true), &before, false).unwrap();
    let prove = async |expected: &str| proof::prove(&cluster.server, &planned.apply[0], expected, SYSTEM, &[]).await;
    let probes = async || {
        let configurations = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
        let all = cluster.server.list(&configurations, "").await.unwrap();
        all.iter()
            .filter(|found| found.name().starts_with("trysail-probe-"))
            .count()
    };
    let other = async {
        while probes().await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        prove("new").await
    };
    let (waiting, other) = futures::join!(prove("another"), other);
    other.unwrap();
    let answer = waiting.unwrap_err().to_string();
    assert!(answer.contains("got a proxy of revision \"new\""), "{answer}");
    assert_eq!(probes().await, 0, "nothing stays behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_moves_only_to_a_revision_that_answers() {
    let injectors = Injectors::start().await;
    let cluster = cluster(&injectors, &["old", "broken", "dead", "other"]).await;
    // Nobody listens where `dead` leads, and another revision where `other` does.
    for (name, url) in [
        ("dead", "https://127.0.0.1:1/inject".to_owned()),
        ("other", injectors.url("old")),
    ] {
        let mut id = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
        id.name = format!("istio-sidecar-injector-{name}");
        let mut webhook = cluster.server.get(&id).await.unwrap().unwrap();
        for webhook in webhook.0["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["url"] = url.clone().into();
        }
        cluster.server.replace(&webhook, "istio-operator", false).await.unwrap();
    }
    set(&cluster.server, "prod", "old").await.unwrap();
    let before = state(&cluster).await;
    let attempts = [("a", "broken"), ("b", "dead"), ("c", "other")];
    let attempts = attempts.map(|(tag, revision)| set(&cluster.server, tag, revision));
    let outcomes = futures::future::join_all(attempts).await;
    let expected = [
        "the answer: admission webhook \"probe.trysail.dev\" denied the request: no template",
        "failed calling webhook \"probe.trysail.dev\"",
        "a proxy of revision \"old\"",
    ];
    for (outcome, expected) in outcomes.into_iter().zip(expected) {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, ChangeError::Proof(ProofError::NoAnswer { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(state(&cluster).await, before, "nothing changed");
    // Whoever insists gets it.
    let inventory = inventory::read(&cluster.server, SYSTEM).await.unwrap();
    let forced = Request {
        force: true,
        ..request("prod", "broken", true)
    };
    assert!(change(&cluster.server, &forced, &inventory).await.is_ok());
}
