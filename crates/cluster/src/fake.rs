//! A Kubernetes API of a few lines for tests: objects by path, created once, replaced only at their version, listed and
//! watched; and what can go wrong with one.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode as Code;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The API.
#[derive(Clone, Default)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<u64>>,
    /// Raised to end all watches.
    cut: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// Versions before this one are forgotten.
    oldest: u64,
    objects: BTreeMap<String, Value>,
    log: Vec<(u64, &'static str, String, Value)>,
    /// Paths of collections that are not served.
    absent: BTreeSet<String>,
    /// Paths of collections that are served, and answered by 404.
    lost: BTreeSet<String>,
    /// What begins with one of these paths may not be written.
    refused: BTreeSet<String>,
    /// Whether all of discovery is answered by 404.
    undiscovered: bool,
    writes: Vec<Write>,
}

/// A write by a client that was applied.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) path: String,
    /// Whether the object is what it was before but for its version.
    pub(crate) changes_nothing: bool,
}

/// What is wrong with one client's connection.
#[derive(Clone, Default)]
pub(crate) struct Line {
    /// Every request fails.
    pub(crate) down: Arc<AtomicBool>,
    /// Writes are done, and answered by an error.
    pub(crate) lossy: Arc<AtomicBool>,
    /// Writes are not done, and never answered.
    pub(crate) stuck: Arc<AtomicBool>,
    /// Which of these an object's replacement has met; of `lossy`, only one that was done.
    met: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Line {
    /// Nothing is wrong any more.
    pub(crate) fn mend(&self) {
        for fault in [&self.down, &self.lossy, &self.stuck] {
            fault.store(false, Relaxed);
        }
    }

    fn meets(&self, fault: &'static str, method: &http::Method) {
        if method == http::Method::PUT {
            self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(fault);
        }
    }

    /// What replacements of objects have met.
    pub(crate) fn met(&self) -> Vec<&'static str> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.iter().copied().collect()
    }
}

/// A name, or all objects, of a kind.
enum Path {
    Object,
    Collection,
}

fn kind_of(path: &str) -> Path {
    let skip = if path.starts_with("/api/") { 3 } else { 4 };
    match path.split('/').skip(skip).count() {
        1 | 3 => Path::Collection,
        _ => Path::Object,
    }
}

/// Whether the object's path lies in the collection, which may span all namespaces.
fn lies_in(object: &str, collection: &str) -> bool {
    let Some((own, _)) = object.rsplit_once('/') else {
        return false;
    };
    let across = own
        .split_once("/namespaces/")
        .and_then(|(head, rest)| Some((head, rest.split_once('/')?.1)));
    own == collection || across.is_some_and(|(head, plural)| format!("{head}/{plural}") == collection)
}

/// Whether the selectors of a query, all of the form `key=value`, let the object through.
fn selected(query: &BTreeMap<String, String>, object: &Value) -> bool {
    let read = |parameter: &str, key: &str| match parameter {
        "labelSelector" => object["metadata"]["labels"][key].as_str().map(str::to_owned),
        _ => object
            .pointer(&format!("/{}", key.replace('.', "/")))
            .and_then(Value::as_str)
            .map(str::to_owned),
    };
    ["labelSelector", "fieldSelector"].iter().all(|parameter| {
        let terms = query.get(*parameter).map_or("", String::as_str).split(',');
        let mut terms = terms
            .filter_map(|term| term.split_once('='))
            .filter(|(key, _)| !key.ends_with('!'));
        terms.all(|(key, value)| read(parameter, key).as_deref() == Some(value))
    })
}

fn query(uri: &http::Uri) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        text.replace("%3D", "=")
            .replace("%2F", "/")
            .replace("%21", "!")
            .replace("%2C", ",")
            .replace('+', " ")
    };
    let pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

fn status(code: Code, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
        "code": code.as_u16(),
    })
}

impl State {
    fn is_not_found(&self, collection: &str) -> bool {
        self.absent.contains(collection) || self.lost.contains(collection)
    }
}

type Answer = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

fn respond(code: Code, value: &Value) -> Answer {
    let mut response = http::Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = code;
    response
}

impl Api {
    pub(crate) fn client(&self) -> Client {
        self.client_on(Line::default())
    }

