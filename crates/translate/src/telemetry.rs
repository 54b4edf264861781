//! Access logs and trace settings of a class's listeners.

use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::mesh_config::provider::{FileAccessLog, LogFormat};
use api::names::label;
use api::telemetry::{AccessLogging, Telemetry as Spec};
use mesh::{Config, Input, Kind};
use xds::envoy::config::accesslog::v3 as accesslog;
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::access_loggers::file::v3 as file;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use xds::envoy::r#type::metadata::v3 as metadata;
use xds::envoy::r#type::tracing::v3 as tracing;
use xds::envoy::r#type::v3::Percent;

use crate::graph::Cx;
use crate::listener::Traffic;
use crate::proto;
use crate::proxy::ProxyClass;

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

/// What a class's listeners report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry {
    client: Vec<accesslog::AccessLog>,
    server: Vec<accesslog::AccessLog>,
    listener: bool,
    tracing: Option<hcm::Tracing>,
}

impl Telemetry {
    /// Access logs of connections and requests.
    pub(crate) fn access_logs(&self, traffic: Traffic) -> Vec<accesslog::AccessLog> {
        match traffic {
            Traffic::Inbound => self.server.clone(),
            Traffic::Outbound | Traffic::Gateway => self.client.clone(),
        }
    }

    /// Access logs of connections that match no filter chain.
    pub(crate) fn listener_logs(&self, traffic: Traffic) -> Vec<accesslog::AccessLog> {
        if !self.listener {
            return Vec::new();
        }
        let mut logs = self.access_logs(traffic);
        for log in &mut logs {
            log.filter = Some(accesslog::AccessLogFilter {
                filter_specifier: Some(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(
                    accesslog::ResponseFlagFilter {
                        flags: vec!["NR".to_owned()],
                    },
                )),
            });
        }
        logs
    }

    /// Trace settings.
    pub(crate) fn tracing(&self) -> Option<hcm::Tracing> {
        self.tracing.clone()
    }
}

pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Telemetry {
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let settings = applicable(cx, class, &mesh);
    Telemetry {
        client: logs_for(&mesh, &settings, "CLIENT"),
        server: logs_for(&mesh, &settings, "SERVER"),
        listener: !mesh.disable_envoy_listener_log,
        tracing: mesh.enable_tracing.then(|| default_tracing(class, &mesh)),
    }
}

/// Access-log settings in force, general first: of the mesh, the namespace, the workload.
fn applicable(cx: &mut Cx<'_>, class: &ProxyClass, mesh: &MeshConfig) -> Vec<AccessLogging> {
    let root: Arc<str> = mesh.root_namespace.as_str().into();
    let mut settings = Vec::new();
    let without_selector = |t: &&Arc<Config<Spec>>| {
        t.spec.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
            && t.spec.target_refs.is_empty()
            && t.spec.target_ref.is_none()
    };
    let oldest = |found: Vec<&Arc<Config<Spec>>>| found.into_iter().min_by(|a, b| a.meta.age_order(&b.meta)).cloned();
    let general = cx.read(Input::InNamespace(Kind::Telemetry, root.clone()));
    if let Some(t) = oldest(
        general
            .telemetries
            .in_namespace(&root)
            .filter(without_selector)
            .collect(),
    ) {
        settings.extend(t.spec.access_logging.clone());
    }
    let local = cx.read(Input::InNamespace(Kind::Telemetry, class.namespace.clone()));
    if class.namespace != root {
        if let Some(t) = oldest(
            local
                .telemetries
                .in_namespace(&class.namespace)
                .filter(without_selector)
                .collect(),
        ) {
            settings.extend(t.spec.access_logging.clone());
        }
    }
    let selected = local
        .telemetries
        .in_namespace(&class.namespace)
        .filter(|t| {
            t.spec.selector.as_ref().is_some_and(|s| {
                !s.match_labels.is_empty()
                    && s.match_labels
                        .iter()
                        .all(|(k, v)| class.workload_labels.get(k) == Some(v))
            })
        })
        .collect();
    if let Some(t) = oldest(selected) {
        settings.extend(t.spec.access_logging.clone());
    }
    settings
}

