//! `istioctl completion`.

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::out;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the completion script.
pub fn run(flags: Flags) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "istioctl", &mut script);
    out::put(&String::from_utf8_lossy(&script));
    Ok(())
}
