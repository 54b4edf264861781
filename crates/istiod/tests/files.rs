//! The program itself, fed from files: what a proxy, a browser and Prometheus see.
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::DeltaDiscoveryResponse;

use program::{CLUSTER, Folder, LISTENER, Program, Proxy};

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: 10.0.0.1, ports: [{{name: http, port: 80}}]}}\n"
    )
}

/// A running istiod and its folder.
struct Istiod {
    program: Program,
    folder: Folder,
}

impl Istiod {
    fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        std::fs::write(folder.0.join("a.yaml"), service("a")).unwrap();
        let program = Program::start("", &folder.0, &["--no-such-flag"]);
        Self { program, folder }
    }

    fn page(&self, path: &str) -> String {
        let (code, body) = self.program.get(path).unwrap();
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.0.join(file), text).unwrap();
    }

    async fn proxy(&self) -> Proxy {
        self.connect("sidecar", CLUSTER).await
    }

    /// A proxy of that type, which asks for resources of one type.
    async fn connect(&self, role: &str, type_url: &str) -> Proxy {
        let node = Node {
            id: format!("{role}~10.0.0.9~p.default~default.svc.cluster.local"),
            ..Node::default()
        };
        self.program.connect(node, type_url).await
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|r| r.name.as_str())
        .filter(|name| name.starts_with("outbound|"))
        .collect()
}

#[tokio::test]
async fn files_reach_proxies_and_changes_follow() {
    let istiod = Istiod::start("changes");
    let mut proxy = istiod.proxy().await;
    assert_eq!(names(&proxy.next().await), ["outbound|80||a.default.svc.cluster.local"]);
    istiod.write("b.yaml", &service("b"));
    let change = proxy.next().await;
    assert_eq!(names(&change), ["outbound|80||b.default.svc.cluster.local"]);
    assert_eq!(change.removed_resources, Vec::<String>::new());
    std::fs::remove_file(istiod.folder.0.join("a.yaml")).unwrap();
    let change = proxy.next().await;
    assert_eq!(
        (names(&change), change.removed_resources.as_slice()),
        (vec![], &["outbound|80||a.default.svc.cluster.local".to_owned()][..])
    );
}

#[tokio::test]
async fn broken_files_take_nothing_away() {
    let istiod = Istiod::start("broken");
    let mut proxy = istiod.proxy().await;
    proxy.next().await;
    istiod.write("a.yaml", "kind: [");
    istiod.write(
        "c.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: c, namespace: default}\nspec: {ports: yes}\n",
    );
    istiod.write("b.yaml", &service("b"));
    let change = proxy.next().await;
    assert_eq!(names(&change), ["outbound|80||b.default.svc.cluster.local"]);
    assert!(change.removed_resources.is_empty());
}

fn gateway(revision: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
         metadata: {{name: g, namespace: default, labels: {{istio.io/rev: {revision}}}}}\n\
         spec: {{servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n"
    )
}

#[tokio::test]
async fn a_gateway_whose_owner_changes_is_not_emptied() {
    let istiod = Istiod::start("owner");
    let listeners = |response: &DeltaDiscoveryResponse| -> Vec<String> {
        let names = response.resources.iter().map(|r| r.name.clone());
        names.filter(|name| name.starts_with("0.0.0.0_")).collect()
    };
    let mut proxy = istiod.connect("router", LISTENER).await;
    let first = proxy.next().await;
    assert_eq!(listeners(&first), Vec::<String>::new());
    istiod.write("g.yaml", &gateway("default", 80));
    assert_eq!(listeners(&proxy.next().await), ["0.0.0.0_80"]);
    // It goes to another revision, and what comes after shows that this was seen.
    istiod.write("g.yaml", &gateway("canary", 81));
    istiod.write("h.yaml", &gateway("default", 82).replace("name: g", "name: h"));
    let change = proxy.next().await;
    assert_eq!(listeners(&change), ["0.0.0.0_82"]);
    assert_eq!(change.removed_resources, Vec::<String>::new());
    // Deleted is deleted, whoever owned it.
    std::fs::remove_file(istiod.folder.0.join("g.yaml")).unwrap();
    assert_eq!(proxy.next().await.removed_resources, ["0.0.0.0_80"]);
}

#[tokio::test]
async fn the_end_closes_streams_and_comes_in_time() {
    let mut istiod = Istiod::start("end");
    let mut proxy = istiod.proxy().await;
    proxy.next().await;
    // A kept-alive client that asks for nothing more holds nothing up.
    let mut idle = TcpStream::connect(("127.0.0.1", istiod.program.http)).unwrap();
    write!(idle, "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 16]).unwrap() > 0);
    let pid = istiod.program.process.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), proxy.responses.message()).await;
    assert!(
        !matches!(ended, Err(_) | Ok(Ok(Some(_)))),
        "the stream goes on: {ended:?}"
    );
    let exited = tokio::task::spawn_blocking(move || {
        let status = istiod.program.process.wait().unwrap();
        (status, istiod)
    });
    let (status, _istiod) = tokio::time::timeout(Duration::from_secs(20), exited)
        .await
        .expect("ends")
        .unwrap();
    assert!(status.success(), "{status}");
}

