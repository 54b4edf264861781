//! `istioctl completion`.

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::failure::Failure;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the completion script.
pub fn run(flags: Flags) -> Result<(), Failure> {
    clap_complete::generate(flags.shell, &mut Cli::command(), "istioctl", &mut std::io::stdout());
    Ok(())
}
