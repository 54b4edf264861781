//! `istioctl profile list` and `istioctl profile dump`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use install::assets::Assets;
use install::{input, yaml};

use crate::failure::Failure;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists profiles.
    List(Source),
    /// Prints a profile, merged over `default`.
    Dump {
        /// Name of the profile.
        #[arg(default_value = "default")]
        name: String,
        /// Where it comes from.
        #[command(flatten)]
        source: Source,
    },
}

/// Where profiles come from.
#[derive(Debug, Args)]
pub struct Source {
    /// Folder with charts and profiles instead of those of this program.
    #[arg(short = 'd', long, value_name = "FOLDER")]
    manifests: Option<PathBuf>,
}

/// Lists or prints.
pub fn run(command: Command) -> Result<(), Failure> {
    let assets = |source: &Source| match &source.manifests {
        Some(folder) => Assets::folder(folder),
        None => Ok(Assets::embedded()),
    };
    match command {
        Command::List(source) => {
            anstream::println!("Istio configuration profiles:");
            for name in assets(&source)?.profiles() {
                anstream::println!("    {name}");
            }
        }
        Command::Dump { name, source } => {
            let document = input::profile(&assets(&source)?, &name)?;
            anstream::println!("{}", yaml::to_sorted(&document));
        }
    }
    Ok(())
}
