//! Who gets in on the TLS port, with real handshakes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ads::{DiscoveryServer, Limits, Registry};
use ca::request::{KeyKind, Request};
use ca::{Authenticator, Authority, ServiceAccount, SpiffeId, TokenError, TokenReview};
use jiff::{Timestamp, ToSpan};
use mesh::Mesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::google::protobuf::{Struct, Value, value};

use super::{Gate, Server};
use crate::debug::Debug;
use crate::engine::{Engine, Message};
use crate::serving::Serving;
use crate::source::{Source, Translation};

const NAME: &str = "istiod.istio-system.svc";

/// Knows one token, of account `b` in namespace `a`.
struct OneToken;

#[async_trait::async_trait]
impl TokenReview for OneToken {
    async fn review(&self, token: &str, _: &[String], _: Option<&str>) -> Result<ServiceAccount, TokenError> {
        match token {
            "good" => Ok(ServiceAccount {
                namespace: "a".into(),
                name: "b".into(),
            }),
            _ => Err(TokenError::Refused("unknown".into())),
        }
    }
}

struct Setup {
    address: SocketAddr,
    /// The port without TLS.
    plain: SocketAddr,
    authority: Authority,
    /// Keeps the server from ending.
    _ending: watch::Sender<bool>,
}

async fn serve() -> Setup {
    serve_within(listen::Limits::default()).await
}

async fn serve_within(limits: listen::Limits) -> Setup {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::self_signed("cluster.local", Timestamp::now()).unwrap();
    let serving = Serving::new(&authority, vec![NAME.to_owned()]).unwrap();
    let mesh = Mesh::default();
    let translation = Translation::new(mesh.snapshot());
    let engine = Engine::new(mesh, translation);
    let (messages, inbox) = mpsc::channel(1);
    engine.run(inbox, "default".into(), 0, Duration::ZERO).unwrap();
    messages.send(Message::MeshConfig(Box::default())).await.unwrap();
    while !engine.is_ready() {
        tokio::task::yield_now().await;
    }
    let registry = Arc::new(Registry::default());
    let debug = Debug {
        authenticate: true,
        namespace: "istio-system".into(),
        allowed: Vec::new(),
        pod: "istiod-x".into(),
    };
    let source = Source::new(engine, registry.clone(), debug, true);
    let discovery = DiscoveryServer::new(Arc::new(source), Limits::default(), registry, Arc::default());
    let (ending, shutdown) = watch::channel(false);
    let authenticator = Arc::new(Authenticator::new("cluster.local", Some(Arc::new(OneToken))));
    let server = Server {
        routes: Routes::new(discovery),
        gate: Some(Gate::new(authenticator, None)),
        limits,
        max_age: None,
        shutdown,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, plain) = (listener.local_addr().unwrap(), plain_listener.local_addr().unwrap());
    let everybody = Server {
        gate: None,
        ..server.clone()
    };
    tokio::spawn(everybody.plaintext(plain_listener));
    tokio::spawn(server.tls(
        listener,
        ca::tls::server_config(serving.certificate, Some(serving.clients)),
    ));
    Setup {
        address,
        plain,
        authority,
        _ending: ending,
    }
}

/// A certificate of account `b` in namespace `a`, signed by `signer` as of `at`, valid for an hour.
fn certificate(signer: &Authority, at: Timestamp) -> Identity {
    let identity = SpiffeId::new("cluster.local", "a", "b").unwrap();
    let request = Request::new(&identity, KeyKind::EcdsaP256).unwrap();
    let issued = signer
        .issue(&request.csr_pem, &identity, Some(Duration::from_secs(3600)), at)
        .unwrap();
    Identity::from_pem(&issued.chain[0], request.key_pem)
}

/// Opens a stream as a proxy of namespace `claimed` and asks for clusters.
async fn open(setup: &Setup, identity: Option<Identity>, token: Option<&str>, claimed: &str) -> Result<(), String> {
    let mut tls = ClientTlsConfig::new()
        .domain_name(NAME)
        .ca_certificate(Certificate::from_pem(setup.authority.roots_pem()));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Channel::from_shared(format!("https://{}", setup.address)).unwrap();
    let text = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let channel = endpoint
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
        .map_err(|e| text(&e))?;
    let text_value = |text: &str| Value {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    };
    let fields = BTreeMap::from([("NAMESPACE".to_owned(), text_value(claimed))]);
    let node = Node {
        id: format!("sidecar~10.0.0.1~p.{claimed}~{claimed}.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    };
    let ask = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: ads::kinds::CLUSTER.into(),
        ..Default::default()
    };
    // The stream of requests stays open, as a proxy's does.
    let requests = futures::StreamExt::chain(futures::stream::iter([ask]), futures::stream::pending());
    let mut request = tonic::Request::new(requests);
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let answered = client.delta_aggregated_resources(request).await;
    let mut responses = answered.map_err(|e| text(&e))?.into_inner();
    let first = tokio::time::timeout(Duration::from_secs(20), responses.message()).await;
    first.unwrap().map(|_| ()).map_err(|e| text(&e))
}

#[tokio::test]
async fn certificates_and_tokens_of_this_mesh_get_in() {
    let setup = serve().await;
    let own = certificate(&setup.authority, Timestamp::now());
    assert_eq!(open(&setup, Some(own), None, "a").await, Ok(()));
    assert_eq!(open(&setup, None, Some("good"), "a").await, Ok(()));
}

#[tokio::test]
async fn foreign_and_expired_certificates_do_not() {
    let setup = serve().await;
    let stranger = Authority::self_signed("cluster.local", Timestamp::now()).unwrap();
    let foreign = certificate(&stranger, Timestamp::now());
    assert!(open(&setup, Some(foreign), Some("good"), "a").await.is_err());
    let expired = certificate(&setup.authority, Timestamp::now() - 48.hours());
    assert!(open(&setup, Some(expired), Some("good"), "a").await.is_err());
}

#[tokio::test]
async fn nobody_gets_in_as_somebody_else() {
    let setup = serve().await;
    let refused = |outcome: Result<(), String>, why: &str| {
        let error = outcome.unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(open(&setup, None, None, "a").await, "Unauthenticated");
    refused(open(&setup, None, Some("bad"), "a").await, "Unauthenticated");
    refused(open(&setup, None, Some("good"), "other").await, "PermissionDenied");
    let own = certificate(&setup.authority, Timestamp::now());
    refused(open(&setup, Some(own), None, "other").await, "PermissionDenied");
}

/// Connects, sends `bytes` and nothing more; the server must end the connection.
async fn is_closed(address: SocketAddr, bytes: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "{address} keeps a connection that says only {bytes:?}");
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let moment = Duration::from_millis(50);
    let setup = serve_within(listen::Limits {
        handshake_timeout: moment,
        header_timeout: moment,
        ..listen::Limits::default()
    })
    .await;
    // Nothing, half a preface, and a whole one with settings and no request.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for bytes in [&b""[..], &preface[..10], &settings] {
        is_closed(setup.plain, bytes).await;
    }
    // On the TLS port: no handshake, half a record.
    is_closed(setup.address, b"").await;
    is_closed(setup.address, &[22, 3, 1, 0, 200, 1]).await;
}

#[tokio::test]
async fn only_so_many_connections_are_open() {
    let setup = serve_within(listen::Limits {
        connections: 1,
        ..listen::Limits::default()
    })
    .await;
    let held = tokio::net::TcpStream::connect(setup.plain).await.unwrap();
    // The server takes connections in turn, so the second finds the first in its place.
    is_closed(setup.plain, b"").await;
    drop(held);
}
