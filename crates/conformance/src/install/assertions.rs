//! `assertion-cases.yaml`: single facts about what an installation renders.

use std::path::Path;

use install::assets::Assets;
use install::object::Object;
use serde::Deserialize;
use serde_json::Value;

use super::generate;
use crate::data::{cases, read};
use crate::report;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    flags: String,
    #[serde(default)]
    input: Option<String>,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Check {
    kind: String,
    name: String,
    name_matches: Option<String>,
    present: Option<bool>,
    container: Option<String>,
    path: Option<String>,
    equals: Option<Value>,
    absent: bool,
    objects: Option<usize>,
    error: Option<String>,
    selector_must_not_match_pods_of: Option<String>,
}

pub(super) fn run(folder: &Path, assets: &Assets) -> Result<Vec<report::Case>, String> {
    let cases: Vec<Case> = cases(&folder.join("assertion-cases.yaml"))?;
    let default = generate(&[], "", assets);
    Ok(cases
        .into_iter()
        .map(|case| {
            let result = check_all(&case, folder, assets, &default);
            report::Case::new(case.name, result)
        })
        .collect())
}

fn check_all(case: &Case, folder: &Path, assets: &Assets, default: &Result<Vec<Object>, String>) -> Result<(), String> {
    let files = match &case.input {
        Some(input) => vec![("input.yaml".to_owned(), read(&folder.join(input))?)],
        None => Vec::new(),
    };
    let produced = generate(&files, &case.flags, assets);
    let wrong: Vec<String> = case
        .checks
        .iter()
        .filter_map(|check| check.run(&produced, default).err())
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

impl Check {
    fn run(&self, produced: &Result<Vec<Object>, String>, default: &Result<Vec<Object>, String>) -> Result<(), String> {
        if let Some(fragment) = &self.error {
            return match produced {
                Err(error) if error.contains(fragment.as_str()) => Ok(()),
                Err(error) => Err(format!("expected error {fragment:?}, got {error:?}")),
                Ok(_) => Err(format!("expected error {fragment:?}, got none")),
            };
        }
        let objects = produced.as_ref().map_err(Clone::clone)?;
        if let Some(count) = self.objects {
            return if objects.len() == count {
                Ok(())
            } else {
                Err(format!("expected {count} objects, got {}", objects.len()))
            };
        }
        let named = |object: &&Object| {
            object.kind() == self.kind
                && match &self.name_matches {
                    Some(pattern) => matches(pattern, object.name()),
                    None => object.name() == self.name,
                }
        };
        let found = objects.iter().find(named);
        let label = format!("{}/{}", self.kind, self.name_matches.as_deref().unwrap_or(&self.name));
        if let Some(present) = self.present {
            return if found.is_some() == present {
                Ok(())
            } else {
                Err(format!("{label}: present is {}", found.is_some()))
            };
        }
        let Some(object) = found else {
            // An object that must not select something does so too by not being there.
            return if self.selector_must_not_match_pods_of.is_some() {
                Ok(())
            } else {
                Err(format!("{label} is missing"))
            };
        };
        if let Some(other) = &self.selector_must_not_match_pods_of {
            return not_selecting(object, other, default);
        }
        let Some(path) = &self.path else { return Ok(()) };
        let root = match &self.container {
            Some(container) => {
                container_of(object, container).ok_or_else(|| format!("{label}: no container {container}"))?
            }
            None => &object.0,
        };
        let value = at(root, path);
        match (&self.equals, self.absent) {
            (_, true) => {
                if value.is_none() {
                    Ok(())
                } else {
                    Err(format!("{label}: {path} is {value:?}, expected none"))
                }
            }
            (Some(expected), _) if value == Some(expected) => Ok(()),
            (expected, _) => Err(format!("{label}: {path}: expected {expected:?}, got {value:?}")),
        }
    }
}

/// The only expression in the set: an optional part in the middle, `a(-b)?c`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern
        .split_once('(')
        .and_then(|(begin, rest)| Some((begin, rest.split_once(")?")?)))
    {
        Some((begin, (optional, end))) => name == format!("{begin}{end}") || name == format!("{begin}{optional}{end}"),
        None => name == pattern,
    }
}

/// `a.[0].b`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| {
        match part.strip_prefix('[').and_then(|p| p.strip_suffix(']')) {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None => value.get(part),
        }
    })
}

fn container_of<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object
        .0
        .pointer("/spec/template/spec/containers")?
        .as_array()?
        .iter()
        .find(|container| container["name"] == name)
}

fn not_selecting(object: &Object, other: &str, default: &Result<Vec<Object>, String>) -> Result<(), String> {
    // "Deployment istiod of the default install"
    let name = other.split(' ').nth(1).unwrap_or_default();
    let default = default.as_ref().map_err(Clone::clone)?;
    let workload = default.iter().find(|o| o.kind() == "Deployment" && o.name() == name);
    let labels = workload
        .and_then(|o| o.0.pointer("/spec/template/metadata/labels"))
        .ok_or_else(|| format!("no Deployment {name}"))?;
    let selector = object
        .0
        .pointer("/spec/selector/matchLabels")
        .or_else(|| object.0.pointer("/spec/selector"));
    let selector = selector
        .and_then(Value::as_object)
        .ok_or_else(|| format!("{}: no selector", object.name()))?;
    if selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return Err(format!("{} selects the pods of {other}", object.name()));
    }
    Ok(())
}
