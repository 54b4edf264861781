//! Reads, writes, watches.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Error,
    history::History,
    log::{Log, Record},
    watch::{Change, Event, QUEUE, Watch, Watcher},
};

/// Events kept for resuming watches.
const HISTORY: usize = 20_000;
/// Bytes of those, as JSON.
const HISTORY_BYTES: usize = 64 << 20;
/// Writes committed together at most.
const BATCH: usize = 512;

/// An object with the revision of its last write.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Key.
    pub key: String,
    /// Revision of the last write, also in `metadata.resourceVersion`.
    pub revision: u64,
    /// The object.
    pub value: Arc<Value>,
}

/// Objects of one prefix at one revision, in order of key.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The objects.
    pub items: Vec<Stored>,
    /// Revision the list is of.
    pub revision: u64,
}

/// What must be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The object with this revision.
    Revision(u64),
}

/// A write that is on disk.
#[derive(Debug, Clone)]
pub struct Written {
    /// Revision of the write.
    pub revision: u64,
    /// The object as stored, `metadata.resourceVersion` set; for a removal its last state.
    pub value: Arc<Value>,
}

struct Request {
    key: String,
    expect: Expect,
    /// `None` removes.
    value: Option<Value>,
    reply: oneshot::Sender<Result<Written, Error>>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, (u64, Arc<Value>)>,
    revision: u64,
    history: History,
    watchers: Vec<Watcher>,
}

/// The store; clones share it. The writer thread ends with the last clone.
#[derive(Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
    requests: mpsc::Sender<Request>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store in `directory` (created if absent; file `store.redb`).
    ///
    /// # Errors
    /// [`Error::Disk`] if the file cannot be opened, is in use by another process, or holds no JSON.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::disk)?;
        let (log, revision, loaded) = Log::open(&directory.join("store.redb"))?;
        let mut objects = BTreeMap::new();
        for (key, revision, json) in loaded {
            let value = serde_json::from_slice(&json).map_err(|error| Error::disk(format!("{key}: {error}")))?;
            objects.insert(key, (revision, Arc::new(value)));
        }
        // Revision 0 means "any" in the Kubernetes API, so the first object gets 2 and an empty store is at 1.
        let revision = revision.max(1);
        let state = Arc::new(RwLock::new(State {
            objects,
            revision,
            history: History::new(HISTORY, HISTORY_BYTES, revision),
            watchers: Vec::new(),
        }));
        let (requests, inbox) = mpsc::channel(4096);
        let writer = Writer {
            state: state.clone(),
            log,
            inbox,
        };
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(Error::disk)?;
        Ok(Self { state, requests })
    }

    /// Revision of the last write.
    pub fn revision(&self) -> u64 {
        read(&self.state).revision
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Stored> {
        let state = read(&self.state);
        let (revision, value) = state.objects.get(key)?;
        Some(Stored {
            key: key.to_owned(),
            revision: *revision,
            value: value.clone(),
        })
    }

    /// All objects whose key begins with `prefix`, now.
    pub fn list(&self, prefix: &str) -> Listing {
        let state = read(&self.state);
        Listing {
            items: state.range(prefix),
            revision: state.revision,
        }
    }

    /// All objects whose key begins with `prefix`, as they were at `revision`.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the history does not go back that far.
    pub fn list_at(&self, prefix: &str, revision: u64) -> Result<Listing, Error> {
        let state = read(&self.state);
        let mut items: BTreeMap<String, Stored> = state
            .range(prefix)
            .into_iter()
            .map(|stored| (stored.key.clone(), stored))
            .collect();
        for event in state
            .history
            .after(revision)?
            .rev()
            .filter(|event| event.key.starts_with(prefix))
        {
            match &event.previous {
                Some(previous) => {
                    let stored = Stored {
                        key: event.key.clone(),
                        revision: event.previous_revision,
                        value: previous.clone(),
                    };
                    items.insert(event.key.clone(), stored);
                }
                None => {
                    items.remove(&event.key);
                }
            }
        }
        Ok(Listing {
            items: items.into_values().collect(),
            revision,
        })
    }

    /// Writes an object; sets its `metadata.resourceVersion`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if `expect` does not hold, [`Error::Disk`] or [`Error::Closed`] if it cannot be stored.
    pub async fn put(&self, key: &str, expect: Expect, value: Value) -> Result<Written, Error> {
        self.request(key, expect, Some(value)).await
    }

    /// Removes an object.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn remove(&self, key: &str, expect: Expect) -> Result<Written, Error> {
        self.request(key, expect, None).await
    }

    async fn request(&self, key: &str, expect: Expect, value: Option<Value>) -> Result<Written, Error> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            key: key.to_owned(),
            expect,
            value,
            reply,
        };
        self.requests.send(request).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Watches `prefix` for everything after `revision`; `None` starts now.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the history does not go back that far.
    pub fn watch(&self, prefix: &str, revision: Option<u64>) -> Result<Watch, Error> {
        let mut state = write(&self.state);
        let backlog = state.backlog(prefix, revision)?;
        Ok(state.subscribe(prefix, backlog))
    }

    /// A list and a watch that begins exactly after it.
    pub fn list_and_watch(&self, prefix: &str) -> (Listing, Watch) {
        let mut state = write(&self.state);
        let listing = Listing {
            items: state.range(prefix),
            revision: state.revision,
        };
        (listing, state.subscribe(prefix, Vec::new()))
    }
}

