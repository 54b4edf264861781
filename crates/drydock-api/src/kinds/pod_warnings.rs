//! Warnings about pods: accepted, but hardly meant.

use serde_json::Value;

use super::{list, text};
use crate::schema::quantity::Quantity;

/// Node labels that have new names.
const OLD_LABELS: [(&str, &str); 5] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

/// Annotations that do nothing any more.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Volumes that are on their way out, or out.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Warnings about a pod or pod template at `root` (empty for a pod, else ending with a dot).
pub fn warnings(pod: &Value, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    let spec = &pod["spec"];
    placement(spec, root, &mut found);
    for (key, message) in OLD_ANNOTATIONS {
        if !pod["metadata"]["annotations"][key].is_null() {
            found.push(format!("{root}metadata.annotations[{key}]: {message}"));
        }
    }
    for (index, volume) in list(spec, "/volumes").iter().enumerate() {
        for (kind, message) in OLD_VOLUMES {
            if volume[kind].is_object() {
                found.push(format!("{root}spec.volumes[{index}].{kind}: {message}"));
            }
        }
    }
    repeated(
        list(spec, "/hostAliases"),
        "ip",
        &format!("{root}spec.hostAliases"),
        &mut found,
    );
    let secrets = list(spec, "/imagePullSecrets");
    repeated(secrets, "name", &format!("{root}spec.imagePullSecrets"), &mut found);
    for (index, secret) in secrets.iter().enumerate() {
        if text(secret, "/name").is_empty() {
            found.push(format!(
                "{root}spec.imagePullSecrets[{index}].name: invalid empty name \"\""
            ));
        }
    }
    fractions(&spec["overhead"], &format!("{root}spec.overhead"), &mut found);
    let groups = ["initContainers", "containers", "ephemeralContainers"];
    let containers = || {
        groups.iter().flat_map(|group| {
            let list = list(spec, &format!("/{group}")).iter().enumerate();
            list.map(move |(index, one)| (format!("{root}spec.{group}[{index}]"), one))
        })
    };
    for (path, container) in containers() {
        for kind in ["limits", "requests"] {
            fractions(
                &container["resources"][kind],
                &format!("{path}.resources.{kind}"),
                &mut found,
            );
        }
        hidden_variables(container, &path, &mut found);
    }
    repeated_ports(containers(), &mut found);
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|grace| grace < 0)
    {
        found.push(format!(
            "{root}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    found
}

fn old_label(label: &str) -> Option<&'static str> {
    OLD_LABELS
        .iter()
        .find(|(old, _)| *old == label)
        .map(|(_, message)| *message)
}

fn placement(spec: &Value, root: &str, found: &mut Vec<String>) {
    for key in spec["nodeSelector"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if let Some(message) = old_label(key) {
            found.push(format!("{root}spec.nodeSelector[{key}]: {message}"));
        }
    }
    let affinity = "spec.affinity.nodeAffinity";
    let node = &spec["affinity"]["nodeAffinity"];
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let terms = list(node, &format!("/{required}/nodeSelectorTerms")).iter().enumerate();
    let terms = terms.map(|(index, term)| (format!("{root}{affinity}.{required}.nodeSelectorTerms[{index}]"), term));
    let wishes = list(node, &format!("/{preferred}")).iter().enumerate();
    let wishes = wishes.map(|(index, wish)| {
        (
            format!("{root}{affinity}.{preferred}[{index}].preference"),
            &wish["preference"],
        )
    });
    for (path, term) in terms.chain(wishes) {
        for (at, expression) in list(term, "/matchExpressions").iter().enumerate() {
            let key = text(expression, "/key");
            if let Some(message) = old_label(key) {
                found.push(format!("{path}.matchExpressions[{at}].key: {key} is {message}"));
            }
        }
    }
    for (index, constraint) in list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = format!("{root}spec.topologySpreadConstraints[{index}]");
        let key = text(constraint, "/topologyKey");
        if let Some(message) = old_label(key) {
            found.push(format!("{path}.topologyKey: {key} is {message}"));
        }
        if constraint["labelSelector"].is_null() {
            found.push(format!(
                "{path}.labelSelector: a null labelSelector results in matching no pod"
            ));
        }
    }
}

fn repeated(items: &[Value], field: &str, path: &str, found: &mut Vec<String>) {
    for (index, item) in items.iter().enumerate() {
        if items.iter().take(index).any(|other| other[field] == item[field]) {
            found.push(format!(
                "{path}[{index}].{field}: duplicate {field} {:?}",
                text(item, &format!("/{field}"))
            ));
        }
    }
}

fn fractions(resources: &Value, path: &str, found: &mut Vec<String>) {
    const NANO: i128 = 1_000_000_000;
    for name in ["memory", "ephemeral-storage"] {
        let amount = text(resources, &format!("/{name}"));
        if Quantity::parse(amount).is_some_and(|amount| amount.nanos() % NANO != 0) {
            found.push(format!(
                "{path}[{name}]: fractional byte value {amount:?} is invalid, must be an integer"
            ));
        }
    }
}

fn hidden_variables(container: &Value, path: &str, found: &mut Vec<String>) {
    let variables = list(container, "/env");
    for (index, variable) in variables.iter().enumerate() {
        if !variables
            .iter()
            .take(index)
            .any(|other| other["name"] == variable["name"])
        {
            continue;
        }
        let (name, value) = (text(variable, "/name"), text(variable, "/value"));
        let reference = format!("$({name})");
        if variable["valueFrom"].is_object() || value == reference || !value.contains(&reference) {
            found.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn repeated_ports<'a>(containers: impl Iterator<Item = (String, &'a Value)>, found: &mut Vec<String>) {
    let mut earlier: Vec<(String, &Value)> = Vec::new();
    for (path, container) in containers {
        for (index, port) in list(container, "/ports").iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            let number = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
            for (other_path, other) in &earlier {
                if other["containerPort"] != port["containerPort"]
                    || text(other, "/protocol") != text(port, "/protocol")
                {
                    continue;
                }
                let same_host = number(other) == number(port) && text(other, "/hostIP") == text(port, "/hostIP");
                if same_host {
                    found.push(format!("{path}: duplicate port definition with {other_path}"));
                } else if number(other) == 0 || number(port) == 0 {
                    found.push(format!("{path}: overlapping port definition with {other_path}"));
                }
            }
            earlier.push((path, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hardly_meant_pods_are_warned_about() {
        let pod = json!({ "metadata": {}, "spec": {
            "nodeSelector": { "beta.kubernetes.io/os": "linux" },
            "imagePullSecrets": [{ "name": "a" }, { "name": "a" }],
            "containers": [{
                "name": "c",
                "env": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }, { "name": "A", "value": "$(A)3" }],
                "ports": [{ "containerPort": 80, "protocol": "TCP" }, { "containerPort": 80, "protocol": "TCP" }],
                "resources": { "limits": { "memory": "100m" } },
            }],
        } });
        assert_eq!(
            warnings(&pod, ""),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
