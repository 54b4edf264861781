//! The tag `default` comes to a cluster whose unnamed revision was applied (by Helm, or from a manifest), so that its own
//! injector is active: no pod is left without a proxy, and nothing is switched off for somebody who does not answer.

use install::api_server::{ApiServer, kind};
use install::apply::InstallError;
use install::object::Object;
use install::progress::Silent;
use install::retag;
use install::{inventory, tag};
use revision::decision::decide;
use revision::selector::Labels;

use super::cluster::Cluster;
use super::injector::Injectors;
use super::{Wanted, dying};

/// An installation whose injector answers where the stand-in does.
fn wanted(injectors: &Injectors, revision: &str, name: &str) -> Wanted {
    let url = format!("values.istiodRemote.injectionURL={}", injectors.url(name));
    let bundle = format!("values.istiodRemote.injectionCABundle={}", injectors.authority);
    Wanted::new(&["profile=minimal", &format!("revision={revision}"), &url, &bundle])
}

/// Applies the unnamed revision as somebody does who makes no tags.
async fn apply(server: &ApiServer, unnamed: &Wanted) {
    let before = inventory::read(server, "istio-system").await.unwrap();
    retag::remove(server, "default", &before).await.ok();
    unnamed.part(server).await.unwrap();
    assert_eq!(is_active(server).await, Some(true));
}

async fn is_active(server: &ApiServer) -> Option<bool> {
    let mut id = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
    id.name = "istio-sidecar-injector".to_owned();
    let live: Option<Object> = server.get(&id).await.unwrap();
    live.map(|live| !tag::is_deactivated(&live))
}

async fn injectors_of(cluster: &Cluster) -> Vec<String> {
    let enabled = Labels::from([("istio-injection".to_owned(), "enabled".to_owned())]);
    let decision = decide(&enabled, &Labels::new(), &cluster.injectors().await);
    decision.matches.into_iter().map(|found| found.config).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_over_what_was_applied_leaves_no_pod_without_a_proxy() {
    let injectors = Injectors::start().await;
    let cluster = Cluster::start().await;
    let unnamed = wanted(&injectors, "", "default");
    apply(&cluster.server, &unnamed).await;
    for writes in 0.. {
        let (mortal, server) = dying(&cluster, writes);
        let outcome = unnamed.run(&server, false, &Silent).await;
        if mortal.writes() <= writes {
            outcome.as_ref().unwrap();
        }
        let done = outcome.is_ok();
        let answering = injectors_of(&cluster).await;
        assert!(!answering.is_empty(), "killed after {writes} writes");
        if done {
            assert_eq!(answering, ["istio-revision-tag-default"]);
            assert_eq!(is_active(&cluster.server).await, Some(false));
            return;
        }
        if is_active(&cluster.server).await == Some(false) {
            assert_eq!(
                answering,
                ["istio-revision-tag-default"],
                "killed after {writes} writes"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_default_goes_to_nobody_who_does_not_answer() {
    let injectors = Injectors::start().await;
    let cluster = Cluster::start().await;
    apply(&cluster.server, &wanted(&injectors, "", "default")).await;
    let broken = wanted(&injectors, "broken", "broken");
    let error = broken.run(&cluster.server, false, &Silent).await.unwrap_err();
    assert!(matches!(error, InstallError::DefaultStays(_)), "{error}");
    assert_eq!(injectors_of(&cluster).await, ["istio-sidecar-injector"]);
}
