//! The data that injection templates read (revisions.md §5.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotemplate::{Value, from_json};
use serde_json::{Map, Value as Json, json};

use crate::config::Config;
use crate::golang::{self, ORIGINAL};
use crate::merge::{merge, without_nulls};
use crate::proxy_config;
use crate::workload::Workload;
use crate::written;

/// User and group of the proxy where the platform gives the namespace no numbers of its own.
const PROXY_ID: i64 = 1337;

/// Everything that one rendering depends on.
pub(crate) struct Data<'a> {
    pub(crate) pod: &'a Json,
    pub(crate) workload: &'a Workload,
    pub(crate) config: &'a Config,
    pub(crate) mesh: &'a Json,
    pub(crate) proxy_config: &'a Json,
    pub(crate) revision: &'a str,
    pub(crate) native: bool,
    pub(crate) compliance_policy: &'a str,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
}

/// Defaults of ProxyConfig; a field with its default is left out of `PROXY_CONFIG`.
fn proxy_defaults() -> Json {
    json!({
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "proxyAdminPort": 15000,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "statNameLength": 189,
        "statusPort": 15020,
        "interceptionMode": "REDIRECT",
    })
}

/// The effective ProxyConfig of a pod: mesh default, then the pod's annotation.
pub(crate) fn proxy_config(mesh: &Json, annotations: &Json) -> Result<Json, String> {
    let mut config = proxy_defaults();
    overlay(&mut config, &mesh["defaultConfig"]);
    if let Some(text) = annotations.get("proxy.istio.io/config").and_then(Json::as_str) {
        let own = proxy_config::read(text).map_err(|error| format!("annotation proxy.istio.io/config: {error}"))?;
        overlay(&mut config, &own);
    }
    Ok(config)
}

