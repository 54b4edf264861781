//! Access logs: files, and receivers that speak gRPC.

use api::mesh_config::MeshConfig;
use api::mesh_config::provider::{ExtensionProvider, FileAccessLog, LogFormat};
use api::telemetry::AccessLogging;
use serde_json::Value as Json;
use xds::envoy::config::accesslog::v3::{self as accesslog, access_log, access_log_filter};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::access_loggers::file::v3 as file;
use xds::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use xds::envoy::extensions::access_loggers::grpc::v3 as grpc;
use xds::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use xds::google::protobuf::Any;
use xds::opentelemetry::proto::common::v1 as otlp;

use super::receiver::Receiver;
use crate::proto;
use crate::seen::Seen;

/// What proxies remember of their peers; receivers that speak gRPC get it.
const PEERS: [&str; 6] = [
    "upstream_peer",
    "downstream_peer",
    "wasm.upstream_peer",
    "wasm.upstream_peer_id",
    "wasm.downstream_peer",
    "wasm.downstream_peer_id",
];

/// Text that a line of the access log has by default.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
     \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
     %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
     \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
     %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Fields that an object of the access log has by default, with their operators.
const JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// Logs of one direction: of the providers in force, else those of the mesh.
pub(super) fn of_side(
    mesh: &MeshConfig,
    seen: &Seen,
    settings: &[AccessLogging],
    side: &str,
) -> Vec<accesslog::AccessLog> {
    let concerned: Vec<&AccessLogging> = settings
        .iter()
        .filter(|s| super::concerns(s.selector.as_ref().and_then(|s| s.mode.as_deref()), side))
        .collect();
    let defaults = &mesh.default_providers.access_logging;
    let Some(last) = concerned.last() else {
        if defaults.is_empty() {
            return of_mesh(mesh);
        }
        return logs(mesh, seen, defaults, None);
    };
    if last.disabled.unwrap_or(false) {
        return Vec::new();
    }
    let named = concerned.iter().rev().find(|s| !s.providers.is_empty());
    let names = named.map_or_else(
        || defaults.clone(),
        |s| s.providers.iter().map(|p| p.name.clone()).collect(),
    );
    let expression = concerned
        .iter()
        .rev()
        .find_map(|s| s.filter.as_ref())
        .map(|f| f.expression.as_str());
    logs(mesh, seen, &names, expression)
}

/// The file that the mesh configuration names.
fn of_mesh(mesh: &MeshConfig) -> Vec<accesslog::AccessLog> {
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    let log = FileAccessLog {
        path: mesh.access_log_file.clone(),
        log_format: None,
    };
    vec![file_log(&log, mesh)]
}

fn logs(mesh: &MeshConfig, seen: &Seen, names: &[String], expression: Option<&str>) -> Vec<accesslog::AccessLog> {
    names
        .iter()
        .filter_map(|name| of_provider(mesh.provider(name)?, seen, mesh))
        .map(|log| accesslog::AccessLog {
            filter: expression.filter(|e| !e.is_empty()).map(filter),
            ..log
        })
        .collect()
}

/// Keeps what an expression is true of.
fn filter(expression: &str) -> accesslog::AccessLogFilter {
    let config = ExpressionFilter {
        expression: expression.to_owned(),
        ..Default::default()
    };
    accesslog::AccessLogFilter {
        filter_specifier: Some(access_log_filter::FilterSpecifier::ExtensionFilter(
            accesslog::ExtensionFilter {
                name: "envoy.access_loggers.extension_filters.cel".to_owned(),
                config_type: Some(accesslog::extension_filter::ConfigType::TypedConfig(proto::any(
                    &config,
                ))),
            },
        )),
    }
}

