//! Environment variables, read once (control-plane.md §4.10).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ca::SpiffeId;
use ca::request::KeyKind;

/// A snapshot of the environment; ordered, so that what is derived from it is too.
pub type Environment = BTreeMap<String, String>;

/// A variable has a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name}={value:?}: {why}")]
pub struct SettingError {
    /// Variable.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub why: String,
}

/// What the environment says about this proxy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `POD_NAME`.
    pub pod_name: String,
    /// `POD_NAMESPACE`.
    pub pod_namespace: String,
    /// `INSTANCE_IP`.
    pub instance_ip: Option<IpAddr>,
    /// Identity made of `TRUST_DOMAIN`, `POD_NAMESPACE` and `SERVICE_ACCOUNT`.
    pub identity: SpiffeId,
    /// `CA_ADDR`; without it the discovery address.
    pub ca_address: Option<String>,
    /// `ISTIO_META_CLUSTER_ID`.
    pub cluster_id: String,
    /// `ISTIOD_SAN`: name to expect in istiod's certificate.
    pub istiod_san: Option<String>,
    /// `XDS_ROOT_CA`: file with the roots of the discovery connection.
    pub xds_root: Option<PathBuf>,
    /// `CA_ROOT_CA`: file with the roots of the CA connection.
    pub ca_root: Option<PathBuf>,
    /// `XDS_HEADER_*`: further headers of the discovery stream.
    pub xds_headers: BTreeMap<String, String>,
    /// `SECRET_TTL`: lifetime to ask for.
    pub secret_ttl: Duration,
    /// `SECRET_GRACE_PERIOD_RATIO`: share of the life left when a certificate is renewed.
    pub grace_ratio: f64,
    /// `SECRET_GRACE_PERIOD_RATIO_JITTER`.
    pub grace_jitter: f64,
    /// `WORKLOAD_RSA_KEY_SIZE`, `ECC_SIGNATURE_ALGORITHM`.
    pub key_kind: KeyKind,
    /// `FILE_MOUNTED_CERTS`: certificates come from files, not from the CA.
    pub file_mounted_certs: bool,
    /// `OUTPUT_CERTS`: directory to write certificates to as well.
    pub output_certs: Option<PathBuf>,
    /// `WORKLOAD_IDENTITY_SOCKET_FILE`: name of the SDS socket.
    pub sds_socket: String,
    /// `ENVOY_STATUS_PORT`.
    pub envoy_status_port: u16,
    /// `ENVOY_PROMETHEUS_PORT`.
    pub envoy_prometheus_port: u16,
    /// `ENVOY_SECURE_METRICS_PORT`, 0 for none.
    pub secure_metrics_port: u16,
    /// `ENVOY_SECURE_MERGED_METRICS_PORT`, 0 for none.
    pub secure_merged_metrics_port: u16,
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`.
    pub exit_on_zero_connections: bool,
    /// `MINIMUM_DRAIN_DURATION`.
    pub minimum_drain: Duration,
    /// `ENVOY_SKIP_DEPRECATED_LOGS`.
    pub skip_deprecated_logs: bool,
    /// `PEER_METADATA_DISCOVERY`, if set.
    pub metadata_discovery: Option<bool>,
    /// `ISTIO_META_DNS_CAPTURE` or `ISTIO_META_ENABLE_DNS_SERVER`.
    pub dns_proxy: bool,
    /// `DNS_PROXY_ADDR`.
    pub dns_address: String,
    /// `ISTIO_KUBE_APP_PROBERS`.
    pub app_probers: String,
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`.
    pub prometheus: String,
    /// `REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION`.
    pub probe_localhost: bool,
    /// `ISTIO_BOOTSTRAP_OVERRIDE`: file merged over the bootstrap.
    pub bootstrap_override: Option<PathBuf>,
    /// `ISTIO_CPU_LIMIT`.
    pub cpu_limit: u32,
    /// `PROXY_CONFIG`.
    pub proxy_config: String,
    /// Bounds of the status port: `STATUS_MAX_CONNECTIONS`, `STATUS_HEADER_TIMEOUT`.
    pub status_limits: listen::Limits,
}

