//! Killed between any two writes, a second run ends where an undisturbed one would (operators.md §4.3). At no moment does
//! a webhook fail closed without a control plane behind it, are there two webhooks for one pod, or none for one that was
//! served. (Two for a moment there are only where the first tag `default` meets an unnamed injector that is active:
//! `crash/applied.rs`.)
#![allow(clippy::unwrap_used)]

#[path = "crash/applied.rs"]
mod applied;
#[path = "crash/cluster.rs"]
mod cluster;
#[path = "crash/injector.rs"]
mod injector;
#[path = "crash/mortal.rs"]
mod mortal;
#[path = "crash/table.rs"]
mod table;
#[path = "crash/tags.rs"]
mod tags;
#[path = "crash/uninstallations.rs"]
mod uninstallations;

use std::sync::Mutex;
use std::time::Duration;

use cluster::Cluster;
use install::api_server::ApiServer;
use install::apply::{InstallError, Installation};
use install::assets::Assets;
use install::component::{Component, Rendering, render};
use install::input::{Input, Operator, resolve};
use install::inventory;
use install::progress::{Event, Progress, Silent};
use install::uninstall::{self, Removed, Scope};
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
/// What an installation is to bring about; rendered once, installed many times.
struct Wanted {
    operator: Operator,
    components: Vec<Component>,
}

impl Wanted {
    fn new(settings: &[&str]) -> Self {
        let assets = Assets::embedded();
        // CRDs are many writes that are all alike.
        let base = ["values.base.enableIstioConfigCRDs=false"];
        let settings = settings.iter().chain(&base).map(|s| (*s).to_owned()).collect();
        let input = Input {
            settings,
            ..Input::default()
        };
        let operator = resolve(&input, &assets).unwrap();
        let components = render(&operator, &assets, &Rendering::default()).unwrap();
        Self { operator, components }
    }

    async fn install(&self, server: &ApiServer) -> Result<(), InstallError> {
        self.run(server, false, &Silent).await
    }

    async fn run(&self, server: &ApiServer, dry_run: bool, progress: &dyn Progress) -> Result<(), InstallError> {
        let installation = Installation {
            dry_run,
            ..self.installation()
        };
        installation.run(server, progress).await
    }

    /// Only what is rendered: no tag is made.
    async fn part(&self, server: &ApiServer) -> Result<(), InstallError> {
        let installation = Installation {
            whole: false,
            ..self.installation()
        };
        installation.run(server, &Silent).await
    }

    fn installation(&self) -> Installation<'_> {
        Installation {
            operator: &self.operator,
            components: self.components.clone(),
            version: "1.0.0",
            timeout: Duration::from_secs(300),
            dry_run: false,
            force: false,
            whole: true,
        }
    }
}

async fn remove(server: &ApiServer, revision: &str) -> bool {
    let Ok(owned) = uninstall::owned(server, false).await else {
        return false;
    };
    let Ok(inventory) = inventory::read(server, "istio-system").await else {
        return false;
    };
    let plan = uninstall::plan(
        &Scope::Revision(revision.to_owned()),
        "istio-system",
        &owned,
        &inventory,
    );
    let mut complete = true;
    let mut report = |removed| complete &= !matches!(removed, Removed::Failed(..) | Removed::Stopped(..));
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

/// How many clusters share the writes of a command, and wait at the same time.
const SHARDS: usize = 2;

/// Kills `command` after each of its writes, looks, and has it finished by another run. `before` makes what it begins
/// with, `undisturbed` looks at the names of what is there in the end, `served` are namespaces that always are.
async fn check(
    what: &str,
    served: &[&str],
    before: impl AsyncFn(&ApiServer),
    command: impl AsyncFn(&ApiServer) -> bool,
    undisturbed: impl Fn(&[String]),
) {
    let shard = async |first: usize| {
        let cluster = Cluster::start().await;
        before(&cluster.server).await;
        assert!(command(&cluster.server).await, "{what}");
        let expected = cluster.state().await;
        undisturbed(&expected.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        for writes in (first..).step_by(SHARDS) {
            before(&cluster.server).await;
            let mortal = Mortal::new(writes);
            let complete = command(&ApiServer::new(mortal.client(&cluster.config))).await;
            let killed = mortal.writes() > writes;
            let when = format!("{what}, killed after {writes} writes");
            assert_eq!(complete, !killed, "{when}");
            cluster.assert_sound(&when, served).await;
            if killed {
                assert!(command(&cluster.server).await, "{when}");
            }
            assert_eq!(cluster.state().await, expected, "{when}");
            if !killed {
                return writes;
            }
        }
        unreachable!("a command has an end");
    };
    let ends = futures::future::join_all((0..SHARDS).map(shard)).await;
    assert!(ends.iter().all(|writes| *writes > SHARDS), "{what}: {ends:?}");
}

/// Two revisions, the newer one as it is installed.
async fn both(server: &ApiServer, old: &Wanted, new: &Wanted) {
    let there = inventory::read(server, "istio-system").await.unwrap();
    if there.webhooks.is_empty() {
        old.install(server).await.unwrap();
    }
    new.install(server).await.unwrap();
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|found| found == name)
}

/// An older revision is there all the time; the one that is installed takes its gateway over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_installation_is_finished_by_the_next() {
    let (old, new) = (Wanted::new(&["revision=old"]), Wanted::new(&["revision=new"]));
    check(
        "an installation",
        &OLD,
        async |server| {
            assert!(remove(server, "new").await);
            old.install(server).await.unwrap();
        },
        async |server| new.install(server).await.is_ok(),
        |names| {
            assert!(has(names, "Deployment/istio-system/istiod-new"), "{names:?}");
            let injector = "MutatingWebhookConfiguration/istio-sidecar-injector-new";
            assert!(has(names, injector), "{names:?}");
        },
    )
    .await;
}

