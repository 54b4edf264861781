//! What users customise in injected containers, and how it survives a second injection (revisions.md §5.4, steps 3, 5, 6).

use serde_json::{Map, Value, json};

use crate::merge::merge;
use crate::{canonical, metrics, shape, written};

/// Annotation that keeps the user's own fragments of injected containers.
pub(crate) const OVERRIDES: &str = "proxy.istio.io/overrides";
/// Annotation that lists what was injected.
pub(crate) const STATUS: &str = "sidecar.istio.io/status";
/// Image that stands for the injected one.
const AUTO_IMAGE: &str = "auto";
/// Lists of containers, in the order in which the annotations have them.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The JSON that an annotation of the pod holds.
fn annotation(pod: &Value, name: &str) -> Value {
    let text = pod["metadata"]["annotations"].get(name).and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Checks that the annotations hold what merging counts on: they are part of what the pod's author sends.
///
/// # Errors
/// A fragment of a container is none; the text names annotation and place.
pub(crate) fn check(pod: &Value) -> Result<(), String> {
    let fragments = annotation(pod, OVERRIDES);
    if !fragments.is_object() {
        // No JSON, or none of ours: it says nothing.
        return Ok(());
    }
    shape::check(&json!({ "spec": fragments })).map_err(|why| {
        format!(
            "annotation {OVERRIDES}: {}; remove it or mend it",
            why.trim_start_matches("spec.")
        )
    })
}

/// Takes an earlier injection back: injected containers go, the user's fragments of them return.
///
/// `status_port` tells the agent's own scrape annotations from the user's.
pub(crate) fn undo(pod: &mut Value, status_port: u16) {
    let status = annotation(pod, STATUS);
    if status.is_null() {
        return;
    }
    let overrides = annotation(pod, OVERRIDES);
    for list in LISTS {
        let injected = status[list].as_array().cloned().unwrap_or_default();
        if let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
            containers.retain(|container| !injected.contains(&container["name"]));
        }
        let fragments = overrides[list].as_array().cloned().unwrap_or_default();
        if fragments.is_empty() {
            continue;
        }
        let spec = &mut pod["spec"];
        if !spec[list].is_array() {
            spec[list] = json!([]);
        }
        if let Some(containers) = spec[list].as_array_mut() {
            let absent =
                |fragment: &Value, containers: &[Value]| containers.iter().all(|c| c["name"] != fragment["name"]);
            for mut fragment in fragments {
                if absent(&fragment, containers) {
                    own_word(&mut fragment, None);
                    containers.push(fragment);
                }
            }
        }
    }
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        metrics::undo(annotations, status_port);
        annotations.shift_remove(STATUS);
    }
}

/// Moves a user-defined `istio-proxy` to where the templates put the native sidecar.
pub(crate) fn follow_native_proxy(pod: &mut Value, template: &Value) {
    let is_proxy = |container: &Value| container["name"] == "istio-proxy";
    if !template["spec"]["initContainers"]
        .as_array()
        .is_some_and(|list| list.iter().any(is_proxy))
    {
        return;
    }
    let Some(containers) = pod["spec"]["containers"].as_array_mut() else {
        return;
    };
    let Some(index) = containers.iter().position(is_proxy) else {
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
/// `original` is the pod as it was sent, `template` what the templates alone made. `platform_user` is the user number
/// that the platform itself gives to containers: not the user's word. Returns the fragments to keep, on the first
/// injection of the pod.
pub(crate) fn reapply(
    pod: &mut Value,
    original: &Value,
    template: &Value,
    platform_user: Option<i64>,
) -> Option<String> {
    let (status, existing) = (annotation(original, STATUS), annotation(original, OVERRIDES));
    let mut kept = Map::new();
    for list in LISTS {
        let mut fragments = Vec::new();
        for injected in template["spec"][list].as_array().into_iter().flatten() {
            let name = &injected["name"];
            if status[list].as_array().is_some_and(|names| names.contains(name))
                && find(&existing[list], name).is_none()
            {
                // Made by an earlier injection; the template of today replaces it.
                continue;
            }
            let mine = find(&existing[list], name)
                .or_else(|| LISTS.iter().find_map(|place| find(&original["spec"][*place], name)));
            let Some(mut mine) = mine.cloned() else { continue };
            own_word(&mut mine, platform_user);
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            if let Some(target) = containers
                .into_iter()
                .flatten()
                .find(|container| container["name"] == *name)
            {
                merge(target, &mine);
                if target["image"] == AUTO_IMAGE {
                    target["image"] = injected["image"].clone();
                }
                if platform_user.is_some() && target["securityContext"]["runAsUser"].as_i64() == platform_user {
                    target["securityContext"]["runAsUser"] = injected["securityContext"]["runAsUser"].clone();
                }
            }
            fragments.push(written::container(&mine));
        }
        if !fragments.is_empty() {
            kept.insert(list.to_owned(), Value::Array(fragments));
        }
    }
    (status.is_null() && !kept.is_empty()).then(|| gotemplate::json_text(&Value::Object(kept)))
}

/// What of a container is the user's own word.
fn own_word(container: &mut Value, platform_user: Option<i64>) {
    canonical::canonicalise(container);
    if let Value::Object(fields) = container {
        if fields.get("image").is_some_and(|image| image == AUTO_IMAGE) {
            fields.shift_remove("image");
        }
        // Kubernetes writes an empty one always; it says nothing.
        if fields
            .get("resources")
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty)
        {
            fields.shift_remove("resources");
        }
        if let Some(Value::Object(security)) = fields.get_mut("securityContext")
            && platform_user.is_some()
            && security.get("runAsUser").and_then(Value::as_i64) == platform_user
        {
            security.shift_remove("runAsUser");
        }
    }
}

/// Redirection must spare the user that the proxy really runs as; TPROXY needs root (§5.4, step 6).
pub(crate) fn follow_proxy_user(pod: &mut Value, tproxy: bool) {
    let lists = || LISTS.iter();
    let proxy = lists()
        .find_map(|list| find(&pod["spec"][*list], &json!("istio-proxy")))
        .cloned();
    let Some(proxy) = proxy else { return };
    let user = proxy["securityContext"]["runAsUser"].as_i64();
    let Some(user) = user.filter(|user| *user != 0) else {
        return;
    };
    let containers = pod["spec"].get_mut("initContainers").and_then(Value::as_array_mut);
    for init in containers.into_iter().flatten() {
        if let Some("istio-init" | "istio-validation") = init["name"].as_str() {
            if let Some(arguments) = init["args"].as_array_mut() {
                let flag = arguments.iter().position(|argument| argument == "-u");
                if let Some(value) = flag.and_then(|index| arguments.get_mut(index + 1)) {
                    *value = json!(user.to_string());
                }
            }
            if init["name"] == "istio-validation" {
                init["securityContext"]["runAsUser"] = json!(user);
                if let Some(group) = proxy["securityContext"]["runAsGroup"].as_i64() {
                    init["securityContext"]["runAsGroup"] = json!(group);
                }
            }
        }
    }
    if tproxy {
        for list in LISTS {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            for proxy in containers
                .into_iter()
                .flatten()
                .filter(|container| container["name"] == "istio-proxy")
            {
                proxy["securityContext"]["runAsUser"] = json!(0);
            }
        }
    }
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
    gotemplate::json_text(&Value::Object(status))
}
