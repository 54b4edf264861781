//! One simulated sidecar: subscribes as Envoy does, counts what it gets, says when it is in sync.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use http::Uri;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::mutual::Authority;
use crate::statistics::Delays;
use crate::wire::{self, CLUSTER, ENDPOINT, Kind, LISTENER, METHOD, Node, ROUTE, Request, Response};
use crate::{Shape, mesh};

/// Pause before a sidecar connects again.
const PAUSE: Duration = Duration::from_millis(500);
/// Largest response that is read, in bytes.
const LARGEST: usize = 256 << 20;

/// A number of sidecars against one control plane.
#[derive(Clone, Debug)]
pub struct Load {
    /// URL of the control plane.
    pub address: String,
    pub sidecars: usize,
    pub shape: Shape,
    /// Longest time to wait for all, in seconds.
    pub timeout: u64,
    /// Signs certificates of sidecars; without it they connect in plaintext.
    pub authority: Option<Arc<Authority>>,
}

/// What all sidecars together received, each on the one stream that brought it into sync.
#[derive(Debug, Default)]
pub struct Received {
    pub bytes: AtomicU64,
    pub clusters: AtomicU64,
    pub endpoint_sets: AtomicU64,
    pub listeners: AtomicU64,
    pub routes: AtomicU64,
    /// Why connections had to be made again, and how many.
    pub reconnects: Mutex<BTreeMap<String, u64>>,
}

/// What one stream brought.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    bytes: u64,
    clusters: u64,
    endpoint_sets: u64,
    listeners: u64,
    routes: u64,
}

impl Received {
    fn add(&self, counts: Counts) {
        self.bytes.fetch_add(counts.bytes, Relaxed);
        self.clusters.fetch_add(counts.clusters, Relaxed);
        self.endpoint_sets.fetch_add(counts.endpoint_sets, Relaxed);
        self.listeners.fetch_add(counts.listeners, Relaxed);
        self.routes.fetch_add(counts.routes, Relaxed);
    }

    fn ended(&self, error: &anyhow::Error) {
        let mut reasons = self.reconnects.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(format!("{error:#}")).or_default() += 1;
    }
}

/// When endpoints of services were last changed, and how long it took sidecars to hear of it.
#[derive(Debug)]
pub struct Clock {
    changed: Vec<AtomicU64>,
    /// From a change to each sidecar that received it.
    pub delays: Delays,
}

impl Clock {
    /// Nothing was changed yet.
    pub fn new(services: usize) -> Self {
        Self {
            changed: (0..services).map(|_| AtomicU64::new(0)).collect(),
            delays: Delays::default(),
        }
    }

    /// Endpoints of a service change now.
    pub fn changes(&self, service: usize) {
        if let Some(changed) = self.changed.get(service) {
            changed.store(now(), Relaxed);
        }
    }

    /// What arrives from now on is not counted.
    pub fn stop(&self) {
        self.changed.iter().for_each(|changed| changed.store(0, Relaxed));
    }

    fn arrived(&self, name: &[u8]) {
        let Some(changed) = service_of(name).and_then(|service| self.changed.get(service)) else {
            return;
        };
        let made = changed.load(Relaxed);
        if made > 0 {
            self.delays.record(now().saturating_sub(made) as f64 / 1e6);
        }
    }
}

/// Number of the service that an endpoint set is of.
fn service_of(name: &[u8]) -> Option<usize> {
    const PREFIX: &[u8] = b"outbound|80||svc-";
    let digits = name.strip_prefix(PREFIX)?.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Something that happened to a sidecar.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// It has everything it asked for; time since the connections of now were begun. Said again after a connection that
    /// was lost.
    Synced { sidecar: usize, after: Duration },
    /// It received something after that; Unix time in nanoseconds.
    Got { sidecar: usize, at: u64 },
}

