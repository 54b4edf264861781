//! A cluster that has just the objects of a case, and pods that answer as the case says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use install::object::{Id, Object};
use istioctl::cli::Global;
use istioctl::cluster::Cluster;
use kube::client::Body;
use serde_json::{Value, json};
use status::forward::{ForwardError, PodPort, Reach};

/// Answers of pods: by name of the pod, then path without its query; the empty path is any.
type Answers = BTreeMap<(String, String), String>;

/// What is in the cluster.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub objects: Vec<Object>,
    pub answers: Answers,
}

impl Given {
    /// A pod that runs.
    pub fn pod(&mut self, namespace: &str, name: &str, labels: &Value) {
        self.objects.push(Object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "status": {"phase": "Running"},
        })));
    }

    /// Puts it in place of the cluster of a Kubernetes configuration.
    pub fn serve(self, global: &mut Global) {
        let objects = Arc::new(self.objects);
        let service = tower::service_fn(move |request: Request<Body>| {
            let objects = objects.clone();
            async move { Ok::<_, Infallible>(answer(&objects, &request)) }
        });
        let client = kube::Client::new(service, "default");
        let namespace = global.namespace.clone().unwrap_or_else(|| "default".to_owned());
        global.cluster = Some(Cluster::with(client, Arc::new(Pods(self.answers)), &namespace));
    }
}

fn answer(objects: &[Object], request: &Request<Body>) -> Response<Body> {
    let query: BTreeMap<&str, &str> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let labels = query.get("labelSelector").copied().unwrap_or_default();
    let labels = labels.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    let (status, body) = find(objects, request.uri().path(), &labels);
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

fn find(objects: &[Object], path: &str, labels: &str) -> (http::StatusCode, Value) {
    let mut parts = path.trim_start_matches('/').split('/');
    let group = match parts.next() {
        Some("apis") => parts.next().unwrap_or_default(),
        _ => "",
    };
    parts.next();
    let mut rest: Vec<&str> = parts.collect();
    if rest.last() == Some(&"token") {
        let status = json!({"token": "", "expirationTimestamp": "2026-01-01T00:00:00Z"});
        let token = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"audiences": []}, "status": status});
        return (http::StatusCode::CREATED, token);
    }
    let mut namespace = "";
    if let ["namespaces", name, _, ..] = rest[..] {
        namespace = name;
        rest.drain(..2);
    }
    let (plural, name) = (rest.first().copied().unwrap_or_default(), rest.get(1).copied());
    let of_kind = |id: &Id| id.group == group && id.resource().plural == plural;
    let selected = |object: &&Object| {
        labels
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .all(|(key, value)| object.label(key) == value)
    };
    let mut found = objects
        .iter()
        .filter(|object| of_kind(&object.id()))
        .filter(|object| namespace.is_empty() || object.namespace() == namespace);
    match name {
        None => {
            let items: Vec<&Value> = found.filter(selected).map(|object| &object.0).collect();
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
            (http::StatusCode::OK, list)
        }
        Some(name) => match found.find(|object| object.name() == name) {
            Some(object) => (http::StatusCode::OK, object.0.clone()),
            None => {
                let message = format!("{plural} {name:?} not found");
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": "NotFound", "code": 404});
                (http::StatusCode::NOT_FOUND, status)
            }
        },
    }
}

#[derive(Debug)]
struct Pods(Answers);

#[async_trait::async_trait]
impl Reach for Pods {
    async fn request(&self, to: &PodPort<'_>, _: &str, path: &str) -> Result<Bytes, ForwardError> {
        let path = path.split('?').next().unwrap_or_default();
        let of = |path: &str| self.0.get(&(to.pod.to_owned(), path.to_owned()));
        match of(path).or_else(|| of("")) {
            Some(body) => Ok(Bytes::from(body.clone())),
            None => Err(ForwardError::Connect {
                pod: to.pod.to_owned(),
                port: to.port,
                message: "the case gives no answer".to_owned(),
            }),
        }
    }
}
