//! Two revisions of the program over the same objects, with proxies of an older and of the newest release: each leaves
//! out what is another's, and what is for all is the same bytes from both.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::google::protobuf::{Struct, Value, value::Kind};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: { name: shop, namespace: default }
spec: { clusterIP: 10.0.0.1, selector: { app: shop }, ports: [{ name: http, port: 80 }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: readers, namespace: default }
spec: { rules: [{ to: [{ operation: { methods: [GET], paths: [/public] } }] }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-stable, namespace: default, labels: { istio.io/rev: stable } }
spec: { host: shop, subsets: [{ name: stable, labels: { version: v1 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-canary, namespace: default, labels: { istio.io/rev: canary } }
spec: { host: shop, subsets: [{ name: canary, labels: { version: v2 } }] }
";

/// The objects as files; gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running istiod; ended when the test does.
struct Istiod {
    process: Child,
    grpc: u16,
}

impl Drop for Istiod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_ready(http: u16) -> bool {
    let page = TcpStream::connect(("127.0.0.1", http)).and_then(|mut stream| {
        write!(stream, "GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    page.is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}

impl Istiod {
    fn start(revision: &str, objects: &Path) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_istiod"))
            .args([
                "discovery",
                "--registries=",
                "--monitoringAddr=",
                "--secureGRPCAddr=",
                "--httpsAddr=",
            ])
            .arg(format!("--configDir={}", objects.display()))
            .arg(format!("--httpAddr=127.0.0.1:{http}"))
            .arg(format!("--grpcAddr=127.0.0.1:{grpc}"))
            .env("REVISION", revision)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let istiod = Self { process, grpc };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_ready(http) {
            assert!(Instant::now() < deadline, "never ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        istiod
    }

    /// Name → version (the hash of the content) of everything of a type that a sidecar of that release is sent.
    async fn sent(&self, release: &str, type_url: &str) -> BTreeMap<String, String> {
        let address = format!("http://127.0.0.1:{}", self.grpc);
        let mut client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
        let (requests, stream) = mpsc::channel(1);
        let release = Value {
            kind: Some(Kind::StringValue(release.to_owned())),
        };
        let node = Node {
            id: "sidecar~10.0.0.9~p.default~default.svc.cluster.local".to_owned(),
            metadata: Some(Struct {
                fields: [("ISTIO_VERSION".to_owned(), release)].into(),
            }),
            ..Node::default()
        };
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.to_owned(),
            ..Default::default()
        };
        requests.send(first).await.unwrap();
        let stream = client.delta_aggregated_resources(ReceiverStream::new(stream)).await;
        let mut responses = stream.unwrap().into_inner();
        let response = tokio::time::timeout(Duration::from_secs(20), responses.message()).await;
        let response = response.expect("a response in time").unwrap().unwrap();
        response
            .resources
            .into_iter()
            .map(|one| (one.name, one.version))
            .collect()
    }
}

#[tokio::test]
async fn two_revisions_read_the_same_objects_and_leave_out_what_is_not_theirs() {
    let folder = Folder(std::env::temp_dir().join(format!("istiod-revisions-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join("objects.yaml"), OBJECTS).unwrap();
    let (stable, canary) = (Istiod::start("stable", &folder.0), Istiod::start("canary", &folder.0));
    for release in ["1.24.6", "1.32.0"] {
        let (of_stable, of_canary) = (stable.sent(release, CLUSTER).await, canary.sent(release, CLUSTER).await);
        let subsets = |sent: &BTreeMap<String, String>| {
            let subset = |name: &String| Some(name.strip_prefix("outbound|80|")?.split('|').next()?.to_owned());
            sent.keys().filter_map(subset).collect::<BTreeSet<String>>()
        };
        assert_eq!(
            subsets(&of_stable),
            ["", "stable"].map(str::to_owned).into(),
            "{release}"
        );
        assert_eq!(
            subsets(&of_canary),
            ["", "canary"].map(str::to_owned).into(),
            "{release}"
        );
        // Policies and everything else that listeners say are for both, and the same for both.
        assert_eq!(
            stable.sent(release, LISTENER).await,
            canary.sent(release, LISTENER).await,
            "{release}"
        );
    }
}
