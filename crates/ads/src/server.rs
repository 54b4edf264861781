//! The machine behind gRPC.
//!
//! The response body *is* the stream: hyper asks it for the next frame when the proxy's flow-control window has room,
//! and only then is the next response made. There is no task, channel or encoder buffer per stream.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures::Stream as _;
use http_body::Frame;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::body::Body;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::counters::Counters;
use crate::diff::Shared;
use crate::fields::Shape;
use crate::kinds;
use crate::limits::Limits;
use crate::registry::{Connection, Registry};
use crate::requests::{Received, Requests};
use crate::room::Room;
use crate::source::{Peer, ProxyInfo, Question, Refusal, Source, View};
use crate::stream::{Outcome, Protocol, Response, Stream};
use crate::turns::Turns;
use crate::wire::Frames;

/// Largest frame that HTTP/2 peers take without saying so, in bytes.
const FRAME: usize = 16 << 10;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// The aggregated discovery service. Put a [`Peer`] into each request's extensions before it gets here: without one a
/// request is refused.
pub struct DiscoveryServer<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    source: Arc<S>,
    limits: Arc<Limits>,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    /// Streams open now, those that said nothing yet included.
    streams: Arc<AtomicUsize>,
    /// For requests that arrive.
    room: Arc<Room>,
    /// For responses that leave.
    sending: Room,
    clock: Clock,
}

/// The place of one of the streams that may be open.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Time since the start, as a time of day: patience with a proxy must not end, or last, because somebody set the
/// machine's clock.
struct Clock {
    started: SystemTime,
    instant: tokio::time::Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: SystemTime::now(),
            instant: tokio::time::Instant::now(),
        }
    }

    fn now(&self) -> SystemTime {
        self.started + self.instant.elapsed()
    }
}

impl<S> std::fmt::Debug for DiscoveryServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiscoveryServer")
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

impl<S> Clone for DiscoveryServer<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<S: Source> DiscoveryServer<S> {
    /// A server over a source.
    pub fn new(source: Arc<S>, limits: Limits, registry: Arc<Registry>, counters: Arc<Counters>) -> Self {
        let shared = Arc::new(Shared::new(&limits));
        let room = Arc::new(Room::new(limits.receiving_bytes));
        let sending = Room::new(limits.sending_bytes);
        Self {
            inner: Arc::new(Inner {
                source,
                limits: Arc::new(limits),
                shared,
                registry,
                counters,
                streams: Arc::default(),
                room,
                sending,
                clock: Clock::start(),
            }),
        }
    }

    fn open(&self, request: http::Request<Body>) -> Result<Body, Status> {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::unauthenticated("the connection was not authenticated"));
        };
        match request.uri().path().rsplit('/').next() {
            Some("StreamAggregatedResources") => self.body::<DiscoveryRequest>(request.into_body(), peer),
            Some("DeltaAggregatedResources") => self.body::<DeltaDiscoveryRequest>(request.into_body(), peer),
            _ => Err(Status::unimplemented(
                "no such method of the aggregated discovery service",
            )),
        }
    }

    fn body<R: Request>(&self, requests: Body, peer: Peer) -> Result<Body, Status> {
        let inner = &self.inner;
        let place = inner.place()?;
        Ok(Body::new(DiscoveryBody::<S, R> {
            inner: inner.clone(),
            requests: Requests::new(requests, inner.limits.clone(), inner.room.clone()),
            peer,
            place: Some(place),
            opening: None,
            open: None,
            frames: Frames::default(),
            turns: Turns::default(),
            timer: None,
            silence: None,
            ended: false,
        }))
    }
}

impl<S> Inner<S> {
    fn place(&self) -> Result<Place, Status> {
        let before = self.streams.fetch_add(1, Relaxed);
        let place = Place(self.streams.clone());
        let streams = self.limits.streams;
        if before < streams {
            return Ok(place);
        }
        Err(self.refuse(Status::unavailable(format!(
            "{streams} streams are open, which is the limit"
        ))))
    }

    /// Counts a refusal.
    fn refuse(&self, status: Status) -> Status {
        self.counters.refused.fetch_add(1, Relaxed);
        status
    }
}

impl<S> tonic::server::NamedService for DiscoveryServer<S> {
    const NAME: &'static str = SERVICE;
}

impl<S: Source> tower::Service<http::Request<Body>> for DiscoveryServer<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.open(request).map_or_else(Status::into_http, |body| {
            let mut response = http::Response::new(body);
            response.headers_mut().insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/grpc"),
            );
            response
        });
        ready(Ok(response))
    }
}

/// The two request types, as far as the server needs to know them apart.
pub(crate) trait Request: prost::Message + Default + Unpin + 'static {
    const PROTOCOL: Protocol;
    const SHAPE: Shape;
    fn take_node(&mut self) -> Option<Node>;
    fn type_url(&self) -> &str;
    /// Names asked for, unless the request only answers a response.
    fn question(&self) -> Option<&[String]>;
    fn apply(self, stream: &mut Stream) -> Result<Outcome, Refusal>;
}

