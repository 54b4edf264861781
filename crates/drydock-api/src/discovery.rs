//! What clients learn first: groups, versions, resources, version, health.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    codec::{Accept, View},
    error::ApiError,
    handlers::{Response, json_response, plain_response},
    hooks::Attributes,
    resource::{Registry, ResourceInfo, api_version},
};

/// The version we claim to be.
pub const GIT_VERSION: &str = "v1.36.2";

/// Health paths that answer `ok`.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Versions of one group, the preferred one first.
struct Group {
    name: String,
    versions: Vec<String>,
}

/// Rank of a version: `v2` before `v1`, stable before beta before alpha.
fn rank(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(major) = rest[..digits].parse() else {
        return (0, 0, 0);
    };
    match &rest[digits..] {
        "" => (3, major, 0),
        tail => {
            let minor = |prefix: &str| tail.strip_prefix(prefix).and_then(|minor| minor.parse().ok());
            match (minor("beta"), minor("alpha")) {
                (Some(minor), _) => (2, major, minor),
                (_, Some(minor)) => (1, major, minor),
                _ => (0, 0, 0),
            }
        }
    }
}

fn groups(registry: &Registry) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in registry.all() {
        match groups.iter_mut().find(|group| group.name == resource.group) {
            Some(group) if group.versions.contains(&resource.version) => {}
            Some(group) => group.versions.push(resource.version.clone()),
            None => groups.push(Group {
                name: resource.group.clone(),
                versions: vec![resource.version.clone()],
            }),
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
    }
    groups
}

/// Every path with an answer, as `/` lists them.
fn paths(registry: &Registry) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for group in groups(registry).iter().filter(|group| !group.name.is_empty()) {
        paths.insert(format!("/apis/{}", group.name));
        paths.extend(
            group
                .versions
                .iter()
                .map(|version| format!("/apis/{}/{version}", group.name)),
        );
    }
    paths
}

/// Whether a path answers GET, so that other methods are 405 rather than 404.
pub fn is_known(registry: &Registry, path: &str) -> bool {
    path == "/" || paths(registry).contains(path)
}

/// Answers a GET of a plain path.
///
/// # Errors
/// 404, 406.
pub fn answer(
    registry: &Registry,
    _attributes: &Attributes,
    path: &str,
    accept: Option<&str>,
    address: &str,
) -> Result<Response, ApiError> {
    if path == "/version" || path == "/version/" {
        return match Accept::negotiate(accept, false, false) {
            Some(Accept {
                format: crate::codec::Format::Json,
                ..
            }) => Ok(json_response(200, &version())),
            _ => Err(not_acceptable("application/json")),
        };
    }
    if HEALTH
        .iter()
        .any(|health| path == *health || path.starts_with(&format!("{health}/")))
    {
        return Ok(plain_response(200, "ok"));
    }
    if path == "/metrics" {
        return Ok(plain_response(200, "# drydock\n"));
    }
    if path == "/" {
        let paths: Vec<String> = paths(registry).into_iter().collect();
        return Ok(json_response(200, &json!({ "paths": paths })));
    }
    let parts: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
    if path.starts_with("//") {
        return Ok(plain_response(404, "404 page not found\n"));
    }
    let negotiated = Accept::negotiate(accept, false, matches!(parts.as_slice(), ["api" | "apis"])).ok_or_else(|| {
        ApiError::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    })?;
    let value = match (parts.as_slice(), &negotiated.view) {
        (["api"], View::Discovery(version)) => return Ok(aggregated(registry, true, version)),
        (["apis"], View::Discovery(version)) => return Ok(aggregated(registry, false, version)),
        (["api"], _) => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
        }),
        (["apis"], _) => {
            let groups = groups(registry);
            let list: Vec<Value> = groups
                .iter()
                .filter(|group| !group.name.is_empty())
                .map(group_value)
                .collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list })
        }
        (["apis", name], _) => match groups(registry).iter().find(|group| group.name == *name) {
            Some(group) => {
                let mut value = json!({ "kind": "APIGroup", "apiVersion": "v1" });
                if let (Some(map), Value::Object(fields)) = (value.as_object_mut(), group_value(group)) {
                    map.extend(fields);
                }
                value
            }
            None => return Ok(plain_response(404, "404 page not found\n")),
        },
        (["api", version], _) => resource_list(registry, "", version)?,
        (["apis", group, version], _) => resource_list(registry, group, version)?,
        _ => return Ok(plain_response(404, "404 page not found\n")),
    };
    Ok(crate::handlers::encoded_response(200, negotiated.format, &value))
}

fn not_acceptable(types: &str) -> ApiError {
    let mut error = ApiError::new(
        406,
        "NotAcceptable",
        format!("406: Not Acceptable\n\nAvailable representations: {types}"),
    );
    error.details = Some(serde_json::Map::new());
    error
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-06-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn group_value(group: &Group) -> Value {
    let version = |version: &String| json!({ "groupVersion": api_version(&group.name, version), "version": version });
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({ "name": group.name, "versions": versions, "preferredVersion": versions.first() })
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Result<Value, ApiError> {
    let mut resources = Vec::new();
    for resource in registry
        .all()
        .iter()
        .filter(|one| one.group == group && one.version == version)
    {
        let mut entry = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        if resource.allows("list") && resource.allows("create") {
            entry["storageVersionHash"] = storage_hash(resource).into();
        }
        resources.push(entry);
        for sub in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if !sub.version.is_empty() {
                entry["group"] = sub.group.clone().into();
                entry["version"] = sub.version.clone().into();
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return Err(ApiError::no_such_resource());
    }
    let group_version = api_version(group, version);
    let mut list = json!({ "kind": "APIResourceList" });
    if !group.is_empty() || version != "v1" {
        list["apiVersion"] = "v1".into();
    }
    list["groupVersion"] = group_version.into();
    list["resources"] = resources.into();
    Ok(list)
}

fn storage_hash(resource: &ResourceInfo) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};
    let text = format!("{}/{}/{}", resource.group, resource.storage_version, resource.kind);
    let digest = Sha256::digest(text.as_bytes());
    STANDARD.encode(digest.get(..8).unwrap_or_default())
}

fn aggregated(registry: &Registry, core: bool, version: &str) -> Response {
    let all = registry.all();
    let items: Vec<Value> = groups(registry)
        .iter()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = all
                        .iter()
                        .filter(|one| one.group == group.name && one.version == *version)
                        .map(|resource| aggregated_resource(resource))
                        .collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({ "name": group.name }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    crate::handlers::typed_response(200, &media_type, value.to_string())
}

fn aggregated_resource(resource: &ResourceInfo) -> Value {
    let (group, version) = if resource.custom {
        (resource.group.as_str(), resource.version.as_str())
    } else {
        ("", "")
    };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": { "group": group, "version": version, "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|sub| {
                let (group, version) = if sub.version.is_empty() {
                    (group, version)
                } else {
                    (sub.group.as_str(), sub.version.as_str())
                };
                json!({
                    "subresource": sub.name,
                    "responseKind": { "group": group, "version": version, "kind": sub.kind },
                    "verbs": sub.verbs,
                })
            })
            .collect();
        entry["subresources"] = subresources.into();
    }
    entry
}
