//! The program as it is, fed from a folder: started, asked over HTTP and over discovery, and ended with the test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::free_port;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// A folder of its own, gone with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// Of that name, which no other test has.
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("istiod-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running istiod.
pub struct Program {
    pub process: Child,
    pub http: u16,
    grpc: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A proxy: its stream.
pub struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

impl Program {
    /// Starts it as a revision over a folder, with further flags, and waits until it is ready.
    pub fn start(revision: &str, folder: &Path, flags: &[&str]) -> Self {
        Self::start_as(folder, |command| {
            command.arg("--secureGRPCAddr=").args(flags).env("REVISION", revision);
        })
    }

    /// Starts it over a folder, with what is added to its command line, and waits until it is ready.
    pub fn start_as(folder: &Path, add: impl FnOnce(&mut Command)) -> Self {
        let (http, grpc) = (free_port(), free_port());
        // As container runtimes start programs: few open files, unless they ask for more.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"ulimit -Sn 256; exec "$0" "$@""#, env!("CARGO_BIN_EXE_istiod")])
            .args(["discovery", "--registries=", "--monitoringAddr=", "--httpsAddr="])
            .arg(format!("--configDir={}", folder.display()))
            .arg(format!("--httpAddr=127.0.0.1:{http}"))
            .arg(format!("--grpcAddr=127.0.0.1:{grpc}"))
            .stderr(Stdio::null());
        add(&mut command);
        let process = command.spawn().unwrap();
        let program = Self { process, http, grpc };
        let deadline = Instant::now() + Duration::from_secs(20);
        while program.get("/ready").is_none_or(|(code, _)| code != 200) {
            assert!(Instant::now() < deadline, "never ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    /// Status and body of a page.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let code = text.split(' ').nth(1)?.parse().ok()?;
        Some((code, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Opens a stream as that node, which asks for resources of one type.
    pub async fn connect(&self, node: Node, type_url: &str) -> Proxy {
        let address = format!("http://127.0.0.1:{}", self.grpc);
        let channel = Channel::from_shared(address).unwrap().connect().await;
        Proxy::open(channel.unwrap(), node, type_url).await
    }
}

impl Proxy {
    /// Opens a stream over a connection.
    pub async fn open(channel: Channel, node: Node, type_url: &str) -> Self {
        Self::try_open(channel, node, type_url).await.unwrap()
    }

    /// Opens a stream over a connection, or is turned away at once.
    pub async fn try_open(channel: Channel, node: Node, type_url: &str) -> Result<Self, tonic::Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let (requests, stream) = mpsc::channel(16);
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.to_owned(),
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let stream = client.delta_aggregated_resources(ReceiverStream::new(stream)).await?;
        Ok(Self {
            requests,
            responses: stream.into_inner(),
        })
    }

    /// Takes and accepts the next response.
    pub async fn next(&mut self) -> DeltaDiscoveryResponse {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message());
        let response = next.await.expect("a response in time").unwrap().unwrap();
        let accepted = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        self.requests.send(accepted).await.unwrap();
        response
    }
}