impl Request for DiscoveryRequest {
    const PROTOCOL: Protocol = Protocol::Sotw;
    const SHAPE: Shape = Shape {
        node: 2,
        error: 6,
        locators: &[7],
    };

    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn question(&self) -> Option<&[String]> {
        self.response_nonce.is_empty().then_some(&self.resource_names)
    }

    fn apply(self, stream: &mut Stream) -> Result<Outcome, Refusal> {
        stream.on_sotw(self)
    }
}

impl Request for DeltaDiscoveryRequest {
    const PROTOCOL: Protocol = Protocol::Delta;
    const SHAPE: Shape = Shape {
        node: 1,
        error: 7,
        locators: &[8, 9],
    };

    fn take_node(&mut self) -> Option<Node> {
        self.node.take()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn question(&self) -> Option<&[String]> {
        self.response_nonce.is_empty().then_some(&self.resource_names_subscribe)
    }

    fn apply(self, stream: &mut Stream) -> Result<Outcome, Refusal> {
        stream.on_delta(self)
    }
}

/// Follows the view of a stream's class.
type Views = WatchStream<Option<Arc<View>>>;

/// An accepted stream whose view is being made, and its first request. No other is read before.
struct Opening<R> {
    info: ProxyInfo,
    views: Views,
    first: Received<R>,
}

/// An open stream; leaving it removes it from the registry.
struct Open {
    connection: Arc<Connection>,
    registry: Arc<Registry>,
    views: Views,
}

impl Drop for Open {
    fn drop(&mut self) {
        tracing::info!(connection = self.connection.id, "stream closed");
        self.registry.remove(&self.connection.id);
    }
}

struct DiscoveryBody<S, R> {
    inner: Arc<Inner<S>>,
    requests: Requests<R>,
    peer: Peer,
    place: Option<Place>,
    opening: Option<Box<Opening<R>>>,
    open: Option<Open>,
    frames: Frames,
    turns: Turns,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Runs while the peer owes words: its first request, or the rest of one.
    silence: Option<Pin<Box<tokio::time::Sleep>>>,
    ended: bool,
}

impl<S: Source, R: Request> DiscoveryBody<S, R> {
    /// Reads requests until there is none, or enough for one turn.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..self.inner.limits.burst {
            if self.poll_opening(cx)?.is_pending() {
                return Ok(());
            }
            match self.requests.poll_next(&R::SHAPE, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => return Err(Status::ok("")),
                Poll::Ready(Some(Err(status))) => return Err(status),
                Poll::Ready(Some(Ok(request))) => self.on_request(request)?,
            }
            if self.has_begun() {
                self.silence = None;
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Whether the peer said who it is and what it wants.
    fn has_begun(&self) -> bool {
        self.open.is_some() || self.opening.is_some()
    }

    /// Ends a stream on which nothing is asked for in time, or a request not finished.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        if self.has_begun() && self.requests.is_between() {
            self.silence = None;
            return Ok(());
        }
        let limit = self.inner.limits.request_time;
        let timer = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        Err(Status::deadline_exceeded(format!("no whole request within {limit:?}")))
    }

    fn on_request(&mut self, received: Received<R>) -> Result<(), Status> {
        let Received {
            message: mut request,
            room,
        } = received;
        if request.type_url() == kinds::HEALTH {
            return Ok(());
        }
        let node = request.take_node();
        let Some(open) = &self.open else {
            let (info, views) = self.accept(&node.unwrap_or_default())?;
            let first = Received { message: request, room };
            self.opening = Some(Box::new(Opening { info, views, first }));
            return Ok(());
        };
        if request.question().is_none() {
            self.turns.answered(request.type_url());
            if request.type_url().starts_with(kinds::DEBUG_PREFIX) {
                // Who has an answer and says so asks nothing.
                return Ok(());
            }
        }
        let question = Question {
            type_url: request.type_url(),
            names: request.question().unwrap_or_default(),
            peer: &self.peer,
        };
        if let Some(answer) = self.inner.source.answer(&question) {
            let answer = answer?;
            return if open
                .connection
                .with_stream(|stream| stream.answer(question.type_url, answer))
            {
                Ok(())
            } else {
                Err(Status::resource_exhausted("too many questions at once"))
            };
        }
        let type_url = kinds::intern(request.type_url());
        let outcome = open.connection.with_stream(|stream| request.apply(stream))?;
        let (counters, id) = (&self.inner.counters, &open.connection.id);
        match outcome {
            Outcome::Rejected(error) => {
                Counters::count(&counters.rejects, &type_url);
                tracing::warn!(
                    connection = id,
                    kind = kinds::short_name(&type_url),
                    error,
                    "proxy rejected configuration"
                );
            }
            Outcome::Stale => Counters::count(&counters.expired_nonces, &type_url),
            Outcome::Subscribed => tracing::debug!(connection = id, kind = kinds::short_name(&type_url), "subscribed"),
            Outcome::Accepted | Outcome::Ignored => {}
        }
        Ok(())
    }