impl State {
    fn range(&self, prefix: &str) -> Vec<Stored> {
        self.objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (revision, value))| Stored {
                key: key.clone(),
                revision: *revision,
                value: value.clone(),
            })
            .collect()
    }

    fn backlog(&self, prefix: &str, revision: Option<u64>) -> Result<Vec<Arc<Event>>, Error> {
        let Some(revision) = revision else {
            return Ok(Vec::new());
        };
        Ok(self
            .history
            .after(revision)?
            .filter(|event| event.key.starts_with(prefix))
            .cloned()
            .collect())
    }

    fn subscribe(&mut self, prefix: &str, backlog: Vec<Arc<Event>>) -> Watch {
        let (sender, live) = mpsc::channel(QUEUE);
        let waiting = Arc::default();
        self.watchers.push(Watcher {
            prefix: prefix.to_owned(),
            sender,
            waiting: Arc::clone(&waiting),
        });
        Watch {
            backlog: backlog.into_iter(),
            live,
            waiting,
            revision: self.revision,
        }
    }
}

/// The only writer: checks, commits, publishes.
struct Writer {
    state: Arc<RwLock<State>>,
    log: Log,
    inbox: mpsc::Receiver<Request>,
}

/// A checked write of a batch, not yet on disk.
struct Planned {
    event: Event,
    reply: oneshot::Sender<Result<Written, Error>>,
}

/// What becomes of a batch of requests.
struct Batch {
    planned: Vec<Planned>,
    /// Those that conflict with what the batch itself does, told once that is done.
    refused: Vec<(oneshot::Sender<Result<Written, Error>>, Error)>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        while self.inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
            let Batch { mut planned, refused } = self.plan(batch.drain(..));
            if planned.is_empty() {
                continue;
            }
            match self.commit(&mut planned) {
                Ok(()) => {
                    self.publish(planned);
                    for (reply, conflict) in refused {
                        let _ = reply.send(Err(conflict));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "a write could not be stored");
                    let refused = refused.into_iter().map(|(reply, _)| reply);
                    for reply in planned.into_iter().map(|one| one.reply).chain(refused) {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Checks each request against the state as the batch so far will leave it.
    fn plan(&self, batch: impl Iterator<Item = Request>) -> Batch {
        let state = read(&self.state);
        let mut revision = state.revision;
        let mut pending: BTreeMap<String, Option<(u64, Arc<Value>)>> = BTreeMap::new();
        let mut planned = Vec::new();
        let mut refused = Vec::new();
        for request in batch {
            let (is_pending, current) = match pending.get(&request.key) {
                Some(current) => (true, current.clone()),
                None => (false, state.objects.get(&request.key).cloned()),
            };
            let holds = match request.expect {
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current.as_ref().is_some_and(|(is, _)| *is == revision),
            };
            if !holds {
                let current = current.map(|(revision, value)| Stored {
                    key: request.key.clone(),
                    revision,
                    value,
                });
                let conflict = Error::Conflict {
                    key: request.key,
                    current,
                };
                if is_pending {
                    // Whoever is told looks what is there, and that is not to be seen before it is stored.
                    refused.push((request.reply, conflict));
                } else {
                    let _ = request.reply.send(Err(conflict));
                }
                continue;
            }
            let change = match (&current, &request.value) {
                (_, None) => Change::Deleted,
                (None, Some(_)) => Change::Added,
                (Some(_), Some(_)) => Change::Modified,
            };
            let Some(mut value) = request
                .value
                .or_else(|| current.as_ref().map(|(_, value)| Value::clone(value)))
            else {
                // Removing what must be absent: there is nothing to do or to tell.
                let _ = request.reply.send(Err(Error::Conflict {
                    key: request.key,
                    current: None,
                }));
                continue;
            };
            revision += 1;
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("resourceVersion".into(), revision.to_string().into());
            }
            let value = Arc::new(value);
            let after = (change != Change::Deleted).then(|| (revision, value.clone()));
            pending.insert(request.key.clone(), after);
            let (previous_revision, previous) = match current {
                Some((revision, value)) => (revision, Some(value)),
                None => (0, None),
            };
            let event = Event {
                revision,
                key: request.key,
                change,
                value,
                previous,
                previous_revision,
                // Known when it is encoded.
                size: 0,
            };
            planned.push(Planned {
                event,
                reply: request.reply,
            });
        }
        Batch { planned, refused }
    }

    fn commit(&self, planned: &mut [Planned]) -> Result<(), Error> {
        let mut records = Vec::with_capacity(planned.len());
        let mut last = 0;
        for Planned { event, .. } in planned {
            let json = serde_json::to_vec(&*event.value).map_err(Error::disk)?;
            event.size = json.len();
            records.push(Record {
                key: &event.key,
                revision: event.revision,
                json: (event.change != Change::Deleted).then_some(json),
            });
            last = event.revision;
        }
        self.log.commit(&records, last)
    }

    /// Makes committed writes visible, in order, then acknowledges them.
    fn publish(&self, planned: Vec<Planned>) {
        let mut replies = Vec::with_capacity(planned.len());
        let mut state = write(&self.state);
        for Planned { event, reply } in planned {
            state.revision = event.revision;
            replies.push((
                reply,
                Written {
                    revision: event.revision,
                    value: event.value.clone(),
                },
            ));
            match event.change {
                Change::Deleted => {
                    state.objects.remove(&event.key);
                }
                Change::Added | Change::Modified => {
                    state
                        .objects
                        .insert(event.key.clone(), (event.revision, event.value.clone()));
                }
            }
            let event = Arc::new(event);
            state.watchers.retain(|watcher| watcher.offer(&event));
            state.history.push(event);
        }
        drop(state);
        for (reply, written) in replies {
            let _ = reply.send(Ok(written));
        }
    }
}