// The pages are asked for by blocking means, so the proxy needs a thread of its own.
#[tokio::test(flavor = "multi_thread")]
async fn pages_tell_what_is_going_on() {
    let istiod = Istiod::start("pages");
    let mut proxy = istiod.proxy().await;
    proxy.next().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !istiod.page("/debug/syncz").contains(r#""status":"SYNCED""#) {
        assert!(Instant::now() < deadline, "{}", istiod.page("/debug/syncz"));
    }
    let syncz: serde_json::Value = serde_json::from_str(&istiod.page("/debug/syncz")).unwrap();
    assert_eq!(syncz[0]["proxy"], "p.default");
    assert_eq!(syncz[0]["cluster_sent"], syncz[0]["cluster_acked"]);
    let dump = istiod.page("/debug/config_dump?proxyID=p.default");
    assert!(dump.contains("outbound|80||a.default.svc.cluster.local"), "{dump}");
    assert!(istiod.page("/metrics").contains("\npilot_xds_pushes{type=\"cds\"} 1\n"));
    assert!(istiod.page("/debug/registryz").contains("a.default.svc.cluster.local"));
    assert_eq!(
        istiod
            .program
            .get("/debug/config_dump?proxyID=nobody.default")
            .unwrap()
            .0,
        404
    );
    assert_eq!(istiod.program.get("/debug/nothing").unwrap().0, 404);
}

#[tokio::test]
async fn certificates_of_a_plugged_in_authority_open_streams_over_tls() {
    let (objects, keys) = (Folder::new("tls-objects"), Folder::new("tls-keys"));
    std::fs::write(objects.0.join("a.yaml"), service("a")).unwrap();
    let now = jiff::Timestamp::now();
    let authority = ca::Authority::self_signed("cluster.local", now).unwrap();
    for (name, content) in authority.to_files() {
        std::fs::write(keys.0.join(name), content).unwrap();
    }
    let port = testkit::free_port();
    let _istiod = Program::start_as(&objects.0, |command| {
        command
            .arg(format!("--secureGRPCAddr=127.0.0.1:{port}"))
            .env("ROOT_CA_DIR", &keys.0);
    });
    let tls = || {
        ClientTlsConfig::new()
            .domain_name("istiod.istio-system.svc")
            .ca_certificate(Certificate::from_pem(authority.roots_pem()))
    };
    let connect = |tls| {
        let endpoint = Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        async move { endpoint.tls_config(tls).unwrap().connect().await.unwrap() }
    };
    let node = |namespace: &str| Node {
        id: format!("sidecar~10.0.0.9~p.{namespace}~{namespace}.svc.cluster.local"),
        ..Node::default()
    };
    let identity = ca::SpiffeId::new("cluster.local", "default", "shop").unwrap();
    let request = ca::request::Request::new(&identity, ca::request::KeyKind::EcdsaP256).unwrap();
    let issued = authority.issue(&request.csr_pem, &identity, None, now).unwrap();
    let proved = Identity::from_pem(&issued.chain[0], request.key_pem);
    let channel = connect(tls().identity(proved)).await;
    let mut proxy = Proxy::open(channel.clone(), node("default"), CLUSTER).await;
    assert_eq!(names(&proxy.next().await), ["outbound|80||a.default.svc.cluster.local"]);
    // Who proves nothing, or is somebody else, is turned away.
    let mut stranger = Proxy::open(channel, node("other"), CLUSTER).await;
    assert_eq!(
        stranger.responses.message().await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let nobody = connect(tls()).await;
    let refused = Proxy::try_open(nobody, node("default"), CLUSTER).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::Unauthenticated));
}

#[test]
fn without_an_authority_it_is_told_why_tls_is_not_served() {
    let (objects, keys) = (Folder::new("no-authority"), Folder::new("no-keys"));
    let port = testkit::free_port();
    let log = keys.0.join("log");
    let _istiod = Program::start_as(&objects.0, |command| {
        command
            .arg(format!("--secureGRPCAddr=127.0.0.1:{port}"))
            .env("ROOT_CA_DIR", &keys.0)
            .stderr(std::fs::File::create(&log).unwrap());
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = std::fs::read_to_string(&log).unwrap();
        let why = said
            .lines()
            .find(|line| line.contains("discovery with TLS is not served"));
        if let Some(why) = why {
            for part in [
                &port.to_string(),
                &*keys.0.to_string_lossy(),
                "ca-cert.pem",
                "ROOT_CA_DIR",
            ] {
                assert!(why.contains(part), "{part} is not told in {why}");
            }
            break;
        }
        assert!(Instant::now() < deadline, "nothing is told: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Every proxy is an open file, and a container's soft limit is for a thousand.
#[test]
fn as_many_files_as_the_system_allows_may_be_open() {
    let istiod = Istiod::start("open-files");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", istiod.program.process.id())).unwrap();
    let row = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let numbers: Vec<&str> = row.unwrap().split_whitespace().take(2).collect();
    assert_eq!(numbers[0], numbers[1], "soft and hard limit");
    assert_ne!(numbers[0], "256");
}

#[test]
fn wrong_use_is_told_and_fails() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_istiod")).args(args).output().unwrap();
    let output = run(&["discovery", "--registries="]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--configDir is needed"));
    let output = run(&["discovery", "--httpAddr=nonsense"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not HOST:PORT"));
    assert!(run(&["version"]).status.success());
}
