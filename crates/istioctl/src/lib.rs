//! `istioctl`: install, inspect and upgrade the mesh from a command line.
//!
//! Thin: a command parses its flags, reads the cluster, lets a library decide, and prints. Exit codes are those of
//! [`failure::Failure`].

pub mod absent;
pub mod arguments;
pub mod carried;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod config_file;
pub mod confirm;
pub mod control_planes;
pub mod failure;
pub mod names;
pub mod out;
pub mod policies;
pub mod restart;
pub mod show;
pub mod sides;
pub mod table;
pub mod unanswered;

use std::process::ExitCode;

use crate::failure::{Failure, USAGE};

/// Runs the program: arguments from the command line, exit code for the shell.
pub fn main() -> ExitCode {
    let (mut cli, is_default) = match cli::read(std::env::args_os()) {
        Ok(read) => read,
        // A group of commands without one of them is a question, not a mistake.
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out::put(&error.render().ansi().to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) if let Some(instead) = absent::instead(&error) => {
            return Failure::with_code(instead, USAGE).report();
        }
        Err(error) if let Some(sentence) = arguments::sentence(&error) => {
            return Failure::new(sentence).report();
        }
        Err(error) => {
            // Help and version are no mistakes.
            let code = if error.use_stderr() { USAGE } else { 0 };
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    if is_default {
        match config_file::istio_namespace() {
            Ok(None) => {}
            Ok(Some(name)) => cli.global.istio_namespace = name,
            Err(failure) => return failure.report(),
        }
    }
    // Libraries log what the command itself reports in one line; ISTIOCTL_LOG=debug shows it nevertheless.
    let log = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::OFF.into())
        .with_env_var("ISTIOCTL_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(std::io::stderr)
        .init();
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("cannot start: {error}")).report(),
    };
    match runtime.block_on(command::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
