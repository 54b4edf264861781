//! A small istiod: the real CA, and discovery of one listener.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ca::tls::{MeshClients, ServingCertificate};
use ca::{Authenticator, Authority, Credentials, Current, ServiceAccount, TokenError, TokenReview};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use prost::{Message, Name};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xds::envoy::config::cluster::v3::Cluster;
use xds::envoy::config::listener::v3::Listener;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use xds::google::protobuf::Any;
use xds::istio::networking::nds::v1::{NameTable, name_table::NameInfo};

/// Name in istiod's certificate, and what `localhost` stands for to the agent.
pub const NAME: &str = "istiod.istio-system.svc";
/// The one token that is valid.
pub const TOKEN: &str = "good";

pub struct Istiod {
    pub authority: Current,
    pub address: SocketAddr,
    /// Port of the listener that is sent to the proxy.
    pub listener: u16,
    ttl: Duration,
    body: watch::Sender<String>,
    issued: Arc<std::sync::Mutex<Issued>>,
    /// A runtime of its own: shutting it down drops every connection, as a killed process does.
    running: Option<tokio::runtime::Runtime>,
}

impl Drop for Istiod {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whom certificates were signed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issued(pub Vec<String>);

struct Tokens(Arc<std::sync::Mutex<Issued>>);

#[tonic::async_trait]
impl TokenReview for Tokens {
    async fn review(&self, token: &str, _: &[String], cluster: Option<&str>) -> Result<ServiceAccount, TokenError> {
        assert_eq!(cluster, Some("Kubernetes"));
        if token == TOKEN {
            self.0.lock().unwrap().0.push("test-ns/sleep".into());
            return Ok(ServiceAccount {
                namespace: "test-ns".into(),
                name: "sleep".into(),
            });
        }
        Err(TokenError::Refused("unknown token".into()))
    }
}

impl Istiod {
    /// Certificates live for `ttl`.
    pub async fn start(ttl: Duration) -> Self {
        let authority = Current::new(Authority::self_signed("cluster.local", Timestamp::now()).unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let body = watch::Sender::new("first".to_owned());
        let issued = Arc::default();
        let mut istiod = Self {
            authority,
            address,
            listener: testkit::free_port(),
            ttl,
            body,
            issued,
            running: None,
        };
        istiod.restart().await;
        istiod
    }

    pub async fn restart(&mut self) {
        let now = Timestamp::now();
        let authority = self.authority.load();
        let serving = authority.serving(&[NAME.into()], ca::issue::SERVING_TTL, now).unwrap();
        let certificate = Arc::new(ServingCertificate::new(serving.certified_key().unwrap()));
        let clients = Arc::new(MeshClients::new(&authority.roots()).unwrap());
        let authenticator = Authenticator::new("cluster.local", Some(Arc::new(Tokens(self.issued.clone()))));
        let authenticator = Arc::new(authenticator);
        let discovery = Discovery {
            authenticator: authenticator.clone(),
            body: self.body.subscribe(),
            listener: self.listener,
        };
        let service = ca::service::CertificateService::new(self.authority.clone(), authenticator).into_server();
        let tls = ca::tls::server_config(certificate, Some(clients));
        let listener = loop {
            // The former life may still be giving up the port.
            match std::net::TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let connections = listen::accept::tls(listener, tls, listen::Limits::default());
            let serving = tonic::transport::Server::builder()
                .add_service(service)
                .add_service(AggregatedDiscoveryServiceServer::new(discovery))
                .serve_with_incoming(connections.map(|accepted| Ok::<_, std::io::Error>(accepted.io)));
            drop(serving.await);
        });
        self.running = Some(runtime);
    }

    /// Drops every connection and the port.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Signs with a root of its own from now on.
    pub fn replace_root(&self) {
        self.authority
            .replace(Authority::self_signed("cluster.local", Timestamp::now()).unwrap());
    }

    /// What the listener answers from now on.
    pub fn answer(&self, body: &str) {
        self.body.send_replace(body.to_owned());
    }

