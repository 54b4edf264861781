//! What is watched.

use kube::core::ApiResource;

/// A kind of object that the mesh is made from.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether the API may lack this kind, because a custom resource definition is not installed.
    pub optional: bool,
    /// Restricts what is read.
    pub field_selector: Option<&'static str>,
    /// Restricts what is read.
    pub label_selector: Option<&'static str>,
}

/// Kinds of the core API, as (group, version, kind, plural, field selector).
const CORE: &[(&str, &str, &str, &str, Option<&str>)] = &[
    ("", "v1", "Namespace", "namespaces", None),
    ("", "v1", "Node", "nodes", None),
    ("", "v1", "Service", "services", None),
    // What has ended serves nothing.
    (
        "",
        "v1",
        "Pod",
        "pods",
        Some("status.phase!=Failed,status.phase!=Succeeded"),
    ),
    (
        "",
        "v1",
        "Secret",
        "secrets",
        Some("type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1"),
    ),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", None),
];

/// Kinds of Istio's own that are not mesh configuration.
const NOT_READ: &[&str] = &["WorkloadGroup"];

/// Everything that is watched: core kinds, then Istio's.
pub fn watched() -> Vec<Watched> {
    let core = CORE.iter().map(|(group, version, kind, plural, fields)| Watched {
        resource: resource(group, version, kind, plural),
        optional: false,
        field_selector: *fields,
        label_selector: None,
    });
    let istio = api::kind::KINDS
        .iter()
        .filter(|k| !NOT_READ.contains(&k.kind))
        .map(|k| Watched {
            resource: resource(k.group, k.version(), k.kind, k.plural),
            optional: true,
            field_selector: None,
            label_selector: None,
        });
    core.chain(istio).collect()
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_kinds_are_required_and_custom_ones_are_not() {
        let all = watched();
        let find = |kind: &str| {
            all.iter()
                .find(|w| w.resource.kind == kind)
                .map(|w| (w.resource.api_version.as_str(), w.optional))
        };
        assert_eq!(find("Service"), Some(("v1", false)));
        assert_eq!(find("EndpointSlice"), Some(("discovery.k8s.io/v1", false)));
        assert_eq!(find("VirtualService"), Some(("networking.istio.io/v1", true)));
        assert_eq!(find("WorkloadGroup"), None);
    }
}