impl Settings {
    /// Reads `env`.
    ///
    /// # Errors
    /// Names the variable that cannot be used.
    pub fn read(env: &Environment) -> Result<Self, SettingError> {
        let text = |name: &str| env.get(name).cloned().unwrap_or_default();
        let some = |name: &str| env.get(name).filter(|v| !v.is_empty()).cloned();
        let or = |name: &str, default: &str| some(name).unwrap_or_else(|| default.to_owned());
        let pod_namespace = text("POD_NAMESPACE");
        let namespace = if pod_namespace.is_empty() {
            "default"
        } else {
            &pod_namespace
        };
        let service_account = or("SERVICE_ACCOUNT", "default");
        let identity =
            SpiffeId::new(&or("TRUST_DOMAIN", "cluster.local"), namespace, &service_account).map_err(|e| {
                SettingError {
                    name: "SERVICE_ACCOUNT".into(),
                    value: service_account,
                    why: e.to_string(),
                }
            })?;
        let xds_headers = env
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("XDS_HEADER_")?.to_owned(), v.clone())));
        Ok(Self {
            pod_name: text("POD_NAME"),
            instance_ip: parse(env, "INSTANCE_IP", "an IP address")?,
            identity,
            ca_address: some("CA_ADDR"),
            cluster_id: text("ISTIO_META_CLUSTER_ID"),
            istiod_san: some("ISTIOD_SAN"),
            xds_root: some("XDS_ROOT_CA").map(PathBuf::from),
            ca_root: some("CA_ROOT_CA").map(PathBuf::from),
            xds_headers: xds_headers.collect(),
            secret_ttl: duration(env, "SECRET_TTL")?.unwrap_or(ca::issue::DEFAULT_TTL),
            grace_ratio: ratio(env, "SECRET_GRACE_PERIOD_RATIO", 0.5)?,
            grace_jitter: ratio(env, "SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01)?,
            key_kind: key_kind(env)?,
            file_mounted_certs: flag(env, "FILE_MOUNTED_CERTS")?.unwrap_or(false),
            output_certs: some("OUTPUT_CERTS").map(PathBuf::from),
            sds_socket: or("WORKLOAD_IDENTITY_SOCKET_FILE", "socket"),
            envoy_status_port: parse(env, "ENVOY_STATUS_PORT", "a port")?.unwrap_or(15021),
            envoy_prometheus_port: parse(env, "ENVOY_PROMETHEUS_PORT", "a port")?.unwrap_or(15090),
            secure_metrics_port: parse(env, "ENVOY_SECURE_METRICS_PORT", "a port")?.unwrap_or(0),
            secure_merged_metrics_port: parse(env, "ENVOY_SECURE_MERGED_METRICS_PORT", "a port")?.unwrap_or(0),
            exit_on_zero_connections: flag(env, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS")?.unwrap_or(false),
            minimum_drain: duration(env, "MINIMUM_DRAIN_DURATION")?.unwrap_or(Duration::from_secs(5)),
            skip_deprecated_logs: flag(env, "ENVOY_SKIP_DEPRECATED_LOGS")?.unwrap_or(true),
            metadata_discovery: flag(env, "PEER_METADATA_DISCOVERY")?,
            dns_proxy: flag(env, "ISTIO_META_DNS_CAPTURE")?.unwrap_or(false)
                || flag(env, "ISTIO_META_ENABLE_DNS_SERVER")?.unwrap_or(false),
            dns_address: or("DNS_PROXY_ADDR", "localhost:15053"),
            app_probers: text("ISTIO_KUBE_APP_PROBERS"),
            prometheus: text("ISTIO_PROMETHEUS_ANNOTATIONS"),
            probe_localhost: flag(env, "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION")?.unwrap_or(false),
            bootstrap_override: some("ISTIO_BOOTSTRAP_OVERRIDE").map(PathBuf::from),
            cpu_limit: parse(env, "ISTIO_CPU_LIMIT", "a number of processors")?.unwrap_or(0),
            proxy_config: text("PROXY_CONFIG"),
            status_limits: listen::Limits {
                connections: parse(env, "STATUS_MAX_CONNECTIONS", "a number of connections")?.unwrap_or(256),
                header_timeout: duration(env, "STATUS_HEADER_TIMEOUT")?.unwrap_or(Duration::from_secs(30)),
                ..listen::Limits::default()
            },
            pod_namespace,
        })
    }
}

