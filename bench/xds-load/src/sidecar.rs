//! One simulated sidecar: subscribes as Envoy does, counts what it gets, says when it is in sync.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::wire::{self, CLUSTER, ENDPOINT, Kind, LISTENER, METHOD, Node, ROUTE, Request, Response};
use crate::{Shape, mesh};

/// Pause before a sidecar connects again.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest response that is read, in bytes.
const LARGEST: usize = 256 << 20;

/// A number of sidecars against one control plane.
#[derive(Clone, Debug)]
pub struct Load {
    pub address: String,
    pub sidecars: usize,
    pub shape: Shape,
    /// Longest time to wait for all, in seconds.
    pub timeout: u64,
}

/// What all sidecars together received until each was in sync.
#[derive(Debug, Default)]
pub struct Received {
    pub bytes: AtomicU64,
    pub messages: AtomicU64,
    pub clusters: AtomicU64,
    pub endpoint_sets: AtomicU64,
    pub listeners: AtomicU64,
    pub routes: AtomicU64,
    pub reconnects: AtomicU64,
}

/// Something that happened to a sidecar.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// It has everything it asked for; time since the load began.
    Synced(Duration),
    /// It received the endpoints of service 0; Unix time in nanoseconds.
    Changed(u64),
}

/// Unix time in nanoseconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The node that the sidecar of a number says it is.
pub fn node(shape: Shape, number: usize) -> Node {
    let pod = mesh::pod(shape, number);
    let app = format!("svc-{}", pod.service);
    let text = |text: &str| Kind::Text(text.to_owned());
    let labels = wire::metadata(vec![("app", text(&app)), ("security.istio.io/tlsMode", text("istio"))]);
    Node {
        id: format!(
            "sidecar~{}~{}.{ns}~{ns}.svc.cluster.local",
            pod.address,
            pod.name,
            ns = pod.namespace
        ),
        cluster: format!("{app}.{}", pod.namespace),
        metadata: Some(wire::metadata(vec![
            ("NAME", text(&pod.name)),
            ("NAMESPACE", text(&pod.namespace)),
            ("SERVICE_ACCOUNT", text(&app)),
            ("INSTANCE_IPS", text(&pod.address)),
            ("CLUSTER_ID", text("Kubernetes")),
            ("MESH_ID", text("cluster.local")),
            ("ISTIO_VERSION", text("1.32.0")),
            ("LABELS", Kind::Struct(labels)),
        ])),
    }
}

/// Keeps one sidecar connected until its task is dropped.
pub async fn run(
    load: Load,
    number: usize,
    started: Instant,
    received: Arc<Received>,
    events: mpsc::UnboundedSender<Event>,
) {
    while stream(&load, number, started, &received, &events).await.is_err() {
        received.reconnects.fetch_add(1, Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream(
    load: &Load,
    number: usize,
    started: Instant,
    received: &Received,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<()> {
    let endpoint = tonic::transport::Endpoint::from_shared(load.address.clone())?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let mut client = tonic::client::Grpc::new(endpoint.connect().await?).max_decoding_message_size(LARGEST);
    client.ready().await?;
    let (requests, outgoing) = mpsc::channel::<Request>(64);
    for (index, type_url) in [CLUSTER, LISTENER].into_iter().enumerate() {
        let node = (index == 0).then(|| node(load.shape, number));
        requests
            .send(Request {
                node,
                type_url: type_url.to_owned(),
                ..Request::default()
            })
            .await?;
    }
    let codec = tonic_prost::ProstCodec::<Request, Response>::default();
    let path = http::uri::PathAndQuery::from_static(METHOD);
    let response = client
        .streaming(tonic::Request::new(ReceiverStream::new(outgoing)), path, codec)
        .await?;
    let mut responses = response.into_inner();
    let mut state = State::default();
    while let Some(response) = responses.message().await? {
        received.messages.fetch_add(1, Relaxed);
        received.bytes.fetch_add(response.encoded_len() as u64, Relaxed);
        let acknowledgement = Request {
            type_url: response.type_url.clone(),
            nonce: response.nonce.clone(),
            ..Request::default()
        };
        requests.send(acknowledgement).await?;
        if let Some(subscription) = state.take(&response, received, events) {
            requests.send(subscription).await?;
        }
        if !state.synced && state.is_complete() {
            state.synced = true;
            events.send(Event::Synced(started.elapsed()))?;
        }
    }
    anyhow::bail!("the control plane ended the stream")
}

#[derive(Default)]
struct State {
    wanted_endpoints: HashSet<String>,
    wanted_routes: HashSet<String>,
    endpoints: HashSet<String>,
    routes: HashSet<String>,
    clusters: bool,
    listeners: bool,
    synced: bool,
}

impl State {
    fn is_complete(&self) -> bool {
        self.clusters
            && self.listeners
            && self.wanted_endpoints.is_subset(&self.endpoints)
            && self.wanted_routes.is_subset(&self.routes)
    }

    /// Takes a response in; the request for what it refers to.
    fn take(
        &mut self,
        response: &Response,
        received: &Received,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Option<Request> {
        let count = |counter: &AtomicU64, synced: bool| {
            if !synced {
                counter.fetch_add(response.resources.len() as u64, Relaxed);
            }
        };
        let subscribe = |type_url: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| Request {
                type_url: type_url.to_owned(),
                subscribe: names,
                ..Request::default()
            })
        };
        match response.type_url.as_str() {
            CLUSTER => {
                self.clusters = true;
                count(&received.clusters, self.synced);
                let names = response.resources.iter().filter_map(wire::endpoint_set);
                let new = names
                    .filter(|name| self.wanted_endpoints.insert(name.clone()))
                    .collect();
                subscribe(ENDPOINT, new)
            }
            LISTENER => {
                self.listeners = true;
                count(&received.listeners, self.synced);
                let names = response.resources.iter().flat_map(wire::route_names);
                let new = names.filter(|name| self.wanted_routes.insert(name.clone())).collect();
                subscribe(ROUTE, new)
            }
            ENDPOINT => {
                count(&received.endpoint_sets, self.synced);
                for resource in &response.resources {
                    if self.synced && resource.name.contains("|svc-0.") {
                        events.send(Event::Changed(now())).ok();
                    }
                    self.endpoints.insert(resource.name.clone());
                }
                None
            }
            ROUTE => {
                count(&received.routes, self.synced);
                self.routes
                    .extend(response.resources.iter().map(|resource| resource.name.clone()));
                None
            }
            _ => None,
        }
    }
}
