//! Istio's extensions to Envoy, and what stands in for them in a stock Envoy (control-plane.md §3).

use prost::Message;
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::filters::common::set_filter_state::v3 as set_filter_state;
use xds::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use xds::envoy::extensions::formatter::cel::v3::Cel;
use xds::google::protobuf::Any;
use xds::udpa::r#type::v1::TypedStruct;

use crate::listener::Traffic;
use crate::proto;
use crate::settings::Settings;

/// Name of the filter that stands in for `istio.alpn` in a stock Envoy.
pub const ALPN_SUBSTITUTE: &str = "trysail.alpn";

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// Exchange of metadata by headers.
pub(crate) fn metadata_exchange(traffic: Traffic, settings: &Settings) -> HttpFilter {
    let methods = |names: &[&str]| {
        proto::list(
            names
                .iter()
                .map(|n| proto::object([((*n).to_owned(), proto::object::<String>([]))])),
        )
    };
    let side = if traffic == Traffic::Inbound {
        "downstream"
    } else {
        "upstream"
    };
    let told = if settings.tells_mesh_only && traffic != Traffic::Inbound {
        let mesh_only = proto::object([(
            "skip_external_clusters",
            proto::value_of_json(&serde_json::Value::Bool(true)),
        )]);
        proto::list([proto::object([("istio_headers", mesh_only)])])
    } else {
        methods(&["istio_headers"])
    };
    let config = TypedStruct {
        type_url: "type.googleapis.com/io.istio.http.peer_metadata.Config".to_owned(),
        value: Some(proto::fields_of([
            (
                format!("{side}_discovery"),
                methods(&["istio_headers", "workload_discovery"]),
            ),
            (format!("{side}_propagation"), told),
        ])),
    };
    filter("istio.metadata_exchange", proto::any(&config))
}

/// One entry of `istio.alpn`: an upstream protocol, and the ALPN to offer for it.
#[derive(Clone, PartialEq, Message)]
struct AlpnOverride {
    #[prost(int32, tag = "1")]
    upstream_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    alpn_override: Vec<String>,
}

/// Settings of `istio.alpn`.
#[derive(Clone, PartialEq, Message)]
struct AlpnConfig {
    #[prost(message, repeated, tag = "1")]
    alpn_override: Vec<AlpnOverride>,
}

/// Offers servers an ALPN that tells HTTP from other traffic.
pub(crate) fn alpn() -> HttpFilter {
    let entry = |upstream_protocol, names: [&str; 3]| AlpnOverride {
        upstream_protocol,
        alpn_override: names.map(str::to_owned).to_vec(),
    };
    let config = AlpnConfig {
        alpn_override: vec![
            entry(0, ["istio-http/1.0", "istio", "http/1.0"]),
            entry(1, ["istio-http/1.1", "istio", "http/1.1"]),
            entry(2, ["istio-h2", "istio", "h2"]),
        ],
    };
    filter(
        "istio.alpn",
        proto::any_of(
            "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
            config.encode_to_vec(),
        ),
    )
}

/// The same by core means: the ALPN to offer is a well-known filter state. Where the protocol is found out by
/// looking, clusters speak what the client speaks, so the request's protocol decides.
///
/// At a gateway the cluster decides what is spoken, whatever the client speaks: there only Istio's own names are
/// offered. They tell the server that it is HTTP; none is agreed on, so it looks which.
pub(crate) fn alpn_substitute(traffic: Traffic) -> HttpFilter {
    let expression = match traffic {
        Traffic::Gateway => "istio-http/1.1,istio",
        _ => "%CEL(request.protocol == 'HTTP/2' ? 'istio-h2,istio,h2' : 'istio-http/1.1,istio,http/1.1')%",
    };
    let config = SetFilterState {
        on_request_headers: vec![set_filter_state::FilterStateValue {
            key: Some(set_filter_state::filter_state_value::Key::ObjectKey(
                "envoy.network.application_protocols".to_owned(),
            )),
            value: Some(set_filter_state::filter_state_value::Value::FormatString(
                core::SubstitutionFormatString {
                    format: Some(core::substitution_format_string::Format::TextFormatSource(
                        core::DataSource {
                            specifier: Some(core::data_source::Specifier::InlineString(expression.to_owned())),
                            ..Default::default()
                        },
                    )),
                    formatters: vec![core::TypedExtensionConfig {
                        name: "envoy.formatter.cel".to_owned(),
                        typed_config: Some(proto::any(&Cel::default())),
                    }],
                    ..Default::default()
                },
            )),
            shared_with_upstream: set_filter_state::filter_state_value::SharedWithUpstream::Once as i32,
            ..Default::default()
        }],
        ..Default::default()
    };
    filter(ALPN_SUBSTITUTE, proto::any(&config))
}
