//! Stories: command lines with their expected output, run as a person would type them, under live traffic.
//!
//! `story run e2e/canary-upgrade` brings up a local cluster, runs every `*.story` of the folder in order and ends
//! with a table. The format is described in `e2e/README.md`.

mod cluster;
mod expect;
mod project;
mod report;
mod runner;
mod script;
mod terminal;
mod traffic;
mod visit;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Runs stories: command lines with their expected output")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the stories of a folder, or one story
    Run {
        /// Folder with *.story files, or one such file
        path: PathBuf,
        /// Run on this cluster instead of a local one made for the purpose
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        /// Leave the local cluster up afterwards
        #[arg(long)]
        keep: bool,
        /// Only steps marked for the short form
        #[arg(long)]
        short: bool,
    },
    /// Reads stories and reports mistakes in them without running anything
    Check {
        /// Folder with *.story files, or one such file
        path: PathBuf,
    },
}

fn main() -> ExitCode {
    // Two TLS providers are in the dependency graph; one has to be chosen before the first connection.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("story: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    match arguments.command {
        Command::Check { path } => {
            for story in script::read(&path)? {
                anstream::println!("{}: {} steps", story.title, story.steps.len());
            }
            Ok(true)
        }
        Command::Run {
            path,
            kubeconfig,
            keep,
            short,
        } => {
            let stories = script::read(&path)?;
            let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
            runtime.block_on(runner::run(&path, &stories, kubeconfig, keep, short))
        }
    }
}