fn logs_for(mesh: &MeshConfig, settings: &[AccessLogging], side: &str) -> Vec<accesslog::AccessLog> {
    let concerns = |setting: &&AccessLogging| {
        let mode = setting.selector.as_ref().and_then(|s| s.mode.as_deref());
        mode.is_none_or(|mode| mode == "CLIENT_AND_SERVER" || mode == side)
    };
    let mut providers: Option<Vec<String>> = None;
    let mut disabled = false;
    for setting in settings.iter().filter(concerns) {
        if !setting.providers.is_empty() {
            providers = Some(setting.providers.iter().map(|p| p.name.clone()).collect());
        }
        disabled = setting.disabled.unwrap_or(false);
    }
    if settings.iter().any(|s| concerns(&s)) || !mesh.default_providers.access_logging.is_empty() {
        if disabled {
            return Vec::new();
        }
        let names = providers.unwrap_or_else(|| mesh.default_providers.access_logging.clone());
        return names
            .iter()
            .filter_map(|name| mesh.provider(name)?.envoy_file_access_log.as_ref())
            .map(|log| file_log(log, mesh))
            .collect();
    }
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    vec![file_log(
        &FileAccessLog {
            path: mesh.access_log_file.clone(),
            log_format: None,
        },
        mesh,
    )]
}

fn file_log(log: &FileAccessLog, mesh: &MeshConfig) -> accesslog::AccessLog {
    let text = |text: &str| {
        core::substitution_format_string::Format::TextFormatSource(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
            ..Default::default()
        })
    };
    let fields = |value: &serde_json::Value| match proto::value_of_json(value).kind {
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

/// Sampling and tags that spans have when no tracer is configured: a later tracer finds them set.
fn default_tracing(class: &ProxyClass, mesh: &MeshConfig) -> hcm::Tracing {
    let percent = |value: f64| Some(Percent { value });
    let own = mesh.default_config.tracing.as_ref();
    let sampling = own
        .and_then(|t| t.get("sampling"))
        .and_then(serde_json::Value::as_f64)
        .filter(|s| *s != 0.0);
    let label = |key: &str, default: &str| {
        class
            .workload_labels
            .get(key)
            .map_or(default, String::as_str)
            .to_owned()
    };
    let mut tags: Vec<tracing::CustomTag> = [
        (
            "istio.authorization.dry_run.allow_policy.name",
            "istio_dry_run_allow_shadow_effective_policy_id",
        ),
        (
            "istio.authorization.dry_run.allow_policy.result",
            "istio_dry_run_allow_shadow_engine_result",
        ),
        (
            "istio.authorization.dry_run.deny_policy.name",
            "istio_dry_run_deny_shadow_effective_policy_id",
        ),
        (
            "istio.authorization.dry_run.deny_policy.result",
            "istio_dry_run_deny_shadow_engine_result",
        ),
    ]
    .into_iter()
    .map(|(tag, key)| metadata_tag(tag, key))
    .collect();
    tags.extend(
        [
            ("istio.canonical_revision", label(label::CANONICAL_REVISION, "latest")),
            ("istio.canonical_service", label(label::CANONICAL_NAME, "unknown")),
            ("istio.cluster_id", class.cluster.to_string()),
            ("istio.mesh_id", class.mesh_id.clone()),
            ("istio.namespace", class.namespace.to_string()),
        ]
        .into_iter()
        .map(|(tag, value)| literal_tag(tag, value)),
    );
    hcm::Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(sampling.unwrap_or(1.0)),
        overall_sampling: percent(100.0),
        custom_tags: tags,
        ..Default::default()
    }
}

fn literal_tag(tag: &str, value: String) -> tracing::CustomTag {
    tracing::CustomTag {
        tag: tag.to_owned(),
        r#type: Some(tracing::custom_tag::Type::Literal(tracing::custom_tag::Literal {
            value,
        })),
        ..Default::default()
    }
}

fn metadata_tag(tag: &str, key: &str) -> tracing::CustomTag {
    tracing::CustomTag {
        tag: tag.to_owned(),
        r#type: Some(tracing::custom_tag::Type::Metadata(tracing::custom_tag::Metadata {
            kind: Some(metadata::MetadataKind {
                kind: Some(metadata::metadata_kind::Kind::Request(
                    metadata::metadata_kind::Request {},
                )),
            }),
            metadata_key: Some(metadata::MetadataKey {
                key: "envoy.filters.http.rbac".to_owned(),
                path: vec![metadata::metadata_key::PathSegment {
                    segment: Some(metadata::metadata_key::path_segment::Segment::Key(key.to_owned())),
                }],
            }),
            ..Default::default()
        })),
        ..Default::default()
    }
}
