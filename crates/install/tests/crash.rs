//! Killed between any two writes, a second run ends where an undisturbed one would (operators.md §4.3). At no moment does
//! a webhook fail closed without a control plane behind it, are there two webhooks for one pod, or none for one that was
//! served.
#![allow(clippy::unwrap_used)]

#[path = "crash/cluster.rs"]
mod cluster;
#[path = "crash/injector.rs"]
mod injector;
#[path = "crash/mortal.rs"]
mod mortal;
#[path = "crash/tags.rs"]
mod tags;

use std::time::Duration;

use cluster::Cluster;
use install::api_server::ApiServer;
use install::apply::{InstallError, Installation};
use install::assets::Assets;
use install::component::{Rendering, render};
use install::input::{Input, resolve};
use install::progress::Silent;
use install::uninstall::{self, Scope};
use mortal::Mortal;

/// Namespaces that the older revision serves all the time.
const OLD: [&str; 3] = ["istio.io/rev=old", "istio.io/rev=default", "istio-injection=enabled"];
/// Namespaces that are served while both are there.
const BOTH: [&str; 4] = [
    "istio.io/rev=old",
    "istio.io/rev=new",
    "istio.io/rev=default",
    "istio-injection=enabled",
];
/// Never reached: more writes than an installation has.
const ALL: usize = usize::MAX;

async fn run(server: &ApiServer, settings: &[&str]) -> Result<(), InstallError> {
    let assets = Assets::embedded();
    // CRDs are many writes that are all alike.
    let base = ["values.base.enableIstioConfigCRDs=false"];
    let settings = settings.iter().chain(&base).map(|s| (*s).to_owned()).collect();
    let operator = resolve(
        &Input {
            settings,
            ..Input::default()
        },
        &assets,
    )
    .unwrap();
    let components = render(&operator, &assets, &Rendering::default()).unwrap();
    let timeout = Duration::from_secs(30);
    let installation = Installation {
        operator: &operator,
        components,
        version: "1.0.0",
        timeout,
        dry_run: false,
        force: false,
        whole: true,
    };
    installation.run(server, &Silent).await
}

async fn remove(server: &ApiServer, revision: &str) -> bool {
    let Ok(owned) = uninstall::owned(server, false).await else {
        return false;
    };
    let Ok(inventory) = install::inventory::read(server, "istio-system").await else {
        return false;
    };
    let plan = uninstall::plan(
        &Scope::Revision(revision.to_owned()),
        "istio-system",
        &owned,
        &inventory,
    );
    let mut complete = true;
    let mut report = |removed| complete &= !matches!(removed, uninstall::Removed::Failed(..));
    uninstall::execute(server, &plan, "istio-system", &mut report)
        .await
        .is_ok()
        && complete
}

fn dying(cluster: &Cluster, writes: usize) -> (Mortal, ApiServer) {
    let mortal = Mortal::new(writes);
    let server = ApiServer::new(mortal.client(&cluster.config));
    (mortal, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_command_is_finished_by_the_next() {
    let cluster = Cluster::start().await;
    // An older revision is there all the time; the one that is installed and removed takes its gateway over.
    run(&cluster.server, &["revision=old"]).await.unwrap();
    let (counter, server) = dying(&cluster, ALL);
    run(&server, &["revision=new"]).await.unwrap();
    let expected = cluster.state().await;
    let names: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
    assert!(
        names.contains(&"Deployment/istio-system/istiod-new")
            && names.contains(&"MutatingWebhookConfiguration/istio-sidecar-injector-new"),
        "{names:?}"
    );
    let installs = counter.writes();

    // Nothing is left to do: no write changes anything, and nothing goes.
    run(&cluster.server, &["revision=new"]).await.unwrap();
    assert_eq!(cluster.state().await, expected);

    for writes in (0..installs).step_by(5) {
        assert!(remove(&cluster.server, "new").await);
        let (_, server) = dying(&cluster, writes);
        assert!(run(&server, &["revision=new"]).await.is_err(), "{writes}");
        cluster
            .assert_sound(&format!("killed after write {writes} of an installation"), &OLD)
            .await;
        run(&cluster.server, &["revision=new"]).await.unwrap();
        assert_eq!(
            cluster.state().await,
            expected,
            "killed after {writes} of {installs} writes"
        );
    }

    // An upgrade of the same revision, in place.
    let upgrade = ["revision=new", "tag=1.0.1"];
    let (counter, server) = dying(&cluster, ALL);
    run(&server, &upgrade).await.unwrap();
    let upgraded = cluster.state().await;
    assert_ne!(upgraded, expected);
    for writes in (2..counter.writes()).step_by(5) {
        run(&cluster.server, &["revision=new"]).await.unwrap();
        let (_, server) = dying(&cluster, writes);
        assert!(run(&server, &upgrade).await.is_err(), "{writes}");
        cluster
            .assert_sound(&format!("killed after write {writes} of an upgrade"), &BOTH)
            .await;
        run(&cluster.server, &upgrade).await.unwrap();
        assert_eq!(cluster.state().await, upgraded, "killed after {writes} writes");
    }

    run(&cluster.server, &["revision=old"]).await.unwrap();
    let (counter, server) = dying(&cluster, ALL);
    assert!(remove(&server, "new").await);
    let without = cluster.state().await;
    assert!(
        without.iter().all(|(id, _)| !id.contains("-new")),
        "{:?}",
        without.iter().map(|(id, _)| id).collect::<Vec<_>>()
    );
    assert!(
        without
            .iter()
            .any(|(id, _)| id == "Deployment/istio-system/istio-ingressgateway")
    );
    for writes in (0..counter.writes()).step_by(5) {
        run(&cluster.server, &["revision=new"]).await.unwrap();
        run(&cluster.server, &["revision=old"]).await.unwrap();
        let (_, server) = dying(&cluster, writes);
        assert!(!remove(&server, "new").await, "{writes}");
        cluster
            .assert_sound(&format!("killed after write {writes} of an uninstallation"), &OLD)
            .await;
        assert!(remove(&cluster.server, "new").await);
        assert_eq!(cluster.state().await, without, "killed after {writes} writes");
    }
}
