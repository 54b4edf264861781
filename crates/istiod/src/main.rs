//! istiod: wires the cluster to the mesh, the mesh to translation, translation to discovery. Decides nothing itself.
//!
//! | module | its one idea |
//! |---|---|
//! | [`args`] | the command line, compatible with `pilot-discovery` |
//! | [`settings`] | the environment that the charts set |
//! | [`variables`] | the same as a table, for people |
//! | [`engine`] | changes in, views per class of proxies out |
//! | [`followers`] | which stream follows which view, and when it is made |
//! | [`handover`] | configuration of gateways whose owner changes |
//! | [`files`] | changes from a directory of YAML files |
//! | [`control_plane`] | changes from, and writes to, a Kubernetes API |
//! | [`source`] | who may open which stream, and what it is owed |
//! | [`grpc`] | ports 15010 and 15012 |
//! | [`http`] | ports 8080 and 15014: readiness, metrics, version, debug |
//! | [`debug`] | what the control plane says about itself |
//! | [`serving`] | certificates of istiod's own ports |
//! | [`injector`] | the injector's configuration, kept current |
//! | [`validation`] | what the validating webhook refuses |
//! | [`webhook`] | port 15017 |

mod args;
mod control_plane;
mod debug;
mod discovery;
mod engine;
mod files;
mod followers;
mod grpc;
mod handover;
mod http;
mod injector;
mod metrics;
mod serving;
mod sets;
mod settings;
mod source;
mod validation;
mod variables;
mod version;
mod webhook;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let (command, ignored) = match args::parse(std::env::args()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    if let Command::Version = command {
        // Whoever closed the pipe has read enough.
        let _ = writeln!(std::io::stdout(), "{}", version::number());
        return ExitCode::SUCCESS;
    }
    let Command::Discovery(options) = command else {
        return ExitCode::SUCCESS;
    };
    start_logging(&options);
    for flag in ignored {
        tracing::warn!(flag, "flag not known and ignored");
    }
    listen::open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(discovery::run(*options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(options: &args::Discovery) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(args::log_filter(&options.log_output_level)));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // What is stored must be searchable: colours only where a person looks on.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if options.log_as_json {
        log.json().init()
    } else {
        log.init()
    }
}
