//! `conformance`: runs golden sets and prints what agrees.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Parser, ValueEnum};
use conformance::report::{self, Outcome, Set};
use conformance::{default_data, kube_api, names, run, unknown_folders};

/// Compares Trysail with golden data of the reference implementation.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder with the sets; by default `$TRYSAIL_CONFORMANCE`, or `../shared/conformance` beside the project.
    #[arg(long)]
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
    /// Plays the stories of the set kube-api on the cluster of this file instead of one of its own.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// How results are printed.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let data = arguments.data.clone().unwrap_or_else(default_data);
    if !data.is_dir() {
        bail!("{} is no folder; name the golden data with --data", data.display());
    }
    let mut sets = if let Some(kubeconfig) = &arguments.kubeconfig {
        let text = std::fs::read_to_string(kubeconfig).with_context(|| kubeconfig.display().to_string())?;
        let prefix = arguments.case.clone().unwrap_or_default();
        vec![Set {
            set: "kube-api".to_owned(),
            cases: kube_api::run_on(&text, &data, &prefix).map_err(anyhow::Error::msg)?,
            note: None,
        }]
    } else {
        let wanted: Vec<&str> = if arguments.set.is_empty() {
            names()
        } else {
            arguments.set.iter().map(String::as_str).collect()
        };
        if arguments.set.is_empty() {
            for name in unknown_folders(&data)? {
                eprintln!("{name}: a folder of the data that no set is for");
            }
        }
        wanted
            .into_iter()
            .map(|name| run(name, &data).map_err(|error| anyhow!(error)))
            .collect::<anyhow::Result<Vec<Set>>>()?
    };
    if let Some(prefix) = arguments.diff.as_ref().or(arguments.case.as_ref()) {
        for set in &mut sets {
            set.cases.retain(|case| case.name.starts_with(prefix.as_str()));
        }
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
