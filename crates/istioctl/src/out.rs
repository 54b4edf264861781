//! Standard output, which whoever reads it may close when it has read enough (`istioctl ps | head`).

use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// Output format of commands that print columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Writes a value for programs; columns are their caller's, and JSON stands for them here.
pub fn data(value: &impl Serialize, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Yaml => install::yaml::to_sorted(&serde_json::to_value(value)?),
        Format::Json | Format::Table => serde_json::to_string_pretty(value)?,
    };
    put(&(text + "\n"));
    Ok(())
}

/// Writes a text; if nobody reads any more, the program has done what it was asked for and ends.
pub fn put(text: &str) {
    let mut out = anstream::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe {
            0
        } else {
            anstream::eprintln!("Error: cannot write the output: {error}");
            1
        };
        std::process::exit(code);
    }
}
