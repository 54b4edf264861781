//! The debug pages of port 15014 and 8080 (revisions.md §11.3).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ads::{Connection, Peer};
use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ca::Credentials;
use mesh::Snapshot;
use serde_json::{Value, json};

use super::{Asker, dump, syncz};
use crate::http::Pages;

/// Pages by name and what they show.
const INDEX: &[(&str, &str)] = &[
    ("syncz", "how far each proxy got"),
    ("connections", "open streams"),
    ("adsz", "open streams and what they watch"),
    ("config_dump", "what a proxy was sent; ?proxyID=<pod>.<namespace>"),
    ("edsz", "endpoints a proxy was sent; ?proxyID=<pod>.<namespace>"),
    ("registryz", "services"),
    ("endpointz", "endpoints of services"),
    ("configz", "configuration that was read"),
    ("mesh", "mesh configuration"),
    ("resourcesz", "number of objects by kind"),
    ("clusterz", "clusters that are read"),
];

type Parameters = Query<BTreeMap<String, String>>;

/// The routes below `/debug`.
pub fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/list", get(list))
        .route("/debug/{page}", get(page))
        .layer(from_fn_with_state(pages.clone(), admit))
        .with_state(pages)
}

/// Loopback sees everything; others must prove who they are, like proxies.
async fn admit(State(pages): State<Arc<Pages>>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let asker = match address {
        Some(address) if address.ip().is_loopback() => Ok(Asker::Everything),
        _ => {
            let metadata = tonic::metadata::MetadataMap::from_headers(request.headers().clone());
            let caller = match &pages.authenticator {
                Some(authenticator) => authenticator
                    .authenticate(&Credentials::new(None, &metadata))
                    .await
                    .ok(),
                None => None,
            };
            let identities = caller
                .iter()
                .flat_map(|c| &c.identities)
                .map(ToString::to_string)
                .collect();
            pages.debug.asker(&Peer {
                address,
                identities,
                ..Peer::default()
            })
        }
    };
    match asker {
        Ok(asker) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(refusal) => (StatusCode::UNAUTHORIZED, refusal.to_string()).into_response(),
    }
}

async fn index() -> Response {
    let rows: String = INDEX
        .iter()
        .map(|(name, help)| format!("<tr><td><a href=\"/debug/{name}\">{name}</a></td><td>{help}</td></tr>"))
        .collect();
    axum::response::Html(format!(
        "<!DOCTYPE html><title>istiod</title><h1>istiod</h1><table>{rows}</table>"
    ))
    .into_response()
}

async fn list() -> Response {
    axum::Json(
        INDEX
            .iter()
            .map(|(name, _)| format!("/debug/{name}"))
            .collect::<Vec<_>>(),
    )
    .into_response()
}

async fn page(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    parameters: Parameters,
    axum::Extension(asker): axum::Extension<Asker>,
) -> Response {
    match name.as_str() {
        "syncz" | "connections" | "adsz" | "config_dump" | "edsz" => streams(&pages, &name, &parameters, &asker),
        // Everything below is about the whole mesh.
        _ if asker != Asker::Everything => (
            StatusCode::FORBIDDEN,
            format!("/debug/{name} is for callers of the system namespace"),
        )
            .into_response(),
        "registryz" => axum::Json(services(&pages.engine.snapshot())).into_response(),
        "endpointz" | "endpointShardz" => axum::Json(endpoints(&pages.engine.snapshot())).into_response(),
        "mesh" => axum::Json(&*pages.engine.snapshot().mesh).into_response(),
        "configz" => axum::Json(configuration(&pages.engine.snapshot())).into_response(),
        // What is answered here has been read; other clusters are not read.
        "clusterz" => {
            axum::Json(json!([{"id": &*pages.engine.snapshot().cluster, "syncStatus": "synced"}])).into_response()
        }
        "resourcesz" => axum::Json(counts(&pages.engine.snapshot())).into_response(),
        _ => (
            StatusCode::NOT_FOUND,
            format!("there is no page /debug/{name}; see /debug"),
        )
            .into_response(),
    }
}

