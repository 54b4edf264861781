//! The listener: TLS, HTTP/1.1 and HTTP/2, client certificates as a request extension.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use http_body::{Frame, SizeHint};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use listen::{
    Limits,
    accept::Accepted,
    idle::{Busy, Idle},
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::server::TlsStream;

use crate::{
    Core, admission, apply,
    auth::{
        aggregation,
        authenticate::Auth,
        bootstrap,
        pki::{self, ClusterCa, Identity, PkiError},
        reviews::Reviews,
        secret_tokens, signer,
        token::{self, TokenKey},
        token_request::TokenRequests,
    },
    core::{Body, Config},
    crd,
    handlers::Api,
    hooks::{Hooks, PeerCertificates, VirtualResource},
    kinds, stream,
};

/// Every watch of a client that speaks HTTP/1.1 is a connection of its own.
const LIMITS: Limits = Limits {
    connections: 4096,
    handshakes: 256,
    handshake_timeout: Duration::from_secs(15),
    header_timeout: Duration::from_secs(15),
};
/// A connection on which nothing is asked for this long is closed (as kube-apiserver does).
const IDLE: Duration = Duration::from_secs(90);
/// Requests one HTTP/2 connection may have under way: watches count.
const STREAMS: u32 = 1000;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] drydock_store::Error),
    /// Certificates.
    #[error("the cluster's certificates cannot be made or read: {0}; check the data directory")]
    Pki(#[from] PkiError),
    /// TLS settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The address.
    #[error("cannot listen on {address}: {error}; choose another address or stop what uses it")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// The API server.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping it does not stop it: call [`Handle::shutdown`].
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    ca: Arc<ClusterCa>,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://…` as clients on this machine reach it.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("https://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// The cluster's root, to sign further identities.
    pub fn ca(&self) -> &ClusterCa {
        &self.ca
    }

    /// Shared state, for parts that live in the same process.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A kubeconfig of the cluster administrator.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn kubeconfig(&self) -> Result<String, PkiError> {
        self.kubeconfig_for("kubernetes-admin", "system:masters")
    }

    /// A kubeconfig of a user in a group.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn kubeconfig_for(&self, user: &str, group: &str) -> Result<String, PkiError> {
        let identity = self.ca.client(user, group)?;
        Ok(pki::kubeconfig(
            "drydock",
            &self.url(),
            self.ca.cert_pem(),
            user,
            &identity,
        ))
    }

    /// Stops listening and ends all connections.
    pub async fn shutdown(self) {
        // Nobody listening any more is as good as having stopped.
        let _ = self.stop.send(true);
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Server {
    /// Opens the store, makes what every cluster has, and listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        let bind = config.bind;
        let listener = TcpListener::bind(bind)
            .await
            .map_err(|error| StartError::Bind { address: bind, error })?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Bind { address: bind, error })?;
        let pki_dir = config.data_dir.join("pki");
        let ca = Arc::new(ClusterCa::load_or_create(&pki_dir)?);
        let tokens = Arc::new(TokenKey::load_or_create(&pki_dir)?);
        let identity = ca.server("kube-apiserver", &serving_names(&config, address))?;
        let advertise = advertised(&config, address);
        let core = Arc::new(Core::open(config)?);
        crd::controller::load(&core);
        kinds::bootstrap(&core, advertise, address.port()).await?;
        roles(&core).await?;
        let client = ca.client("kube-apiserver-kubelet-client", "system:masters")?;
        let auth = Auth {
            core: core.clone(),
            tokens: tokens.clone(),
        };
        let api = Arc::new(Api {
            core: core.clone(),
            hooks: hooks(&core, auth, stream::tunnel::Tls::new(ca.cert_pem(), &client)?),
            documents: documents(&tokens),
        });
        let tls = Arc::new(tls_config(&ca, &identity)?);
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(crd::controller::run(core.clone())),
            tokio::spawn(aggregation::run(core.clone())),
            tokio::spawn(signer::run(core.clone(), ca.clone())),
            tokio::spawn(secret_tokens::run(core.clone(), tokens.clone(), ca.clone())),
            tokio::spawn(admission::type_check::run(core.clone())),
            tokio::spawn(accept(listener, tls, api, stopped)),
        ];
        Ok(Handle {
            address,
            ca,
            core,
            stop,
            tasks,
        })
    }
}