/// A new version of a revision, in place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_upgrade_is_finished_by_the_next() {
    let (old, new) = (Wanted::new(&["revision=old"]), Wanted::new(&["revision=new"]));
    let upgraded = Wanted::new(&["revision=new", "tag=1.0.1"]);
    check(
        "an upgrade",
        &BOTH,
        async |server| {
            both(server, &old, &new).await;
        },
        async |server| upgraded.install(server).await.is_ok(),
        |names| assert!(has(names, "Deployment/istio-system/istiod-new"), "{names:?}"),
    )
    .await;
}

/// Nothing is left to do: no write changes anything, and nothing goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_installation_changes_nothing() {
    let cluster = Cluster::start().await;
    let new = Wanted::new(&["revision=new"]);
    new.install(&cluster.server).await.unwrap();
    let expected = cluster.state().await;
    new.install(&cluster.server).await.unwrap();
    assert_eq!(cluster.state().await, expected);
}

/// What a dry run says would be removed.
#[derive(Default)]
struct Removals(Mutex<Vec<String>>);

impl Progress for Removals {
    fn event(&self, event: Event) {
        if let Event::WouldRemove(id) = event {
            self.0.lock().unwrap().push(id.path());
        }
    }
}

/// A smaller profile over a larger one: the gateway goes, and a dry run says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_names_what_would_be_removed() {
    let cluster = Cluster::start().await;
    Wanted::new(&["revision=new"]).install(&cluster.server).await.unwrap();
    let before = cluster.state().await;
    let smaller = Wanted::new(&["revision=new", "profile=minimal"]);
    let told = Removals::default();
    smaller.run(&cluster.server, true, &told).await.unwrap();
    assert_eq!(cluster.state().await, before, "nothing was changed");
    let told = told.0.into_inner().unwrap();
    assert!(has(&told, "Deployment/istio-system/istio-ingressgateway"), "{told:?}");
    assert!(
        told.iter().all(|name| name.contains("istio-ingressgateway")),
        "{told:?}"
    );
    smaller.install(&cluster.server).await.unwrap();
    let after: Vec<String> = cluster.state().await.into_iter().map(|(id, _)| id).collect();
    assert!(told.iter().all(|name| !has(&after, name)), "{after:?}");
}

/// A smaller profile over a larger one, where another revision has the gateway: that has to be able to have it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_another_revision_has_is_not_removed() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    both(server, &Wanted::new(&["revision=old"]), &Wanted::new(&["revision=new"])).await;
    let gateway = |state: &[String]| {
        state
            .iter()
            .filter(|id| id.contains("istio-ingressgateway"))
            .cloned()
            .collect()
    };
    let names = async || cluster.state().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let before: Vec<String> = gateway(&names().await);
    assert!(has(&before, "Service/istio-system/istio-ingressgateway"), "{before:?}");
    let smaller = Wanted::new(&["revision=new", "profile=minimal"]);
    let told = Removals::default();
    smaller.run(server, true, &told).await.unwrap();
    assert_eq!(told.0.into_inner().unwrap(), [""; 0]);
    smaller.install(server).await.unwrap();
    let after: Vec<String> = gateway(&names().await);
    assert_eq!(after, before);
}

/// Whoever is refused before the first write changed nothing, and is not told otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_installation_writes_nothing() {
    let cluster = Cluster::start().await;
    Wanted::new(&["revision=old"]).install(&cluster.server).await.unwrap();
    let other = Wanted::new(&[
        "revision=new",
        "values.global.istioNamespace=elsewhere",
        "values.sidecarInjectorWebhook.revisionLabelPrecedence=pod",
    ]);
    let mortal = Mortal::new(usize::MAX);
    let server = ApiServer::new(mortal.client(&cluster.config));
    let error = other.install(&server).await.unwrap_err();
    assert!(
        matches!(error, InstallError::Precedence(_)) && error.wrote_nothing(),
        "{error}"
    );
    assert_eq!(mortal.writes(), 0);
}
