//! May a mesh be installed or upgraded here (revisions.md §7.1)? Facts in, messages out.

use serde_json::Value;

use crate::message::{
    FUTURE_UNSUPPORTED_GATEWAY_API_VERSION, INSUFFICIENT_PERMISSIONS, Message, UNSUPPORTED_GATEWAY_API_VERSION,
    UNSUPPORTED_KUBERNETES_VERSION,
};

/// A kind of object that an installation creates.
#[derive(Debug)]
pub struct Needed {
    /// Group of the API.
    pub group: &'static str,
    /// Version of the API.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Is it created in the system namespace, or for the cluster?
    pub namespaced: bool,
}

const fn needed(group: &'static str, resource: &'static str, namespaced: bool) -> Needed {
    Needed {
        group,
        version: "v1",
        resource,
        namespaced,
    }
}

/// What an installation creates.
pub const NEEDED: &[Needed] = &[
    needed("", "namespaces", false),
    needed("rbac.authorization.k8s.io", "clusterroles", false),
    needed("rbac.authorization.k8s.io", "clusterrolebindings", false),
    needed("apiextensions.k8s.io", "customresourcedefinitions", false),
    needed("rbac.authorization.k8s.io", "roles", true),
    needed("rbac.authorization.k8s.io", "rolebindings", true),
    needed("", "serviceaccounts", true),
    needed("", "services", true),
    needed("apps", "deployments", true),
    needed("", "configmaps", true),
    needed("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    needed("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
];

/// Something the user may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Plural name of what cannot be created.
    pub resource: String,
    /// Why not.
    pub reason: String,
}

/// What was found out about a cluster.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of Kubernetes, as it says itself.
    pub kubernetes: String,
    /// Minor version, if it says one.
    pub minor: Option<u32>,
    /// Oldest minor version that is supported.
    pub oldest_minor: u32,
    /// What the user may not create.
    pub denied: Vec<Permission>,
    /// CustomResourceDefinitions.
    pub crds: Vec<Value>,
    /// Look at what concerns the control plane?
    pub check_control_plane: bool,
}

/// Definitions of Gateway API: plural name, version, and what it means if the version is not served.
const GATEWAY_API: [(&str, &str, bool); 8] = [
    ("gateways", "v1beta1", true),
    ("gatewayclasses", "v1beta1", true),
    ("httproutes", "v1beta1", true),
    ("referencegrants", "v1beta1", true),
    ("gateways", "v1", false),
    ("gatewayclasses", "v1", false),
    ("httproutes", "v1", false),
    ("grpcroutes", "v1", false),
];

/// Checks.
pub fn check(facts: &Facts) -> Vec<Message> {
    let mut messages = Vec::new();
    if facts.check_control_plane {
        if facts.minor.is_some_and(|minor| minor < facts.oldest_minor) {
            messages.push(Message::new(
                UNSUPPORTED_KUBERNETES_VERSION,
                format!(
                    "The Kubernetes Version {:?} is lower than the minimum version: v1.{}",
                    facts.kubernetes, facts.oldest_minor
                ),
            ));
        }
        for Permission { resource, reason } in &facts.denied {
            messages.push(Message::new(
                INSUFFICIENT_PERMISSIONS,
                format!("Missing required permission to create resource {resource} ({reason})"),
            ));
        }
    }
    for (resource, version, now) in GATEWAY_API {
        let name = format!("{resource}.gateway.networking.k8s.io");
        let Some(crd) = facts.crds.iter().find(|crd| crate::objects::name(crd) == name) else {
            continue;
        };
        let served = served(crd);
        if !served.contains(&version) {
            let code = if now {
                UNSUPPORTED_GATEWAY_API_VERSION
            } else {
                FUTURE_UNSUPPORTED_GATEWAY_API_VERSION
            };
            let have = if served.is_empty() {
                "none".to_owned()
            } else {
                served.join(", ")
            };
            let text = format!("The Gateway API CRD version {have} is lower than the minimum version: {version}");
            messages.push(Message::about(code, crd, text));
        }
    }
    messages.sort();
    messages.dedup();
    messages
}

fn served(crd: &Value) -> Vec<&str> {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let mut served: Vec<&str> = versions
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true)
        .filter_map(|version| version["name"].as_str())
        .collect();
    served.sort_unstable();
    served
}

/// The minor version of `--from-version`.
///
/// # Errors
/// What is wrong with it.
pub fn minor_version(text: &str) -> Result<u32, String> {
    let (major, minor) = text
        .split_once('.')
        .ok_or_else(|| format!("invalid version {text}, expected format like '1.0'"))?;
    if major != "1" {
        return Err(format!("expected major version 1, got {major}"));
    }
    minor
        .parse()
        .map_err(|_| format!("minor version is not a number: {minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(facts: Facts, expected: &[&str]) {
        let messages: Vec<String> = super::check(&facts).iter().map(ToString::to_string).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let facts = Facts {
            kubernetes: "v1.33.1".into(),
            minor: Some(33),
            oldest_minor: 32,
            check_control_plane: true,
            ..Facts::default()
        };
        check(facts.clone(), &[]);
        check(
            Facts {
                kubernetes: "v1.28.3".into(),
                minor: Some(28),
                ..facts.clone()
            },
            &[r#"Error [IST0142] The Kubernetes Version "v1.28.3" is lower than the minimum version: v1.32"#],
        );
        let denied = vec![Permission {
            resource: "namespaces".into(),
            reason: "permission denied".into(),
        }];
        check(
            Facts {
                denied,
                ..facts.clone()
            },
            &["Error [IST0141] Missing required permission to create resource namespaces (permission denied)"],
        );
        let crds = vec![
            json!({"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.gateway.networking.k8s.io"},
            "spec": {"versions": [{"name": "v1alpha2", "served": true}]}}),
        ];
        check(
            Facts { crds, ..facts },
            &[
                "Error [IST0156] (CustomResourceDefinition gateways.gateway.networking.k8s.io) The Gateway API CRD version v1alpha2 is lower than the minimum version: v1beta1",
                "Warning [IST0172] (CustomResourceDefinition gateways.gateway.networking.k8s.io) The Gateway API CRD version v1alpha2 is lower than the minimum version: v1",
            ],
        );
    }

    #[test]
    fn from_version_is_major_and_minor() {
        assert_eq!(minor_version("1.28"), Ok(28));
        assert!(minor_version("XX").is_err() && minor_version("2.1").is_err() && minor_version("1.22.1").is_err());
    }
}
