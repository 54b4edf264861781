//! What is in the files of a virtual machine, from its group and the mesh.

use std::collections::BTreeMap;

use api::names::{annotation, label};
use install::object::{Object, strings};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// What the files are made from.
pub struct Inputs<'a> {
    /// The WorkloadGroup.
    pub group: &'a Object,
    /// Mesh configuration.
    pub mesh: &'a Value,
    /// Identity of the cluster.
    pub cluster_id: &'a str,
    /// Host of istiod.
    pub istiod: String,
    /// Whether the control plane has a revision of its own name.
    pub named_revision: bool,
    /// Address inside the machine's network.
    pub internal: Option<&'a str>,
    /// Address as others see it.
    pub external: Option<&'a str>,
    /// Redirect DNS to the agent.
    pub capture_dns: bool,
    /// Make a WorkloadEntry when the machine connects.
    pub autoregister: bool,
}

impl Inputs<'_> {
    /// Service account of the workload.
    pub fn service_account(&self) -> &str {
        match self.group.text("/spec/template/serviceAccount") {
            "" => "default",
            account => account,
        }
    }

    /// `mesh.yaml` and `cluster.env`.
    pub fn files(&self) -> Result<BTreeMap<&'static str, String>, Failure> {
        let config = self.proxy_config()?;
        let mesh = install::yaml::to_sorted(&json!({"defaultConfig": config}));
        Ok(BTreeMap::from([
            ("mesh.yaml", mesh.trim_end().to_owned() + "\n"),
            ("cluster.env", self.environment(&config)),
        ]))
    }

    /// The mesh's configuration of proxies, that of the group over it, and what the group says itself over both.
    fn proxy_config(&self) -> Result<Value, Failure> {
        let mut config = self.mesh["defaultConfig"].as_object().cloned().unwrap_or_default();
        if self.named_revision && config.get("discoveryAddress").is_none() {
            config.insert(
                "discoveryAddress".to_owned(),
                format!("{}:{}", self.istiod, api::names::port::XDS_TLS).into(),
            );
        }
        let mut metadata = taken(&mut config);
        for pointer in ["/metadata/annotations", "/spec/metadata/annotations"] {
            let annotations = strings(self.group.0.pointer(pointer));
            let Some(text) = annotations.get(annotation::PROXY_CONFIG) else {
                continue;
            };
            let wrong = |error: String| Failure::new(format!("annotation {}: {error}", annotation::PROXY_CONFIG));
            let over = install::yaml::document(text).map_err(|error| wrong(error.to_string()))?;
            let Value::Object(mut over) = over else {
                return Err(wrong("wants fields of a proxy configuration".to_owned()));
            };
            metadata.extend(taken(&mut over));
            config.extend(over);
        }
        metadata.extend(self.metadata(&config));
        config.insert("proxyMetadata".to_owned(), Value::Object(metadata));
        if let Some(probe) = self.group.0.pointer("/spec/probe") {
            config.insert("readinessProbe".to_owned(), probe.clone());
        }
        Ok(Value::Object(config))
    }

    fn metadata(&self, config: &Map<String, Value>) -> Map<String, Value> {
        let group = self.group;
        let mut labels = strings(group.0.pointer("/spec/metadata/labels"));
        labels.extend(strings(group.0.pointer("/spec/template/labels")));
        let first = |keys: [&str; 3], other: &str| {
            let found = keys.iter().find_map(|key| labels.get(*key));
            found.map_or_else(|| other.to_owned(), Clone::clone)
        };
        let service = first([label::CANONICAL_NAME, label::APP_NAME, label::APP], group.name());
        let revision = first(
            [label::CANONICAL_REVISION, label::APP_VERSION, label::VERSION],
            "latest",
        );
        labels.insert(label::CANONICAL_NAME.to_owned(), service.clone());
        labels.insert(label::CANONICAL_REVISION.to_owned(), revision.clone());
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut metadata = BTreeMap::from([
            ("CANONICAL_SERVICE", service),
            ("CANONICAL_REVISION", revision),
            ("POD_NAMESPACE", group.namespace().to_owned()),
            ("SERVICE_ACCOUNT", self.service_account().to_owned()),
            ("TRUST_DOMAIN", text(self.mesh.get("trustDomain"))),
            ("ISTIO_META_CLUSTER_ID", self.cluster_id.to_owned()),
            ("ISTIO_META_MESH_ID", text(config.get("meshId"))),
            ("ISTIO_META_NETWORK", group.text("/spec/template/network").to_owned()),
            ("ISTIO_META_WORKLOAD_NAME", group.name().to_owned()),
            ("ISTIO_METAJSON_LABELS", json!(labels).to_string()),
        ]);
        let ports = self.ports();
        if !ports.is_empty() {
            let ports: Vec<Value> = ports
                .iter()
                .map(|(name, port)| json!({"name": name, "containerPort": port, "protocol": ""}))
                .collect();
            metadata.insert("ISTIO_META_POD_PORTS", json!(ports).to_string());
        }
        if self.capture_dns {
            metadata.insert("ISTIO_META_DNS_CAPTURE", "true".to_owned());
        }
        if self.autoregister {
            metadata.insert("ISTIO_META_AUTO_REGISTER_GROUP", group.name().to_owned());
        }
        metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect()
    }

    fn ports(&self) -> BTreeMap<&str, u64> {
        let ports = self.group.0.pointer("/spec/template/ports").and_then(Value::as_object);
        let ports = ports.into_iter().flatten();
        ports
            .filter_map(|(name, port)| Some((name.as_str(), port.as_u64()?)))
            .collect()
    }

    /// Variables for a shell, by name.
    fn environment(&self, config: &Value) -> String {
        let mut variables: BTreeMap<String, String> = strings(config.get("proxyMetadata"));
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
        let ports: Vec<String> = self.ports().values().map(u64::to_string).collect();
        set(
            "ISTIO_INBOUND_PORTS",
            if ports.is_empty() {
                "*".to_owned()
            } else {
                ports.join(",")
            },
        );
        set("ISTIO_NAMESPACE", self.group.namespace().to_owned());
        set(
            "ISTIO_SERVICE",
            format!("{}.{}", self.group.name(), self.group.namespace()),
        );
        set("ISTIO_SERVICE_CIDR", "*".to_owned());
        // Without SSH nobody could mend a machine; the others are the agent's own.
        let status = match config["statusPort"].as_u64() {
            Some(15090 | 15021) => String::new(),
            Some(port) if port != 0 => format!(",{port}"),
            _ => ",15020".to_owned(),
        };
        set("ISTIO_LOCAL_EXCLUDE_PORTS", format!("22,15090,15021{status}"));
        set("SERVICE_ACCOUNT", self.service_account().to_owned());
        if self.named_revision {
            set("CA_ADDR", format!("{}:{}", self.istiod, api::names::port::XDS_TLS));
        }
        if let Some(address) = self.internal.or(self.external) {
            set("ISTIO_SVC_IP", address.to_owned());
        }
        if self.internal.is_none() && self.external.is_some() {
            set("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true".to_owned());
        }
        let line = |(name, value): (&String, &String)| format!("{name}='{}'\n", value.replace('\'', "'\"'\"'"));
        variables.iter().map(line).collect()
    }
}

