//! `istioctl manifest generate`, `diff` and `install`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use install::component::{Rendering, render};
use install::difference::{self, Selection};
use install::manifest;

use crate::cli::Global;
use crate::command::install::{Flags as InstallFlags, Wanted, read};
use crate::command::program_version;
use crate::failure::Failure;
use crate::out::put;

/// Most files of one folder.
const MOST_FILES: usize = 10_000;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Renders an installation as YAML.
    Generate(Flags),
    /// Compares two manifests and prints what differs; exits with 1 if anything does.
    Diff(Diff),
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

/// Flags of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older manifest (`-` is standard input).
    a: String,
    /// The newer one.
    b: String,
    /// Compare folders: their *.yaml files, one below the other.
    #[arg(short = 'r', long)]
    directory: bool,
    /// Show whole objects line by line.
    #[arg(short, long)]
    verbose: bool,
    /// Compare only these objects: a list of Kind:namespace:name, each a regular expression or `*`.
    #[arg(long, value_name = "LIST", default_value = "::")]
    select: String,
    /// Leave these objects out, or with a fourth part only what is at that path: Kind:namespace:name:a.b.*
    #[arg(long, value_name = "LIST", default_value = "")]
    ignore: String,
    /// Call objects of the older manifest as the newer one does: a list of Kind:namespace:name->Kind:namespace:name.
    #[arg(long, value_name = "LIST", default_value = "")]
    rename: String,
}

/// Renders, compares or installs.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Generate(flags) => generate(flags),
        Command::Diff(flags) => diff(&flags),
        Command::Install(flags) => crate::command::install::run(global, flags).await,
    }
}

fn generate(flags: Flags) -> Result<(), Failure> {
    let assets = flags.wanted.assets()?;
    let operator = flags.wanted.resolve(&assets)?;
    let version = program_version();
    let how = Rendering {
        version: Some(&version),
        is_upgrade: false,
    };
    let mut text = manifest::text(&render(&operator, &assets, &how)?);
    if !text.is_empty() {
        text.push('\n');
    }
    match flags.output {
        Some(path) => std::fs::write(&path, text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?,
        None => put(&text),
    }
    Ok(())
}

fn diff(flags: &Diff) -> Result<(), Failure> {
    let mut selection = Selection::parse(&flags.select, &flags.ignore, &flags.rename)?;
    selection.verbose = flags.verbose;
    let text = |name: &str| {
        if flags.directory {
            folder(Path::new(name))
        } else {
            read(name)
        }
    };
    let (a, b) = (text(&flags.a)?, text(&flags.b)?);
    let differences = difference::manifests((&flags.a, &a), (&flags.b, &b), &selection)?;
    if differences.is_empty() {
        put("Manifests are identical\n");
        return Ok(());
    }
    put(&format!("Differences in manifests are:\n{differences}\n"));
    Err(Failure::different())
}

/// All *.yaml files of a folder and of those in it, by name, as one manifest.
fn folder(root: &Path) -> Result<String, Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let mut text = String::new();
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let entry = entry.map_err(|error| failed(&folder, error))?;
            // Links are not followed: they may lead round in a circle.
            let kind = entry.file_type().map_err(|error| failed(&entry.path(), error))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "yaml") {
                files.push(entry.path());
            }
            if files.len() + folders.len() > MOST_FILES {
                return Err(Failure::new(format!(
                    "{}: more than {MOST_FILES} files",
                    root.display()
                )));
            }
        }
    }
    files.sort();
    for file in files {
        text.push_str("---\n");
        text.push_str(&read(&file.to_string_lossy())?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn a_folder_is_one_manifest() {
        let folder = std::env::temp_dir().join(format!("istioctl-manifest-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b")).unwrap();
        for (file, text) in [("z.yaml", "z: 1"), ("b/a.yaml", "a: 1"), ("b/a.txt", "no")] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        assert_eq!(super::folder(&folder).unwrap(), "---\na: 1\n---\nz: 1\n");
        std::fs::remove_dir_all(&folder).ok();
        assert!(super::folder(&folder).is_err());
    }
}
