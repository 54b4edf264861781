//! The Kubernetes API as installation needs it: objects as data, retries, readable errors.

mod attempts;

use std::time::Duration;

use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{ApiResource, Status};
use kube::{Client, Error};
use serde_json::Value;

use crate::object::{Id, Object};

pub use attempts::{Effect, Timeout};
use attempts::{Limits, is_transient};

/// How long an answer is waited for, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Objects per page of a list.
const PAGE: u32 = 500;
/// Most objects taken from one list: as many pods as Kubernetes supports in a cluster.
const MOST_LISTED: usize = 150_000;

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
    /// There was no answer in time.
    #[error("cannot {verb} {object}: {timeout}")]
    TimedOut {
        /// What was tried.
        verb: &'static str,
        /// On which object.
        object: String,
        /// For how long, and what that means.
        timeout: Timeout,
    },
    /// A part of a list would be taken for the whole.
    #[error("cannot list {kind}: there are more than {most}, the most that is read, and a part of them tells nothing")]
    TooMany {
        /// The kind.
        kind: String,
        /// Most objects that are read.
        most: usize,
    },
}

impl RequestError {
    /// Whether the object has changed since it was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    fn of(verb: &'static str, object: &str, error: Error) -> Self {
        let object = object.to_owned();
        if let Error::Service(cause) = &error
            && let Some(timeout) = cause.downcast_ref::<Timeout>()
        {
            let timeout = *timeout;
            return Self::TimedOut { verb, object, timeout };
        }
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
    limits: Limits,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// The API server behind a client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            limits: Limits(TIMEOUT),
        }
    }

    /// With another limit for each request, its repeats included. What admission decides on is given 40 s at least.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.limits = Limits(timeout);
        self
    }

    /// A request of another kind, once; the client is lent, so that nothing is asked without a limit.
    pub async fn ask<T>(
        &self,
        effect: Effect,
        request: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.limits.once(effect, request(self.client.clone())).await
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
        let request = || api.patch(&id.name, &parameters, &patch);
        let result = self.limits.repeat(effect(dry_run), again, request).await;
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
        let answer = self.limits.once(Effect::Tries, api.create(&parameters, &data)).await;
        answer.map(into_object).map_err(failed)
    }

    /// An object, or nothing if it is absent or its kind is.
    pub async fn get(&self, id: &Id) -> Result<Option<Object>, RequestError> {
        let api = self.api(&id.resource(), &id.namespace);
        let result = self.repeat(Effect::Reads, || api.get_opt(&id.name)).await;
        result
            .map(|found| found.map(into_object))
            .map_err(|error| RequestError::of("read", &id.path(), error))
    }

    /// All objects of a kind with these labels, in all namespaces unless one is given. An unknown kind has none.
    pub async fn list(&self, kind: &Id, selector: &str) -> Result<Vec<Object>, RequestError> {
        self.list_up_to(MOST_LISTED, kind, selector).await
    }

    async fn list_up_to(&self, most: usize, kind: &Id, selector: &str) -> Result<Vec<Object>, RequestError> {
        let api = self.api(&kind.resource(), &kind.namespace);
        let first = ListParams::default().labels(selector).limit(PAGE);
        let mut parameters = first.clone();
        let mut objects = Vec::new();
        let mut is_again = false;
        loop {
            let page = match self.repeat(Effect::Reads, || api.list(&parameters)).await {
                Ok(page) => page,
                Err(Error::Api(status)) if status.code == 404 => return Ok(objects),
                // The state of which this is a page is not kept any more: pages of two states are no list.
                Err(Error::Api(status)) if status.code == 410 && parameters.continue_token.is_some() && !is_again => {
                    is_again = true;
                    objects.clear();
                    parameters = first.clone();
                    continue;
                }
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
            if objects.len() > most || (objects.len() == most && next.is_some()) {
                return Err(RequestError::TooMany {
                    kind: kind.kind.clone(),
                    most,
                });
            }
            match next {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(objects),
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
        self.repeat(effect(dry_run), || api.create(&parameters, &data))
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
        self.repeat(effect(dry_run), || api.replace(&id.name, &parameters, &data))
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
        match self.repeat(Effect::Writes, || api.delete(&id.name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(RequestError::of("delete", &id.path(), error)),
        }
    }

    /// Repeats what the server is too busy for or not yet ready to do.
    async fn repeat<T, F>(&self, effect: Effect, request: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.limits.repeat(effect, is_transient, request).await
    }
}

fn effect(dry_run: bool) -> Effect {
    if dry_run { Effect::Tries } else { Effect::Writes }
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

#[cfg(test)]
mod tests;
