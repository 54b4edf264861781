//! A stream whose response waits for its turn, body by body.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ads::source::Answer;
use ads::{DiscoveryServer, Limits, Opened, Peer, ProxyInfo, Question, Refusal, Registry, Source, View, kinds};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::google::protobuf::StringValue;
use xds::resource::{Resource, ResourceSet};

/// Gives everybody the same view, until it ends.
struct World(Mutex<Option<watch::Sender<Option<Arc<View>>>>>);

impl World {
    fn start() -> Arc<Self> {
        let value = "a cluster".to_owned();
        let cluster = Arc::new(Resource::encode("c", &StringValue { value }));
        let sets = BTreeMap::from([(kinds::intern(kinds::CLUSTER), Arc::new(ResourceSet::new([cluster])))]);
        let view = Arc::new(View::new(sets, SystemTime::now()));
        Arc::new(Self(Mutex::new(Some(watch::Sender::new(Some(view))))))
    }

    fn end(&self) {
        self.0.lock().unwrap().take();
    }
}

impl Source for World {
    fn open(&self, _: &Node, _: &Peer) -> Result<Opened, Refusal> {
        let view = self.0.lock().unwrap().as_ref().unwrap().subscribe();
        Ok(Opened {
            view,
            info: ProxyInfo::default(),
        })
    }

    fn answer(&self, _: &Question<'_>) -> Option<Result<Answer, Refusal>> {
        None
    }
}

fn server(world: &Arc<World>) -> DiscoveryServer<World> {
    let limits = Limits {
        // Everything waits until it is alone.
        sending_bytes: 1,
        ..Limits::default()
    };
    DiscoveryServer::new(world.clone(), limits, Arc::new(Registry::default()), Arc::default())
}

fn framed(request: &DeltaDiscoveryRequest) -> Result<Frame<Bytes>, Status> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(request.encoded_len()).unwrap());
    request.encode(&mut framed).unwrap();
    Ok(Frame::data(framed.freeze()))
}

/// The response body of a stream that asks for clusters, and says so much more.
fn asks(server: &DiscoveryServer<World>, more: impl Stream<Item = DeltaDiscoveryRequest> + Send + 'static) -> Body {
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: "proxy".to_owned(),
            ..Node::default()
        }),
        type_url: kinds::CLUSTER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let said = stream::iter([first]).chain(more).map(|request| framed(&request));
    let mut request = http::Request::new(Body::new(StreamBody::new(said)));
    *request.uri_mut() = http::Uri::from_static("/DeltaAggregatedResources");
    request.extensions_mut().insert(Peer::default());
    let response = server.clone().call(request).now_or_never();
    response.unwrap().unwrap().into_body()
}

/// One that says nothing after that.
fn mute(server: &DiscoveryServer<World>) -> Body {
    asks(server, stream::pending())
}

/// What comes within that time.
async fn next(body: &mut Body, within: Duration) -> Option<Frame<Bytes>> {
    let frame = timeout(within, body.frame()).await.ok()?;
    Some(frame.unwrap().unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_gets_it_although_the_one_before_never_answers() {
    let world = World::start();
    let server = server(&world);
    let (mut one, mut other) = (mute(&server), mute(&server));
    assert!(next(&mut one, Duration::from_millis(1)).await.unwrap().is_data());
    assert!(next(&mut other, Duration::from_millis(1)).await.is_none());
    assert!(next(&mut other, Duration::from_secs(1)).await.unwrap().is_data());
}

#[tokio::test(start_paused = true)]
async fn an_answer_makes_room_for_the_next() {
    let world = World::start();
    let server = server(&world);
    let answer = DeltaDiscoveryRequest {
        type_url: kinds::CLUSTER.to_owned(),
        response_nonce: "00000001".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    // It is read when the response has left.
    let answers = stream::once(tokio::time::sleep(Duration::from_millis(5)).map(|()| answer)).chain(stream::pending());
    let (mut one, mut other) = (asks(&server, answers), mute(&server));
    assert!(next(&mut one, Duration::from_millis(1)).await.is_some());
    assert!(next(&mut other, Duration::from_millis(1)).await.is_none());
    assert!(next(&mut one, Duration::from_millis(8)).await.is_none());
    assert!(next(&mut other, Duration::from_millis(1)).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_hears_of_the_end() {
    let world = World::start();
    let server = server(&world);
    let (mut one, mut other) = (mute(&server), mute(&server));
    assert!(next(&mut one, Duration::from_millis(1)).await.is_some());
    assert!(next(&mut other, Duration::from_millis(1)).await.is_none());
    world.end();
    let end = next(&mut other, Duration::from_millis(1)).await.unwrap();
    assert!(end.is_trailers(), "{end:?}");
}