fn value<'a>(env: &'a Environment, name: &str) -> Option<&'a String> {
    env.get(name).filter(|v| !v.is_empty())
}

fn wrong(name: &str, value: &str, why: &str) -> SettingError {
    SettingError {
        name: name.to_owned(),
        value: value.to_owned(),
        why: why.to_owned(),
    }
}

fn parse<T: FromStr>(env: &Environment, name: &str, what: &str) -> Result<Option<T>, SettingError> {
    value(env, name)
        .map(|v| v.parse().map_err(|_| wrong(name, v, &format!("expected {what}"))))
        .transpose()
}

/// Booleans as Go reads them.
fn flag(env: &Environment, name: &str) -> Result<Option<bool>, SettingError> {
    value(env, name)
        .map(|v| match v.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong(name, v, "expected true or false")),
        })
        .transpose()
}

fn duration(env: &Environment, name: &str) -> Result<Option<Duration>, SettingError> {
    value(env, name)
        .map(|v| parse_duration(v).ok_or_else(|| wrong(name, v, "expected a duration such as 24h or 90s")))
        .transpose()
}

/// A duration in the form of Go or of protobuf JSON; negative ones are refused.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let parsed: api::lenient::Duration = text.parse().ok()?;
    Some(Duration::new(
        parsed.seconds.try_into().ok()?,
        parsed.nanos.try_into().ok()?,
    ))
}

fn ratio(env: &Environment, name: &str, default: f64) -> Result<f64, SettingError> {
    match value(env, name) {
        None => Ok(default),
        Some(v) => match v.parse::<f64>() {
            Ok(r) if (0.0..=1.0).contains(&r) => Ok(r),
            _ => Err(wrong(name, v, "expected a number from 0 to 1")),
        },
    }
}

fn key_kind(env: &Environment) -> Result<KeyKind, SettingError> {
    if let Some(algorithm) = value(env, "ECC_SIGNATURE_ALGORITHM") {
        return match algorithm.as_str() {
            "ECDSA" => Ok(KeyKind::EcdsaP256),
            other => Err(wrong("ECC_SIGNATURE_ALGORITHM", other, "expected ECDSA")),
        };
    }
    match parse::<u32>(env, "WORKLOAD_RSA_KEY_SIZE", "2048 or 4096")? {
        None | Some(2048) => Ok(KeyKind::Rsa2048),
        Some(4096) => Ok(KeyKind::Rsa4096),
        Some(other) => Err(wrong(
            "WORKLOAD_RSA_KEY_SIZE",
            &other.to_string(),
            "expected 2048 or 4096",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn defaults_and_values() {
        let settings = Settings::read(&env(&[])).unwrap();
        assert_eq!(
            settings.identity.to_string(),
            "spiffe://cluster.local/ns/default/sa/default"
        );
        assert_eq!(settings.secret_ttl, Duration::from_secs(24 * 3600));
        let settings = Settings::read(&env(&[
            ("POD_NAMESPACE", "test-ns"),
            ("SERVICE_ACCOUNT", "sleep"),
            ("SECRET_TTL", "1h30m"),
            ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
            ("XDS_HEADER_x-tenant", "a"),
        ]))
        .unwrap();
        assert_eq!(
            settings.identity.to_string(),
            "spiffe://cluster.local/ns/test-ns/sa/sleep"
        );
        assert_eq!(settings.secret_ttl, Duration::from_secs(5400));
        assert!(settings.exit_on_zero_connections);
        assert_eq!(settings.xds_headers["x-tenant"], "a");
    }

    #[test]
    fn wrong_values_name_the_variable() {
        for (name, value) in [
            ("INSTANCE_IP", "pod"),
            ("SECRET_TTL", "soon"),
            ("SECRET_GRACE_PERIOD_RATIO", "2"),
            ("WORKLOAD_RSA_KEY_SIZE", "1024"),
            ("ENVOY_STATUS_PORT", "99999"),
            ("FILE_MOUNTED_CERTS", "maybe"),
            ("STATUS_MAX_CONNECTIONS", "many"),
            ("STATUS_HEADER_TIMEOUT", "later"),
        ] {
            assert_eq!(Settings::read(&env(&[(name, value)])).unwrap_err().name, name);
        }
    }
}
