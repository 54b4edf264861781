//! The service over a real connection, with the generated client.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use ads::counters::Counters;
use ads::source::Answer;
use ads::stream::Sync;
use ads::{DiscoveryServer, Limits, Opened, Peer, ProxyInfo, Question, Refusal, Registry, Source, View, kinds};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use xds::google::protobuf::StringValue;
use xds::google::rpc::Status;
use xds::resource::{Resource, ResourceSet};

fn view(clusters: &[(&str, &str)]) -> Arc<View> {
    let resource = |(name, value): &(&str, &str)| {
        Arc::new(Resource::encode(
            *name,
            &StringValue {
                value: (*value).to_owned(),
            },
        ))
    };
    let set = Arc::new(ResourceSet::new(clusters.iter().map(resource)));
    Arc::new(View::new(
        BTreeMap::from([(kinds::intern(kinds::CLUSTER), set)]),
        SystemTime::now(),
    ))
}

/// The view of all, and how many answers were made.
struct World(watch::Sender<Option<Arc<View>>>, AtomicUsize);

impl Source for World {
    fn open(&self, node: &Node, _: &Peer) -> Result<Opened, Refusal> {
        if node.id == "stranger" {
            return Err(Refusal::PermissionDenied("no strangers".to_owned()));
        }
        let info = ProxyInfo {
            proxy_id: node.id.clone(),
            is_proxy: true,
            ..ProxyInfo::default()
        };
        Ok(Opened {
            view: self.0.subscribe(),
            info,
        })
    }

    fn answer(&self, question: &Question<'_>) -> Option<Result<Answer, Refusal>> {
        let any = Resource::encode(
            "",
            &StringValue {
                value: question.names.join("+"),
            },
        )
        .body
        .to_bytes();
        let answer = Answer {
            resources: vec![any],
            control_plane: "me".to_owned(),
        };
        let asks = question.type_url.starts_with(kinds::DEBUG_PREFIX);
        self.1.fetch_add(usize::from(asks), Relaxed);
        asks.then_some(Ok(answer))
    }
}

struct Setup {
    source: Arc<World>,
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    address: SocketAddr,
    channel: Channel,
}

impl Setup {
    /// The same server over another connection.
    async fn again(&self) -> Self {
        Self {
            source: self.source.clone(),
            registry: self.registry.clone(),
            counters: self.counters.clone(),
            address: self.address,
            channel: connect(self.address).await,
        }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    // The smallest window there is, so that what is not read soon stops the server.
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .unwrap()
}

async fn serve(peer: Option<Peer>, limits: Limits) -> Setup {
    let source = Arc::new(World(
        watch::Sender::new(Some(view(&[("a", "1")]))),
        AtomicUsize::new(0),
    ));
    let (registry, counters) = (Arc::new(Registry::default()), Arc::new(Counters::default()));
    let service = DiscoveryServer::new(source.clone(), limits, registry.clone(), counters.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admit = move |mut request: http::Request<tonic::body::Body>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        request
    };
    let server = tonic::transport::Server::builder()
        .layer(tower::util::MapRequestLayer::new(admit))
        .add_service(service)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);
    let channel = connect(address).await;
    Setup {
        source,
        registry,
        counters,
        address,
        channel,
    }
}

struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    async fn connect(setup: &Setup) -> Result<Self, tonic::Status> {
        let (requests, stream) = mpsc::channel(16);
        let mut client =
            AggregatedDiscoveryServiceClient::new(setup.channel.clone()).max_decoding_message_size(64 << 20);
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(stream))
            .await?
            .into_inner();
        Ok(Self { requests, responses })
    }

    async fn ask(&self, id: &str, type_url: &str, names: &[&str]) {
        let node = Some(Node {
            id: id.to_owned(),
            ..Node::default()
        });
        let resource_names_subscribe = names.iter().map(|name| (*name).to_owned()).collect();
        let request = DeltaDiscoveryRequest {
            node,
            type_url: type_url.to_owned(),
            resource_names_subscribe,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, tonic::Status> {
        let next = tokio::time::timeout(Duration::from_secs(10), self.responses.message()).await;
        next.expect("an answer in time")
            .map(|response| response.expect("not the end"))
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|message| Status {
            message: message.to_owned(),
            ..Default::default()
        });
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.requests
            .send(DeltaDiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                ..Default::default()
            })
            .await
            .unwrap();
    }
}

