//! The environment that the charts set (revisions.md §11.5).

use std::path::PathBuf;
use std::time::Duration;

use ads::Limits;
use revision::name::Revision;

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Own revision (`REVISION`).
    pub revision: Revision,
    /// Own pod (`POD_NAME`), which is the identity in elections.
    pub pod_name: String,
    /// Whether to run for election at all (`ENABLE_LEADER_ELECTION`).
    pub leader_election: bool,
    /// Whether to inject (`INJECT_ENABLED`).
    pub inject: bool,
    /// Whether to keep the injector's webhooks (`INJECTION_WEBHOOK_CONFIG_NAME` not empty).
    pub patch_injector: bool,
    /// Whether to keep the validator's webhooks (`VALIDATION_WEBHOOK_CONFIG_NAME` not empty).
    pub patch_validator: bool,
    /// `ENABLE_NATIVE_SIDECARS`.
    pub native_sidecars: String,
    /// Further names of istiod's certificate (`ISTIOD_CUSTOM_HOST`).
    pub custom_hosts: Vec<String>,
    /// Whether to sign certificates (`ENABLE_CA_SERVER`).
    pub sign: bool,
    /// Directory of a plugged-in authority (`ROOT_CA_DIR`).
    pub root_ca_directory: PathBuf,
    /// Whether streams must be authenticated (`XDS_AUTH`).
    pub authenticate: bool,
    /// Whether a stream's node must fit its identity (`PILOT_ENABLE_XDS_IDENTITY_CHECK`).
    pub check_identity: bool,
    /// Whether debug questions need an identity (`ENABLE_DEBUG_ENDPOINT_AUTH`).
    pub authenticate_debug: bool,
    /// Namespaces besides the system's that may ask about every proxy (`DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES`).
    pub debug_namespaces: Vec<String>,
    /// Whether debug pages are served at all (`ENABLE_DEBUG_ON_HTTP`).
    pub debug_pages: bool,
    /// Extra mesh ConfigMap (`SHARED_MESH_CONFIG`).
    pub shared_mesh_config: Option<String>,
    /// Audiences of tokens (`TOKEN_AUDIENCES`).
    pub audiences: Vec<String>,
    /// Which rules proxies must comply with (`COMPLIANCE_POLICY`).
    pub compliance_policy: String,
    /// Bounds of the discovery service; `XDS_MAX_…`, `XDS_ACK_PATIENCE`, `XDS_SHARED_BYTES` and
    /// `REQUEST_HEADER_TIMEOUT` replace the defaults of [`Limits`].
    pub limits: Limits,
    /// Bounds of ports 15010 and 15012 (`XDS_MAX_CONNECTIONS`, `TLS_HANDSHAKE_TIMEOUT`, `REQUEST_HEADER_TIMEOUT`).
    pub stream_ports: listen::Limits,
    /// Bounds of ports 8080, 15014 and 15017 (`HTTP_MAX_CONNECTIONS`, and the same times).
    pub page_ports: listen::Limits,
    /// How long changes are gathered before they are worked on (`PILOT_DEBOUNCE_AFTER`). Zero, the default here,
    /// means at once: what arrives while one change is worked on is gathered anyway.
    pub gather: Duration,
}

