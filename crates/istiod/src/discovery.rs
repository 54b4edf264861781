//! `istiod discovery`: everything wired together, started and ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ads::{DiscoveryServer, Registry};
use anyhow::Context;
use ca::tls::{MeshClients, ServingCertificate};
use ca::{Authenticator, Current};
use cluster::access::Access;
use futures::Stream;
use listen::accept::{self, Accepted};
use mesh::Mesh;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::args::{Address, Discovery};
use crate::control_plane::ControlPlane;
use crate::debug::Debug;
use crate::engine::{Engine, Message};
use crate::http::{self, Pages};
use crate::metrics::Metrics;
use crate::serving::Serving;
use crate::settings::Settings;
use crate::source::{Source, Translation};
use crate::webhook::{Validations, Webhooks};
use crate::{files, grpc, injector, serving, validation, webhook};

/// Changes that may wait for the engine before their sources pause.
const WAITING: usize = 16_384;
/// How long webhooks are still answered when the end was asked for: the API server calls this istiod until it has heard
/// that its endpoint is gone, and pods whose webhook is not reached are refused.
const LINGER: Duration = Duration::from_secs(3);
/// Connections that may wait to be accepted: when a control plane comes back, all its proxies come at once, and one that
/// finds no place tries again a second later.
const BACKLOG: u32 = 4096;

/// Runs until the process is asked to end.
///
/// # Errors
/// What was asked for cannot be started.
pub async fn run(options: Discovery) -> anyhow::Result<()> {
    let settings = Settings::from_environment()?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tracing::info!(version = crate::version::number(), revision = %settings.revision, "istiod starts");
    let (ending, shutdown) = watch::channel(false);
    let (messages, inbox) = mpsc::channel(WAITING);

    let mesh = Mesh::new(&options.cluster_id, &options.domain);
    let translation = Translation::new(mesh.snapshot());
    let engine = Engine::new(mesh, translation);
    let with_cluster = options
        .registries
        .split(',')
        .any(|registry| registry.trim() == "Kubernetes");
    anyhow::ensure!(
        with_cluster || options.config_dir.is_some(),
        "without a registry, --configDir is needed"
    );

    let mut sources = 0;
    let control_plane = if with_cluster {
        let started = ControlPlane::start(&options, &settings, messages.clone(), &engine.kept).await?;
        sources += started.kinds;
        Some(started)
    } else {
        let from = options.clone();
        let read = move || Ok(api::mesh_config::MeshConfig::from_json(mesh_config_file(&from)?)?);
        let config: api::mesh_config::MeshConfig = read()?;
        files::follow_mesh_config(&options.mesh_config, config.clone(), read, messages.clone())?;
        messages
            .send(Message::MeshConfig(Box::new(config)))
            .await
            .ok()
            .context("the engine is gone")?;
        None
    };
    if let Some(directory) = &options.config_dir {
        files::follow(directory, messages.clone())?;
        sources += 1;
    }
    drop(messages);
    engine.run(inbox, settings.revision.label().to_owned(), sources, settings.gather)?;

    let parts = Parts::new(&settings, &options, engine.clone(), control_plane.as_ref());
    parts
        .serve_streams(&options, &settings, control_plane.as_ref(), &shutdown)
        .await?;
    let mut election = None;
    if let Some(control_plane) = control_plane {
        if let Some(listener) = bind("webhooks", options.https_addr).await? {
            parts.serve_webhooks(listener, &settings, &control_plane, &shutdown);
        }
        election = control_plane.keep(&engine.kept, shutdown.clone());
    }
    // Who reads there that istiod is ready finds all other ports open.
    parts.serve_pages(&options, settings.page_ports, &shutdown).await?;

    wait_for_signal().await?;
    tracing::info!("ending: streams are closed, proxies connect elsewhere");
    ending.send_replace(true);
    engine.close();
    let deadline = tokio::time::Instant::now() + options.shutdown_duration;
    while !parts.registry.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was asked of a webhook or a page is still answered.
    parts.pages_served.close();
    let _ = tokio::time::timeout_at(deadline, parts.pages_served.wait()).await;
    if let Some(election) = election {
        let _ = tokio::time::timeout_at(
            deadline.max(tokio::time::Instant::now() + Duration::from_secs(1)),
            election,
        )
        .await;
    }
    Ok(())
}

/// What the ports share.
struct Parts {
    engine: Arc<Engine<Translation>>,
    registry: Arc<Registry>,
    counters: Arc<ads::counters::Counters>,
    debug: Debug,
    pages: Arc<Pages>,
    webhooks: Arc<Webhooks>,
    signed: Arc<ca::service::Counters>,
    pages_served: TaskTracker,
    /// How much longer than the rest webhooks are answered.
    linger: Duration,
}

