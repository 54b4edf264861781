//! Golden set `iptables`: traffic capture rules, exact text, for both back ends.

use std::path::Path;

use capture::apply::{self, Command, Runner};
use capture::{Config, program};
use serde::Deserialize;

use crate::data::{cases, read};
use crate::report;

#[derive(Deserialize)]
struct Case {
    name: String,
    golden: String,
    #[serde(default)]
    config: Config,
}

/// Runs every case of `<data>/iptables`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("iptables");
    let mut results = Vec::new();
    for (backend, produce) in [("iptables", iptables as fn(&Config) -> _), ("nftables", nftables)] {
        let file = folder.join(format!("{backend}-cases.yaml"));
        for case in cases::<Case>(&file)? {
            let outcome = read(&folder.join(&case.golden))
                .and_then(|golden| Ok((golden, produce(&case.config)?)))
                .and_then(|(golden, produced)| compare(&golden, &produced));
            results.push(report::Case::new(format!("{backend}/{}", case.name), outcome));
        }
    }
    Ok(results)
}

/// Answers every command with success and no output, and notes commands and restore input.
#[derive(Default)]
struct Recorder(Vec<String>);

impl Runner for Recorder {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        let line = || {
            std::iter::once(&command.program)
                .chain(&command.args)
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.0.push(
            command
                .input
                .as_ref()
                .map_or_else(line, |input| input.trim_end().to_owned()),
        );
        Ok(String::new())
    }
}

fn iptables(config: &Config) -> Result<String, String> {
    let mut recorder = Recorder::default();
    apply::with_iptables(config, &mut recorder).map_err(|e| e.to_string())?;
    Ok(recorder.0.join("\n"))
}

fn nftables(config: &Config) -> Result<String, String> {
    program::rules(config)
        .map(|rules| capture::nftables::transaction(&rules))
        .map_err(|e| e.to_string())
}

/// The first line that differs.
fn compare(golden: &str, produced: &str) -> Result<(), String> {
    let (golden, produced) = (golden.trim_end(), produced.trim_end());
    if golden == produced {
        return Ok(());
    }
    let (mut expected, mut actual) = (golden.lines(), produced.lines());
    for line in 1.. {
        match (expected.next(), actual.next()) {
            (None, None) => break,
            (e, a) if e != a => {
                let text = |l: Option<&str>| l.unwrap_or("(end)").to_owned();
                return Err(format!("line {line}: expected {:?}, got {:?}", text(e), text(a)));
            }
            _ => {}
        }
    }
    Err("line ends differ".to_owned())
}
