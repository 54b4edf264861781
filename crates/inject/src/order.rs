//! Order of containers after injection (revisions.md §5.6).

use serde_json::Value;

/// Brings containers into the order in which they have to start.
///
/// `hold`: applications wait for the proxy, so a classic proxy container starts first.
pub(crate) fn arrange(pod: &mut Value, hold: bool) {
    if let Some(containers) = pod["spec"].get_mut("containers").and_then(Value::as_array_mut) {
        move_to(containers, "istio-proxy", hold);
    }
    if let Some(containers) = pod["spec"].get_mut("initContainers").and_then(Value::as_array_mut) {
        // A pod whose templates put the proxy elsewhere, or nowhere, is a classic one, whatever its nodes can do.
        let native = containers.iter().any(|container| container["name"] == "istio-proxy");
        if native {
            // The last one moved stands first.
            for name in ["enable-core-dump", "istio-proxy", "istio-validation", "istio-init"] {
                move_to(containers, name, true);
            }
        } else {
            move_to(containers, "istio-validation", true);
            move_to(containers, "istio-init", false);
            move_to(containers, "enable-core-dump", false);
        }
    }
}

fn move_to(containers: &mut Vec<Value>, name: &str, first: bool) {
    let Some(index) = containers.iter().position(|container| container["name"] == name) else {
        return;
    };
    let container = containers.remove(index);
    containers.insert(if first { 0 } else { containers.len() }, container);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(hold: bool, init: &[&str], main: &[&str], expected: (&str, &str)) {
        let list = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>();
        let mut pod = json!({"spec": {"initContainers": list(init), "containers": list(main)}});
        arrange(&mut pod, hold);
        let names = |field: &str| {
            let names = pod["spec"][field]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|c| c["name"].as_str());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (names("initContainers").as_str(), names("containers").as_str()),
            expected
        );
    }

    #[test]
    fn proxies_start_where_they_must() {
        check(
            false,
            &["mine", "istio-proxy", "istio-init"],
            &["app"],
            ("istio-init istio-proxy mine", "app"),
        );
        check(
            false,
            &["istio-init", "mine"],
            &["istio-proxy", "app"],
            ("mine istio-init", "app istio-proxy"),
        );
        check(
            true,
            &["istio-init"],
            &["app", "istio-proxy"],
            ("istio-init", "istio-proxy app"),
        );
    }
}