    pub(crate) fn client_on(&self, line: Line) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (api, line) = (api.clone(), line.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                if line.down.load(Relaxed) {
                    line.meets("down", &parts.method);
                    return Ok(respond(
                        Code::SERVICE_UNAVAILABLE,
                        &status(Code::SERVICE_UNAVAILABLE, "down"),
                    ));
                }
                if line.stuck.load(Relaxed) && parts.method != http::Method::GET {
                    line.meets("stuck", &parts.method);
                    return std::future::pending().await;
                }
                let answer = api.handle(&parts, serde_json::from_slice(&body).unwrap_or(Value::Null));
                if line.lossy.load(Relaxed) && parts.method != http::Method::GET {
                    if answer.status().is_success() {
                        line.meets("lossy", &parts.method);
                    }
                    return Ok(respond(
                        Code::INTERNAL_SERVER_ERROR,
                        &status(Code::INTERNAL_SERVER_ERROR, "lost"),
                    ));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// Puts an object there as somebody else would.
    pub(crate) fn put(&self, path: &str, value: Value) -> Value {
        self.store(path, value)
    }

    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.state();
        let Some(gone) = state.objects.remove(path) else { return };
        state.version += 1;
        let version = state.version;
        state.log.push((version, "DELETED", path.to_owned(), gone));
        drop(state);
        self.version.send_replace(version);
    }

    /// A kind is not served, or is from now on.
    pub(crate) fn serves(&self, collection: &str, served: bool) {
        let mut state = self.state();
        if served {
            state.absent.remove(collection);
        } else {
            state.absent.insert(collection.to_owned());
        }
    }

    /// A kind is answered by 404 although it is served, as by a proxy that knows it not, or no longer.
    pub(crate) fn loses(&self, collection: &str, lost: bool) {
        let mut state = self.state();
        if lost {
            state.lost.insert(collection.to_owned());
        } else {
            state.lost.remove(collection);
        }
    }

    /// What begins with this path may not be written, or may again.
    pub(crate) fn refuses(&self, path: &str, refused: bool) {
        let mut state = self.state();
        if refused {
            state.refused.insert(path.to_owned());
        } else {
            state.refused.remove(path);
        }
    }

    /// What is served is told to nobody, or again.
    pub(crate) fn hides_discovery(&self, hidden: bool) {
        self.state().undiscovered = hidden;
    }

    /// Ends all watches; with `forget`, they cannot go on where they ended.
    pub(crate) fn cut_watches(&self, forget: bool) {
        if forget {
            let mut state = self.state();
            state.version += 1;
            state.oldest = state.version;
        }
        self.cut.send_modify(|cut| *cut += 1);
    }

    /// Takes what clients wrote since the last time.
    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state().writes)
    }

    /// Paths of all objects with this beginning.
    pub(crate) fn paths(&self, prefix: &str) -> Vec<String> {
        self.state()
            .objects
            .keys()
            .filter(|path| path.starts_with(prefix))
            .cloned()
            .collect()
    }

    fn store(&self, path: &str, mut value: Value) -> Value {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let inside = path
            .split_once("/namespaces/")
            .and_then(|(_, rest)| rest.split_once('/'));
        if let Some((namespace, _)) = inside {
            value["metadata"]["namespace"] = namespace.into();
        }
        let event = if state.objects.insert(path.to_owned(), value.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.log.push((version, event, path.to_owned(), value.clone()));
        drop(state);
        self.version.send_replace(version);
        value
    }

    fn handle(&self, parts: &http::request::Parts, body: Value) -> Answer {
        let (path, query) = (parts.uri.path(), query(&parts.uri));
        let fail = |code: Code, reason: &str| respond(code, &status(code, reason));
        let held = self.get(path);
        match (parts.method.as_str(), kind_of(path)) {
            ("GET", _) if path == "/apis" || path.starts_with("/apis/") && path.matches('/').count() == 3 => self
                .discover(path)
                .map_or_else(|| fail(Code::NOT_FOUND, "NotFound"), |told| respond(Code::OK, &told)),
            ("GET", Path::Collection) if self.state().is_not_found(path) => fail(Code::NOT_FOUND, "NotFound"),
            // Not every API server knows lists that are streams.
            ("GET", Path::Collection) if query.contains_key("sendInitialEvents") => {
                fail(Code::BAD_REQUEST, "BadRequest")
            }
            ("GET", Path::Collection) if query.contains_key("watch") => self.watch(path.to_owned(), query),
            ("GET", Path::Collection) => respond(Code::OK, &self.list(path, &query)),
            ("POST" | "PUT" | "PATCH", _) if self.state().refused.iter().any(|prefix| path.starts_with(prefix)) => {
                fail(Code::FORBIDDEN, "admission webhook denied the request")
            }
            ("GET", Path::Object) => held.map_or_else(|| fail(Code::NOT_FOUND, "NotFound"), |o| respond(Code::OK, &o)),
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
                if self.get(&path).is_some() {
                    return fail(Code::CONFLICT, "AlreadyExists");
                }
                respond(Code::CREATED, &self.write(&path, body, None))
            }
            ("PUT" | "PATCH", _) => {
                let Some(held) = held else {
                    return fail(Code::NOT_FOUND, "NotFound");
                };
                let version = |value: &Value| value["metadata"]["resourceVersion"].clone();
                if parts.method == http::Method::PUT && version(&held) != version(&body) {
                    return fail(Code::CONFLICT, "Conflict");
                }
                respond(Code::OK, &self.write(path, body, Some(held)))
            }
            _ => fail(Code::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    /// Groups, or the kinds of one: those that are watched and not absent.
    fn discover(&self, path: &str) -> Option<Value> {
        let state = self.state();
        if state.undiscovered {
            return None;
        }
        let collection = |kind: &ApiResource| format!("/apis/{}/{}", kind.api_version, kind.plural);
        let kinds = crate::kinds::watched().into_iter().map(|watched| watched.resource);
        let served: Vec<_> = kinds.filter(|kind| !state.absent.contains(&collection(kind))).collect();
        if path == "/apis" {
            let groups: BTreeSet<_> = served
                .iter()
                .map(|kind| (&*kind.group, &*kind.api_version, &*kind.version))
                .collect();
            let groups = groups.iter().map(|(name, group_version, version)| {
                let version = json!({ "groupVersion": group_version, "version": version });
                json!({ "name": name, "versions": [version], "preferredVersion": version })
            });
            return Some(json!({ "kind": "APIGroupList", "groups": groups.collect::<Vec<_>>() }));
        }
        let group_version = path.strip_prefix("/apis/")?;
        let resources = served.iter().filter(|kind| kind.api_version == group_version).map(|kind| {
            json!({ "name": kind.plural, "singularName": "", "kind": kind.kind, "namespaced": true, "verbs": ["watch"] })
        });
        let resources: Vec<_> = resources.collect();
        (!resources.is_empty())
            .then(|| json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources }))
    }

    fn write(&self, path: &str, body: Value, before: Option<Value>) -> Value {
        let written = self.store(path, body);
        let content = |mut value: Value| {
            value["metadata"]["resourceVersion"] = Value::Null;
            value
        };
        let changes_nothing = before.is_some_and(|before| content(before) == content(written.clone()));
        self.state().writes.push(Write {
            path: path.to_owned(),
            changes_nothing,
        });
        written
    }

    fn list(&self, collection: &str, query: &BTreeMap<String, String>) -> Value {
        let state = self.state();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(path, object)| lies_in(path, collection) && selected(query, object))
            .map(|(_, object)| object)
            .collect();
        let version = state.version.to_string();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items })
    }

    fn watch(&self, collection: String, query: BTreeMap<String, String>) -> Answer {
        let from: u64 = query
            .get("resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or_default();
        if from < self.state().oldest {
            return respond(Code::GONE, &status(Code::GONE, "Expired"));
        }
        let seconds = query.get("timeoutSeconds").and_then(|v| v.parse().ok()).unwrap_or(300);
        let mut cut = self.cut.subscribe();
        let end = async move {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
                _ = cut.changed() => {}
            }
        };
        let events = self.events(collection, query, from).take_until(Box::pin(end));
        let frames = events.map(|line| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line))));
        http::Response::new(StreamBody::new(frames).boxed_unsync())
    }

    /// Lines of a watch, for ever.
    fn events(
        &self,
        collection: String,
        query: BTreeMap<String, String>,
        from: u64,
    ) -> impl Stream<Item = String> + use<> {
        let (api, versions) = (self.clone(), self.version.subscribe());
        futures::stream::unfold((api, versions, from), move |(api, mut versions, seen)| {
            let (collection, query) = (collection.clone(), query.clone());
            async move {
                loop {
                    versions.borrow_and_update();
                    let next = {
                        let state = api.state();
                        let mut later = state.log.iter().filter(|(version, ..)| *version > seen);
                        let fits = |entry: &&(u64, &str, String, Value)| {
                            lies_in(&entry.2, &collection) && selected(&query, &entry.3)
                        };
                        later.find(fits).cloned()
                    };
                    if let Some((version, kind, _, object)) = next {
                        let line = format!("{}\n", json!({ "type": kind, "object": object }));
                        return Some((line, (api, versions, version)));
                    }
                    if versions.changed().await.is_err() {
                        return None;
                    }
                }
            }
        })
    }
}
