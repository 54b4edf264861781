//! The Kubernetes API as installation needs it: objects as data, retries, readable errors.

use std::time::Duration;

use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{ApiResource, Status};
use kube::{Client, Error};
use serde_json::Value;

use crate::object::{Id, Object};

/// Attempts of a request that the server says to repeat.
const ATTEMPTS: u32 = 6;
/// Objects per page of a list.
const PAGE: u32 = 500;
/// Most objects taken from one list.
const MOST_LISTED: usize = 100_000;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The API server refused.
    #[error("cannot {verb} {object}: {message}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// On which object.
        object: String,
        /// What the server said.
        message: String,
        /// HTTP status.
        code: u16,
    },
    /// There was no answer.
    #[error("cannot {verb} {object}: the API server does not answer: {message}")]
    Unreachable {
        /// What was tried.
        verb: &'static str,
        /// On which object.
        object: String,
        /// What went wrong.
        message: String,
    },
}

impl RequestError {
    /// Whether the object has changed since it was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    fn of(verb: &'static str, object: &str, error: Error) -> Self {
        let object = object.to_owned();
        match error {
            Error::Api(status) => Self::Refused {
                verb,
                object,
                code: status.code,
                message: said(&status),
            },
            other => Self::Unreachable {
                verb,
                object,
                message: root(&other),
            },
        }
    }
}

fn said(status: &Status) -> String {
    if status.message.is_empty() {
        format!("status {} {}", status.code, status.reason)
    } else {
        status.message.clone()
    }
}

/// The innermost cause, which is what a person can act on ("connection refused"); what the API server said, in its own
/// words.
pub fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<Box<Status>>() {
        Some(status) => said(status),
        None => innermost.to_string(),
    }
}

