//! exec, logs and their errors through a running server to a node that a test plays.

#![allow(clippy::unwrap_used, missing_docs)]

use drydock_api::{Config, Handle, Server};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    server: Handle,
    client: Arc<ClientConfig>,
    directory: std::path::PathBuf,
}

fn roots(server: &Handle) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(server.ca().cert_pem().as_bytes()).unwrap())
        .unwrap();
    roots
}

impl Cluster {
    async fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("drydock-streams-{}", uuid::Uuid::new_v4()));
        let server = Server::start(Config::new(&directory)).await.unwrap();
        let (chain, key) = server
            .ca()
            .client("kubernetes-admin", "system:masters")
            .unwrap()
            .to_rustls()
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&server))
            .with_client_auth_cert(chain, key)
            .unwrap();
        Cluster {
            server,
            client: Arc::new(client),
            directory,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        TlsConnector::from(self.client.clone())
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap()
    }

    /// One request, the whole answer as text.
    async fn call(&self, method: &str, path: &str, body: &Value) -> String {
        let mut stream = self.connect().await;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn create(&self, path: &str, object: Value) {
        let answer = self.call("POST", path, &object).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    async fn stop(self) {
        self.server.shutdown().await;
        std::fs::remove_dir_all(self.directory).ok();
    }
}

/// A node that answers logs, and upgrades exec to an echo that ends when its input does.
async fn node(cluster: &Cluster) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (chain, key) = cluster
        .server
        .ca()
        .node("n", &["127.0.0.1".into()])
        .unwrap()
        .to_rustls()
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&cluster.server)), provider.clone())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap().to_owned();
                if path.starts_with("/containerLogs/") {
                    let text = format!("asked for {path}\n");
                    let status = if path.contains("previous") {
                        "400 Bad Request"
                    } else {
                        "200 OK"
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                        text.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return;
                }
                assert!(head.to_lowercase().contains("upgrade: spdy/3.1"), "{head}");
                stream
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
                    .await
                    .unwrap();
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.ok();
                stream.write_all(format!("{path} heard ").as_bytes()).await.unwrap();
                stream.write_all(&heard).await.unwrap();
                stream.shutdown().await.ok();
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_reach_the_pods_node() {
    let cluster = Cluster::start().await;
    let port = node(&cluster).await;
    cluster
        .create(
            "/api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
        )
        .await;
    let current = cluster.call("GET", "/api/v1/nodes/n", &Value::Null).await;
    let mut object: Value = serde_json::from_str(current.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    object["status"]["addresses"] = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
    object["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
    let answer = cluster.call("PUT", "/api/v1/nodes/n/status", &object).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    cluster
        .create(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        )
        .await;
    for (name, node) in [("p", json!("n")), ("waiting", Value::Null)] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        cluster.create("/api/v1/namespaces/default/pods", pod).await;
    }

    let pods = "/api/v1/namespaces/default/pods";
    let logs = cluster
        .call("GET", &format!("{pods}/p/log?tailLines=3"), &Value::Null)
        .await;
    assert!(
        logs.ends_with("asked for /containerLogs/default/p/c?tailLines=3\n"),
        "{logs}"
    );
    // What the node refuses is a status, without which kubectl knows no reason.
    let previous = cluster
        .call("GET", &format!("{pods}/p/log?previous=true"), &Value::Null)
        .await;
    assert!(
        previous.contains(r#""kind":"Status""#) && previous.contains("asked for /containerLogs/"),
        "{previous}"
    );
    let none = cluster.call("GET", &format!("{pods}/waiting/log"), &Value::Null).await;
    assert!(none.starts_with("HTTP/1.1 204"), "{none}");
    let refused = cluster
        .call("POST", &format!("{pods}/waiting/exec?command=ls"), &Value::Null)
        .await;
    assert!(
        refused.contains("pod waiting does not have a host assigned"),
        "{refused}"
    );

    let mut stream = cluster.connect().await;
    let head = format!(
        "POST {pods}/p/exec?command=cat&stdin=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut echoed))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(echoed, "/exec/default/p/c?command=cat&stdin=true heard hello");
    cluster.stop().await;
}
