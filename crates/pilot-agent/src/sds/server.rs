//! The discovery service for secrets. Envoy opens a stream per secret; each is answered when the secret is there, and
//! again whenever it changes.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use xds::google::protobuf::Any;

use super::files;
use super::secret::{self, Name};
use crate::workload::Published;

/// Type URL of secrets.
pub(super) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// No stream asks for more secrets than this.
const MAX_NAMES: usize = 256;

/// Serves the workload's secrets and those in files.
#[derive(Debug, Clone)]
pub struct SecretServer {
    workload: Published,
}

/// Binds `path` (removing what a former life left there) and serves until the task is dropped.
///
/// # Errors
/// If the socket cannot be bound.
pub fn serve(path: &Path, workload: Published) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let listener = bind(path)?;
    let server = SecretDiscoveryServiceServer::new(SecretServer { workload });
    Ok(async move {
        let serving = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(UnixListenerStream::new(listener));
        if let Err(error) = serving.await {
            tracing::error!(%error, "the secret server ended");
        }
    })
}

/// A socket that only its owner can use: whoever can connect gets the key.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for SecretServer {
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (send, receive) = mpsc::channel(4);
        let stream = SecretStream {
            workload: self.workload.clone(),
            send,
            names: Vec::new(),
            version: 0,
            sent: None,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "secrets are served state of the world only; use StreamSecrets",
        ))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let names = parse(&request.into_inner().resource_names)?;
        let resources = current(&names, &self.workload).await;
        let resources = resources.ok_or_else(|| Status::unavailable("the secret is not there yet; try again"))?;
        Ok(Response::new(response(resources, 1)))
    }
}

fn parse(names: &[String]) -> Result<Vec<(String, Name)>, Status> {
    if names.len() > MAX_NAMES {
        return Err(Status::invalid_argument(format!(
            "{} secrets in one stream; at most {MAX_NAMES}",
            names.len()
        )));
    }
    let one = |n: &String| {
        n.parse()
            .map(|parsed| (n.clone(), parsed))
            .map_err(Status::invalid_argument)
    };
    names.iter().map(one).collect()
}

fn response(resources: Vec<Any>, version: u64) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_string(),
        nonce: version.to_string(),
        type_url: SECRET.to_owned(),
        resources,
        ..Default::default()
    }
}

/// All secrets of `names`, or `None` if one is not there yet: Envoy waits rather than starts without.
async fn current(names: &[(String, Name)], workload: &Published) -> Option<Vec<Any>> {
    let own = workload.borrow().clone();
    let mut secrets = Vec::with_capacity(names.len());
    for (text, name) in names {
        secrets.push(match name {
            Name::Workload => {
                let own = own.as_ref()?;
                secret::certificate(text, own.chain_pem.as_bytes(), own.key_pem().as_bytes())
            }
            Name::Roots => secret::roots(text, own.as_ref()?.roots_pem.as_bytes()),
            Name::FileCertificate { certificate, key } => {
                secret::certificate(text, &files::read(certificate).await?, &files::read(key).await?)
            }
            Name::FileRoots(path) => secret::roots(text, &files::read(path).await?),
        });
    }
    Some(secrets)
}

struct SecretStream {
    workload: Published,
    send: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    names: Vec<(String, Name)>,
    version: u64,
    sent: Option<Vec<Any>>,
}

impl SecretStream {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        let mut poll = tokio::time::interval(files::POLL);
        loop {
            let in_files = self
                .names
                .iter()
                .any(|(_, n)| !matches!(n, Name::Workload | Name::Roots));
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        if let Err(status) = self.asked(&request) {
                            let _ = self.send.send(Err(status)).await;
                            return;
                        }
                    }
                    _ => return,
                },
                changed = changed(&mut self.workload) => if !changed { return },
                _ = poll.tick(), if in_files => {}
                () = self.send.closed() => return,
            }
            if self.push().await.is_err() {
                return;
            }
        }
    }

    fn asked(&mut self, request: &DiscoveryRequest) -> Result<(), Status> {
        if let Some(error) = &request.error_detail {
            tracing::warn!(secrets = ?request.resource_names, error = %error.message, "Envoy rejected a secret");
        }
        let names = parse(&request.resource_names)?;
        if names != self.names {
            self.names = names;
            self.sent = None;
        }
        Ok(())
    }

    /// Sends the secrets if they are there and differ from what was sent.
    async fn push(&mut self) -> Result<(), ()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let Some(resources) = current(&self.names, &self.workload).await else {
            return Ok(());
        };
        if self.sent.as_ref() == Some(&resources) {
            return Ok(());
        }
        self.version += 1;
        self.sent = Some(resources.clone());
        self.send
            .send(Ok(response(resources, self.version)))
            .await
            .map_err(drop)
    }
}

/// Whether there is a new certificate; false when there will never be another.
async fn changed(workload: &mut watch::Receiver<Option<std::sync::Arc<crate::workload::Workload>>>) -> bool {
    if workload.changed().await.is_ok() {
        return true;
    }
    // The publisher is gone only when the agent ends; do not spin meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    false
}
