//! Traces: where spans go, how many, and with which tags.

use std::collections::BTreeMap;

use api::lenient::Duration;
use api::mesh_config::MeshConfig;
use api::mesh_config::provider::ExtensionProvider;
use api::names::label;
use api::telemetry::ProviderRef;
use serde::Deserialize;
use serde_json::Value as Json;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::trace::v3 as trace_v3;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use xds::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::EnvironmentResourceDetectorConfig;
use xds::envoy::r#type::metadata::v3 as metadata;
use xds::envoy::r#type::tracing::v3 as tracing;
use xds::envoy::r#type::v3::Percent;
use xds::google::protobuf::Any;

use super::receiver::Receiver;
use crate::proto;
use crate::proxy::ProxyClass;
use crate::seen::Seen;

/// Share of requests that are traced where nothing else is said, in percent.
const SAMPLING: f64 = 1.0;

/// One setting of a Telemetry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Setting {
    r#match: Option<Match>,
    providers: Vec<ProviderRef>,
    random_sampling_percentage: Option<f64>,
    disable_span_reporting: Option<bool>,
    custom_tags: Option<BTreeMap<String, Json>>,
    use_request_id_for_trace_sampling: Option<bool>,
    enable_istio_tags: Option<bool>,
    disable_context_propagation: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Match {
    mode: Option<String>,
}

/// What is in force for one direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Traces {
    pub(super) tracing: Option<hcm::Tracing>,
    /// Whether the request's id tells if it is traced.
    pub(super) by_request_id: bool,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            tracing: None,
            by_request_id: true,
        }
    }
}