fn hooks(core: &Arc<Core>, auth: Auth, tls: stream::tunnel::Tls) -> Hooks {
    let reviews: Arc<dyn VirtualResource> = Arc::new(Reviews(auth.clone()));
    let tokens: Arc<dyn VirtualResource> = Arc::new(TokenRequests(auth.clone()));
    let virtuals = [
        "authentication.k8s.io/tokenreviews",
        "authentication.k8s.io/selfsubjectreviews",
        "authorization.k8s.io/subjectaccessreviews",
        "authorization.k8s.io/localsubjectaccessreviews",
        "authorization.k8s.io/selfsubjectaccessreviews",
        "authorization.k8s.io/selfsubjectrulesreviews",
    ]
    .map(|key| (key.to_owned(), reviews.clone()))
    .into_iter()
    .chain([("/serviceaccounts/token".to_owned(), tokens)])
    .collect();
    Hooks {
        authenticator: Arc::new(auth.clone()),
        authorizer: Arc::new(auth),
        admission: Arc::new(admission::Chain { core: core.clone() }),
        fields: Arc::new(apply::Ownership),
        connector: Arc::new(stream::connector::NodeConnector {
            core: core.clone(),
            tls,
        }),
        virtuals,
    }
}

/// Plain JSON documents by path: what verifiers of service account tokens ask for.
fn documents(tokens: &TokenKey) -> std::collections::BTreeMap<String, Value> {
    let mut documents = std::collections::BTreeMap::new();
    documents.insert(
        "/.well-known/openid-configuration".to_owned(),
        token::openid_configuration(token::ISSUER),
    );
    if let Ok(keys) = tokens.jwks() {
        documents.insert("/openid/v1/jwks".to_owned(), keys);
    }
    documents
}

async fn roles(core: &Core) -> Result<(), drydock_store::Error> {
    let group = "rbac.authorization.k8s.io";
    for role in bootstrap::cluster_roles() {
        kinds::ensure(core, group, "clusterroles", role).await?;
    }
    for binding in bootstrap::cluster_role_bindings() {
        kinds::ensure(core, group, "clusterrolebindings", binding).await?;
    }
    Ok(())
}

fn advertised(config: &Config, address: SocketAddr) -> Ipv4Addr {
    match (config.advertise, address.ip()) {
        (Some(ip), _) => ip,
        (None, IpAddr::V4(ip)) if !ip.is_unspecified() => ip,
        _ => Ipv4Addr::LOCALHOST,
    }
}

fn serving_names(config: &Config, address: SocketAddr) -> Vec<String> {
    let first = Ipv4Addr::from(u32::from(config.service_cidr.network()) + 1);
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
    ]
    .map(str::to_owned)
    .into();
    names.push(first.to_string());
    names.push(advertised(config, address).to_string());
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.extend(config.extra_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn tls_config(ca: &ClusterCa, identity: &Identity) -> Result<ServerConfig, StartError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.cert_pem().as_bytes()) {
        roots.add(certificate.map_err(|_| PkiError::Pem("cluster root".into()))?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let (chain, key) = identity.to_rustls()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, api: Arc<Api>, mut stopped: watch::Receiver<bool>) {
    let mut connections = std::pin::pin!(listen::accept::tls(listener, tls, LIMITS));
    loop {
        let accepted = tokio::select! {
            accepted = connections.next() => accepted,
            _ = stopped.changed() => return,
        };
        let Some(accepted) = accepted else { return };
        tokio::spawn(connection(accepted, api.clone(), stopped.clone()));
    }
}

/// The body of an answer, whose request is under way until the last byte: a watch as long as it lasts.
struct UnderWay {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for UnderWay {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn connection(accepted: Accepted<TlsStream<TcpStream>>, api: Arc<Api>, mut stopped: watch::Receiver<bool>) {
    let Accepted { io, place: _place, .. } = accepted;
    let (_, session) = io.get_ref();
    let chain = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|one| one.clone().into_owned())
        .collect();
    let peer = PeerCertificates(Arc::new(chain));
    let idle = Idle::default();
    let requests = idle.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (api, busy) = (api.clone(), requests.busy());
        request.extensions_mut().insert(peer.clone());
        async move {
            let answer = api.handle(request).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| UnderWay { body, _busy: busy }))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(LIMITS.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(LIMITS.header_timeout);
    let mut serving = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = idle.longer_than(IDLE) => None,
        _ = stopped.changed() => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // Whoever asks for something at this very moment still gets an answer.
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving => ended,
                _ = stopped.changed() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
