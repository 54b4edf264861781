//! Who gets an answer from the kubelet port, and who does not.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod support;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::sync::Arc;
use support::pki::{AnyServer, Identity, stranger};
use support::{Lab, able};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One HTTP/1.1 request with the given certificate; the whole answer, or why there is none.
fn ask(lab: &Lab, identity: Option<&Identity>, path: &str) -> Result<String, String> {
    ask_with(lab, identity, None, path)
}

fn ask_with(lab: &Lab, identity: Option<&Identity>, token: Option<&str>, path: &str) -> Result<String, String> {
    let port = lab.kubelet_port();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(AnyServer));
    let config = match identity {
        Some(i) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from(i.cert.clone())],
                PrivateKeyDer::try_from(i.key.clone()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect((lab.config.node_ip(), port))
            .await
            .map_err(|e| e.to_string())?;
        let name = rustls::pki_types::ServerName::try_from("node").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        let token = token
            .map(|t| format!("authorization: Bearer {t}\r\n"))
            .unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\n{token}connection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
        Ok(answer)
    })
}

#[test]
fn only_known_and_allowed_users_are_answered() {
    if !able() {
        return;
    }
    let lab = Lab::start();
    let script = "echo one; echo two; echo three; sleep 1000";
    lab.pod(
        "p",
        json!({"containers": [{"name": "c", "command": ["sh", "-c", script]}]}),
    );
    lab.wait("p", "/status/containerStatuses/0/started", json!(true));
    lab.wait_log("p", "c", "three");
    let master = lab.identity("apiserver", Some("system:masters"));
    let path = "/containerLogs/default/p/c?tailLines=2";
    let answer = ask(&lab, Some(&master), path).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200")
            && answer.contains("two\n")
            && answer.contains("three\n")
            && !answer.contains("one"),
        "{answer}"
    );
    assert!(
        ask(&lab, Some(&master), "/containerLogs/default/p/absent")
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        ask(&lab, Some(&master), "/containerLogs/default/p/c?tailLines=x")
            .unwrap()
            .starts_with("HTTP/1.1 400")
    );
    // Known to the authority, but the API server does not allow it.
    let somebody = lab.identity("somebody", None);
    assert!(ask(&lab, Some(&somebody), path).unwrap().starts_with("HTTP/1.1 403"));
    // Unknown to the authority.
    let stranger = stranger();
    assert!(ask(&lab, Some(&stranger), path).is_err());
    // Nobody at all: told how the API server becomes somebody.
    let nobody = ask(&lab, None, path).unwrap();
    assert!(
        nobody.starts_with("HTTP/1.1 403") && nobody.contains("--kubelet-client-certificate"),
        "{nobody}"
    );
    // By token: the API server says whose it is.
    assert!(
        ask_with(&lab, None, Some("root"), path)
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        ask_with(&lab, None, Some("somebody"), path)
            .unwrap()
            .starts_with("HTTP/1.1 403")
    );
    assert!(
        ask_with(&lab, None, Some("forged"), path)
            .unwrap()
            .starts_with("HTTP/1.1 401")
    );
    lab.end();
}
