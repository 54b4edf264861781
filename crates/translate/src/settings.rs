//! What a proxy's own configuration (ProxyConfig) says about headers and about what is in front of it.

use api::mesh_config::ProxyConfig;
use serde_json::Value as Json;
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use xds::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use xds::google::protobuf::{Value, value};

use crate::proto;

/// Name of servers in the header of that name.
const SERVER: &str = "istio-envoy";

/// What happens to the header that names the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Server {
    #[default]
    Default,
    Named(String),
    /// What the workload says is left as it is.
    Workload,
}

/// Settings of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    pub(crate) server: Server,
    pub(crate) no_request_ids: bool,
    pub(crate) no_attempt_count: bool,
    pub(crate) no_debug_headers: bool,
    pub(crate) preserve_case: bool,
    /// Whether metadata is only told to services of the mesh.
    pub(crate) tells_mesh_only: bool,
    pub(crate) forwarded_port: bool,
    client_certificate: Option<String>,
    gateway_client_certificate: Option<String>,
    pub(crate) trusted_proxies: u32,
    pub(crate) proxy_protocol: bool,
}

impl Settings {
    /// Settings that a node message carries. They are all that counts for its proxy.
    pub(crate) fn of_node(config: &Value) -> Self {
        let config = json(config);
        Self::of(config.get("proxyHeaders"), config.get("gatewayTopology"))
    }

    /// Settings of the mesh.
    pub(crate) fn of_mesh(mesh: &ProxyConfig) -> Self {
        Self::of(mesh.proxy_headers.as_ref(), mesh.gateway_topology.as_ref())
    }

    fn of(headers: Option<&Json>, topology: Option<&Json>) -> Self {
        let (headers, topology) = (headers.unwrap_or(&Json::Null), topology.unwrap_or(&Json::Null));
        let is = |path: &str| headers.pointer(path).and_then(Json::as_bool) == Some(true);
        let certificate = |value: Option<&Json>| value.and_then(Json::as_str).map(str::to_owned);
        let server = match headers.pointer("/server/value").and_then(Json::as_str) {
            _ if is("/server/disabled") => Server::Workload,
            Some(name) if !name.is_empty() => Server::Named(name.to_owned()),
            _ => Server::Default,
        };
        let proxies = topology.get("numTrustedProxies");
        Self {
            server,
            no_request_ids: is("/requestId/disabled"),
            no_attempt_count: is("/attemptCount/disabled"),
            no_debug_headers: is("/envoyDebugHeaders/disabled"),
            preserve_case: is("/preserveHttp1HeaderCase"),
            tells_mesh_only: headers.pointer("/metadataExchangeHeaders/mode").and_then(Json::as_str) == Some("IN_MESH"),
            forwarded_port: is("/xForwardedPort/enabled"),
            client_certificate: certificate(headers.get("forwardedClientCert")),
            gateway_client_certificate: certificate(topology.get("forwardClientCertDetails")),
            trusted_proxies: proxies.and_then(Json::as_f64).unwrap_or_default() as u32,
            proxy_protocol: topology.get("proxyProtocol").is_some_and(|v| !v.is_null()),
        }
    }

    /// What is done with the header that carries the client's certificate.
    pub(crate) fn client_certificate(&self, gateway: bool) -> hcm::ForwardClientCertDetails {
        use hcm::ForwardClientCertDetails as Details;
        let (stated, default) = if gateway {
            (&self.gateway_client_certificate, Details::SanitizeSet)
        } else {
            (&self.client_certificate, Details::AppendForward)
        };
        match stated.as_deref() {
            Some("SANITIZE") => Details::Sanitize,
            Some("FORWARD_ONLY") => Details::ForwardOnly,
            Some("APPEND_FORWARD") => Details::AppendForward,
            Some("SANITIZE_SET") => Details::SanitizeSet,
            Some("ALWAYS_FORWARD_ONLY") => Details::AlwaysForwardOnly,
            _ => default,
        }
    }

    /// Name of the server, and what is done with what the workload says.
    pub(crate) fn server(&self, outbound: bool) -> (String, hcm::ServerHeaderTransformation) {
        match &self.server {
            Server::Workload => (String::new(), hcm::ServerHeaderTransformation::PassThrough),
            Server::Named(name) => (name.clone(), hcm::ServerHeaderTransformation::Overwrite),
            Server::Default if outbound => (String::new(), hcm::ServerHeaderTransformation::Overwrite),
            Server::Default => (SERVER.to_owned(), hcm::ServerHeaderTransformation::Overwrite),
        }
    }
}

/// HTTP/1 headers keep the case in which they came.
pub(crate) fn preserve_case() -> core::http1_protocol_options::HeaderKeyFormat {
    core::http1_protocol_options::HeaderKeyFormat {
        header_format: Some(
            core::http1_protocol_options::header_key_format::HeaderFormat::StatefulFormatter(
                core::TypedExtensionConfig {
                    name: "preserve_case".to_owned(),
                    typed_config: Some(proto::any(&PreserveCaseFormatterConfig::default())),
                },
            ),
        ),
    }
}

fn json(value: &Value) -> Json {
    match &value.kind {
        Some(value::Kind::BoolValue(flag)) => Json::Bool(*flag),
        Some(value::Kind::NumberValue(number)) => Json::from(*number),
        Some(value::Kind::StringValue(text)) => Json::String(text.clone()),
        Some(value::Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(value::Kind::StructValue(fields)) => fields.fields.iter().map(|(k, v)| (k.clone(), json(v))).collect(),
        Some(value::Kind::NullValue(_)) | None => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_mesh(headers: Json, topology: Json) -> Settings {
        let mesh = ProxyConfig {
            proxy_headers: Some(headers),
            gateway_topology: Some(topology),
            ..ProxyConfig::default()
        };
        Settings::of_mesh(&mesh)
    }

    #[test]
    fn headers_are_kept_from_clients() {
        let settings = of_mesh(
            serde_json::json!({"server": {"disabled": true}, "requestId": {"disabled": true}}),
            Json::Null,
        );
        assert_eq!(settings.server(false).1, hcm::ServerHeaderTransformation::PassThrough);
        assert!(settings.no_request_ids && !settings.no_attempt_count);
    }

    #[test]
    fn a_node_that_says_something_says_all() {
        let own = proto::object([("concurrency", proto::text("2"))]);
        let mesh = ProxyConfig {
            proxy_headers: Some(serde_json::json!({"server": {"value": "x"}})),
            ..ProxyConfig::default()
        };
        assert_eq!(Settings::of_node(&own), Settings::default());
        assert_eq!(Settings::of_mesh(&mesh).server, Server::Named("x".to_owned()));
    }

    #[test]
    fn certificates_of_clients_follow_the_topology_at_gateways() {
        let settings = of_mesh(
            Json::Null,
            serde_json::json!({"forwardClientCertDetails": "FORWARD_ONLY"}),
        );
        assert_eq!(
            settings.client_certificate(true),
            hcm::ForwardClientCertDetails::ForwardOnly
        );
        assert_eq!(
            settings.client_certificate(false),
            hcm::ForwardClientCertDetails::AppendForward
        );
    }
}
