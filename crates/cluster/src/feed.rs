//! All watches as one stream of changes.
//!
//! Each kind is watched by its own task, which survives every error: it lists again with a growing pause. A relist
//! tells what disappeared meanwhile, so the receiver always converges on what the API has. Kinds the API does not
//! know (no custom resource definition yet) count as read and empty, and are tried again. That it does not know one is
//! believed when its discovery says so as well: an answer 404 alone may be somebody's on the way, and would take every
//! policy of the kind away.

mod told;

use std::collections::BTreeSet;

use futures::TryStreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::kinds::Watched;
use told::Told;

/// Something happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It exists and looks like this (`apiVersion` and `kind` included, `managedFields` left out).
    Apply(Value),
    /// It is gone.
    Delete {
        /// API group, empty for core kinds.
        group: String,
        /// Kind.
        kind: String,
        /// Namespace, empty for cluster-wide kinds.
        namespace: String,
        /// Name.
        name: String,
    },
    /// All objects of one of the kinds have been told once.
    Synced,
}

/// Changes that may wait for the receiver before the watches pause.
const WAITING: usize = 1024;

/// Starts a task per kind. The receiver gets [`Change::Synced`] exactly once for each kind; when it has got as many as
/// there are kinds, it knows everything.
pub fn start(client: &Client, kinds: Vec<Watched>) -> mpsc::Receiver<Change> {
    let (changes, receiver) = mpsc::channel(WAITING);
    for kind in kinds {
        tokio::spawn(
            Feed {
                kind,
                client: client.clone(),
                changes: changes.clone(),
                known: BTreeSet::new(),
                synced: false,
            }
            .run(),
        );
    }
    receiver
}

type Key = (String, String);

struct Feed {
    kind: Watched,
    client: Client,
    changes: mpsc::Sender<Change>,
    known: BTreeSet<Key>,
    synced: bool,
}

/// The receiver is gone; nothing is left to do.
struct Closed;

impl Feed {
    async fn run(mut self) {
        let mut backoff = Backoff::api();
        let mut streaming = true;
        loop {
            match self.watch(streaming, &mut backoff).await {
                Ok(()) | Err(Stop::Closed) => return,
                // With nothing to take away there is nothing to ask.
                Err(Stop::NotFound) if self.synced && self.known.is_empty() => {}
                Err(Stop::NotFound) => match self.is_served().await {
                    Ok(false) => {
                        if self.finish(BTreeSet::new()).await.is_err() {
                            return;
                        }
                    }
                    Ok(true) => {
                        let kind = &self.kind.resource.kind;
                        tracing::warn!(kind, "not found, but served; what is known stays, trying again");
                    }
                    Err(error) => {
                        let kind = &self.kind.resource.kind;
                        tracing::warn!(kind, %error, "not found, and discovery does not answer; what is known stays, trying again");
                    }
                },
                Err(Stop::Refused(_)) if streaming => {
                    streaming = false;
                    continue;
                }
                Err(Stop::Refused(error)) if self.kind.field_selector.is_some() => {
                    tracing::warn!(
                        kind = self.kind.resource.kind,
                        error,
                        "field selector refused; reading all objects"
                    );
                    self.kind.field_selector = None;
                    continue;
                }
                Err(Stop::Refused(error)) => {
                    tracing::warn!(kind = self.kind.resource.kind, error, "watch refused; trying again");
                }
                Err(Stop::Failed(error)) => {
                    tracing::warn!(kind = self.kind.resource.kind, %error, "watch failed; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = self.changes.closed() => return,
            }
        }
    }

    async fn watch(&mut self, streaming: bool, backoff: &mut Backoff) -> Result<(), Stop> {
        let api: Api<Told> = Api::all_with(self.client.clone(), &self.kind.resource);
        let mut config = watcher::Config {
            timeout: Some(WATCH_SECONDS),
            ..watcher::Config::default()
        };
        config.field_selector = self.kind.field_selector.map(str::to_owned);
        config.label_selector = self.kind.label_selector.map(str::to_owned);
        if streaming {
            config = config.streaming_lists();
        }
        let mut events = std::pin::pin!(watcher(api, config));
        let mut listed = BTreeSet::new();
        loop {
            let next = tokio::select! {
                next = events.try_next() => next,
                () = self.changes.closed() => return Err(Stop::Closed),
            };
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.classify(&error)),
            };
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(object) => {
                    listed.extend(key(&object));
                    self.apply(object).await?;
                }
                watcher::Event::InitDone => {
                    backoff.reset();
                    self.finish(std::mem::take(&mut listed)).await?;
                }
                watcher::Event::Apply(object) => {
                    backoff.reset();
                    self.apply(object).await?;
                }
                watcher::Event::Delete(object) => {
                    if let Some(key) = key(&object).filter(|key| self.known.remove(key)) {
                        self.delete(key).await?;
                    }
                }
            }
        }
    }

    /// Whether the API's discovery names the kind.
    async fn is_served(&self) -> kube::Result<bool> {
        let kind = &self.kind.resource;
        let groups = self.client.list_api_groups().await?.groups;
        let mut versions = groups
            .iter()
            .filter(|group| group.name == kind.group)
            .flat_map(|group| &group.versions);
        if !versions.any(|version| version.version == kind.version) {
            return Ok(false);
        }
        let served = self.client.list_api_group_resources(&kind.api_version).await?;
        Ok(served.resources.iter().any(|resource| resource.name == kind.plural))
    }

    fn classify(&self, error: &watcher::Error) -> Stop {
        let code = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
            watcher::Error::WatchError(status) => status.code,
            _ => 0,
        };
        match code {
            404 if self.kind.optional => Stop::NotFound,
            // An API server without streaming lists, or without this field selector, refuses the parameter.
            400 | 422 => Stop::Refused(error.to_string()),
            _ => Stop::Failed(error.to_string()),
        }
    }

    async fn apply(&mut self, object: Told) -> Result<(), Closed> {
        let kind = &self.kind.resource;
        let Some(key) = key(&object) else {
            let namespace = object.meta().namespace.as_deref();
            tracing::warn!(kind = kind.kind, namespace, "object left out: it has no name");
            return Ok(());
        };
        self.known.insert(key);
        self.send(Change::Apply(object.into_value(&kind.api_version, &kind.kind)))
            .await
    }

    /// A full list was seen: what it lacks is gone.
    async fn finish(&mut self, listed: BTreeSet<Key>) -> Result<(), Closed> {
        let gone: Vec<Key> = self.known.difference(&listed).cloned().collect();
        self.known = listed;
        for key in gone {
            self.delete(key).await?;
        }
        if !self.synced {
            self.synced = true;
            self.send(Change::Synced).await?;
        }
        Ok(())
    }

    async fn delete(&self, (namespace, name): Key) -> Result<(), Closed> {
        let (group, kind) = (self.kind.resource.group.clone(), self.kind.resource.kind.clone());
        self.send(Change::Delete {
            group,
            kind,
            namespace,
            name,
        })
        .await
    }

    async fn send(&self, change: Change) -> Result<(), Closed> {
        self.changes.send(change).await.map_err(|_| Closed)
    }
}

enum Stop {
    Closed,
    /// The API, or somebody on the way to it, knows no such kind.
    NotFound,
    Refused(String),
    Failed(String),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// `None` if it is nonsense: every object has a name.
fn key(object: &Told) -> Option<Key> {
    let meta = object.meta();
    Some((meta.namespace.clone().unwrap_or_default(), meta.name.clone()?))
}

/// Longest life of one watch request, in seconds; then it is opened again where it ended.
pub(crate) const WATCH_SECONDS: u32 = 240;

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
