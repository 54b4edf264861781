//! One module per command.

pub mod analyze;
pub mod authz;
pub mod bug_report;
pub mod check_inject;
pub mod completion;
pub mod describe;
pub mod explain;
pub mod gateway;
pub mod injection;
pub mod injector;
pub mod install;
pub mod kube_inject;
pub mod manifest;
pub mod precheck;
pub mod profile;
pub mod proxy_config;
pub mod proxy_status;
pub mod remote_clusters;
pub mod revisions;
pub mod tag;
pub mod uninstall;
pub mod version;
pub mod waypoint;
pub mod workload;

use crate::cli::{Cli, Command, Experimental};
use crate::failure::Failure;

/// Version of this program, which is also the tag of the images that it installs: `TRYSAIL_VERSION`, else that of the
/// build.
pub fn program_version() -> String {
    given("TRYSAIL_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

/// Registry of the images that this program installs where nobody names another: `TRYSAIL_HUB`, else ours.
pub fn program_hub() -> String {
    given("TRYSAIL_HUB").unwrap_or_else(|| "docker.io/trysail".to_owned())
}

fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Install(flags) | Command::Upgrade(flags) => install::run(global, flags).await,
        Command::Uninstall(flags) => uninstall::run(global, flags).await,
        Command::Manifest(command) => manifest::run(global, command).await,
        Command::Profile(command) => profile::run(command),
        Command::ProxyStatus(flags) => proxy_status::run(global, flags).await,
        Command::ProxyConfig(command) => proxy_config::run(global, command).await,
        Command::Tag(command) => tag::run(global, command).await,
        Command::Gateway(command) => gateway::run(global, command).await,
        Command::Analyze(flags) => analyze::run(global, flags).await,
        Command::Version(flags) => version::run(global, flags).await,
        Command::Completion(flags) => completion::run(flags),
        Command::KubeInject(flags) => kube_inject::run(global, flags).await,
        Command::Explain(command) => explain::run(global, command).await,
        Command::BugReport(flags) => bug_report::run(global, flags).await,
        Command::Experimental(Experimental::Describe(command)) => describe::run(global, command).await,
        Command::Experimental(Experimental::Workload(command)) => workload::run(global, command).await,
        Command::RemoteClusters(flags) => remote_clusters::run(global, flags).await,
        Command::Waypoint(command) => waypoint::run(global, command).await,
        Command::Experimental(Experimental::Authz(command)) => authz::run(global, command).await,
        Command::Experimental(Experimental::Injector(command)) => injector::run(global, command).await,
        Command::Experimental(Experimental::Revision(command)) => revisions::run(global, command).await,
        Command::Experimental(Experimental::CheckInject(flags)) => check_inject::run(global, flags).await,
        Command::Experimental(Experimental::Precheck(flags)) => precheck::run(global, flags).await,
        Command::Experimental(Experimental::ProxyStatus(flags)) => proxy_status::run(global, flags).await,
        Command::Experimental(Experimental::Version(flags)) => version::run(global, flags).await,
    }
}
