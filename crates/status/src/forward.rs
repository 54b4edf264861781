//! HTTP to a port of a pod, through the API server's port-forward. The pod sees a caller on its loopback address.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use crate::gather::Ask;

/// Largest answer read, in bytes: a configuration dump of a large mesh.
pub const LARGEST_ANSWER: usize = 256 << 20;
/// Longest silence of a pod that is connected to: until its answer begins, and between two parts of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a request to a pod failed.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The API server did not open the connection.
    #[error("cannot forward to port {port} of pod {pod}: {message}")]
    Connect {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// What went wrong.
        message: String,
    },
    /// The pod did not answer.
    #[error("pod {pod} does not answer {path}: {message}")]
    Request {
        /// The pod.
        pod: String,
        /// What was asked for.
        path: String,
        /// What went wrong.
        message: String,
    },
    /// The pod refused.
    #[error("pod {pod} answers {path} with status {status}: {body}")]
    Status {
        /// The pod.
        pod: String,
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
        /// Begin of the answer.
        body: String,
    },
}

/// What the API server said, in its own words, else the innermost cause.
fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return status.message.clone();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn within<T, E>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
    said: impl Fn(E) -> String,
) -> Result<T, String> {
    match tokio::time::timeout(limit, step).await {
        Ok(result) => result.map_err(said),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// The next part of a body that has data.
async fn part<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Option<Bytes>, B::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn request(
    PortForward { client, timeout }: &PortForward,
    PodPort { namespace, pod, port }: &PodPort<'_>,
    method: &str,
    path: &str,
) -> Result<Bytes, ForwardError> {
    let connect = |message: String| ForwardError::Connect {
        pod: (*pod).to_owned(),
        port: *port,
        message,
    };
    let failed = |message: String| ForwardError::Request {
        pod: (*pod).to_owned(),
        path: path.to_owned(),
        message,
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward = within(*timeout, pods.portforward(pod, &[*port]), |error| cause(&error))
        .await
        .map_err(connect)?;
    let stream = forward
        .take_stream(*port)
        .ok_or_else(|| connect("no stream".to_owned()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let driver = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "localhost")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let asked = sender.send_request(request);
        let response = within(LONGEST_PAUSE, asked, |error| error.to_string())
            .await
            .map_err(failed)?;
        let status = response.status();
        let mut parts = Limited::new(response.into_body(), LARGEST_ANSWER);
        let mut body = BytesMut::new();
        while let Some(part) = within(LONGEST_PAUSE, part(&mut parts), |error| error.to_string())
            .await
            .map_err(failed)?
        {
            body.extend_from_slice(&part);
        }
        let body = body.freeze();
        if status.is_success() {
            return Ok(body);
        }
        let begin = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
        Err(ForwardError::Status {
            pod: (*pod).to_owned(),
            path: path.to_owned(),
            status: status.as_u16(),
            body: begin,
        })
    };
    let result = answer.await;
    driver.abort();
    forward.abort();
    result
}

/// A way to reach a port of a pod.
#[async_trait]
pub trait Reach: std::fmt::Debug + Send + Sync {
    /// One HTTP request without a body.
    async fn request(&self, to: &PodPort<'_>, method: &str, path: &str) -> Result<Bytes, ForwardError>;
}

/// A port of a pod.
#[derive(Clone, Copy, Debug)]
pub struct PodPort<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// The port.
    pub port: u16,
}

/// Reaches pods by the API server's port-forward.
#[derive(Clone)]
pub struct PortForward {
    client: Client,
    timeout: Duration,
}

impl PortForward {
    /// Through the API server behind a client, which opens a connection within `timeout`.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }
}

impl std::fmt::Debug for PortForward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortForward").finish_non_exhaustive()
    }
}

#[async_trait]
impl Reach for PortForward {
    async fn request(&self, to: &PodPort<'_>, method: &str, path: &str) -> Result<Bytes, ForwardError> {
        request(self, to, method, path).await
    }
}

/// Asks the istiods of a system namespace.
#[derive(Clone, Debug)]
pub struct Forward {
    reach: Arc<dyn Reach>,
    namespace: String,
}

impl Forward {
    /// For istiods of a system namespace.
    pub fn new(reach: Arc<dyn Reach>, namespace: &str) -> Self {
        Self {
            reach,
            namespace: namespace.to_owned(),
        }
    }
}

#[async_trait]
impl Ask for Forward {
    async fn ask(&self, pod: &str, path: &str) -> Result<Bytes, String> {
        let to = PodPort {
            namespace: &self.namespace,
            pod,
            port: api::names::port::MONITORING,
        };
        self.reach
            .request(&to, "GET", path)
            .await
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::{Client, Duration, PodPort, PortForward, Reach as _};

    #[tokio::test]
    async fn what_the_api_server_says_of_a_pod_that_is_pending_is_passed_on_as_it_is() {
        let refusing = tower::service_fn(|_: Request<Body>| async {
            let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pod web is not running", "reason": "BadRequest", "code": 400});
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            Ok::<_, Infallible>(response)
        });
        let client = Client::new(refusing, "app");
        let to = PodPort {
            namespace: "app",
            pod: "web",
            port: 15000,
        };
        let error = PortForward::new(client, Duration::from_secs(15))
            .request(&to, "GET", "/config_dump")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot forward to port 15000 of pod web: pod web is not running"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_silent_holds_no_connection_up() {
        let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let to = PodPort {
            namespace: "app",
            pod: "web",
            port: 15000,
        };
        let forward = PortForward::new(Client::new(silent, "app"), Duration::from_secs(15));
        assert_eq!(
            forward
                .request(&to, "GET", "/config_dump")
                .await
                .unwrap_err()
                .to_string(),
            "cannot forward to port 15000 of pod web: no answer within 15s"
        );
    }
}
