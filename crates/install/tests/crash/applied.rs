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

/// Kills `wanted` after each of its writes over an unnamed revision that was applied and is active, each time from the
/// start; kills the run after that, too, before it lets one come to its end.
async fn check(wanted: &Wanted, unnamed: &Wanted, cluster: &Cluster) {
    let sound = async |when: &str| {
        let answering = injectors_of(cluster).await;
        assert!(!answering.is_empty(), "{when}: nobody injects");
        if is_active(&cluster.server).await == Some(false) {
            assert_eq!(answering, ["istio-revision-tag-default"], "{when}");
        }
    };
    apply(&cluster.server, unnamed).await;
    let (counter, server) = dying(cluster, usize::MAX);
    wanted.run(&server, false, &Silent).await.unwrap();
    let total = counter.writes();
    for writes in total.saturating_sub(LAST)..=total {
        apply(&cluster.server, unnamed).await;
        let (mortal, server) = dying(cluster, writes);
        let done = wanted.run(&server, false, &Silent).await;
        let when = format!("killed after {writes} writes");
        sound(&when).await;
        let is_killed = mortal.writes() > writes;
        if is_killed && writes.is_multiple_of(2) {
            let (_, server) = dying(cluster, writes / 2);
            wanted.run(&server, false, &Silent).await.ok();
            sound(&format!("{when}, and the next after half of them")).await;
        }
        if is_killed {
            wanted.run(&cluster.server, false, &Silent).await.unwrap();
        } else {
            done.unwrap();
        }
        assert_eq!(injectors_of(cluster).await, ["istio-revision-tag-default"], "{when}");
        assert_eq!(is_active(&cluster.server).await, Some(false), "{when}");
    }
}

/// How many of the last writes are looked at: those before make what no webhook leads to yet.
const LAST: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_over_what_was_applied_leaves_no_pod_without_a_proxy() {
    let injectors = Injectors::start().await;
    let unnamed = wanted(&injectors, "", "default");
    check(&unnamed, &unnamed, &Cluster::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_beside_what_was_applied_leaves_no_pod_without_a_proxy_or_with_two() {
    let injectors = Injectors::start().await;
    let unnamed = wanted(&injectors, "", "default");
    check(&wanted(&injectors, "new", "new"), &unnamed, &Cluster::start().await).await;
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