fn streams(pages: &Pages, name: &str, parameters: &Parameters, asker: &Asker) -> Response {
    let namespace = parameters.get("namespace").filter(|namespace| !namespace.is_empty());
    let mut connections = pages.registry.connections();
    connections.retain(|c| asker.sees(c) && namespace.is_none_or(|namespace| c.info.namespace == *namespace));
    let all = |show: fn(&Connection) -> Value| {
        axum::Json(connections.iter().map(|c| show(c)).collect::<Vec<_>>()).into_response()
    };
    match name {
        "syncz" => all(syncz::entry),
        "connections" => axum::Json(json!({
            "totalClients": connections.len(),
            "clients": connections.iter().map(|c| connection(c)).collect::<Vec<_>>(),
        }))
        .into_response(),
        "adsz" => axum::Json(json!({
            "totalClients": connections.len(),
            "clients": connections.iter().map(|c| {
                let mut shown = connection(c);
                let watches = c.with_stream(|s| s.sent());
                shown["watches"] = watches.iter().map(|(url, held)| (url.to_string(), json!(held.len()))).collect();
                shown
            }).collect::<Vec<_>>(),
        }))
        .into_response(),
        _ => {
            let Some(proxy) = parameters.get("proxyID") else {
                return (
                    StatusCode::BAD_REQUEST,
                    "You must provide a proxyID in the query string",
                )
                    .into_response();
            };
            let found = connections
                .iter()
                .filter(|c| c.info.proxy_id == *proxy || c.id == *proxy)
                .max_by_key(|c| c.since);
            match found {
                Some(found) => axum::Json(dump::config_dump(found)).into_response(),
                None => (
                    StatusCode::NOT_FOUND,
                    format!("{proxy} is not connected to this instance"),
                )
                    .into_response(),
            }
        }
    }
}

fn connection(connection: &Connection) -> Value {
    json!({
        "connectionId": connection.id,
        "connectedAt": jiff::Timestamp::try_from(connection.since).map(|at| at.to_string()).unwrap_or_default(),
        "address": connection.peer.address.map(|a| a.to_string()).unwrap_or_default(),
        "identities": connection.peer.identities,
    })
}

fn services(snapshot: &Snapshot) -> Value {
    let show = |s: &Arc<mesh::Service>| {
        json!({
            "hostname": &*s.key.host,
            "namespace": &*s.key.namespace,
            "ports": s.ports.iter().map(|p| json!({ "name": p.name, "port": p.number, "protocol": format!("{:?}", p.protocol) })).collect::<Vec<_>>(),
            "resolution": format!("{:?}", s.resolution),
        })
    };
    snapshot.services().iter().map(show).collect()
}

fn endpoints(snapshot: &Snapshot) -> Value {
    let show = |s: &Arc<mesh::Service>| {
        let list = snapshot.endpoints(&s.key);
        let endpoints: Vec<String> = list
            .list
            .iter()
            .map(|e| format!("{:?}:{} {:?}", e.address, e.port, e.health))
            .collect();
        json!({ "svc": &*s.key.host, "namespace": &*s.key.namespace, "endpoints": endpoints })
    };
    snapshot.services().iter().map(show).collect()
}

/// Names of the configuration objects, by kind.
fn configuration(snapshot: &Snapshot) -> Value {
    fn names<S>(shelf: &mesh::Shelf<mesh::Config<S>>) -> Value {
        shelf
            .iter()
            .map(|c| json!({ "namespace": &*c.meta.namespace, "name": &*c.meta.name, "generation": c.meta.generation }))
            .collect()
    }
    json!({
        "VirtualService": names(&snapshot.virtual_services),
        "DestinationRule": names(&snapshot.destination_rules),
        "Gateway": names(&snapshot.gateways),
        "ServiceEntry": names(&snapshot.service_entries),
        "WorkloadEntry": names(&snapshot.workload_entries),
        "Sidecar": names(&snapshot.sidecars),
        "EnvoyFilter": names(&snapshot.envoy_filters),
        "ProxyConfig": names(&snapshot.proxy_configs),
        "PeerAuthentication": names(&snapshot.peer_authentications),
        "RequestAuthentication": names(&snapshot.request_authentications),
        "AuthorizationPolicy": names(&snapshot.authorization_policies),
        "Telemetry": names(&snapshot.telemetries),
        "WasmPlugin": names(&snapshot.wasm_plugins),
    })
}

fn counts(snapshot: &Snapshot) -> Value {
    let configuration = configuration(snapshot);
    let mut counts: BTreeMap<String, usize> = BTreeMap::from([("Service".to_owned(), snapshot.services().len())]);
    for (kind, names) in configuration.as_object().into_iter().flatten() {
        counts.insert(kind.clone(), names.as_array().map_or(0, Vec::len));
    }
    json!(counts)
}
