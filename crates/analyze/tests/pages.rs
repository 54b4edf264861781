//! The pages of `docs/messages` are the cases: each example gives its message, and no more after the remedy.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use analyze::analyzers::{ALL as ANALYZERS, EXTRA, Scope, run};
use analyze::message::{ALL, Code};
use analyze::objects::Objects;
use analyze::precheck::{self, Facts};
use serde_json::Value;

/// The day on which the examples were written: certificates in them end before or after it.
const WRITTEN: Duration = Duration::from_secs(1_795_651_200);

/// A part of a page: an example, or its remedy.
#[derive(Debug, Default)]
struct Part {
    objects: Vec<Value>,
    /// Services of other clusters.
    remote: Vec<(String, Value)>,
    /// What precheck found out beside the objects.
    cluster: Option<Value>,
    output: Vec<String>,
}

/// Examples, each with its remedy.
fn parts(page: &str) -> Vec<(Part, Part)> {
    let mut all: Vec<(Part, Part)> = Vec::new();
    let mut lines = page.lines();
    let mut in_remedy = false;
    while let Some(line) = lines.next() {
        match line {
            "## Example" => {
                all.push(Default::default());
                in_remedy = false;
            }
            "## Remedy" => in_remedy = true,
            _ => {}
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let (example, remedy) = all.last_mut().unwrap();
        let part = if in_remedy { remedy } else { example };
        let text = block.join("\n");
        match language {
            "yaml" => part
                .objects
                .extend(serde_saphyr::from_multiple::<Value>(&text).unwrap()),
            "yaml cluster" => part.cluster = Some(serde_saphyr::from_str(&text).unwrap()),
            other if other.starts_with("yaml in ") => {
                let cluster = other.trim_start_matches("yaml in ").to_owned();
                part.remote.push((cluster, serde_saphyr::from_str(&text).unwrap()));
            }
            "text" => part.output.extend(block.into_iter().map(str::to_owned)),
            other => panic!("no block of a page: {other}"),
        }
    }
    all
}

/// What is said of a cluster that has these objects, those of later parts in place of earlier ones.
fn findings(code: &Code, parts: &[&Part]) -> Vec<String> {
    let mut objects = Objects::default();
    objects.set_now(SystemTime::UNIX_EPOCH + WRITTEN);
    for object in parts.iter().flat_map(|part| &part.objects) {
        objects.add(object.clone());
    }
    // The last one that speaks of other clusters speaks for them.
    if let Some(part) = parts.iter().rev().find(|part| !part.remote.is_empty()) {
        for (cluster, service) in part.remote.clone() {
            objects.add_remote_service(&cluster, service);
        }
    }
    if let Some(map) = objects.get("ConfigMap", "istio-system", "istio").cloned() {
        let data = |key: &str| {
            map["data"][key]
                .as_str()
                .map(|text| serde_saphyr::from_str::<Value>(text).unwrap())
        };
        data("mesh").into_iter().for_each(|mesh| objects.set_mesh_config(mesh));
        data("meshNetworks")
            .into_iter()
            .for_each(|networks| objects.set_mesh_networks(networks));
    }
    let names: Vec<String> = ANALYZERS
        .iter()
        .chain(EXTRA)
        .map(|analyzer| analyzer.name.to_owned())
        .collect();
    let scope = Scope {
        only: &names,
        ..Scope::default()
    };
    let mut messages = run(&objects, scope).messages;
    let cluster = parts.iter().rev().find_map(|part| part.cluster.clone());
    let facts: Facts = cluster
        .map(|cluster| serde_json::from_value(cluster).unwrap())
        .unwrap_or_default();
    let facts = Facts {
        objects,
        check_control_plane: true,
        ..facts
    };
    // What an installation mends is told before it too, less loudly.
    let mends = |message: &analyze::message::Message| message.level == message.code.level;
    messages.extend(precheck::check(&facts).into_iter().filter(mends));
    let lines: BTreeSet<String> = messages
        .into_iter()
        .filter(|message| message.code == *code)
        .map(|message| message.to_string())
        .collect();
    lines.into_iter().collect()
}

fn check(code: &Code) -> Result<(), String> {
    let page = analyze::pages::page(code).ok_or("there is no page")?;
    let begin = format!("# {}: {}\n\n**{}.** ", code.code, code.name, code.level);
    if !page.starts_with(&begin) {
        return Err(format!("begins otherwise than {begin:?}"));
    }
    let parts = parts(page);
    if parts.is_empty() {
        return Err("there is no example".to_owned());
    }
    for (example, remedy) in &parts {
        let found = findings(code, &[example]);
        if found.is_empty() || found != example.output {
            return Err(format!("the example gives\n{}", found.join("\n")));
        }
        let left = findings(code, &[example, remedy]);
        if !left.is_empty() {
            return Err(format!("after the remedy there is left\n{}", left.join("\n")));
        }
    }
    Ok(())
}

#[test]
fn each_code_has_a_page_whose_example_gives_it_and_whose_remedy_ends_it() {
    let wrong: Vec<String> = ALL
        .iter()
        .filter_map(|code| Some(format!("{}: {}", code.code, check(code).err()?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_list_of_pages_has_all_of_them_and_no_other() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/messages");
    let list = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let rows: BTreeSet<&str> = list.lines().filter(|line| line.starts_with("| [")).collect();
    let expected: BTreeSet<String> = ALL
        .iter()
        .map(|code| format!("| [{0}]({0}.md) | {1} | {2} |", code.code, code.name, code.level))
        .collect();
    assert_eq!(rows, expected.iter().map(String::as_str).collect());
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> = files
        .map(|name| name.into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(files, ALL.iter().map(|code| format!("{}.md", code.code)).collect());
}
