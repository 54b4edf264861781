//! The certificate service over real TLS: who gets a certificate, and who is turned away.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use ca::request::{KeyKind, Request};
use ca::tls::{MeshClients, ServingCertificate};
use ca::{Authenticator, Authority, Current, ServiceAccount, SpiffeId, TokenError, TokenReview};
use futures::StreamExt;
use jiff::Timestamp;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use xds::istio::v1::auth::IstioCertificateRequest;
use xds::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;

const HOST: &str = "istiod.istio-system.svc";

struct OneToken;

#[tonic::async_trait]
impl TokenReview for OneToken {
    async fn review(&self, token: &str, audiences: &[String], _: Option<&str>) -> Result<ServiceAccount, TokenError> {
        assert_eq!(audiences, ["istio-ca"]);
        match token {
            "good" => Ok(ServiceAccount {
                namespace: "test-ns".into(),
                name: "sleep".into(),
            }),
            "later" => Err(TokenError::Unavailable("API server is away".into())),
            _ => Err(TokenError::Refused("not a token of this cluster".into())),
        }
    }
}

struct Mesh {
    authority: Current,
    address: std::net::SocketAddr,
    certificate: Arc<ServingCertificate>,
    clients: Arc<MeshClients>,
}

async fn mesh() -> Mesh {
    let now = Timestamp::now();
    let authority = Current::new(Authority::self_signed("cluster.local", now).unwrap());
    let serving = authority
        .load()
        .serving(&[HOST.into()], ca::issue::SERVING_TTL, now)
        .unwrap();
    let certificate = Arc::new(ServingCertificate::new(serving.certified_key().unwrap()));
    let clients = Arc::new(MeshClients::new(&authority.load().roots()).unwrap());
    let authenticator = Arc::new(Authenticator::new("cluster.local", Some(Arc::new(OneToken))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ca::tls::server_config(certificate.clone(), Some(clients.clone()));
    let service = ca::service::CertificateService::new(authority.clone(), authenticator).into_server();
    let connections = listen::accept::tls(listener, tls, listen::Limits::default());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(connections.map(|accepted| Ok::<_, std::io::Error>(accepted.io))),
    );
    Mesh {
        authority,
        address,
        certificate,
        clients,
    }
}

impl Mesh {
    /// Asks for a certificate and says whose it is, or the refusal.
    async fn ask(&self, token: Option<&str>, identity: Option<Identity>) -> Result<String, String> {
        let mut tls = ClientTlsConfig::new()
            .domain_name(HOST)
            .ca_certificate(Certificate::from_pem(self.authority.load().roots_pem()));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Channel::from_shared(format!("https://{}", self.address)).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap().timeout(Duration::from_secs(10));
        let channel = endpoint.connect().await.map_err(|e| format!("connect: {e:?}"))?;
        let asked: SpiffeId = "spiffe://cluster.local/ns/istio-system/sa/istiod".parse().unwrap();
        let csr = Request::new(&asked, KeyKind::EcdsaP256).unwrap().csr_pem;
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr,
            validity_duration: 3600,
            metadata: None,
        });
        if let Some(token) = token {
            let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let response = IstioCertificateServiceClient::new(channel)
            .create_certificate(request)
            .await;
        let chain = response
            .map_err(|s| format!("{:?}: {}", s.code(), s.message()))?
            .into_inner()
            .cert_chain;
        Ok(ca::authenticate::identities(&der(&chain[0])).unwrap()[0].to_string())
    }
}

fn der(pem: &str) -> rustls_pki_types::CertificateDer<'static> {
    rustls_pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A workload certificate signed by `authority` at `signed`.
fn workload(authority: &Authority, id: &str, signed: Timestamp) -> Identity {
    let id: SpiffeId = id.parse().unwrap();
    let request = Request::new(&id, KeyKind::EcdsaP256).unwrap();
    let issued = authority
        .issue(&request.csr_pem, &id, Some(Duration::from_secs(3600)), signed)
        .unwrap();
    Identity::from_pem(&issued.chain[0], &request.key_pem)
}

#[tokio::test]
async fn a_token_gets_its_own_identity() {
    let mesh = mesh().await;
    assert_eq!(
        mesh.ask(Some("good"), None).await.unwrap(),
        "spiffe://cluster.local/ns/test-ns/sa/sleep"
    );
    assert!(
        mesh.ask(Some("bad"), None)
            .await
            .unwrap_err()
            .starts_with("Unauthenticated: credentials refused")
    );
    assert!(
        mesh.ask(Some("later"), None)
            .await
            .unwrap_err()
            .starts_with("Unavailable")
    );
    assert!(
        mesh.ask(None, None)
            .await
            .unwrap_err()
            .starts_with("Unauthenticated: no credentials")
    );
    let long = "x".repeat(ca::authenticate::MAX_TOKEN + 1);
    assert!(mesh.ask(Some(&long), None).await.is_err());
}

#[tokio::test]
async fn a_certificate_of_the_mesh_renews_itself() {
    let mesh = mesh().await;
    let own = workload(
        &mesh.authority.load(),
        "spiffe://cluster.local/ns/a/sa/b",
        Timestamp::now(),
    );
    assert_eq!(
        mesh.ask(None, Some(own)).await.unwrap(),
        "spiffe://cluster.local/ns/a/sa/b"
    );
}

#[tokio::test]
async fn foreign_and_expired_certificates_are_refused() {
    let mesh = mesh().await;
    let now = Timestamp::now();
    let foreign = Authority::self_signed("cluster.local", now).unwrap();
    let foreign = workload(&foreign, "spiffe://cluster.local/ns/a/sa/b", now);
    assert!(
        mesh.ask(Some("good"), Some(foreign)).await.is_err(),
        "even with a good token"
    );
    let yesterday = Timestamp::from_second(now.as_second() - 24 * 3600).unwrap();
    let expired = workload(&mesh.authority.load(), "spiffe://cluster.local/ns/a/sa/b", yesterday);
    assert!(mesh.ask(Some("good"), Some(expired)).await.is_err());
}

#[tokio::test]
async fn roots_and_serving_certificate_are_swapped_without_a_restart() {
    let mesh = mesh().await;
    let old = workload(
        &mesh.authority.load(),
        "spiffe://cluster.local/ns/a/sa/b",
        Timestamp::now(),
    );
    let mut told = mesh.authority.subscribe();
    let now = Timestamp::now();
    mesh.authority
        .replace(Authority::self_signed("cluster.local", now).unwrap());
    assert!(told.has_changed().unwrap());
    let current = told.borrow_and_update().clone();
    mesh.certificate.replace(
        current
            .serving(&[HOST.into()], ca::issue::SERVING_TTL, now)
            .unwrap()
            .certified_key()
            .unwrap(),
    );
    mesh.clients.replace(&current.roots()).unwrap();
    assert!(mesh.ask(Some("good"), None).await.is_ok(), "served under the new root");
    assert!(
        mesh.ask(None, Some(old)).await.is_err(),
        "the old root is no longer trusted"
    );
    let renewed = workload(&current, "spiffe://cluster.local/ns/a/sa/b", now);
    assert!(mesh.ask(None, Some(renewed)).await.is_ok());
}
