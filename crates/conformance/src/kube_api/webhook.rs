//! The test webhook: an HTTPS server with canned answers per story, and a list of what it was asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One call: path and review.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub review: Value,
}

#[derive(Debug, Default)]
struct Story {
    answers: Map<String, Value>,
    calls: Vec<Call>,
}

/// The running server. Stories are told apart by the first path segment.
#[derive(Debug, Clone)]
pub struct Hooks {
    pub address: SocketAddr,
    /// Base64 of the CA's PEM.
    pub ca_bundle: String,
    stories: Arc<Mutex<BTreeMap<String, Story>>>,
}

impl Hooks {
    pub async fn start() -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key)?;
        let leaf_key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        let issuer = rcgen::Issuer::from_params(&parameters, &key);
        let leaf = leaf.signed_by(&leaf_key, &issuer)?;
        let private = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let hooks = Self {
            address: listener.local_addr()?,
            ca_bundle: STANDARD.encode(certificate.pem()),
            stories: Arc::default(),
        };
        tokio::spawn(hooks.clone().serve(listener, TlsAcceptor::from(Arc::new(tls))));
        Ok(hooks)
    }

    fn stories(&self) -> MutexGuard<'_, BTreeMap<String, Story>> {
        self.stories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Base URL of a story.
    pub fn base(&self, story: &str) -> String {
        format!("https://127.0.0.1:{}/{story}", self.address.port())
    }

    /// Sets the answers of a story.
    pub fn register(&self, story: &str, answers: Map<String, Value>) {
        self.stories().insert(
            story.to_owned(),
            Story {
                answers,
                calls: Vec::new(),
            },
        );
    }

    /// Takes the calls of a story so far.
    pub fn take_calls(&self, story: &str) -> Vec<Call> {
        self.stories()
            .get_mut(story)
            .map(|story| std::mem::take(&mut story.calls))
            .unwrap_or_default()
    }

    async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor) {
        while let Ok((stream, _)) = listener.accept().await {
            let (hooks, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request| {
                    let hooks = hooks.clone();
                    async move { Ok::<_, std::convert::Infallible>(hooks.answer(request).await) }
                });
                // The server under test may hang up when it likes.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> http::Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let mut parts = path.splitn(3, '/').skip(1);
        let (story, rest) = (
            parts.next().unwrap_or_default().to_owned(),
            parts.next().unwrap_or_default(),
        );
        let hook = format!("/{rest}");
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let review: Value = serde_json::from_slice(&body).unwrap_or_default();
        let canned = {
            let mut stories = self.stories();
            let Some(story) = stories.get_mut(&story) else {
                return text(404, "no such hook");
            };
            story.calls.push(Call {
                path: format!("{hook}{query}"),
                review: review.clone(),
            });
            story.answers.get(&hook).cloned()
        };
        let Some(canned) = canned else {
            return text(404, "no such hook");
        };
        if let Some(seconds) = canned["delaySeconds"].as_f64() {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        let status = canned["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(200);
        if let Some(raw) = canned["raw"].as_str() {
            return text(status, raw);
        }
        let mut response = canned["response"].clone();
        if response["uid"].is_null() {
            response["uid"] = review["request"]["uid"].clone();
        }
        if response["patch"].is_array() {
            response["patch"] = STANDARD.encode(response["patch"].to_string()).into();
        }
        let answer = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
        let mut response = http::Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

fn text(status: u16, text: &str) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
