//! A Kubernetes API of a few lines for tests: objects by path, created once, replaced only at their version.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Objects by path of the API.
#[derive(Clone, Default)]
pub(crate) struct Api {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Api {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                let (code, value) = api.handle(
                    parts.method.as_str(),
                    parts.uri.path(),
                    serde_json::from_slice(&body).ok(),
                );
                let mut response = http::Response::new(Body::from(value.to_string().into_bytes()));
                *response.status_mut() = code;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }

    pub(crate) fn put(&self, path: &str, value: Value) {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), value);
    }

    fn handle(&self, method: &str, path: &str, body: Option<Value>) -> (http::StatusCode, Value) {
        use http::StatusCode as Code;
        let status = |code: Code, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": reason }),
            )
        };
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = body.unwrap_or(Value::Null);
        match method {
            "POST" => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
                if objects.contains_key(&path) {
                    return status(Code::CONFLICT, "AlreadyExists");
                }
                body["metadata"]["resourceVersion"] = "1".into();
                objects.insert(path, body.clone());
                (Code::CREATED, body)
            }
            "PUT" => {
                let Some(held) = objects.get(path) else {
                    return status(Code::NOT_FOUND, "NotFound");
                };
                let version = |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
                if version(held) != version(&body) {
                    return status(Code::CONFLICT, "Conflict");
                }
                let next = version(held).parse::<u64>().unwrap_or_default() + 1;
                body["metadata"]["resourceVersion"] = next.to_string().into();
                objects.insert(path.to_owned(), body.clone());
                (Code::OK, body)
            }
            _ => match objects.get(path) {
                Some(held) => (Code::OK, held.clone()),
                None => status(Code::NOT_FOUND, "NotFound"),
            },
        }
    }
}