    /// Puts a certificate for service account `name` into `directory`, as an operator would mount it.
    pub fn write_certificate(&self, directory: &std::path::Path, name: &str) {
        let id: ca::SpiffeId = format!("spiffe://cluster.local/ns/test-ns/sa/{name}").parse().unwrap();
        let request = ca::request::Request::new(&id, ca::request::KeyKind::EcdsaP256).unwrap();
        let authority = self.authority.load();
        let issued = authority
            .issue(&request.csr_pem, &id, Some(self.ttl), Timestamp::now())
            .unwrap();
        std::fs::create_dir_all(directory).unwrap();
        // Key first: between the two the pair does not fit, and the last good one stays.
        std::fs::write(directory.join("key.pem"), &request.key_pem).unwrap();
        std::fs::write(directory.join("cert-chain.pem"), &issued.chain[0]).unwrap();
        std::fs::write(directory.join("root-cert.pem"), &issued.chain[1]).unwrap();
    }

    pub fn issued(&self) -> Issued {
        self.issued.lock().unwrap().clone()
    }
}

struct Discovery {
    authenticator: Arc<Authenticator>,
    body: watch::Receiver<String>,
    listener: u16,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.authenticator.authenticate(&Credentials::of(&request)).await?;
        let (send, receive) = mpsc::channel(8);
        let (mut body, listener) = (self.body.clone(), self.listener);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut subscribed = false;
            loop {
                let update = tokio::select! {
                    request = requests.next() => match request {
                        Some(Ok(request)) if !request.response_nonce.is_empty() => {
                            assert!(request.error_detail.is_none(), "rejected: {:?}", request.error_detail);
                            continue;
                        }
                        Some(Ok(request)) if request.type_url == Cluster::type_url() => {
                            response(Cluster::type_url(), Vec::new())
                        }
                        Some(Ok(request)) if request.type_url == Listener::type_url() => {
                            subscribed = true;
                            response(Listener::type_url(), vec![one(listener, &body.borrow_and_update())])
                        }
                        Some(Ok(request)) if request.type_url == NameTable::type_url() => {
                            response(NameTable::type_url(), vec![names()])
                        }
                        Some(Ok(_)) => continue,
                        _ => return,
                    },
                    Ok(()) = body.changed(), if subscribed => {
                        response(Listener::type_url(), vec![one(listener, &body.borrow_and_update())])
                    }
                };
                if send.send(Ok(update)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

fn response(type_url: String, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url,
        resources,
        nonce: "n".into(),
        ..Default::default()
    }
}

/// A host that only the mesh knows.
fn names() -> Resource {
    let info = NameInfo {
        ips: vec!["240.240.0.1".into()],
        registry: "External".into(),
        ..NameInfo::default()
    };
    let table = NameTable {
        table: [("api.mesh.example".to_owned(), info)].into(),
    };
    let any = Any {
        type_url: NameTable::type_url(),
        value: table.encode_to_vec().into(),
    };
    Resource {
        name: "names".into(),
        resource: Some(any),
        ..Default::default()
    }
}

/// A listener with the workload's certificate that answers `body`.
fn one(port: u16, body: &str) -> Resource {
    let tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let sds = |name: &str| {
        json!({ "name": name, "sdsConfig": {
            "apiConfigSource": {
                "apiType": "GRPC", "transportApiVersion": "V3", "setNodeOnFirstMessageOnly": true,
                "grpcServices": [{ "envoyGrpc": { "clusterName": "sds-grpc" } }],
            },
            "initialFetchTimeout": "0s", "resourceApiVersion": "V3",
        } })
    };
    let listener: Listener = xds::json::from_json(&json!({
        "name": "mesh",
        "address": { "socketAddress": { "address": "127.0.0.1", "portValue": port } },
        "filterChains": [{
            "transportSocket": { "name": "envoy.transport_sockets.tls", "typedConfig": {
                "@type": tls,
                "commonTlsContext": {
                    "tlsCertificateSdsSecretConfigs": [sds("default")],
                    "combinedValidationContext": {
                        "defaultValidationContext": {}, "validationContextSdsSecretConfig": sds("ROOTCA"),
                    },
                },
            } },
            "filters": [{ "name": "http", "typedConfig": {
                "@type": format!("type.googleapis.com/{manager}"),
                "statPrefix": "mesh",
                "routeConfig": { "virtualHosts": [{ "name": "all", "domains": ["*"], "routes": [{
                    "match": { "prefix": "/" },
                    "directResponse": { "status": 200, "body": { "inlineString": body } },
                }] }] },
                "httpFilters": [{ "name": "router", "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                } }],
            } }],
        }],
    }))
    .unwrap();
    let value = listener.encode_to_vec().into();
    let resource = Some(Any {
        type_url: Listener::type_url(),
        value,
    });
    Resource {
        name: "mesh".into(),
        version: body.to_owned(),
        resource,
        ..Default::default()
    }
}