impl Settings {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// `REVISION` is not a valid name.
    pub fn from_environment() -> anyhow::Result<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let boolean = |text: &str| match text {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Some(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        let flag = |name: &str, otherwise: bool| read(name, get(name), boolean).unwrap_or(otherwise);
        let list = |name: &str| -> Vec<String> {
            let text = get(name).unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let number =
            |name: &str, otherwise: usize| read(name, get(name), |text| text.parse().ok()).unwrap_or(otherwise);
        let span = |name: &str, otherwise: Duration| read(name, get(name), duration).unwrap_or(otherwise);
        let (defaults, ports) = (Limits::default(), listen::Limits::default());
        let page_ports = listen::Limits {
            connections: number("HTTP_MAX_CONNECTIONS", ports.connections).max(1),
            handshake_timeout: span("TLS_HANDSHAKE_TIMEOUT", ports.handshake_timeout),
            header_timeout: span("REQUEST_HEADER_TIMEOUT", ports.header_timeout),
            ..ports
        };
        let present = |name: &str| get(name).is_none_or(|value| !value.is_empty());
        let revision = match get("REVISION").filter(|name| !name.is_empty()) {
            Some(name) => Revision::parse(&name)?,
            None => Revision::unnamed(),
        };
        let audiences = list("TOKEN_AUDIENCES");
        Ok(Self {
            revision,
            pod_name: get("POD_NAME")
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| format!("istiod-{}", std::process::id())),
            leader_election: flag("ENABLE_LEADER_ELECTION", true),
            inject: flag("INJECT_ENABLED", true),
            patch_injector: present("INJECTION_WEBHOOK_CONFIG_NAME"),
            patch_validator: present("VALIDATION_WEBHOOK_CONFIG_NAME"),
            native_sidecars: get("ENABLE_NATIVE_SIDECARS").unwrap_or_else(|| "auto".to_owned()),
            custom_hosts: list("ISTIOD_CUSTOM_HOST"),
            sign: flag("ENABLE_CA_SERVER", true),
            root_ca_directory: get("ROOT_CA_DIR").unwrap_or_else(|| "/etc/cacerts".to_owned()).into(),
            authenticate: flag("XDS_AUTH", true),
            check_identity: flag("PILOT_ENABLE_XDS_IDENTITY_CHECK", true),
            authenticate_debug: flag("ENABLE_DEBUG_ENDPOINT_AUTH", true),
            debug_namespaces: list("DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES"),
            debug_pages: flag("ENABLE_DEBUG_ON_HTTP", true),
            shared_mesh_config: get("SHARED_MESH_CONFIG").filter(|name| !name.is_empty()),
            audiences: if audiences.is_empty() {
                vec![api::names::TOKEN_AUDIENCE.to_owned()]
            } else {
                audiences
            },
            compliance_policy: get("COMPLIANCE_POLICY").unwrap_or_default(),
            limits: Limits {
                streams: number("XDS_MAX_STREAMS", defaults.streams),
                request_bytes: number("XDS_MAX_REQUEST_BYTES", defaults.request_bytes),
                node_bytes: number("XDS_MAX_NODE_BYTES", defaults.node_bytes),
                receiving_bytes: number("XDS_MAX_RECEIVING_BYTES", defaults.receiving_bytes),
                sending_bytes: number("XDS_MAX_SENDING_BYTES", defaults.sending_bytes),
                request_time: page_ports.header_timeout,
                names: number("XDS_MAX_NAMES", defaults.names),
                name_bytes: number("XDS_MAX_NAME_BYTES", defaults.name_bytes),
                types: number("XDS_MAX_TYPES", defaults.types),
                subscription_bytes: number("XDS_MAX_SUBSCRIPTION_BYTES", defaults.subscription_bytes),
                unacknowledged: number("XDS_MAX_UNACKNOWLEDGED", defaults.unacknowledged).max(1),
                patience: span("XDS_ACK_PATIENCE", defaults.patience),
                kept: number("XDS_MAX_KEPT_RESOURCES", defaults.kept),
                error_bytes: number("XDS_MAX_ERROR_BYTES", defaults.error_bytes),
                burst: number("XDS_MAX_BURST", defaults.burst).max(1),
                shared_bytes: number("XDS_SHARED_BYTES", defaults.shared_bytes),
            },
            stream_ports: listen::Limits {
                connections: number("XDS_MAX_CONNECTIONS", defaults.streams).max(1),
                ..page_ports
            },
            page_ports,
            gather: span("PILOT_DEBOUNCE_AFTER", Duration::ZERO),
        })
    }
}

/// A variable's value. One that cannot be used is named, and its default counts: a typing error must not end a control
/// plane that was running.
fn read<T>(name: &str, text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = text.filter(|text| !text.is_empty())?;
    let value = parse(&text);
    if value.is_none() {
        tracing::warn!(
            variable = name,
            value = text,
            "value cannot be used; the default counts"
        );
    }
    value
}

/// A duration as Go prints it: `30m`, `1h30m`, `10s`, `500ms`.
pub fn duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str) -> Settings {
        let get = |name: &str| {
            text.split(' ')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        Settings::from(get).unwrap()
    }

    #[test]
    fn defaults_are_istios() {
        let settings = check("");
        assert!(settings.revision.is_unnamed() && settings.leader_election && settings.patch_injector);
        assert_eq!(settings.audiences, ["istio-ca"]);
    }

    #[test]
    fn every_variable_that_is_read_is_in_the_table() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        Settings::from(|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        })
        .unwrap();
        let table = crate::variables::ALL.iter().map(|variable| variable.0.to_owned());
        assert_eq!(asked.into_inner(), table.collect());
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let defaults = crate::variables::ALL.iter().filter(|variable| variable.0 != "POD_NAME");
        let text: Vec<String> = defaults
            .map(|variable| format!("{}={}", variable.0, variable.1))
            .collect();
        let (told, silent) = (check(&text.join(" ")), check("POD_NAME="));
        assert_eq!(format!("{told:?}"), format!("{silent:?}"));
    }

    #[test]
    fn ports_are_bounded_as_told() {
        let settings =
            check("XDS_MAX_CONNECTIONS=7 HTTP_MAX_CONNECTIONS=no REQUEST_HEADER_TIMEOUT=1s XDS_ACK_PATIENCE=9s");
        assert_eq!(settings.limits.request_time, Duration::from_secs(1));
        assert_eq!(settings.limits.patience, Duration::from_secs(9));
        assert_eq!(
            (settings.stream_ports.connections, settings.page_ports.connections),
            (7, 1024)
        );
        assert_eq!(settings.page_ports.header_timeout, Duration::from_secs(1));
    }

    #[test]
    fn the_environment_decides() {
        let settings = check("REVISION=canary INJECTION_WEBHOOK_CONFIG_NAME= XDS_AUTH=false ISTIOD_CUSTOM_HOST=a,b");
        assert_eq!(settings.revision.label(), "canary");
        assert!(!settings.patch_injector && !settings.authenticate);
        assert_eq!(settings.custom_hosts, ["a", "b"]);
    }
}