fn named(name: &str, config: Any) -> accesslog::AccessLog {
    accesslog::AccessLog {
        name: name.to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn of_provider(provider: &ExtensionProvider, seen: &Seen, mesh: &MeshConfig) -> Option<accesslog::AccessLog> {
    if let Some(log) = &provider.envoy_file_access_log {
        return Some(file_log(log, mesh));
    }
    if let Some(settings) = provider.other.get("envoyHttpAls") {
        let config = grpc::HttpGrpcAccessLogConfig {
            common_config: Some(common(settings, seen, "http_envoy_accesslog", &PEERS[..2])?),
            additional_request_headers_to_log: texts(settings, "additionalRequestHeadersToLog"),
            additional_response_headers_to_log: texts(settings, "additionalResponseHeadersToLog"),
            additional_response_trailers_to_log: texts(settings, "additionalResponseTrailersToLog"),
        };
        return Some(named("envoy.access_loggers.http_grpc", proto::any(&config)));
    }
    if let Some(settings) = provider.other.get("envoyTcpAls") {
        let config = grpc::TcpGrpcAccessLogConfig {
            common_config: Some(common(settings, seen, "tcp_envoy_accesslog", &PEERS[..2])?),
        };
        return Some(named("envoy.tcp_grpc_access_log", proto::any(&config)));
    }
    let settings = provider.other.get("envoyOtelAls")?;
    Some(named(
        "envoy.access_loggers.open_telemetry",
        proto::any(&open_telemetry(settings, seen)?),
    ))
}

fn texts(settings: &Json, field: &str) -> Vec<String> {
    let list = settings.get(field).and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn common(settings: &Json, seen: &Seen, name: &str, state: &[&str]) -> Option<grpc::CommonGrpcAccessLogConfig> {
    let receiver = Receiver::of(settings, seen)?;
    let own = settings.get("logName").and_then(Json::as_str).filter(|n| !n.is_empty());
    let own_state = texts(settings, "filterStateObjectsToLog");
    Some(grpc::CommonGrpcAccessLogConfig {
        log_name: own.unwrap_or(name).to_owned(),
        grpc_service: Some(receiver.grpc()),
        transport_api_version: core::ApiVersion::V3 as i32,
        filter_state_objects_to_log: if own_state.is_empty() {
            state.iter().map(|s| (*s).to_owned()).collect()
        } else {
            own_state
        },
        ..Default::default()
    })
}

#[allow(deprecated)]
fn open_telemetry(settings: &Json, seen: &Seen) -> Option<OpenTelemetryAccessLogConfig> {
    let text = |value: &str| otlp::AnyValue {
        value: Some(otlp::any_value::Value::StringValue(value.to_owned())),
    };
    let format = settings.pointer("/logFormat/text").and_then(Json::as_str);
    let labels = settings.pointer("/logFormat/labels").and_then(Json::as_object);
    let mut values: Vec<otlp::KeyValue> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            Some(otlp::KeyValue {
                key: key.clone(),
                value: Some(text(value.as_str()?)),
            })
        })
        .collect();
    values.sort_by(|a, b| a.key.cmp(&b.key));
    Some(OpenTelemetryAccessLogConfig {
        common_config: Some(common(settings, seen, "otel_envoy_accesslog", &PEERS)?),
        disable_builtin_labels: true,
        body: Some(text(format.filter(|f| !f.is_empty()).unwrap_or(TEXT))),
        attributes: (!values.is_empty()).then_some(otlp::KeyValueList { values }),
        ..Default::default()
    })
}

fn file_log(log: &FileAccessLog, mesh: &MeshConfig) -> accesslog::AccessLog {
    let text = |text: &str| {
        core::substitution_format_string::Format::TextFormatSource(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
            ..Default::default()
        })
    };
    let fields = |value: &Json| match proto::value_of_json(value).kind {
        Some(xds::google::protobuf::value::Kind::StructValue(fields)) => fields,
        _ => Default::default(),
    };
    let standard = || proto::fields_of(JSON.map(|(name, operator)| (name, proto::text(operator))));
    let mut json_options = None;
    let mut json = |fields| {
        json_options = Some(core::JsonFormatOptions::default());
        core::substitution_format_string::Format::JsonFormat(fields)
    };
    let format = match &log.log_format {
        Some(LogFormat {
            labels: Some(labels), ..
        }) => {
            let fields = fields(labels);
            json(if fields.fields.is_empty() { standard() } else { fields })
        }
        Some(LogFormat { text: Some(own), .. }) if !own.is_empty() => text(own),
        Some(_) => text(TEXT),
        None if mesh.access_log_encoding == "JSON" => {
            let own = serde_json::from_str(&mesh.access_log_format).ok();
            json(own.map_or_else(standard, |value| fields(&value)))
        }
        None if mesh.access_log_format.is_empty() => text(TEXT),
        None => {
            let own = &mesh.access_log_format;
            text(&if own.ends_with('\n') {
                own.clone()
            } else {
                format!("{own}\n")
            })
        }
    };
    let config = file::FileAccessLog {
        path: log.path.clone(),
        access_log_format: Some(file::file_access_log::AccessLogFormat::LogFormat(
            core::SubstitutionFormatString {
                format: Some(format),
                json_format_options: json_options,
                ..Default::default()
            },
        )),
    };
    accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(proto::any(&config))),
        ..Default::default()
    }
}
