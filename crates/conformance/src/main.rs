//! `conformance`: compares what Trysail makes of the golden data with what the reference made of it.
//!
//! One module per set; each reads its folder, runs every case, and says of each what became of it. Nothing is skipped
//! in silence: a case that needs what is not there is reported as unsupported, with the reason.

mod analyzers;
mod authz;
mod bootstrap;
mod injection;
mod install;
mod iptables;
mod istioctl;
mod kube_api;
#[path = "kube_api/set.rs"]
mod kube_api_set;
mod report;
mod xds;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

use report::{Case, Outcome, Set};

/// Compares Trysail with golden data of the reference implementation.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder with the sets; by default `../shared/conformance` beside the project.
    #[arg(long, env = "TRYSAIL_CONFORMANCE")]
    data: Option<PathBuf>,
    /// Only these sets.
    #[arg(long)]
    set: Vec<String>,
    /// Only cases whose name starts so.
    #[arg(long)]
    case: Option<String>,
    /// Shows everything that differs in the cases of this name.
    #[arg(long)]
    diff: Option<String>,
    /// How results are printed.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Output {
    Table,
    Json,
}

type Runner = fn(&Path) -> Result<Vec<Case>, String>;

/// The sets: name, and how its cases are run.
const SETS: [(&str, Runner); 9] = [
    ("analyzers", |data| {
        Ok(analyzers::run(data)?
            .into_iter()
            .map(|c| Case::new(c.name, c.outcome))
            .collect())
    }),
    ("authz", authz::run),
    ("bootstrap", |data| {
        Ok(bootstrap::run(data)?
            .into_iter()
            .map(|c| Case::new(c.name, c.outcome))
            .collect())
    }),
    ("injection", injection::run),
    ("install", |data| {
        Ok(install::run(data)?
            .into_iter()
            .map(|c| Case::new(c.name, c.outcome))
            .collect())
    }),
    ("iptables", |data| {
        Ok(iptables::run(data)?
            .into_iter()
            .map(|c| Case::new(c.name, c.outcome))
            .collect())
    }),
    ("istioctl", |data| {
        Ok(crate::istioctl::run(data)?
            .into_iter()
            .map(|c| Case::new(c.name, c.outcome))
            .collect())
    }),
    ("kube-api", |data| {
        let results = kube_api_set::run(&data.join("kube-api")).map_err(|error| format!("{error:#}"))?;
        let case = |result: kube_api::CaseResult| {
            let outcome = if result.passed() {
                Ok(())
            } else {
                Err(result.to_string())
            };
            Case::new(result.name, outcome)
        };
        Ok(results.into_iter().map(case).collect())
    }),
    ("xds", xds::run),
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
    };
    if !data.is_dir() {
        bail!("{} is no folder; name the golden data with --data", data.display());
    }
    for name in &arguments.set {
        if SETS.iter().all(|(set, _)| set != name) {
            let known: Vec<&str> = SETS.iter().map(|(set, _)| *set).collect();
            bail!("there is no set {name:?}; the sets are {}", known.join(", "));
        }
    }
    let mut sets = Vec::new();
    for (name, run) in SETS {
        if !arguments.set.is_empty() && !arguments.set.iter().any(|s| s == name) {
            continue;
        }
        if !data.join(name).is_dir() {
            eprintln!("{name}: no data in {}", data.display());
            continue;
        }
        let mut cases = run(&data)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("set {name}"))?;
        let wanted = arguments.diff.as_ref().or(arguments.case.as_ref());
        if let Some(prefix) = wanted {
            cases.retain(|c| c.name.starts_with(prefix.as_str()));
        }
        sets.push(Set {
            set: name.to_owned(),
            cases,
        });
    }
    if arguments.diff.is_some() {
        for case in sets.iter().flat_map(|s| &s.cases) {
            match &case.outcome {
                Outcome::Passed => println!("{}: passed", case.name),
                Outcome::Failed(detail) => println!("{}: failed\n{detail}", case.name),
                Outcome::Unsupported(detail) => println!("{}: unsupported: {detail}", case.name),
            }
        }
    } else if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&sets)?);
    } else {
        print!("{}", report::table(&sets));
    }
    let failed: usize = sets.iter().map(Set::failed).sum();
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
