//! Port 15020 (control-plane.md §4.7): readiness, merged metrics, probes of the application, drain and quit.

pub mod metrics;
pub mod probes;
pub mod ready;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::sync::{mpsc, watch};
use xds::istio::networking::nds::v1::NameTable;

use metrics::Metrics;
use probes::Probes;
use ready::Readiness;

/// What the status server can ask the agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start draining and go on; the end will come without a further drain.
    Drain,
    /// End now, without draining.
    Quit,
}

/// Everything behind the port.
#[derive(Debug)]
pub struct Status {
    /// Whether the proxy may get traffic.
    pub readiness: Readiness,
    /// Metrics of agent, Envoy and application.
    pub metrics: Metrics,
    /// Probes that were redirected here.
    pub probes: Probes,
    /// istiod's name table, where DNS is answered.
    pub names: Option<watch::Receiver<Option<Arc<NameTable>>>>,
    /// Orders to the agent.
    pub orders: mpsc::Sender<Order>,
}

/// The routes.
pub fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz/ready", get(healthz))
        .route("/metrics", get(metrics_merged))
        .route("/stats/prometheus", get(metrics_merged))
        .route("/quitquitquit", any(quit))
        .route("/drain", any(drain))
        .route("/debug/ndsz", get(name_table))
        .route("/app-health/{container}/{probe}", get(app_probe))
        .route("/app-lifecycle/{container}/{hook}", get(app_probe))
        .with_state(status)
}

/// Serves the routes until the task is dropped.
///
/// # Errors
/// If the port cannot be bound.
pub async fn serve(
    address: SocketAddr,
    status: Arc<Status>,
    limits: listen::Limits,
) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let connections = listen::accept::tcp(listener, limits);
    Ok(async move {
        // Ends with the agent: it answers while Envoy drains.
        let (_keep, never) = watch::channel(false);
        listen::http::serve(connections, router(status), limits, never).await;
    })
}

async fn healthz(State(status): State<Arc<Status>>) -> Response {
    match status.readiness.check().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => {
            tracing::warn!("Envoy proxy is NOT ready: {why}");
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn metrics_merged(State(status): State<Arc<Status>>, headers: HeaderMap, uri: Uri) -> Response {
    status.metrics.merged(&headers, uri.query()).await
}

/// The name table as JSON, for `istioctl` and people.
async fn name_table(State(status): State<Arc<Status>>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    if !is_local(peer) {
        return (StatusCode::FORBIDDEN, "Only requests from localhost are allowed").into_response();
    }
    let Some(table) = status.names.as_ref().and_then(|names| names.borrow().clone()) else {
        return (
            StatusCode::NOT_FOUND,
            "there is no name table; is ISTIO_META_DNS_CAPTURE set?",
        )
            .into_response();
    };
    let hosts = table.table.iter().map(|(host, info)| {
        let info = serde_json::json!({
            "ips": info.ips, "registry": info.registry, "shortname": info.shortname, "namespace": info.namespace,
        });
        (host.clone(), info)
    });
    axum::Json(serde_json::json!({ "table": hosts.collect::<serde_json::Map<_, _>>() })).into_response()
}

/// Ending and draining are for the pod itself only.
fn is_local(peer: SocketAddr) -> bool {
    match peer.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(v6.is_loopback(), |v4| v4.is_loopback()),
        v4 => v4.is_loopback(),
    }
}

async fn order(status: &Status, peer: SocketAddr, method: &Method, order: Order) -> Response {
    if !is_local(peer) {
        return (StatusCode::FORBIDDEN, "Only requests from localhost are allowed").into_response();
    }
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "Only POST is allowed").into_response();
    }
    match status.orders.send(order).await {
        Ok(()) => (StatusCode::OK, "OK").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the agent is ending").into_response(),
    }
}

async fn quit(
    State(status): State<Arc<Status>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
) -> Response {
    order(&status, peer, &method, Order::Quit).await
}

async fn drain(
    State(status): State<Arc<Status>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
) -> Response {
    order(&status, peer, &method, Order::Drain).await
}

async fn app_probe(
    State(status): State<Arc<Status>>,
    Path(_): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    status.probes.probe(uri.path(), &headers).await
}