/// Waits for something that another task is about to do.
async fn until(mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

#[tokio::test]
async fn a_proxy_is_served_pushed_to_and_listed() {
    let setup = serve(Some(Peer::default()), Limits::default()).await;
    let mut client = Client::connect(&setup).await.unwrap();
    client.ask("p", kinds::CLUSTER, &[]).await;
    let first = client.next().await.unwrap();
    assert_eq!(names(&first), ["a"]);
    client.answer(&first, None).await;
    setup.source.0.send_replace(Some(view(&[("a", "1"), ("b", "1")])));
    let second = client.next().await.unwrap();
    assert_eq!(names(&second), ["b"]);
    client.answer(&second, Some("bad b")).await;
    let status = || setup.registry.connections()[0].with_stream(|s| s.status())[0].clone();
    until(|| status().sync == Sync::Error).await;
    assert_eq!(status().error.as_deref(), Some("bad b"));
    assert_eq!(setup.counters.rejects[0].load(Relaxed), 1);
    assert_eq!(setup.counters.pushes[0].load(Relaxed), 2);
    drop(client);
    until(|| setup.registry.is_empty()).await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let setup = serve(None, Limits::default()).await;
    let error = Client::connect(&setup).await.err().unwrap();
    assert_eq!(error.code(), tonic::Code::Unauthenticated);

    let setup = serve(Some(Peer::default()), Limits::default()).await;
    let mut stranger = Client::connect(&setup).await.unwrap();
    stranger.ask("stranger", kinds::CLUSTER, &[]).await;
    let error = stranger.next().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (tonic::Code::PermissionDenied, "no strangers")
    );
    let mut nameless = Client::connect(&setup).await.unwrap();
    nameless.ask("", kinds::CLUSTER, &[]).await;
    assert_eq!(nameless.next().await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(setup.counters.refused.load(Relaxed), 2);
}

#[tokio::test]
async fn bounds_end_only_the_stream_that_breaks_them() {
    let limits = Limits {
        streams: 2,
        names: 3,
        request_bytes: 1000,
        ..Limits::default()
    };
    let setup = serve(Some(Peer::default()), limits).await;
    let mut good = Client::connect(&setup).await.unwrap();
    good.ask("good", kinds::CLUSTER, &[]).await;
    let first = good.next().await.unwrap();
    good.answer(&first, None).await;

    let mut greedy = Client::connect(&setup).await.unwrap();
    greedy.ask("greedy", kinds::ENDPOINT, &["a", "b", "c", "d"]).await;
    assert_eq!(greedy.next().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    until(|| setup.registry.len() == 1).await;
    let mut huge = Client::connect(&setup).await.unwrap();
    huge.ask(&"x".repeat(2000), kinds::CLUSTER, &[]).await;
    assert_eq!(huge.next().await.unwrap_err().code(), tonic::Code::OutOfRange);

    let mut nameless = Client::connect(&setup).await.unwrap();
    nameless.ask("nameless", &"t".repeat(300), &[]).await;
    assert_eq!(
        nameless.next().await.unwrap_err().code(),
        tonic::Code::ResourceExhausted
    );
    until(|| setup.registry.len() == 1).await;

    let mut second = Client::connect(&setup).await.unwrap();
    second.ask("second", kinds::CLUSTER, &[]).await;
    second.next().await.unwrap();
    let third = Client::connect(&setup).await.err().unwrap();
    assert_eq!(third.code(), tonic::Code::Unavailable);

    setup.source.0.send_replace(Some(view(&[("a", "2")])));
    assert_eq!(names(&good.next().await.unwrap()), ["a"]);
}

#[tokio::test]
async fn questions_are_answered_on_the_same_stream() {
    let setup = serve(Some(Peer::default()), Limits::default()).await;
    let mut client = Client::connect(&setup).await.unwrap();
    client.ask("tool", "istio.io/debug/syncz", &["x", "y"]).await;
    let answer = client.next().await.unwrap();
    assert_eq!(answer.control_plane.clone().unwrap().identifier, "me");
    assert_eq!(
        answer.resources[0].resource.as_ref().unwrap().type_url,
        "type.googleapis.com/google.protobuf.StringValue"
    );
    // Acknowledging an answer asks nothing again.
    client.answer(&answer, None).await;
    client.ask("tool", kinds::CLUSTER, &[]).await;
    assert_eq!(client.next().await.unwrap().type_url, kinds::CLUSTER);
    assert_eq!(setup.source.1.load(Relaxed), 1, "an answer nobody asked for was made");
}

#[tokio::test]
async fn streams_that_say_nothing_are_counted_and_end() {
    let limits = Limits {
        streams: 2,
        request_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let setup = serve(Some(Peer::default()), limits).await;
    let mut silent = Client::connect(&setup).await.unwrap();
    let mut reports = Client::connect(&setup).await.unwrap();
    reports.ask("p", kinds::HEALTH, &[]).await;
    let third = Client::connect(&setup).await.err().unwrap();
    assert_eq!(third.code(), tonic::Code::Unavailable);
    assert_eq!(setup.counters.refused.load(Relaxed), 1);
    for ending in [&mut silent, &mut reports] {
        let told = ending.next().await.unwrap_err();
        assert_eq!(
            (told.code(), told.message()),
            (tonic::Code::DeadlineExceeded, "no whole request within 2s")
        );
    }
    // Who asked for something may be silent as long as it likes.
    let mut good = Client::connect(&setup).await.unwrap();
    good.ask("good", kinds::CLUSTER, &[]).await;
    good.next().await.unwrap();
    // Nothing must happen: there is no condition to wait for.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    setup.source.0.send_replace(Some(view(&[("a", "2")])));
    assert_eq!(names(&good.next().await.unwrap()), ["a"]);
}

#[tokio::test]
async fn a_node_message_has_a_bound_of_its_own() {
    let setup = serve(Some(Peer::default()), Limits::default()).await;
    let mut client = Client::connect(&setup).await.unwrap();
    client
        .ask(&"x".repeat(Limits::default().node_bytes), kinds::CLUSTER, &[])
        .await;
    let told = client.next().await.unwrap_err();
    assert_eq!(told.code(), tonic::Code::ResourceExhausted, "{told:?}");
    assert!(told.message().contains("XDS_MAX_NODE_BYTES"), "{told:?}");
}

#[tokio::test]
async fn a_proxy_that_does_not_read_holds_nobody_up_and_then_jumps_to_the_newest() {
    let setup = serve(Some(Peer::default()), Limits::default()).await;
    let value = "x".repeat(1 << 20);
    let large = Arc::new(Resource::encode("large", &StringValue { value }));
    let round = |number: u32| {
        let value = number.to_string();
        let set = ResourceSet::new([Arc::new(Resource::encode("a", &StringValue { value })), large.clone()]);
        let sets = BTreeMap::from([(kinds::intern(kinds::CLUSTER), Arc::new(set))]);
        Arc::new(View::new(sets, SystemTime::now()))
    };
    setup.source.0.send_replace(Some(round(0)));
    let mut slow = Client::connect(&setup).await.unwrap();
    slow.ask("slow", kinds::CLUSTER, &[]).await;
    until(|| setup.counters.pushes[0].load(Relaxed) == 1).await;
    // A connection of its own: what one does not read must not fill the other's window.
    let mut quick = Client::connect(&setup.again().await).await.unwrap();
    quick.ask("quick", kinds::CLUSTER, &["a"]).await;
    let mut latest = quick.next().await.unwrap();
    for number in 1..=50 {
        quick.answer(&latest, None).await;
        setup.source.0.send_replace(Some(round(number)));
        latest = quick.next().await.unwrap();
        assert_eq!(names(&latest), ["a"]);
    }
    let first = slow.next().await.unwrap();
    assert_eq!(names(&first), ["a", "large"]);
    slow.answer(&first, None).await;
    let second = slow.next().await.unwrap();
    assert_eq!(
        second.system_version_info, latest.system_version_info,
        "straight to the newest"
    );
    assert_eq!(names(&second), ["a"]);
}

#[tokio::test]
async fn a_stream_waits_until_its_view_is_made() {
    let setup = serve(Some(Peer::default()), Limits::default()).await;
    setup.source.0.send_replace(None);
    let mut client = Client::connect(&setup).await.unwrap();
    client.ask("p", kinds::CLUSTER, &[]).await;
    client.ask("p", "istio.io/debug/syncz", &["x"]).await;
    until(|| setup.source.0.receiver_count() == 1).await;
    assert!(setup.registry.is_empty());
    setup.source.0.send_replace(Some(view(&[("a", "1")])));
    let told = [client.next().await.unwrap(), client.next().await.unwrap()];
    let clusters = told.iter().find(|response| response.type_url == kinds::CLUSTER);
    assert_eq!(clusters.map(names), Some(vec!["a"]), "{told:?}");
    // One that leaves while it waits leaves nothing behind.
    setup.source.0.send_replace(None);
    let gone = Client::connect(&setup).await.unwrap();
    gone.ask("q", kinds::CLUSTER, &[]).await;
    until(|| setup.source.0.receiver_count() == 2).await;
    drop(gone);
    until(|| setup.source.0.receiver_count() == 1).await;
    assert_eq!(setup.registry.len(), 1);
}
