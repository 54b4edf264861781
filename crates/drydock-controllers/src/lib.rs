//! drydock's controllers: ordinary clients of the Kubernetes API, which work against any API server.
//!
//! Each controller has a pure decision (typed objects in, actions out) and a thin shell that watches, calls it and
//! carries out the actions. Names, labels and events are those of Kubernetes' own controllers.
//!
//! [`run`] starts them all on one client.

mod error;
mod hash;
mod history;
mod meta;
mod percent;
mod pods;
mod selector;

mod shell;
mod world;

mod autoscaler;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod garbage;
mod job;
mod leadership;
mod load_balancer;
mod namespace;
mod namespace_defaults;
mod node_lifecycle;
mod quota;
mod replica_set;
mod root_ca;
mod scheduler;
mod stateful_set;

pub use error::Error;
pub use leadership::Turn;
pub use shell::Key;

use kube::Client;
use tokio::sync::watch;

/// What the controllers are told besides how to reach the API server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// PEM text of the API server's certificate authority, which every namespace gets as the ConfigMap
    /// `kube-root-ca.crt`. `None` where another controller writes it.
    pub root_ca: Option<String>,
    /// Whether others may be doing the same work.
    pub turn: Turn,
}

/// Runs all controllers until the future is dropped, or until others have taken over their work.
pub async fn run(client: Client, options: Options) {
    let (events, writing) = shell::Recorder::new(client.clone());
    let world = world::World::new(&client, events);
    let (act, may_act) = watch::channel(false);
    let (schedule, may_schedule) = watch::channel(false);
    let mut runner = shell::Runner::behind(may_act);
    let mut scheduling = shell::Runner::behind(may_schedule);
    runner.spawn(writing);
    // Controllers subscribe to the caches before the watches fill them.
    namespace_defaults::start(&world, &mut runner, options.root_ca);
    scheduler::start(&world, &mut scheduling);
    deployment::start(&world, &mut runner);
    replica_set::start(&world, &mut runner);
    stateful_set::start(&world, &mut runner);
    daemon_set::start(&world, &mut runner);
    job::start(&world, &mut runner);
    cron_job::start(&world, &mut runner);
    quota::start(&world, &mut runner);
    endpoints::start(&world, &mut runner);
    load_balancer::start(&world, &mut runner);
    disruption::start(&world, &mut runner);
    autoscaler::start(&world, &mut runner);
    node_lifecycle::start(&world, &mut runner);
    namespace::start(&world, &mut runner);
    garbage::start(&client, &mut runner);
    world.watch(&mut runner);
    tokio::select! {
        () = runner.run() => {}
        () = scheduling.run() => {}
        () = leadership::hold(client.clone(), leadership::CONTROLLERS, options.turn.clone(), act) => {}
        () = leadership::hold(client, leadership::SCHEDULER, options.turn, schedule) => {}
    }
}
