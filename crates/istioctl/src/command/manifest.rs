//! `istioctl manifest generate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use install::component::{Rendering, render};
use install::manifest;

use crate::cli::Global;
use crate::command::{install::Flags as InstallFlags, install::Wanted, program_version};
use crate::failure::Failure;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Renders an installation as YAML.
    Generate(Flags),
    /// The same as `istioctl install`.
    Install(InstallFlags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    wanted: Wanted,
    /// File to write to instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Accepted for Istio's sake: nothing here depends on the cluster.
    #[arg(long, hide = true)]
    cluster_specific: bool,
}

/// Renders.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let flags = match command {
        Command::Generate(flags) => flags,
        Command::Install(flags) => return crate::command::install::run(global, flags).await,
    };
    let assets = flags.wanted.assets()?;
    let operator = flags.wanted.resolve(&assets)?;
    let version = program_version();
    let components = render(
        &operator,
        &assets,
        &Rendering {
            version: Some(&version),
            is_upgrade: false,
        },
    )?;
    let mut text = manifest::text(&components);
    if !text.is_empty() {
        text.push('\n');
    }
    match flags.output {
        Some(path) => std::fs::write(&path, text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?,
        None => anstream::print!("{text}"),
    }
    Ok(())
}