/// What a sidecar tells the outside.
#[derive(Clone, Debug)]
pub struct Outside {
    pub received: Arc<Received>,
    pub clock: Arc<Clock>,
    pub events: mpsc::UnboundedSender<Event>,
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

/// Keeps one sidecar connected until its task is dropped; it connects again whenever `began` changes.
pub async fn run(load: Load, number: usize, mut began: watch::Receiver<Instant>, outside: Outside) {
    let pod = mesh::pod(load.shape, number);
    let account = format!("svc-{}", pod.service);
    let connector = match &load.authority {
        Some(authority) => match authority.connector(&pod.namespace, &account) {
            Ok(connector) => Some((authority.clone(), connector)),
            Err(error) => return outside.received.ended(&error),
        },
        None => None,
    };
    // Counted once, however often it has to connect.
    let mut counted = false;
    loop {
        let started = *began.borrow_and_update();
        tokio::select! {
            ended = stream(&load, connector.as_ref(), number, started, &mut counted, &outside) => {
                if let Err(error) = ended {
                    outside.received.ended(&error);
                }
                tokio::time::sleep(PAUSE).await;
            }
            changed = began.changed() => if changed.is_err() { return },
        }
    }
}

/// Certificates, and what connects with them.
type Secure = (Arc<Authority>, TlsConnector);

async fn connect(endpoint: Endpoint, secure: Option<&Secure>) -> Result<Channel> {
    let Some((authority, connector)) = secure.cloned() else {
        return Ok(endpoint.connect().await?);
    };
    let connect = move |uri: Uri| {
        let (authority, connector) = (authority.clone(), connector.clone());
        async move {
            let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_default());
            let stream = authority.connect(&connector, host, port).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    Ok(endpoint.connect_with_connector(service_fn(connect)).await?)
}

async fn stream(
    load: &Load,
    secure: Option<&Secure>,
    number: usize,
    started: Instant,
    counted: &mut bool,
    outside: &Outside,
) -> Result<()> {
    let events = &outside.events;
    let endpoint = Endpoint::from_shared(load.address.clone())?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let mut client = tonic::client::Grpc::new(connect(endpoint, secure).await?).max_decoding_message_size(LARGEST);
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
        state.counts.bytes += response.encoded_len() as u64;
        if state.synced {
            let at = now();
            events.send(Event::Got { sidecar: number, at })?;
        }
        let acknowledgement = Request {
            type_url: response.type_url.clone(),
            nonce: response.nonce.clone(),
            ..Request::default()
        };
        requests.send(acknowledgement).await?;
        if let Some(subscription) = state.take(&response, outside) {
            requests.send(subscription).await?;
        }
        if !state.synced && state.is_complete() {
            state.synced = true;
            if !std::mem::replace(counted, true) {
                outside.received.add(state.counts);
            }
            let after = started.elapsed();
            events.send(Event::Synced { sidecar: number, after })?;
        }
    }
    anyhow::bail!("the control plane ended the stream")
}

/// What a sidecar knows, names as their hashes.
#[derive(Default)]
struct State {
    hasher: RandomState,
    wanted_endpoints: HashSet<u64>,
    wanted_routes: HashSet<u64>,
    endpoints: HashSet<u64>,
    routes: HashSet<u64>,
    clusters: bool,
    listeners: bool,
    synced: bool,
    counts: Counts,
}

impl State {
    fn is_complete(&self) -> bool {
        self.clusters
            && self.listeners
            && self.wanted_endpoints.is_subset(&self.endpoints)
            && self.wanted_routes.is_subset(&self.routes)
    }

    /// Takes a response in; the request for what it refers to.
    fn take(&mut self, response: &Response, outside: &Outside) -> Option<Request> {
        let count = response.resources.len() as u64;
        let subscribe = |type_url: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| Request {
                type_url: type_url.to_owned(),
                subscribe: names,
                ..Request::default()
            })
        };
        let hasher = self.hasher.clone();
        let hash = |name: &[u8]| hasher.hash_one(name);
        match response.type_url.as_str() {
            CLUSTER => {
                self.clusters = true;
                self.counts.clusters += count;
                let names = response.resources.iter().filter_map(wire::endpoint_set);
                let new = names.filter(|name| self.wanted_endpoints.insert(hash(name.as_bytes())));
                subscribe(ENDPOINT, new.collect())
            }
            LISTENER => {
                self.listeners = true;
                self.counts.listeners += count;
                let names = response.resources.iter().flat_map(wire::route_names);
                let new = names.filter(|name| self.wanted_routes.insert(hash(name.as_bytes())));
                subscribe(ROUTE, new.collect())
            }
            ENDPOINT => {
                self.counts.endpoint_sets += count;
                for resource in &response.resources {
                    if self.synced {
                        outside.clock.arrived(&resource.name);
                    }
                    self.endpoints.insert(hash(&resource.name));
                }
                None
            }
            ROUTE => {
                self.counts.routes += count;
                let names = response.resources.iter().map(|resource| hash(&resource.name));
                self.routes.extend(names);
                None
            }
            _ => None,
        }
    }
}
