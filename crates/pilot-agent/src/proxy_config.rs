//! ProxyConfig as the agent needs it: defaults ← mesh configuration file ← `PROXY_CONFIG` ← annotation. Fields are
//! replaced, only `proxyMetadata` is merged. Kept as JSON, because it is handed on whole in the node's metadata.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::proxy_config::whole;
use serde_json::{Map, Value, json};

use crate::settings::parse_duration;

/// Neither the file nor the variable nor the annotation is longer than this, in bytes.
const MAX_TEXT: usize = 1024 * 1024;

/// A source of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyConfigError {
    /// It is no YAML or JSON object.
    #[error("{source_name} is no ProxyConfig: {why}")]
    Malformed {
        /// Which source.
        source_name: &'static str,
        /// What the reader said.
        why: String,
    },
    /// A field has a value that cannot be used.
    #[error("ProxyConfig field {field}: {value} is not {expected}")]
    Field {
        /// Field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig(Map<String, Value>);

impl Default for ProxyConfig {
    fn default() -> Self {
        let defaults = json!({
            "binaryPath": "/usr/local/bin/envoy",
            "configPath": "./etc/istio/proxy",
            "controlPlaneAuthPolicy": "MUTUAL_TLS",
            "discoveryAddress": "istiod.istio-system.svc:15012",
            "drainDuration": "45s",
            "proxyAdminPort": 15000,
            "serviceCluster": "istio-proxy",
            "statNameLength": 189,
            "statusPort": 15020,
            "terminationDrainDuration": "5s",
        });
        match defaults {
            Value::Object(map) => Self(map),
            _ => Self(Map::new()),
        }
    }
}

impl ProxyConfig {
    /// From its JSON, without defaults.
    pub fn from_json(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// As JSON.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Lays the fields of `text` (YAML or JSON) over this; `source_name` is used in errors.
    ///
    /// # Errors
    /// If `text` is no object.
    pub fn overlay(&mut self, source_name: &'static str, text: &str) -> Result<(), ProxyConfigError> {
        let overlay = read(source_name, text)?;
        self.merge(overlay);
        Ok(())
    }

    /// Lays `defaultConfig` of a mesh configuration over this.
    ///
    /// # Errors
    /// If `text` is no mesh configuration.
    pub fn overlay_mesh(&mut self, text: &str) -> Result<(), ProxyConfigError> {
        let mut mesh = read("the mesh configuration file", text)?;
        if let Some(Value::Object(overlay)) = mesh.remove("defaultConfig") {
            self.merge(overlay);
        }
        Ok(())
    }

    fn merge(&mut self, overlay: Map<String, Value>) {
        for (key, value) in overlay {
            match (key.as_str(), value) {
                // The two names of one choice.
                ("tracingServiceName", value) => {
                    self.0.remove("serviceCluster");
                    self.0.insert(key, value);
                }
                ("serviceCluster", value) => {
                    self.0.remove("tracingServiceName");
                    self.0.insert(key, value);
                }
                ("proxyMetadata", Value::Object(new)) => {
                    let metadata = self
                        .0
                        .entry("proxyMetadata")
                        .or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(old) = metadata {
                        old.extend(new);
                    }
                }
                (_, Value::Null) => {
                    self.0.remove(&key);
                }
                (_, value) => {
                    self.0.insert(key, value);
                }
            }
        }
        self.0.sort_keys();
    }

    /// Sets one field.
    pub fn set(&mut self, field: &str, value: Value) {
        self.0.insert(field.to_owned(), value);
        self.0.sort_keys();
    }

    /// A field of text, empty if absent.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Any field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }

    /// A list of text.
    pub fn list(&self, value: Option<&Value>) -> Vec<String> {
        let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn port(&self, field: &'static str, default: u16) -> Result<u16, ProxyConfigError> {
        let Some(value) = self.0.get(field) else {
            return Ok(default);
        };
        whole(value)
            .and_then(|n| u16::try_from(n).ok())
            .ok_or_else(|| ProxyConfigError::Field {
                field,
                value: value.to_string(),
                expected: "a port",
            })
    }

    /// Port of Envoy's administration interface.
    ///
    /// # Errors
    /// If the field is no port.
    pub fn admin_port(&self) -> Result<u16, ProxyConfigError> {
        self.port("proxyAdminPort", 15000)
    }

    /// Port of the agent's status server, 0 for none.
    ///
    /// # Errors
    /// If the field is no port.
    pub fn status_port(&self) -> Result<u16, ProxyConfigError> {
        self.port("statusPort", 0)
    }

    /// A duration, if the field is there.
    ///
    /// # Errors
    /// If the field is no duration.
    pub fn duration(&self, field: &'static str) -> Result<Option<Duration>, ProxyConfigError> {
        let Some(value) = self.0.get(field) else {
            return Ok(None);
        };
        let wrong = || ProxyConfigError::Field {
            field,
            value: value.to_string(),
            expected: "a duration such as 45s",
        };
        value.as_str().and_then(parse_duration).map(Some).ok_or_else(wrong)
    }

    /// Worker threads; 0 for one per processor.
    pub fn concurrency(&self) -> Option<u32> {
        self.0
            .get("concurrency")
            .and_then(whole)
            .and_then(|n| u32::try_from(n).ok())
    }

    /// Directory of bootstrap and sockets.
    pub fn config_path(&self) -> PathBuf {
        PathBuf::from(self.text("configPath"))
    }

    /// `host:port` of istiod's discovery service.
    pub fn discovery_address(&self) -> &str {
        self.text("discoveryAddress")
    }

    /// `proxyMetadata`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let map = self.0.get("proxyMetadata").and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect()
    }
}

/// A YAML or JSON object; empty text is an empty object.
fn read(source_name: &'static str, text: &str) -> Result<Map<String, Value>, ProxyConfigError> {
    let malformed = |why: String| ProxyConfigError::Malformed { source_name, why };
    if text.len() > MAX_TEXT {
        return Err(malformed(format!(
            "{} bytes are more than the {MAX_TEXT} allowed",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_saphyr::from_str::<Value>(text).map_err(|e| malformed(e.to_string()))? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(malformed(format!("expected an object, found {other}"))),
    }
}

/// Everything the effective configuration is made of.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// Text of the mesh configuration file, if there is one.
    pub mesh_file: Option<&'a str>,
    /// `PROXY_CONFIG`.
    pub environment: &'a str,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// `--concurrency`, 0 if not given.
    pub concurrency: u32,
    /// `ISTIO_CPU_LIMIT`, 0 if not known.
    pub cpu_limit: u32,
}

/// The effective configuration.
///
/// # Errors
/// If a source is malformed.
pub fn effective(sources: &Sources<'_>) -> Result<ProxyConfig, ProxyConfigError> {
    let mut config = ProxyConfig::default();
    if let Some(text) = sources.mesh_file {
        config.overlay_mesh(text)?;
    }
    config.overlay("PROXY_CONFIG", sources.environment)?;
    if let Some(text) = sources.annotations.get("proxy.istio.io/config") {
        config.overlay("annotation proxy.istio.io/config", text)?;
    }
    // Without a limit of its own, a proxy would start a thread per processor of the machine and be throttled.
    if config.concurrency().is_none() && sources.cpu_limit > 0 {
        config.set("concurrency", sources.cpu_limit.into());
    }
    if sources.concurrency > 0 {
        config.set("concurrency", sources.concurrency.into());
    }
    if let Some(address) = sources.annotations.get("sidecar.istio.io/discoveryAddress") {
        config.set("discoveryAddress", address.as_str().into());
    }
    if let Some(port) = sources.annotations.get("status.sidecar.istio.io/port") {
        config.set(
            "statusPort",
            port.parse::<u16>()
                .map_or_else(|_| Value::from(port.as_str()), Value::from),
        );
    }
    config.admin_port()?;
    config.status_port()?;
    config.duration("drainDuration")?;
    config.duration("terminationDrainDuration")?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn later_sources_win_and_metadata_is_merged() {
        let mesh = "defaultConfig:\n  discoveryAddress: istiod-a:15012\n  proxyMetadata: {A: '1', B: '1'}\n";
        let annotation = "proxyMetadata:\n  C: '3'\nconcurrency: 2\n".to_owned();
        let config = effective(&Sources {
            mesh_file: Some(mesh),
            environment: r#"{"discoveryAddress":"istiod-canary:15012","proxyMetadata":{"B":"2"}}"#,
            annotations: BTreeMap::from([("proxy.istio.io/config".to_owned(), annotation)]),
            cpu_limit: 8,
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(config.discovery_address(), "istiod-canary:15012");
        let metadata: Vec<_> = config.metadata().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(metadata, ["A=1", "B=2", "C=3"]);
        assert_eq!(config.concurrency(), Some(2));
        assert_eq!(config.duration("drainDuration").unwrap(), Some(Duration::from_secs(45)));
    }

    #[test]
    fn a_whole_number_is_read_however_it_is_written() {
        let check = |number: &str, expected: Option<u32>| {
            let environment = format!("{{\"concurrency\": {number}, \"statusPort\": {number}}}");
            let config = effective(&Sources {
                environment: &environment,
                ..Sources::default()
            });
            let config = config
                .ok()
                .map(|config| (config.concurrency(), config.status_port().ok()));
            let port = |number| u16::try_from(number).ok();
            assert_eq!(config, expected.map(|number| (Some(number), port(number))), "{number}");
        };
        check("2", Some(2));
        check("2.0", Some(2));
        check("\"2\"", Some(2));
        check("2.5", None);
    }

    #[test]
    fn malformed_sources_are_named() {
        let check = |environment: &str, says: &str| {
            let error = effective(&Sources {
                environment,
                ..Sources::default()
            })
            .unwrap_err()
            .to_string();
            assert!(error.contains(says), "{error}");
        };
        check("[1]", "PROXY_CONFIG is no ProxyConfig");
        check("{\"drainDuration\": \"soon\"}", "drainDuration");
        check("{\"statusPort\": 70000}", "statusPort");
    }
}