pub(super) fn of_side(mesh: &MeshConfig, seen: &Seen, class: &ProxyClass, settings: &[Setting], side: &str) -> Traces {
    let default = mesh.default_providers.tracing.first();
    if settings.is_empty() && default.is_none() {
        // Without a tracer, tags and sampling are set for one that the bootstrap configures.
        let mut plain = Traces::default();
        if mesh.enable_tracing {
            let mut tracing = hcm::Tracing::default();
            finish(&mut tracing, mesh, class, &Setting::default());
            plain.tracing = Some(tracing);
        }
        return plain;
    }
    let mut merged = Setting::default();
    let mut provider = default.and_then(|name| mesh.provider(name));
    let concerned = settings
        .iter()
        .filter(|s| super::concerns(s.r#match.as_ref().and_then(|m| m.mode.as_deref()), side));
    for setting in concerned {
        if let Some(first) = setting.providers.first() {
            provider = mesh.provider(&first.name);
        }
        let new = setting.clone();
        merged.random_sampling_percentage = new.random_sampling_percentage.or(merged.random_sampling_percentage);
        merged.disable_span_reporting = new.disable_span_reporting.or(merged.disable_span_reporting);
        merged.custom_tags = new.custom_tags.or(merged.custom_tags);
        merged.use_request_id_for_trace_sampling = new
            .use_request_id_for_trace_sampling
            .or(merged.use_request_id_for_trace_sampling);
        merged.enable_istio_tags = new.enable_istio_tags.or(merged.enable_istio_tags);
        merged.disable_context_propagation = new.disable_context_propagation.or(merged.disable_context_propagation);
    }
    let mut traces = Traces::default();
    if merged.disable_span_reporting == Some(true) {
        return traces;
    }
    let Some(mut tracing) = provider.and_then(|p| of_provider(p, seen, class)) else {
        return traces;
    };
    tracing.no_context_propagation = class.envoy >= (1, 38) && merged.disable_context_propagation == Some(true);
    finish(&mut tracing, mesh, class, &merged);
    traces.by_request_id = merged.use_request_id_for_trace_sampling.unwrap_or(true);
    traces.tracing = Some(tracing);
    traces
}

/// Sampling, tags and their length.
fn finish(tracing: &mut hcm::Tracing, mesh: &MeshConfig, class: &ProxyClass, setting: &Setting) {
    let percent = |value: f64| Some(Percent { value });
    let own = mesh.default_config.tracing.as_ref();
    let of_mesh = own
        .and_then(|t| t.get("sampling"))
        .and_then(Json::as_f64)
        .filter(|s| *s != 0.0);
    let sampling = setting.random_sampling_percentage.or(of_mesh).unwrap_or(SAMPLING);
    tracing.client_sampling = percent(100.0);
    tracing.random_sampling = percent(sampling);
    tracing.overall_sampling = percent(100.0);
    let length = own.and_then(|t| t.get("maxPathTagLength")).and_then(Json::as_u64);
    if let Some(length) = length.filter(|l| *l != 0 && tracing.max_path_tag_length.is_none()) {
        tracing.max_path_tag_length = Some(proto::u32_value(u32::try_from(length).unwrap_or(u32::MAX)));
    }
    let mut tags = if setting.enable_istio_tags == Some(false) {
        Vec::new()
    } else {
        standard_tags(class)
    };
    let of_mesh = own.and_then(|t| t.get("customTags")).and_then(Json::as_object);
    match &setting.custom_tags {
        Some(own) => tags.extend(own.iter().filter_map(|(tag, value)| custom_tag(class, tag, value))),
        None => tags.extend(
            of_mesh
                .into_iter()
                .flatten()
                .filter_map(|(tag, v)| custom_tag(class, tag, v)),
        ),
    }
    tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    tracing.custom_tags = tags;
}

fn standard_tags(class: &ProxyClass) -> Vec<tracing::CustomTag> {
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
    tags
}

fn custom_tag(class: &ProxyClass, tag: &str, value: &Json) -> Option<tracing::CustomTag> {
    let text = |path: &str| {
        let found = value.pointer(path).and_then(Json::as_str);
        found.unwrap_or_default().to_owned()
    };
    let kind = if value.get("literal").is_some() {
        return Some(literal_tag(tag, text("/literal/value")));
    } else if value.get("environment").is_some() {
        tracing::custom_tag::Type::Environment(tracing::custom_tag::Environment {
            name: text("/environment/name"),
            default_value: text("/environment/defaultValue"),
        })
    } else if value.get("header").is_some() {
        tracing::custom_tag::Type::RequestHeader(tracing::custom_tag::Header {
            name: text("/header/name"),
            default_value: text("/header/defaultValue"),
        })
    } else if value.get("formatter").is_some() && class.envoy >= (1, 37) {
        tracing::custom_tag::Type::Value(text("/formatter/value"))
    } else {
        return None;
    };
    Some(tracing::CustomTag {
        tag: tag.to_owned(),
        r#type: Some(kind),
        ..Default::default()
    })
}

fn of_provider(provider: &ExtensionProvider, seen: &Seen, class: &ProxyClass) -> Option<hcm::Tracing> {
    let (settings, name, config) = if let Some(settings) = provider.other.get("zipkin") {
        (settings, "envoy.tracers.zipkin", zipkin(settings, seen, class)?)
    } else {
        let settings = provider.other.get("opentelemetry")?;
        (
            settings,
            "envoy.tracers.opentelemetry",
            open_telemetry(settings, seen, class)?,
        )
    };
    let length = settings.get("maxTagLength").and_then(Json::as_u64).filter(|l| *l != 0);
    Some(hcm::Tracing {
        max_path_tag_length: length.map(|l| proto::u32_value(u32::try_from(l).unwrap_or(u32::MAX))),
        // A gateway's own span is the parent of the workload's.
        spawn_upstream_span: (!class.is_sidecar()).then(|| proto::bool_value(true)),
        provider: Some(trace_v3::tracing::Http {
            name: name.to_owned(),
            config_type: Some(trace_v3::tracing::http::ConfigType::TypedConfig(config)),
        }),
        ..Default::default()
    })
}

fn http(receiver: &Receiver, uri: String, settings: &Json, default: Option<Duration>) -> core::HttpService {
    let timeout = settings
        .get("timeout")
        .and_then(Json::as_str)
        .and_then(|t| t.parse().ok())
        .or(default);
    let headers = settings.get("headers").and_then(Json::as_array);
    core::HttpService {
        http_uri: Some(core::HttpUri {
            uri,
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(receiver.cluster.clone())),
            timeout: timeout.map(proto::duration),
        }),
        request_headers_to_add: headers
            .into_iter()
            .flatten()
            .filter_map(|h| {
                Some(core::HeaderValueOption {
                    header: Some(core::HeaderValue {
                        key: h.get("name")?.as_str()?.to_owned(),
                        value: h.get("value")?.as_str()?.to_owned(),
                        ..Default::default()
                    }),
                    append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
                    ..Default::default()
                })
            })
            .collect(),
        ..Default::default()
    }
}

fn zipkin(settings: &Json, seen: &Seen, class: &ProxyClass) -> Option<Any> {
    let receiver = Receiver::of(settings, seen)?;
    let path = settings.get("path").and_then(Json::as_str).filter(|p| !p.is_empty());
    let path = path.unwrap_or("/api/v2/spans");
    let w3c = settings.get("traceContextOption").and_then(Json::as_str) == Some("USE_B3_WITH_W3C_PROPAGATION");
    let mut config = trace_v3::ZipkinConfig {
        collector_endpoint_version: trace_v3::zipkin_config::CollectorEndpointVersion::HttpJson as i32,
        trace_id_128bit: settings.get("enable64bitTraceId").and_then(Json::as_bool) != Some(true),
        shared_span_context: Some(proto::bool_value(false)),
        trace_context_option: if w3c && class.envoy >= (1, 36) {
            trace_v3::zipkin_config::TraceContextOption::UseB3WithW3cPropagation
        } else {
            trace_v3::zipkin_config::TraceContextOption::UseB3
        } as i32,
        ..Default::default()
    };
    // Older proxies do not know the newer field, and refuse what they do not know.
    if class.envoy >= (1, 37) {
        let uri = format!("http://{}{path}", receiver.host);
        config.collector_service = Some(http(&receiver, uri, settings, Some(Duration::seconds(5))));
    } else {
        config.collector_cluster = receiver.cluster;
        config.collector_endpoint = path.to_owned();
        config.collector_hostname = receiver.host;
    }
    Some(proto::any(&config))
}

fn open_telemetry(settings: &Json, seen: &Seen, class: &ProxyClass) -> Option<Any> {
    let receiver = Receiver::of(settings, seen)?;
    let mut config = trace_v3::OpenTelemetryConfig {
        service_name: class.service.clone(),
        ..Default::default()
    };
    match settings.get("http") {
        Some(own) => {
            let path = own.get("path").and_then(Json::as_str).unwrap_or_default();
            let uri = format!("{}/{}", receiver.host, path.trim_start_matches('/'));
            config.http_service = Some(http(&receiver, uri, own, None));
        }
        None => config.grpc_service = Some(receiver.grpc()),
    }
    if settings.pointer("/resourceDetectors/environment").is_some() {
        config.resource_detectors.push(core::TypedExtensionConfig {
            name: "envoy.tracers.opentelemetry.resource_detectors.environment".to_owned(),
            typed_config: Some(proto::any(&EnvironmentResourceDetectorConfig::default())),
        });
    }
    Some(proto::any(&config))
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
