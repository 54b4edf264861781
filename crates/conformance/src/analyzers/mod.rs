//! Golden set `analyzers`: files, one analyzer, and the messages it must report.

use std::path::Path;

use analyze::analyzers::run_one;
use analyze::objects::Objects;
use serde::Deserialize;
use serde_json::Value;

use crate::data::{cases, read};
use crate::report;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    analyzer: String,
    input_files: Vec<String>,
    #[serde(default)]
    mesh_config_file: Option<String>,
    #[serde(default)]
    mesh_networks_file: Option<String>,
    #[serde(default)]
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    code: String,
    origin: String,
}

/// Runs every case of `<data>/analyzers`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("analyzers");
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    Ok(cases
        .into_iter()
        .map(|case| {
            let result = check(&case, &folder);
            report::Case::new(case.name, result)
        })
        .collect())
}

fn documents(path: &Path) -> Result<Vec<Value>, String> {
    let text = read(path)?;
    serde_saphyr::from_multiple(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let mut objects = Objects::default();
    objects.add_defaults();
    for file in &case.input_files {
        documents(&folder.join(file))?
            .into_iter()
            .filter(|object| !object.is_null())
            .for_each(|object| objects.add(object));
    }
    if let Some(file) = &case.mesh_config_file {
        objects.set_mesh_config(documents(&folder.join(file))?.into_iter().next().unwrap_or_default());
    }
    if let Some(file) = &case.mesh_networks_file {
        objects.set_mesh_networks(documents(&folder.join(file))?.into_iter().next().unwrap_or_default());
    }
    let Some(messages) = run_one(&case.analyzer, &objects) else {
        return Err(format!("unsupported: analyzer {}", case.analyzer));
    };
    let mut actual: Vec<String> = messages
        .iter()
        .map(|message| {
            let origin = message.origin.as_ref().map(|o| match o.namespace.as_str() {
                "" => format!("{} {}", o.kind, o.name),
                namespace => format!("{} {namespace}/{}", o.kind, o.name),
            });
            format!("{} {}", message.code.code, origin.unwrap_or_default())
        })
        .collect();
    let mut expected: Vec<String> = case
        .expected
        .iter()
        .map(|e| format!("{} {}", e.code, e.origin))
        .collect();
    actual.sort();
    expected.sort();
    if actual == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, got {actual:?}"))
    }
}
