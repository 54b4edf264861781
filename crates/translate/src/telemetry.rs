//! Access logs and traces of a class's listeners.

mod log;
mod receiver;
mod trace;

use std::sync::Arc;

use api::telemetry::{AccessLogging, Telemetry as Spec};
use mesh::Config;
use xds::envoy::config::accesslog::v3::{self as accesslog, access_log_filter::FilterSpecifier};
use xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;

use crate::graph::Cx;
use crate::listener::Traffic;
use crate::proxy::ProxyClass;

/// What a class's listeners report.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Telemetry {
    client: Side,
    server: Side,
    listener: bool,
}

/// What one direction reports.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    logs: Vec<accesslog::AccessLog>,
    traces: trace::Traces,
}

impl Telemetry {
    fn side(&self, traffic: Traffic) -> &Side {
        match traffic {
            Traffic::Inbound => &self.server,
            Traffic::Outbound | Traffic::Gateway => &self.client,
        }
    }

    /// Access logs of connections and requests.
    pub(crate) fn access_logs(&self, traffic: Traffic) -> Vec<accesslog::AccessLog> {
        self.side(traffic).logs.clone()
    }

    /// Access logs of connections that match no filter chain.
    pub(crate) fn listener_logs(&self, traffic: Traffic) -> Vec<accesslog::AccessLog> {
        if !self.listener {
            return Vec::new();
        }
        let mut logs = self.access_logs(traffic);
        for log in &mut logs {
            let unmatched = accesslog::AccessLogFilter {
                filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(accesslog::ResponseFlagFilter {
                    flags: vec!["NR".to_owned()],
                })),
            };
            log.filter = Some(match log.filter.take() {
                None => unmatched,
                Some(own) => accesslog::AccessLogFilter {
                    filter_specifier: Some(FilterSpecifier::AndFilter(accesslog::AndFilter {
                        filters: vec![unmatched, own],
                    })),
                },
            });
        }
        logs
    }

    /// Trace settings.
    pub(crate) fn tracing(&self, traffic: Traffic) -> Option<hcm::Tracing> {
        self.side(traffic).traces.tracing.clone()
    }

    /// Whether the request's id tells if it is traced.
    pub(crate) fn traces_by_request_id(&self, traffic: Traffic) -> bool {
        self.side(traffic).traces.by_request_id
    }
}

pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Telemetry {
    let mesh = cx.mesh().clone();
    let applicable = applicable(cx, class, &mesh.root_namespace);
    let logging: Vec<AccessLogging> = applicable
        .iter()
        .flat_map(|t| t.spec.access_logging.iter().cloned())
        .collect();
    let tracing: Vec<trace::Setting> = applicable
        .iter()
        .flat_map(|t| &t.spec.tracing)
        .filter_map(|t| serde_json::from_value(t.0.clone()).ok())
        .collect();
    let seen = cx.visible(&class.namespace);
    let side = |side: &str| Side {
        logs: log::of_side(&mesh, &seen, &logging, side),
        traces: trace::of_side(&mesh, &seen, class, &tracing, side),
    };
    Telemetry {
        client: side("CLIENT"),
        server: side("SERVER"),
        listener: !mesh.disable_envoy_listener_log,
    }
}

/// Whether a setting's mode concerns a direction.
fn concerns(mode: Option<&str>, side: &str) -> bool {
    mode.is_none_or(|mode| mode == "CLIENT_AND_SERVER" || mode == side)
}

/// Settings in force, general first: of the mesh, the namespace, the workload.
fn applicable(cx: &mut Cx<'_>, class: &ProxyClass, root: &str) -> Vec<Arc<Config<Spec>>> {
    let root: Arc<str> = root.into();
    let mut found = Vec::new();
    let general = |t: &&Arc<Config<Spec>>| {
        t.spec.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
            && t.spec.target_refs.is_empty()
            && t.spec.target_ref.is_none()
    };
    let selected = |t: &&Arc<Config<Spec>>| {
        t.spec.selector.as_ref().is_some_and(|s| {
            !s.match_labels.is_empty()
                && s.match_labels
                    .iter()
                    .all(|(k, v)| class.workload_labels.get(k) == Some(v))
        })
    };
    let mut namespaces = vec![root.clone()];
    if class.namespace != root {
        namespaces.push(class.namespace.clone());
    }
    for namespace in &namespaces {
        let all = cx.of_namespace(namespace).filter(general);
        found.extend(all.min_by(|a, b| a.meta.age_order(&b.meta)).cloned());
    }
    let own = cx.of_namespace(&class.namespace).filter(selected);
    found.extend(own.min_by(|a, b| a.meta.age_order(&b.meta)).cloned());
    found
}
