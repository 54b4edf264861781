//! What users customise in injected containers, and how it survives a second injection (revisions.md §5.4, steps 3, 5, 6).

use serde_json::{Map, Value, json};

use crate::merge::merge;

/// Annotation that keeps the user's own fragments of injected containers.
pub(crate) const OVERRIDES: &str = "proxy.istio.io/overrides";
/// Annotation that lists what was injected.
pub(crate) const STATUS: &str = "sidecar.istio.io/status";
/// Image that stands for the injected one.
const AUTO_IMAGE: &str = "auto";

const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Takes an earlier injection back: injected containers go, the user's fragments of them return.
pub(crate) fn undo(pod: &mut Value) {
    let annotation = |pod: &Value, name: &str| {
        let text = pod["metadata"]["annotations"].get(name).and_then(Value::as_str);
        text.and_then(|text| serde_json::from_str::<Value>(text).ok())
    };
    let Some(status) = annotation(pod, STATUS) else { return };
    for list in LISTS {
        let injected: Vec<&str> = status[list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let is_proxy_of_classic = |name: &str| list == "initContainers" && name == "istio-proxy";
        if let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
            containers.retain(|c| {
                let name = c["name"].as_str().unwrap_or_default();
                !injected.contains(&name) || (is_proxy_of_classic(name) && !injected.contains(&name))
            });
        }
    }
    restore_metrics(pod);
    let Some(overrides) = annotation(pod, OVERRIDES) else {
        return;
    };
    for list in LISTS {
        let fragments = overrides[list].as_array().cloned().unwrap_or_default();
        if fragments.is_empty() {
            continue;
        }
        let spec = &mut pod["spec"];
        if !spec[list].is_array() {
            spec[list] = json!([]);
        }
        if let Some(containers) = spec[list].as_array_mut() {
            for fragment in fragments {
                containers.retain(|container| container["name"] != fragment["name"]);
                containers.push(fragment);
            }
        }
    }
}

/// Scrape annotations that point at the agent are ours; the next injection writes them again.
fn restore_metrics(pod: &mut Value) {
    let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() else {
        return;
    };
    if annotations.get("prometheus.io/path").and_then(Value::as_str) == Some("/stats/prometheus") {
        for name in ["prometheus.io/port", "prometheus.io/path", "prometheus.io/scrape"] {
            annotations.shift_remove(name);
        }
    }
}

/// Moves a user-defined `istio-proxy` to where the native sidecar will be.
pub(crate) fn move_proxy_to_init(pod: &mut Value) {
    let Some(containers) = pod["spec"]["containers"].as_array_mut() else {
        return;
    };
    let Some(index) = containers
        .iter()
        .position(|container| container["name"] == "istio-proxy")
    else {
        return;
    };
    let proxy = containers.remove(index);
    let spec = &mut pod["spec"];
    match spec["initContainers"].as_array_mut() {
        Some(containers) => containers.push(proxy),
        None => spec["initContainers"] = json!([proxy]),
    }
}

/// Lays the user's fragments over the injected containers again: the user has the last word.
///
/// `original` is the pod before injection, `template` what the templates alone made. Returns the fragments to keep.
pub(crate) fn reapply(pod: &mut Value, original: &Value, template: &Value) -> Option<String> {
    let mut kept = Map::new();
    for list in LISTS {
        let templated = template["spec"][list].as_array();
        let mut fragments = Vec::new();
        for injected in templated.into_iter().flatten() {
            let mine = LISTS
                .iter()
                .find_map(|place| find(&original["spec"][*place], &injected["name"]));
            let Some(mut mine) = mine.cloned() else { continue };
            if mine["image"] == AUTO_IMAGE {
                if let Value::Object(fields) = &mut mine {
                    fields.shift_remove("image");
                }
            }
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            if let Some(target) = containers
                .into_iter()
                .flatten()
                .find(|container| container["name"] == injected["name"])
            {
                // The fragment was merged before; only what the template overwrote has to be said again.
                merge(target, &mine);
                if target["image"] == AUTO_IMAGE {
                    target["image"] = injected["image"].clone();
                }
            }
            fragments.push(mine);
        }
        if !fragments.is_empty() {
            kept.insert(list.to_owned(), Value::Array(fragments));
        }
    }
    let ordered: Map<String, Value> = ["containers", "initContainers"]
        .iter()
        .filter_map(|list| kept.remove(*list).map(|v| ((*list).to_owned(), v)))
        .collect();
    (!ordered.is_empty()).then(|| Value::Object(ordered).to_string())
}

fn find<'a>(list: &'a Value, name: &Value) -> Option<&'a Value> {
    list.as_array()?.iter().find(|container| container["name"] == *name)
}

/// The status annotation: what the templates added, and by which revision.
pub(crate) fn status(template: &Value, revision: &str) -> String {
    let names = |list: &str| match template["spec"][list].as_array() {
        Some(items) if !items.is_empty() => {
            Value::Array(items.iter().filter_map(|item| item.get("name").cloned()).collect())
        }
        _ => Value::Null,
    };
    let mut status = Map::new();
    for list in ["initContainers", "containers", "volumes", "imagePullSecrets"] {
        status.insert(list.to_owned(), names(list));
    }
    status.insert("revision".to_owned(), revision.into());
    Value::Object(status).to_string()
}