    /// Ready when no view has to be waited for.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Status> {
        let Some(opening) = &mut self.opening else {
            return Ok(Poll::Ready(()));
        };
        let Poll::Ready(view) = poll_newest(&mut opening.views, cx)? else {
            return Ok(Poll::Pending);
        };
        if let Some(opening) = self.opening.take() {
            self.open = Some(self.enter(opening.info, opening.views, view));
            self.on_request(opening.first)?;
        }
        Ok(Poll::Ready(()))
    }

    fn accept(&self, node: &Node) -> Result<(ProxyInfo, Views), Status> {
        if node.id.is_empty() {
            let status = Status::invalid_argument("the first request must carry node.id");
            return Err(self.inner.refuse(status));
        }
        let opened = self.inner.source.open(node, &self.peer).map_err(|refusal| {
            tracing::warn!(node = node.id, peer = ?self.peer.address, %refusal, "stream refused");
            self.inner.refuse(refusal.into())
        })?;
        Ok((opened.info, WatchStream::new(opened.view)))
    }

    fn enter(&self, info: ProxyInfo, views: Views, view: Arc<View>) -> Open {
        let inner = &self.inner;
        let stream = Stream::new(R::PROTOCOL, view, inner.limits.clone(), inner.shared.clone());
        let connection = inner.registry.add(info, self.peer.clone(), stream);
        tracing::info!(connection = connection.id, protocol = ?R::PROTOCOL, version = connection.info.istio_version, "stream opened");
        Open {
            connection,
            registry: inner.registry.clone(),
            views,
        }
    }

    /// Takes the newest view and makes the next response; `Ok(false)` if there is none to make.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let now = self.inner.clock.now();
        if let Poll::Ready(view) = poll_newest(&mut open.views, cx)? {
            open.connection.with_stream(|stream| stream.set_view(view));
        }
        match self.turns.poll(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Some(response)) => {
                open.connection
                    .with_stream(|stream| stream.left(&response.type_url, now));
                self.send(response);
                return Ok(true);
            }
            Poll::Ready(None) => {}
        }
        let (response, wake_at) = open.connection.with_stream(|stream| {
            let response = stream.poll(now);
            let wake_at = if response.is_none() { stream.wake_at(now) } else { None };
            (response, wake_at)
        });
        match response {
            Some(response) => {
                if let Some(response) = self.turns.enter(response, &self.inner.sending) {
                    self.send(response);
                }
                Ok(true)
            }
            None => {
                self.timer = wake_at
                    .and_then(|at| at.duration_since(now).ok())
                    .filter(|left| !left.is_zero())
                    .map(|left| Box::pin(tokio::time::sleep(left)));
                Ok(false)
            }
        }
    }

    fn send(&mut self, response: Response) {
        let age = response.pushed_for.map(|since| since.elapsed().unwrap_or_default());
        self.inner.counters.sent(&response, age);
        if let Some(open) = &self.open {
            tracing::debug!(
                connection = open.connection.id,
                kind = kinds::short_name(&response.type_url),
                resources = response.resources,
                bytes = response.bytes,
                "send"
            );
        }
        self.frames = response.frames;
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        self.opening = None;
        self.open = None;
        self.place = None;
        let mut trailers = http::HeaderMap::new();
        if let Err(invalid) = status.add_header(&mut trailers) {
            return Poll::Ready(Some(Err(invalid)));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// The newest view that was not taken yet, if there is one. Its end is the control plane's.
fn poll_newest(views: &mut Views, cx: &mut Context<'_>) -> Result<Poll<Arc<View>>, Status> {
    let mut newest = Poll::Pending;
    loop {
        match Pin::new(&mut *views).poll_next(cx) {
            Poll::Pending => return Ok(newest),
            Poll::Ready(Some(Some(view))) => newest = Poll::Ready(view),
            Poll::Ready(Some(None)) => {}
            Poll::Ready(None) => {
                return Err(Status::unavailable(
                    "the control plane is shutting down; connect to another",
                ));
            }
        }
    }
}

impl<S: Source, R: Request> http_body::Body for DiscoveryBody<S, R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.frames.next_frame(FRAME) {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let made = this.poll_requests(cx).and_then(|()| this.poll_response(cx));
            match made {
                Ok(true) => {}
                Err(status) => return this.end(&status),
                Ok(false) => {
                    let due = this
                        .timer
                        .as_mut()
                        .is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                    if due {
                        this.timer = None;
                    } else if let Err(status) = this.poll_silence(cx) {
                        return this.end(&status);
                    } else {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}
