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
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod garbage;
mod job;
mod load_balancer;
mod namespace;
mod namespace_defaults;
mod node_lifecycle;
mod replica_set;
mod root_ca;
mod scheduler;
mod stateful_set;

pub use error::Error;
pub use shell::Key;

use kube::Client;

/// What the controllers are told besides how to reach the API server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// PEM text of the API server's certificate authority, which every namespace gets as the ConfigMap
    /// `kube-root-ca.crt`. `None` where another controller writes it.
    pub root_ca: Option<String>,
}

/// Runs all controllers until the future is dropped.
pub async fn run(client: Client, options: Options) {
    let (events, writing) = shell::Recorder::new(client.clone());
    let world = world::World::new(&client, events);
    let mut runner = shell::Runner::default();
    runner.spawn(writing);
    // Controllers subscribe to the caches before the watches fill them.
    namespace_defaults::start(&world, &mut runner, options.root_ca);
    scheduler::start(&world, &mut runner);
    deployment::start(&world, &mut runner);
    replica_set::start(&world, &mut runner);
    stateful_set::start(&world, &mut runner);
    daemon_set::start(&world, &mut runner);
    job::start(&world, &mut runner);
    endpoints::start(&world, &mut runner);
    load_balancer::start(&world, &mut runner);
    disruption::start(&world, &mut runner);
    autoscaler::start(&world, &mut runner);
    node_lifecycle::start(&world, &mut runner);
    namespace::start(&world, &mut runner);
    garbage::start(&client, &mut runner);
    world.watch(&mut runner);
    runner.run().await;
}