/// A proxy configuration over another: a field that is given replaces the one below with all that is in it. Metadata
/// are united, and headers that are not mentioned stay.
fn overlay(config: &mut Json, above: &Json) {
    let Some(below) = config.as_object_mut() else { return };
    for (field, value) in above.as_object().into_iter().flatten() {
        match (field.as_str(), below.get_mut(field)) {
            _ if value.is_null() => {}
            ("proxyMetadata" | "proxyHeaders", Some(Json::Object(old))) if value.is_object() => {
                let given = value.as_object().into_iter().flatten();
                old.extend(given.map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                below.insert(field.clone(), without_nulls(value));
            }
        }
    }
}

/// What of a ProxyConfig differs from the defaults.
fn changed(config: &Json) -> Json {
    let defaults = proxy_defaults();
    let fields = config.as_object().into_iter().flatten();
    let kept: Map<String, Json> = fields
        .filter(|(key, value)| defaults.get(*key) != Some(value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    written::proxy_config(&Json::Object(kept))
}

impl Data<'_> {
    /// The template data.
    pub(crate) fn to_value(&self) -> Value {
        let with_maps = |json: &Json, maps: &[&str]| {
            let mut json = json.clone();
            for map in maps {
                if !json[*map].is_object() {
                    json[*map] = json!({});
                }
            }
            json
        };
        let mut proxy = golang::message("proxyConfig", &with_maps(self.proxy_config, &["proxyMetadata"]));
        if let Value::Map(fields) = &mut proxy {
            Arc::make_mut(fields).insert(
                ORIGINAL.into(),
                Value::String(changed(self.proxy_config).to_string().into()),
            );
        }
        let mut fields: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        let mut field = |name: &str, value: Value| fields.insert(name.into(), value);
        let text = |text: &str| Value::String(text.into());
        field(
            "TypeMeta",
            golang::structure(
                "",
                &json!({"apiVersion": self.workload.api_version, "kind": self.workload.kind}),
            ),
        );
        field(
            "DeploymentMeta",
            golang::structure(
                "",
                &json!({"name": self.workload.name, "namespace": self.workload.namespace}),
            ),
        );
        field(
            "ObjectMeta",
            golang::structure(
                "metadata",
                &with_maps(&self.pod["metadata"], &["labels", "annotations"]),
            ),
        );
        field("Spec", golang::structure("spec", &self.pod["spec"]));
        field("ProxyConfig", proxy);
        field("MeshConfig", golang::message("meshConfig", &self.mesh_with_defaults()));
        field("Values", from_json(&self.config.values));
        field("Revision", text(self.revision));
        field("NativeSidecars", Value::Bool(self.native));
        field("ProxyImage", text(&self.image("proxy")));
        field("ProxyInitImage", text(&self.image("proxy_init")));
        field("ProxyUID", Value::Int(self.uid.unwrap_or(PROXY_ID)));
        field("ProxyGID", Value::Int(self.gid.unwrap_or(PROXY_ID)));
        let policy = self.mesh["inboundTrafficPolicy"]["mode"]
            .as_str()
            .unwrap_or("PASSTHROUGH")
            .to_lowercase();
        field("InboundTrafficPolicyMode", text(&policy));
        field("CompliancePolicy", text(self.compliance_policy));
        Value::Map(Arc::new(fields))
    }

    fn mesh_with_defaults(&self) -> Json {
        let mut mesh = json!({
            "proxyListenPort": 15001, "proxyInboundListenPort": 15006, "trustDomain": "cluster.local",
            "rootNamespace": "istio-system", "enableTracing": true, "enablePrometheusMerge": true, "enableAutoMtls": true,
            "accessLogFile": "", "accessLogFormat": "", "connectTimeout": "10s", "dnsRefreshRate": "60s",
            "ingressService": "istio-ingressgateway", "ingressClass": "istio",
            "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}, "inboundTrafficPolicy": {"mode": "PASSTHROUGH"},
        });
        merge(&mut mesh, self.mesh);
        mesh
    }

    fn image(&self, which: &str) -> String {
        let annotation = self.pod["metadata"]["annotations"]
            .get("sidecar.istio.io/proxyImageType")
            .map(scalar);
        // The configuration is the proxy's own; an annotation speaks for both containers.
        let configured = self.proxy_config["image"].get("imageType").map(scalar);
        let configured = configured.filter(|kind| which == "proxy" && !kind.is_empty());
        self.config.image(which, annotation.or(configured))
    }
}

impl Config {
    /// `hub/image:tag` of the `proxy` or its init container (`proxy_init`), with the image type, that of the values unless
    /// another is given, as a suffix of the tag (§5.5).
    pub fn image(&self, which: &str, kind: Option<String>) -> String {
        let global = |name: &str| self.value(&["global", name]).map(scalar).unwrap_or_default();
        let image = self
            .value(&["global", which, "image"])
            .map(scalar)
            .filter(|image| !image.is_empty());
        let image = image.unwrap_or_else(|| "proxyv2".to_owned());
        if image.contains('/') {
            return image;
        }
        let kind = kind.unwrap_or_else(|| global("variant"));
        format!("{}/{image}:{}", global("hub"), tag(&global("tag"), &kind))
    }
}

/// A tag with another image type: a known suffix is replaced, type `default` means none.
fn tag(tag: &str, kind: &str) -> String {
    let base = ["-distroless", "-debug"]
        .iter()
        .find_map(|suffix| tag.strip_suffix(suffix));
    match (kind, base) {
        ("", _) => tag.to_owned(),
        ("default", base) => base.unwrap_or(tag).to_owned(),
        (kind, base) => format!("{}-{kind}", base.unwrap_or(tag)),
    }
}

fn scalar(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_types_are_suffixes_of_the_tag() {
        assert_eq!(tag("1.0", ""), "1.0");
        assert_eq!(tag("1.0", "distroless"), "1.0-distroless");
        assert_eq!(tag("1.0-distroless", "debug"), "1.0-debug");
        assert_eq!(tag("1.0-debug", "default"), "1.0");
    }

    #[test]
    fn only_what_differs_is_told_to_the_agent() {
        let mesh =
            json!({"defaultConfig": {"discoveryAddress": "istiod-canary.istio-system.svc:15012", "concurrency": 2}});
        let config = proxy_config(
            &mesh,
            &json!({"proxy.istio.io/config": "statusPort: 15020\nconcurrency: 4"}),
        );
        let changed = config.map(|config| changed(&config));
        assert_eq!(
            changed,
            Ok(json!({"concurrency": 4, "discoveryAddress": "istiod-canary.istio-system.svc:15012"}))
        );
    }

    #[test]
    fn a_field_of_the_annotation_replaces_the_mesh_s() {
        let mesh = json!({"defaultConfig": {
            "tracing": {"zipkin": {"address": "zipkin:9411"}, "sampling": 10},
            "proxyMetadata": {"A": "1", "B": "2"}, "holdApplicationUntilProxyStarts": true,
        }});
        let annotation = "tracing: {sampling: 50}\nproxyMetadata: {B: '3'}\nholdApplicationUntilProxyStarts: null";
        let config = proxy_config(&mesh, &json!({"proxy.istio.io/config": annotation}));
        assert_eq!(
            config.map(|config| changed(&config)),
            Ok(json!({
                "tracing": {"sampling": 50}, "proxyMetadata": {"A": "1", "B": "3"},
                "holdApplicationUntilProxyStarts": true,
            }))
        );
    }
}
