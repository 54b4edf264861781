//! What Trysail makes of the golden data, held against what the reference made of it.
//!
//! One module per set; each reads its folder, runs every case, and says of each what became of it. Nothing is skipped
//! in silence: a case that needs what is not there is reported as unsupported, with the reason, and so is a set.

pub mod kube_api;
pub mod report;

mod analyzers;
mod authz;
mod bootstrap;
mod data;
mod injection;
mod install;
mod iptables;
mod istioctl;
mod server;
mod validation;
mod xds;

use std::path::{Path, PathBuf};

use report::{Case, Set};

/// How a set is run.
#[derive(Clone, Copy, Debug)]
pub enum Runner {
    /// Every case of the folder is run.
    Cases(fn(&Path) -> Result<Vec<Case>, String>),
    /// There is none, for this reason.
    Missing(&'static str),
    /// The folder holds no cases.
    Reference(&'static str),
}

/// The folders of the data, each with its runner.
pub const SETS: [(&str, Runner); 14] = [
    ("analyzers", Runner::Cases(analyzers::run)),
    ("authz", Runner::Cases(authz::run)),
    (
        "benchmark-shapes",
        Runner::Reference("shapes that `make bench` measures"),
    ),
    ("bootstrap", Runner::Cases(bootstrap::run)),
    ("charts-reference", Runner::Reference("inputs of other sets")),
    (
        "gateway-api",
        Runner::Missing("resources of the Gateway API are not translated"),
    ),
    ("injection", Runner::Cases(injection::run)),
    ("install", Runner::Cases(install::run)),
    ("iptables", Runner::Cases(iptables::run)),
    ("istioctl", Runner::Cases(crate::istioctl::run)),
    ("kube-api", Runner::Cases(kube_api::run)),
    ("samples", Runner::Reference("manifests that users apply")),
    ("validation", Runner::Cases(validation::run)),
    ("xds", Runner::Cases(xds::run)),
];

/// Runs one set of the data.
///
/// # Errors
/// If there is no such set, or if it cannot be read.
pub fn run(name: &str, data: &Path) -> Result<Set, String> {
    let (name, runner) = SETS
        .iter()
        .find(|(set, _)| *set == name)
        .ok_or_else(|| format!("there is no set {name:?}; the sets are {}", names().join(", ")))?;
    let mut set = Set {
        set: (*name).to_owned(),
        cases: Vec::new(),
        note: None,
    };
    match runner {
        _ if !data.join(name).is_dir() => set.note = Some(format!("no data in {}", data.display())),
        Runner::Cases(run) => set.cases = run(data).map_err(|error| format!("set {name}: {error}"))?,
        Runner::Missing(reason) => set.note = Some(format!("no runner: {reason}")),
        Runner::Reference(what) => set.note = Some(format!("no cases: {what}")),
    }
    Ok(set)
}

/// Names of the sets.
pub fn names() -> Vec<&'static str> {
    SETS.iter().map(|(name, _)| *name).collect()
}

/// Folders of the data that no set is for.
///
/// # Errors
/// If the folder cannot be read.
pub fn unknown_folders(data: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && !names().contains(&name.as_str()) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// Where the golden data is unless somebody says otherwise: beside the project.
pub fn default_data() -> PathBuf {
    std::env::var_os("TRYSAIL_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    )
}
