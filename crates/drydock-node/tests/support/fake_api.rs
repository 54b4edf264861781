//! As much of an API server as a node talks to: list, watch, get, create, merge patch, delete, tokens.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

type Store = BTreeMap<(String, String), Value>;

/// Objects by (resource, name): one namespace is enough here.
#[derive(Clone)]
pub struct FakeApi {
    store: Arc<Mutex<(Store, u64)>>,
    changes: broadcast::Sender<(String, Value)>,
}

impl FakeApi {
    pub fn new() -> Self {
        Self {
            store: Arc::default(),
            changes: broadcast::channel(4096).0,
        }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.store
            .lock()
            .unwrap()
            .0
            .get(&(resource.into(), name.into()))
            .cloned()
    }

    pub fn create(&self, resource: &str, object: Value) -> Value {
        self.put(resource, object, "ADDED")
    }

    pub fn events(&self) -> Vec<String> {
        let store = self.store.lock().unwrap();
        store
            .0
            .iter()
            .filter(|(k, _)| k.0 == "events")
            .map(|(_, e)| format!("{} {} {}", e["involvedObject"]["name"], e["reason"], e["message"]))
            .collect()
    }

    /// Merges into an object; `null` removes.
    pub fn patch(&self, resource: &str, name: &str, patch: &Value) -> Option<Value> {
        let mut object = self.get(resource, name)?;
        merge(&mut object, patch);
        Some(self.put(resource, object, "MODIFIED"))
    }

    /// What the API server does on `kubectl delete pod`.
    pub fn delete_pod(&self, name: &str, grace: i64) {
        self.patch(
            "pods",
            name,
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}}),
        );
    }

    /// Removes at once.
    pub fn remove(&self, resource: &str, name: &str) -> Option<Value> {
        let object = self.store.lock().unwrap().0.remove(&(resource.into(), name.into()))?;
        let _ = self
            .changes
            .send((resource.into(), json!({"type": "DELETED", "object": object})));
        Some(object)
    }

    fn put(&self, resource: &str, mut object: Value, kind: &str) -> Value {
        let mut store = self.store.lock().unwrap();
        store.1 += 1;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
        object["metadata"]["resourceVersion"] = json!(store.1.to_string());
        if object["metadata"].get("uid").is_none() {
            object["metadata"]["uid"] = json!(format!("uid-{name}-{}", store.1));
        }
        store.0.insert((resource.into(), name), object.clone());
        let _ = self
            .changes
            .send((resource.into(), json!({"type": kind, "object": object})));
        object
    }

    async fn answer(
        &self,
        request: Request<Body>,
    ) -> Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body: Value =
            serde_json::from_slice(&body.collect().await.map(|b| b.to_bytes()).unwrap_or_default()).unwrap_or_default();
        let mut path: Vec<&str> = parts.uri.path().split('/').filter(|p| !p.is_empty()).collect();
        path.drain(..if path[0] == "api" { 2 } else { 3 });
        if path[0] == "namespaces" && path.len() > 2 {
            path.drain(..2);
        }
        let (resource, name, sub) = (path[0], path.get(1).copied(), path.get(2).copied());
        let query = parts.uri.query().unwrap_or_default();
        if parts.method == Method::GET && query.contains("watch=true") {
            let store = self.store.lock().unwrap();
            let receiver = self.changes.subscribe();
            let resource = resource.to_string();
            // What changed between the list and this watch.
            let since: u64 = query
                .split("resourceVersion=")
                .nth(1)
                .and_then(|v| v.split('&').next()?.parse().ok())
                .unwrap_or(0);
            let newer = |o: &&Value| {
                o["metadata"]["resourceVersion"]
                    .as_str()
                    .and_then(|v| v.parse::<u64>().ok())
                    .is_some_and(|v| v > since)
            };
            let missed: Vec<_> = store
                .0
                .iter()
                .filter(|(k, _)| k.0 == resource)
                .map(|(_, o)| o)
                .filter(newer)
                .map(|o| {
                    Ok(Frame::data(Bytes::from(format!(
                        "{}\n",
                        json!({"type": "MODIFIED", "object": o})
                    ))))
                })
                .collect();
            drop(store);
            let lines = stream::unfold((receiver, resource), |(mut receiver, resource)| async move {
                loop {
                    let (of, event) = receiver.recv().await.ok()?;
                    if of == resource {
                        return Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), (receiver, resource)));
                    }
                }
            });
            return Response::new(StreamBody::new(stream::iter(missed).chain(lines)).boxed_unsync());
        }
        let answer = match (&parts.method, name, sub) {
            (&Method::GET, None, _) => {
                let store = self.store.lock().unwrap();
                let items: Vec<&Value> = store
                    .0
                    .iter()
                    .filter(|(k, _)| k.0 == resource)
                    .map(|(_, v)| v)
                    .collect();
                Some(
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": store.1.to_string()}, "items": items}),
                )
            }
            (&Method::GET, Some(name), _) => self.get(resource, name),
            (&Method::POST, _, Some("token")) => Some(
                json!({"metadata": {}, "spec": {"audiences": []}, "status": {"token": "a-token", "expirationTimestamp": "2099-01-01T00:00:00Z"}}),
            ),
            (&Method::POST, _, _) if resource == "tokenreviews" => Some(review(&body)),
            (&Method::POST, _, _) => Some(self.create(resource, body)),
            (&Method::PATCH, Some(name), _) => self.patch(resource, name, &body),
            (&Method::DELETE, Some(name), _) => match self.get(resource, name) {
                // What a finalizer holds is only marked.
                Some(object) if object["metadata"].get("finalizers").is_some() => {
                    self.patch(resource, name, &json!({"metadata": {"deletionGracePeriodSeconds": 0}}))
                }
                _ => self.remove(resource, name),
            },
            _ => None,
        };
        let (code, value) = match answer {
            Some(value) => (StatusCode::OK, value),
            None => (
                StatusCode::NOT_FOUND,
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"}),
            ),
        };
        let mut response = Response::new(http_body_util::Full::new(Bytes::from(value.to_string())).boxed_unsync());
        *response.status_mut() = code;
        response
    }
}

/// Two tokens are good; one is a master's.
fn review(request: &Value) -> Value {
    let status = match request["spec"]["token"].as_str() {
        Some("root") => json!({"authenticated": true, "user": {"username": "root", "groups": ["system:masters"]}}),
        Some("somebody") => json!({"authenticated": true, "user": {"username": "somebody"}}),
        _ => json!({"authenticated": false}),
    };
    json!({"metadata": {}, "spec": {}, "status": status})
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
