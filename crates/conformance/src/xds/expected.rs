//! What is expected of a proxy: stored resources, and those that are stored with another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Types by the names of their files.
pub const TYPES: [&str; 5] = ["clusters", "listeners", "routes", "endpoints", "extensions"];

/// Resources by type and name.
pub type Resources = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Index {
    same_as_baseline: BTreeMap<String, BTreeSet<String>>,
    same_as_proxy: Option<Value>,
}

/// Name of a resource.
pub fn name_of(resource: &Value) -> String {
    let name = resource.get("name").or_else(|| resource.get("clusterName"));
    name.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn stored(folder: &Path) -> Result<Resources, String> {
    let mut resources = Resources::new();
    for kind in TYPES {
        let path = folder.join(format!("{kind}.json"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let list: Vec<Value> = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        resources.insert(kind.to_owned(), list.into_iter().map(|r| (name_of(&r), r)).collect());
    }
    Ok(resources)
}

fn borrow(
    resources: &mut Resources,
    names: &BTreeMap<String, BTreeSet<String>>,
    from: &Resources,
) -> Result<(), String> {
    for (kind, names) in names {
        for name in names {
            let resource = from
                .get(kind)
                .and_then(|r| r.get(name))
                .ok_or_else(|| format!("{kind} {name} is named but not stored where it is said to be"))?;
            resources
                .entry(kind.clone())
                .or_default()
                .insert(name.clone(), resource.clone());
        }
    }
    Ok(())
}

/// Everything that is expected of a proxy; `roles` are those of all proxies of the scenario.
///
/// # Errors
/// A file is missing or is no JSON.
pub fn of_proxy(
    xds: &Path,
    scenario: &str,
    proxy: &str,
    roles: &BTreeMap<String, String>,
) -> Result<Resources, String> {
    let folder = xds.join(scenario).join("expected").join(proxy);
    let role = roles.get(proxy).map_or("sidecar", String::as_str);
    let mut resources = stored(&folder)?;
    let text = std::fs::read_to_string(folder.join("index.yaml")).unwrap_or_default();
    let index: Index = serde_saphyr::from_str(&text).map_err(|e| format!("{}: {e}", folder.display()))?;
    if !index.same_as_baseline.is_empty() {
        let baseline = stored(&xds.join("baseline").join("expected").join(role))?;
        borrow(&mut resources, &index.same_as_baseline, &baseline)?;
    }
    if let Some(Value::Object(same)) = index.same_as_proxy {
        for (other, names) in same {
            let names: BTreeMap<String, BTreeSet<String>> =
                serde_json::from_value(names).map_err(|e| format!("same_as_proxy: {e}"))?;
            borrow(&mut resources, &names, &of_proxy(xds, scenario, &other, roles)?)?;
        }
    }
    Ok(resources)
}

/// Secrets that are asked for, and whether they are delivered.
pub fn secrets(xds: &Path, scenario: &str, proxy: &str) -> BTreeMap<String, bool> {
    let path = xds.join(scenario).join("expected").join(proxy).join("secrets.json");
    let list: Vec<Value> = std::fs::read_to_string(path)
        .ok()
        .and_then(|t| serde_json::from_str(&t).ok())
        .unwrap_or_default();
    list.iter().map(|s| (name_of(s), s["delivered"] == true)).collect()
}

/// The table of names, if one is expected.
pub fn name_table(xds: &Path, scenario: &str, proxy: &str) -> Option<Value> {
    let path = xds.join(scenario).join("expected").join(proxy).join("nametable.json");
    let list: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    list.into_iter().next()
}
