//! The Unix socket that Envoy connects to.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::uri::PathAndQuery;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use xds::istio::networking::nds::v1::NameTable;

use super::codec::Raw;
use super::stream::{self, Health};
use crate::control_plane::ControlPlane;
use crate::workload::Published;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
/// No message of either side is longer than this, in bytes.
const MAX_MESSAGE: usize = 512 * 1024 * 1024;
/// Answers on their way to Envoy. When it does not read, istiod is not read either.
const IN_FLIGHT: usize = 4;

/// Carries Envoy's stream to istiod.
#[derive(Debug, Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) istiod: ControlPlane,
    pub(super) workload: Published,
    pub(super) roots: watch::Receiver<Option<Vec<u8>>>,
    pub(super) health: watch::Sender<Health>,
    /// Where the name table goes, if somebody wants it.
    pub(super) names: Option<watch::Sender<Option<Arc<NameTable>>>>,
    /// Ends the stream that Envoy had before the current one.
    current: Mutex<CancellationToken>,
}

impl Relay {
    /// Towards `istiod`; `roots` tells when the roots of the connection change.
    /// With `names`, istiod's name table is subscribed to as well, and goes there instead of to Envoy.
    pub fn new(
        istiod: ControlPlane,
        workload: Published,
        roots: watch::Receiver<Option<Vec<u8>>>,
        names: Option<watch::Sender<Option<Arc<NameTable>>>>,
    ) -> Self {
        let health = watch::Sender::new(Health::default());
        let current = Mutex::new(CancellationToken::new());
        Self {
            shared: Arc::new(Shared {
                istiod,
                workload,
                roots,
                health,
                names,
                current,
            }),
        }
    }

    /// Whether istiod is connected, and if not, why.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn open(&self, path: PathAndQuery, requests: Streaming<Bytes>) -> ReceiverStream<Result<Bytes, Status>> {
        let cancel = CancellationToken::new();
        let previous = {
            let mut current = self
                .shared
                .current
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::replace(&mut *current, cancel.clone())
        };
        // Envoy has one stream. A second one means that it has given the first up, even if we have not noticed.
        previous.cancel();
        let (send, receive) = mpsc::channel(IN_FLIGHT);
        tokio::spawn(stream::carry(self.shared.clone(), path, requests, send, cancel));
        ReceiverStream::new(receive)
    }
}

/// Binds `path` and serves until the task is dropped.
///
/// # Errors
/// If the socket cannot be bound.
pub fn serve(path: &Path, relay: Relay) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let listener = crate::sds::bind(path)?;
    Ok(async move {
        let serving = tonic::transport::Server::builder()
            .add_service(relay)
            .serve_with_incoming(UnixListenerStream::new(listener));
        if let Err(error) = serving.await {
            tracing::error!(%error, "the discovery relay ended");
        }
    })
}

impl NamedService for Relay {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for Relay {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        let known = path.filter(|p| {
            let method = p.path().strip_prefix('/').and_then(|p| p.strip_prefix(SERVICE));
            matches!(method, Some("/StreamAggregatedResources" | "/DeltaAggregatedResources"))
        });
        let Some(path) = known else {
            return Box::pin(async { Ok(Status::unimplemented("only the aggregated discovery service").into_http()) });
        };
        let handler = Handler {
            relay: self.clone(),
            path,
        };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(MAX_MESSAGE);
            Ok(grpc.streaming(handler, request).await)
        })
    }
}

struct Handler {
    relay: Relay,
    path: PathAndQuery,
}

impl StreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let answers = self.relay.open(self.path.clone(), request.into_inner());
        std::future::ready(Ok(Response::new(Box::pin(answers))))
    }
}

/// The largest message, also for the other side.
pub(super) const fn max_message() -> usize {
    MAX_MESSAGE
}