/// The `proxyMetadata` of a configuration, out of it; values are texts.
fn taken(config: &mut Map<String, Value>) -> Map<String, Value> {
    match config.shift_remove("proxyMetadata") {
        Some(Value::Object(metadata)) => metadata,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_group_says_more_than_the_mesh() {
        let group = Object(
            json!({"kind": "WorkloadGroup", "metadata": {"name": "vm", "namespace": "app"}, "spec": {
            "metadata": {"labels": {"app": "shop", "version": "v2"},
                "annotations": {"proxy.istio.io/config": "concurrency: 3\nproxyMetadata: {A: group, QUOTE: \"it's\"}"}},
            "template": {"ports": {"http": 8080}, "network": "vpc"}}}),
        );
        let mesh = json!({"trustDomain": "cluster.local", "defaultConfig": {"statusPort": 15999, "concurrency": 2,
            "proxyMetadata": {"A": "mesh", "B": "mesh"}}});
        let inputs = Inputs {
            group: &group,
            mesh: &mesh,
            cluster_id: "Kubernetes",
            istiod: "istiod.istio-system.svc".to_owned(),
            named_revision: false,
            internal: None,
            external: Some("2001:0db8::1"),
            capture_dns: true,
            autoregister: true,
        };
        let files = inputs.files().unwrap();
        insta::assert_snapshot!(format!("{}---\n{}", files["mesh.yaml"], files["cluster.env"]));
    }
}