/// A cluster to install into.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// The API server behind a client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }

    /// Server-side apply as `manager`. Fields that others own are taken over. If the object carries no version, whoever
    /// makes or writes it at the same time is no reason to fail either.
    pub async fn apply(&self, object: &Object, manager: &str, dry_run: bool) -> Result<Object, RequestError> {
        let id = object.id();
        let api = self.api(&id.resource(), &id.namespace);
        let mut parameters = PatchParams::apply(manager).force();
        parameters.dry_run = dry_run;
        let patch = Patch::Apply(&object.0);
        let is_versioned = object.0.pointer("/metadata/resourceVersion").is_some();
        let again = |status: &Status| is_transient(status) || (status.code == 409 && !is_versioned);
        let result = repeat_if(again, || api.patch(&id.name, &parameters, &patch)).await;
        result
            .map(into_object)
            .map_err(|error| RequestError::of("apply", &id.path(), error))
    }

    /// Asks whether an object could be made, and what admission would make of it. Asked once, whatever the answer.
    pub async fn try_create(&self, object: &Object) -> Result<Object, RequestError> {
        let id = object.id();
        let failed = |error| RequestError::of("try", &id.path(), error);
        let api = self.api(&id.resource(), &id.namespace);
        let data: DynamicObject = serde_json::from_value(object.0.clone()).map_err(|e| failed(Error::SerdeError(e)))?;
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        api.create(&parameters, &data).await.map(into_object).map_err(failed)
    }

    /// An object, or nothing if it is absent or its kind is.
    pub async fn get(&self, id: &Id) -> Result<Option<Object>, RequestError> {
        let api = self.api(&id.resource(), &id.namespace);
        let result = repeat(|| api.get_opt(&id.name)).await;
        result
            .map(|found| found.map(into_object))
            .map_err(|error| RequestError::of("read", &id.path(), error))
    }

    /// All objects of a kind with these labels, in all namespaces unless one is given. An unknown kind has none.
    pub async fn list(&self, kind: &Id, selector: &str) -> Result<Vec<Object>, RequestError> {
        let api = self.api(&kind.resource(), &kind.namespace);
        let mut parameters = ListParams::default().labels(selector).limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let page = match repeat(|| api.list(&parameters)).await {
                Ok(page) => page,
                Err(Error::Api(status)) if status.code == 404 => return Ok(objects),
                Err(error) => return Err(RequestError::of("list", &kind.kind, error)),
            };
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            objects.extend(page.items.into_iter().map(|item| {
                let mut object = into_object(item);
                // Items of a list carry no type.
                object.0["apiVersion"] = version(kind).into();
                object.0["kind"] = kind.kind.clone().into();
                object
            }));
            match next {
                Some(token) if objects.len() < MOST_LISTED => parameters.continue_token = Some(token),
                _ => return Ok(objects),
            }
        }
    }

    /// Makes an object; refused if one of its name is there.
    pub async fn create(&self, object: &Object, manager: &str, dry_run: bool) -> Result<(), RequestError> {
        let id = object.id();
        let failed = |error| RequestError::of("create", &id.path(), error);
        let api = self.api(&id.resource(), &id.namespace);
        let data: DynamicObject = serde_json::from_value(object.0.clone()).map_err(|e| failed(Error::SerdeError(e)))?;
        let parameters = PostParams {
            field_manager: Some(manager.to_owned()),
            dry_run,
        };
        repeat(|| api.create(&parameters, &data))
            .await
            .map(|_| ())
            .map_err(failed)
    }

    /// Replaces an object; refused if it changed since it was read.
    pub async fn replace(&self, object: &Object, manager: &str, dry_run: bool) -> Result<(), RequestError> {
        let id = object.id();
        let failed = |error| RequestError::of("update", &id.path(), error);
        let api = self.api(&id.resource(), &id.namespace);
        let data: DynamicObject = serde_json::from_value(object.0.clone()).map_err(|e| failed(Error::SerdeError(e)))?;
        let parameters = PostParams {
            field_manager: Some(manager.to_owned()),
            dry_run,
        };
        repeat(|| api.replace(&id.name, &parameters, &data))
            .await
            .map(|_| ())
            .map_err(failed)
    }

    /// Deletes an object. Tells whether it was there. A workload goes after its pods; anything else goes at once, so that
    /// a webhook is not called any more, and the same command again does not find it.
    pub async fn delete(&self, id: &Id) -> Result<bool, RequestError> {
        self.delete_if(id, None).await
    }

    /// Deletes an object that was read, as [`Self::delete`] does; refused if another one has its name meanwhile or, with
    /// `unchanged`, if it was written since.
    pub async fn delete_read(&self, object: &Object, unchanged: bool) -> Result<bool, RequestError> {
        let text = |pointer| {
            Some(object.text(pointer))
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let preconditions = Preconditions {
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion").filter(|_| unchanged),
        };
        self.delete_if(&object.id(), Some(preconditions)).await
    }

    async fn delete_if(&self, id: &Id, preconditions: Option<Preconditions>) -> Result<bool, RequestError> {
        let api = self.api(&id.resource(), &id.namespace);
        let parameters = DeleteParams {
            propagation_policy: Some(match id.group.as_str() {
                "apps" => PropagationPolicy::Foreground,
                _ => PropagationPolicy::Background,
            }),
            preconditions,
            ..DeleteParams::default()
        };
        match repeat(|| api.delete(&id.name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(RequestError::of("delete", &id.path(), error)),
        }
    }
}

/// A kind in all namespaces, for [`ApiServer::list`].
pub fn kind(group: &str, version: &str, kind: &str) -> Id {
    Id {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: String::new(),
        name: String::new(),
    }
}

fn version(id: &Id) -> String {
    if id.group.is_empty() {
        id.version.clone()
    } else {
        format!("{}/{}", id.group, id.version)
    }
}

fn into_object(object: DynamicObject) -> Object {
    Object(serde_json::to_value(object).unwrap_or(Value::Null))
}

/// Repeats what the server is too busy for or not yet ready to do.
async fn repeat<T, F>(request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    repeat_if(is_transient, request).await
}

async fn repeat_if<T, F>(again: impl Fn(&Status) -> bool, mut request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempt = 0;
    loop {
        attempt += 1;
        match request().await {
            Err(Error::Api(status)) if attempt < ATTEMPTS && again(&status) => {
                tracing::debug!(attempt, %status, "repeating");
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            result => return result,
        }
    }
}

fn is_transient(status: &Status) -> bool {
    match status.code {
        429 | 503 | 504 => true,
        // A CRD that was just established, or a webhook whose server is starting.
        500 => status.message.contains("failed calling webhook"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_said_is_passed_on_without_what_surrounds_it() {
        let status = |message: &str| Status {
            message: message.to_owned(),
            reason: "BadRequest".to_owned(),
            code: 400,
            ..Status::default()
        };
        let told = |message: &str| root(&Error::Api(Box::new(status(message))));
        assert_eq!(told("the pod is waiting to start"), "the pod is waiting to start");
        assert_eq!(told(""), "status 400 BadRequest");
    }

    /// An API server that answers 409 a number of times, and then with the object.
    async fn check(object: Value, conflicts: u32, expected: bool, requests: u32) {
        let seen = Arc::new(AtomicU32::new(0));
        let (counter, answer) = (seen.clone(), object.clone());
        let service = tower::service_fn(move |_: Request<Body>| {
            let conflict = counter.fetch_add(1, Ordering::Relaxed) < conflicts;
            let (code, body) = if conflict {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": "AlreadyExists", "code": 409, "message": "services \"istiod\" already exists"});
                (409, status)
            } else {
                (200, answer.clone())
            };
            let response = Response::builder()
                .status(code)
                .body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(response.unwrap()) }
        });
        let server = ApiServer::new(Client::new(service, "default"));
        let applied = server.apply(&Object(object), "test", false).await;
        assert_eq!(applied.is_ok(), expected, "{applied:?}");
        assert_eq!(seen.load(Ordering::Relaxed), requests);
    }

    #[tokio::test(start_paused = true)]
    async fn who_applies_at_the_same_time_is_waited_for() {
        let service = |version: Option<&str>| {
            let mut object =
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "istiod", "namespace": "a"}});
            if let Some(version) = version {
                object["metadata"]["resourceVersion"] = version.into();
            }
            object
        };
        check(service(None), 0, true, 1).await;
        check(service(None), 2, true, 3).await;
        check(service(None), 100, false, ATTEMPTS).await;
        // Who names a version means that one and no other.
        check(service(Some("7")), 1, false, 1).await;
    }
}
