//! What of its role a node may use: what concerns itself and the pods bound to it.

use super::attributes::{Attributes, Target};
use crate::objects::{Objects, text};
use serde_json::Value;

/// Prefix of a node's user name.
const USER: &str = "system:node:";
/// Where nodes keep their Leases.
const LEASES: &str = "kube-node-lease";

/// The node that a user of the group `system:nodes` is.
#[must_use]
pub fn node_of(user: &str) -> Option<&str> {
    user.strip_prefix(USER).filter(|name| !name.is_empty())
}

/// Whether `node` may do what its role allows it.
#[must_use]
pub fn allows(objects: &dyn Objects, node: &str, wanted: &Attributes) -> bool {
    let Target::Resource {
        group,
        resource,
        namespace,
        name,
        ..
    } = &wanted.target
    else {
        return true;
    };
    let reads = matches!(wanted.verb.as_str(), "get" | "list" | "watch");
    let own = || pods_on(objects, node, namespace);
    match (group.as_str(), resource.as_str()) {
        ("", "secrets" | "configmaps") => !name.is_empty() && own().any(|pod| refers(&pod, resource, name)),
        ("", "serviceaccounts") if !reads => own().any(|pod| text(&pod, &["spec", "serviceAccountName"]) == name),
        // A new Node names itself in its body only; admission looks there.
        ("", "nodes") if !reads => name == node || (name.is_empty() && wanted.verb == "create"),
        ("", "pods") if !reads => own().any(|pod| text(&pod, &["metadata", "name"]) == name),
        ("coordination.k8s.io", "leases") => {
            namespace == LEASES && (name == node || (name.is_empty() && wanted.verb == "create"))
        }
        _ => true,
    }
}

fn pods_on<'a>(
    objects: &dyn Objects,
    node: &'a str,
    namespace: &str,
) -> impl Iterator<Item = std::sync::Arc<Value>> + use<'a> {
    let pods = objects.list("", "pods", namespace).into_iter();
    pods.filter(move |pod| text(pod, &["spec", "nodeName"]) == node)
}

/// Whether a pod mounts the object, reads variables from it, or pulls images with it.
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    let (volume, field, source) = if resource == "secrets" {
        ("secret", "secretName", "secret")
    } else {
        ("configMap", "name", "configMap")
    };
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let in_volume = |v: &Value| {
        let projected = list(&v["projected"]["sources"]);
        v[volume][field] == name || projected.iter().any(|s| s[source]["name"] == name)
    };
    let in_container = |c: &Value| {
        let (key, from) = (format!("{source}KeyRef"), format!("{source}Ref"));
        list(&c["env"]).iter().any(|e| e["valueFrom"][&key]["name"] == name)
            || list(&c["envFrom"]).iter().any(|e| e[&from]["name"] == name)
    };
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    list(&spec["volumes"]).iter().any(in_volume)
        || containers.iter().any(|kind| list(&spec[kind]).iter().any(in_container))
        || (resource == "secrets" && list(&spec["imagePullSecrets"]).iter().any(|s| s["name"] == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fixture::Fixed;
    use serde_json::json;

    fn check(verb: &str, resource: &str, namespace: &str, name: &str, expected: bool) {
        let mut objects = Fixed::default();
        for (pod, on, secret) in [("mine", "a", "used"), ("other", "b", "foreign")] {
            objects.put("", "pods", json!({"metadata": {"namespace": "ns", "name": pod}, "spec": {"nodeName": on,
                "serviceAccountName": pod, "volumes": [{"secret": {"secretName": secret}}, {"projected": {"sources": [{"configMap": {"name": "shown"}}]}}],
                "containers": [{"envFrom": [{"configMapRef": {"name": pod}}]}]}}));
        }
        let (group, resource) = resource.split_once(' ').unwrap_or(("", resource));
        let wanted = Attributes {
            verb: verb.into(),
            target: Target::Resource {
                group: group.into(),
                version: "v1".into(),
                resource: resource.into(),
                subresource: String::new(),
                namespace: namespace.into(),
                name: name.into(),
            },
        };
        assert_eq!(
            allows(&objects, "a", &wanted),
            expected,
            "{verb} {resource} {namespace}/{name}"
        );
    }

    #[test]
    fn a_node_reaches_what_its_pods_use_and_no_more() {
        check("get", "secrets", "ns", "used", true);
        check("watch", "secrets", "ns", "used", true);
        check("get", "secrets", "ns", "foreign", false);
        check("list", "secrets", "ns", "", false);
        check("get", "secrets", "other", "used", false);
        check("get", "configmaps", "ns", "shown", true);
        check("get", "configmaps", "ns", "mine", true);
        check("get", "configmaps", "ns", "other", false);
        check("create", "serviceaccounts", "ns", "mine", true);
        check("create", "serviceaccounts", "ns", "other", false);
        check("patch", "nodes", "", "a", true);
        check("patch", "nodes", "", "b", false);
        check("get", "nodes", "", "b", true);
        check("patch", "pods", "ns", "mine", true);
        check("delete", "pods", "ns", "other", false);
        check("create", "pods", "ns", "", false);
        check("update", "coordination.k8s.io leases", LEASES, "a", true);
        check("update", "coordination.k8s.io leases", LEASES, "b", false);
        check("update", "coordination.k8s.io leases", "kube-system", "a", false);
    }
}