impl Parts {
    fn new(
        settings: &Settings,
        options: &Discovery,
        engine: Arc<Engine<Translation>>,
        cluster: Option<&ControlPlane>,
    ) -> Self {
        let registry = Arc::new(Registry::default());
        let counters = Arc::new(ads::counters::Counters::default());
        let debug = Debug {
            authenticate: settings.authenticate_debug,
            namespace: options.namespace.clone(),
            allowed: settings.debug_namespaces.clone(),
            pod: settings.pod_name.clone(),
        };
        let signed = Arc::new(ca::service::Counters::default());
        let validations = Arc::new(Validations::default());
        let numbers = cluster.map(|c| c.numbers(signed.clone()));
        let (metrics, injection) = Metrics::new(counters.clone(), validations.clone(), numbers);
        let pages = Arc::new(Pages {
            engine: engine.clone(),
            registry: registry.clone(),
            debug: debug.clone(),
            debug_pages: settings.debug_pages,
            authenticator: cluster.map(|c| c.authenticator.clone()),
            metrics,
            injector_ready: AtomicBool::new(cluster.is_none() || !settings.inject),
        });
        let namespaces = engine.clone();
        let webhooks = Arc::new(Webhooks {
            injector: arc_swap::ArcSwapOption::empty(),
            namespaces: Box::new(move |name| {
                namespaces
                    .snapshot()
                    .namespace(name)
                    .map(|ns| ns.meta.annotations.clone())
            }),
            validate: Box::new(validation::validate),
            metrics: injection,
            validations,
        });
        Self {
            engine,
            registry,
            counters,
            debug,
            pages,
            webhooks,
            signed,
            pages_served: TaskTracker::new(),
            linger: LINGER.min(options.shutdown_duration),
        }
    }

    async fn serve_pages(
        &self,
        options: &Discovery,
        limits: listen::Limits,
        shutdown: &watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        for (what, address) in [
            ("readiness", options.http_addr),
            ("monitoring", options.monitoring_addr),
        ] {
            if let Some(listener) = bind(what, address).await? {
                let (connections, pages) = (accept::tcp(listener, limits), http::router(self.pages.clone()));
                self.pages_served
                    .spawn(listen::http::serve(connections, pages, limits, shutdown.clone()));
            }
        }
        Ok(())
    }

    async fn serve_streams(
        &self,
        options: &Discovery,
        settings: &Settings,
        cluster: Option<&ControlPlane>,
        shutdown: &watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (engine, registry) = (self.engine.clone(), self.registry.clone());
        let source = Source::new(engine, registry, self.debug.clone(), settings.check_identity);
        let discovery = DiscoveryServer::new(
            Arc::new(source),
            settings.limits.clone(),
            self.registry.clone(),
            self.counters.clone(),
        );
        let mut server = grpc::Server {
            routes: Routes::new(discovery),
            gate: None,
            limits: settings.stream_ports,
            max_age: options.max_connection_age,
            shutdown: shutdown.clone(),
        };
        if let Some(listener) = bind("discovery without TLS", options.grpc_addr).await? {
            tokio::spawn(server.clone().plaintext(listener));
        }
        let secure = match cluster {
            Some(cluster) => Some(Secure::of_cluster(cluster)),
            None => Secure::of_directory(settings, options)?,
        };
        let Some(secure) = secure else {
            if let Some(address) = options.secure_grpc_addr {
                let directory = settings.root_ca_directory.display();
                tracing::warn!(%address, "discovery with TLS is not served: without a cluster there is no authority but one that is plugged in; put ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem into {directory}, or name another folder by ROOT_CA_DIR");
            }
            return Ok(());
        };
        if let Some(listener) = bind("discovery with TLS", options.secure_grpc_addr).await? {
            if settings.sign {
                let service =
                    ca::service::CertificateService::new(secure.authority.clone(), secure.authenticator.clone());
                let service = service.counting(self.signed.clone());
                server.routes = server.routes.add_service(service.into_server());
            }
            if settings.authenticate {
                server.gate = Some(grpc::Gate::new(secure.authenticator, secure.access));
            }
            let tls = ca::tls::server_config(secure.certificate, Some(secure.clients));
            tokio::spawn(server.tls(listener, tls));
        }
        Ok(())
    }

