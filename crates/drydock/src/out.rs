//! What is printed for people. Whoever closed the pipe (`drydock up | head -1`) has read enough, and what the command does
//! goes on; other output that cannot be written is an error.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, Result};

/// Prints a line.
///
/// # Errors
/// When it cannot be written.
pub fn line(text: impl Display) -> Result<()> {
    written(writeln!(stdout().lock(), "{text}"))
}

/// Prints a text as it is.
///
/// # Errors
/// When it cannot be written.
pub fn text(text: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    written(out.write_all(text).and_then(|()| out.flush()))
}

fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the output"),
    }
}
