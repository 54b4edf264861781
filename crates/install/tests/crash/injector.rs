//! Stands in for the injectors of all revisions: `/<revision>/inject` adds the proof that this revision injected, and
//! keeps that of others that did before.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use install::object::Object;
use install::proof;
use revision::decision::{PodView, Policy};
use revision::selector::Labels;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Where it listens, and whom to trust.
pub struct Injectors {
    pub port: u16,
    /// Base64 of PEM, as webhook configurations have it.
    pub authority: String,
}

impl Injectors {
    pub async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let injectors = Self {
            port: listener.local_addr().unwrap().port(),
            authority: STANDARD.encode(made.cert.pem()),
        };
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls))));
        injectors
    }

    /// The address of a revision's injector.
    pub fn url(&self, revision: &str) -> String {
        format!("https://127.0.0.1:{}/{revision}/inject", self.port)
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await
                .ok();
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let revision = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let pod = &review["request"]["object"];
    let before = proof::injected_by(&Object(pod.clone()));
    let revisions = before
        .into_iter()
        .chain([revision.clone()])
        .collect::<Vec<_>>()
        .join(",");
    let status = json!({ "revision": revisions }).to_string();
    let patch = json!([{"op": "add", "path": "/metadata/annotations", "value": {"sidecar.istio.io/status": status}}]);
    let strings = |field: &str| -> Labels {
        let map = pod["metadata"][field].as_object().into_iter().flatten();
        map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let policy = Policy {
        policy: "enabled".to_owned(),
        ..Policy::default()
    };
    let admitted = policy.admits(PodView {
        namespace: review["request"]["namespace"].as_str().unwrap_or_default(),
        labels: &strings("labels"),
        annotations: &strings("annotations"),
        host_network: false,
    });
    let response = match revision.as_str() {
        _ if admitted.is_err() => json!({"uid": review["request"]["uid"], "allowed": true}),
        "broken" => json!({"uid": review["request"]["uid"], "allowed": false, "status": {"message": "no template"}}),
        _ => json!({"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
            "patch": STANDARD.encode(patch.to_string())}),
    };
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::from(answer.to_string())).unwrap())
}