    /// What the API server asks, until it has heard that this istiod ends.
    fn answer_webhooks<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        connections: impl Stream<Item = Accepted<I>> + Send + 'static,
        limits: listen::Limits,
        shutdown: &watch::Receiver<bool>,
    ) {
        let router = webhook::router(self.webhooks.clone()).merge(http::readiness(self.pages.clone()));
        let shutdown = listen::http::later(shutdown.clone(), self.linger);
        self.pages_served
            .spawn(listen::http::serve(connections, router, limits, shutdown));
    }

    fn serve_webhooks(
        &self,
        listener: TcpListener,
        settings: &Settings,
        cluster: &ControlPlane,
        shutdown: &watch::Receiver<bool>,
    ) {
        let tls = ca::tls::server_config(cluster.serving.certificate.clone(), None);
        let limits = settings.page_ports;
        self.answer_webhooks(accept::tls(listener, tls, limits), limits, shutdown);
        if settings.inject {
            let pages = self.pages.clone();
            tokio::spawn(injector::keep(
                self.webhooks.clone(),
                cluster.injector.clone(),
                cluster.mesh_config.clone(),
                settings.clone(),
                injector::native_sidecars(&settings.native_sidecars, {
                    let engine = self.engine.clone();
                    move || engine.snapshot()
                }),
                move || pages.injector_ready.store(true, Relaxed),
            ));
        }
    }
}

/// Who is who on the port with TLS.
struct Secure {
    authority: Current,
    authenticator: Arc<Authenticator>,
    access: Option<Arc<Access>>,
    certificate: Arc<ServingCertificate>,
    clients: Arc<MeshClients>,
}

impl Secure {
    fn of_cluster(cluster: &ControlPlane) -> Self {
        Self {
            authority: cluster.authority.clone(),
            authenticator: cluster.authenticator.clone(),
            access: Some(cluster.access.clone()),
            certificate: cluster.serving.certificate.clone(),
            clients: cluster.serving.clients.clone(),
        }
    }

    /// Without a cluster the authority must be plugged in, and callers prove themselves by certificates only.
    fn of_directory(settings: &Settings, options: &Discovery) -> anyhow::Result<Option<Self>> {
        let now = jiff::Timestamp::now();
        let Some(authority) = cluster::authority::of_directory(&settings.root_ca_directory, now)? else {
            return Ok(None);
        };
        let authority = Current::new(authority);
        let names = serving::names(&settings.revision, &options.namespace, &settings.custom_hosts);
        let serving = Serving::new(&authority.load(), names)?;
        let secure = Self {
            authority: authority.clone(),
            authenticator: Arc::new(Authenticator::new(&options.domain, None)),
            access: None,
            certificate: serving.certificate.clone(),
            clients: serving.clients.clone(),
        };
        tokio::spawn(serving.keep(authority));
        Ok(Some(secure))
    }
}

async fn bind(what: &str, address: Address) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().with_context(|| format!("cannot listen on {address} for {what}"))?;
    tracing::info!(%address, what, "listening");
    Ok(Some(listener))
}

/// The mesh configuration file as JSON; nothing if there is no such file.
pub fn mesh_config_file(options: &Discovery) -> anyhow::Result<Value> {
    match std::fs::read_to_string(&options.mesh_config) {
        Ok(text) => mesh_config_text(&text).with_context(|| format!("--meshConfig {}", options.mesh_config.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error).with_context(|| format!("--meshConfig {}", options.mesh_config.display())),
    }
}

/// A mesh configuration's YAML as JSON.
pub fn mesh_config_text(text: &str) -> anyhow::Result<Value> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_saphyr::from_str(text)?)
}

async fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::args::{Command, parse};

    fn parts(flags: &str) -> (Parts, Settings) {
        let line = format!("istiod discovery {flags}");
        let (Command::Discovery(options), _) = parse(line.split_whitespace().map(str::to_owned)).unwrap() else {
            panic!("not discovery")
        };
        let settings = Settings::from_environment().unwrap();
        let mesh = Mesh::default();
        let translation = Translation::new(mesh.snapshot());
        (
            Parts::new(&settings, &options, Engine::new(mesh, translation), None),
            settings,
        )
    }

    #[test]
    fn webhooks_are_answered_longer_but_never_beyond_the_end() {
        assert_eq!(parts("").0.linger, LINGER);
        assert_eq!(parts("--shutdownDuration=1s").0.linger, Duration::from_secs(1));
    }

    #[tokio::test]
    async fn the_api_server_is_answered_although_the_end_was_asked_for() {
        let (mut parts, settings) = parts("");
        // Far longer than this takes.
        parts.linger = Duration::from_secs(3600);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ending, shutdown) = watch::channel(false);
        let limits = settings.page_ports;
        parts.answer_webhooks(accept::tcp(listener, limits), limits, &shutdown);
        ending.send_replace(true);
        // A port that ends at once may let one more in.
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer:?}");
        }
    }
}
