//! Changes in, views out: the mesh, its translation, and one view per class of connected proxies.
//!
//! One thread takes changes as they come. The first after quiet is worked on at once; what follows it closely is
//! gathered for a moment, because many small pushes cost far more than few. A view is replaced, and its streams woken,
//! only if one of its sets is a different one.
//!
//! Another thread makes the views of classes that nobody was in before (see [`Followers`]). It makes them beside the
//! first, so that no push waits for a class that takes long, and no stream that is served waits for either.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ads::View;
use cluster::feed::Change;
use mesh::{Event, Key, Kind, Mesh, Object, Snapshot, Update};
use revision::webhook::REVISION_KEY;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::followers::{Followers, lock};
use crate::handover::{Kept, Verdict};
use crate::sets::Translate;

/// Largest batch of changes worked on at once.
const BATCH: usize = 10_000;
/// Shortest time between the beginnings of two batches. A proxy that is told of changes a dozen times a second knows
/// soon enough, and a push costs the same for one change as for ten.
const PACE: Duration = Duration::from_millis(80);
/// How long the first reading is gathered before each batch: nobody is served yet, and batches of one object each would
/// copy the mesh's lists as often as there are objects.
const FIRST: Duration = Duration::from_millis(20);
/// How long nothing comes before streams that left are looked for.
const IDLE: Duration = Duration::from_secs(10);

/// What the engine is told.
#[derive(Debug)]
pub enum Message {
    /// Something happened to an object.
    Change(Change),
    /// An object is this; whoever tells it has read it already.
    Object(Object),
    /// The mesh configuration is this.
    MeshConfig(Box<api::mesh_config::MeshConfig>),
}

/// Counts for the metrics page.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches worked on.
    pub batches: AtomicU64,
    /// Events of Kubernetes' own kinds.
    pub registry_events: AtomicU64,
    /// Events of Istio's kinds.
    pub config_events: AtomicU64,
    /// Objects that could not be read.
    pub unreadable: AtomicU64,
    /// Microseconds spent on batches.
    pub busy_micros: AtomicU64,
}

/// The engine; shared by all streams.
#[derive(Debug)]
pub struct Engine<T: Translate> {
    mesh: Mutex<Mesh>,
    followers: Followers<T>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    ready: AtomicBool,
    /// What stays here although it is another revision's.
    pub kept: Kept,
    /// Counts.
    pub counters: Counters,
}

impl<T: Translate> Engine<T> {
    /// An engine that knows nothing yet.
    pub fn new(mesh: Mesh, translate: T) -> Arc<Self> {
        let snapshot = mesh.snapshot();
        Arc::new(Self {
            mesh: Mutex::new(mesh),
            followers: Followers::new(translate),
            snapshot: watch::Sender::new(snapshot),
            ready: AtomicBool::new(false),
            kept: Kept::default(),
            counters: Counters::default(),
        })
    }

    /// The mesh as it is.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Whether everything was read once, and the end has not come; before and after that nobody is served.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.followers.are_closed()
    }

    /// What a proxy is owed, as soon as it is made, and from then on. Only changes that touch it wake the receiver.
    pub fn follow(&self, proxy: T::Proxy) -> watch::Receiver<Option<Arc<View>>> {
        self.followers.add(proxy)
    }

    /// Number of classes of connected proxies.
    pub fn classes(&self) -> usize {
        self.followers.classes()
    }

    /// Ends all streams, for good.
    pub fn close(&self) {
        self.followers.close();
    }

    /// Works on messages until there are no more senders, and makes views until the engine is closed, on threads of
    /// their own. Nobody is served before `sources` times [`Change::Synced`] was told.
    pub fn run(
        self: &Arc<Self>,
        messages: mpsc::Receiver<Message>,
        own: String,
        sources: usize,
        gather: Duration,
    ) -> std::io::Result<()> {
        let engine = self.clone();
        let work = move || engine.take_messages(messages, &own, sources, gather);
        std::thread::Builder::new().name("mesh".to_owned()).spawn(work)?;
        let engine = self.clone();
        let work = move || while engine.followers.work(IDLE) {};
        std::thread::Builder::new().name("classes".to_owned()).spawn(work)?;
        Ok(())
    }

    fn take_messages(&self, mut messages: mpsc::Receiver<Message>, own: &str, sources: usize, gather: Duration) {
        let mut unsynced = sources;
        let mut last: Option<Instant> = None;
        let mut whole = true;
        while let Some(first) = messages.blocking_recv() {
            let started = SystemTime::now();
            let rest = if self.is_ready() {
                let rest = last.map_or(Duration::ZERO, |last| PACE.saturating_sub(last.elapsed()));
                rest.max(gather)
            } else {
                FIRST
            };
            std::thread::sleep(rest);
            last = Some(Instant::now());
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(next) = messages.try_recv() else { break };
                batch.push(next);
            }
            let synced = batch
                .iter()
                .filter(|m| matches!(m, Message::Change(Change::Synced)))
                .count();
            unsynced = unsynced.saturating_sub(synced);
            let events = batch
                .into_iter()
                .filter_map(|message| self.event(message, own))
                .collect();
            whole &= self.take(events, started);
            if unsynced == 0 && whole && !self.ready.swap(true, Relaxed) {
                self.kept.forget_absent(&self.snapshot());
                tracing::info!("everything was read once; serving");
            }
        }
    }

    /// Works on a batch; `false` if the mesh is not what the events say. A mistake in a translation must not stop all
    /// later changes, nor keep anything of before.
    fn take(&self, events: Vec<Event>, born: SystemTime) -> bool {
        let mut known = false;
        let work = AssertUnwindSafe(|| {
            let update = lock(&self.mesh).apply(events);
            known = true;
            self.apply(&update, born);
        });
        if catch_unwind(work).is_ok() {
            return true;
        }
        tracing::error!("a change could not be worked on; all is made anew; this is a bug of the control plane");
        let again = AssertUnwindSafe(|| {
            let snapshot = lock(&self.mesh).snapshot();
            self.snapshot.send_replace(snapshot.clone());
            self.followers.start_again(&snapshot, born);
        });
        catch_unwind(again).is_ok() && known
    }

    fn event(&self, message: Message, own: &str) -> Option<Event> {
        match message {
            Message::MeshConfig(config) => Some(Event::MeshConfig(Arc::new(*config))),
            Message::Change(Change::Synced) => None,
            Message::Change(Change::Delete {
                group,
                kind,
                namespace,
                name,
            }) => {
                let kind = Kind::find(&group, &kind)?;
                self.count(kind);
                let key = Key::new(kind, &namespace, &name);
                self.kept.forget(&key);
                Some(Event::Delete(key))
            }
            Message::Change(Change::Apply(value)) => self.read(value, own),
            Message::Object(object) => {
                let revision = object.meta().labels.get(REVISION_KEY).cloned();
                self.admit(&object.key(), revision.as_deref(), own, || Some(object))
            }
        }
    }

    /// An object that cannot be read counts as absent.
    fn read(&self, value: Value, own: &str) -> Option<Event> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::find(group, text("/kind"))?;
        let key = Key::new(kind, text("/metadata/namespace"), text("/metadata/name"));
        let revision = value["metadata"]["labels"][REVISION_KEY].as_str().map(str::to_owned);
        self.admit(&key, revision.as_deref(), own, || match Object::from_json(value) {
            Ok(object) => object,
            Err(error) => {
                self.counters.unreadable.fetch_add(1, Relaxed);
                tracing::warn!(object = %key, %error, "object left out");
                None
            }
        })
    }

    /// An object that another revision reads counts as absent.
    fn admit(
        &self,
        key: &Key,
        revision: Option<&str>,
        own: &str,
        object: impl FnOnce() -> Option<Object>,
    ) -> Option<Event> {
        self.count(key.kind);
        let foreign = revision.is_some_and(|revision| revision != own);
        if key.kind.group().ends_with("istio.io") && foreign {
            match self.kept.judge(&self.snapshot(), key) {
                Verdict::Absent => return Some(Event::Delete(key.clone())),
                Verdict::Stays => {
                    tracing::info!(object = %key, "belongs to another revision now; gateways that are connected here keep it");
                    return None;
                }
                Verdict::Returns => {}
            }
        } else {
            self.kept.forget(key);
        }
        object().map(Event::Apply)
    }

    fn count(&self, kind: Kind) {
        let counter = if kind.group().ends_with("istio.io") {
            &self.counters.config_events
        } else {
            &self.counters.registry_events
        };
        counter.fetch_add(1, Relaxed);
    }

    fn apply(&self, update: &Update, born: SystemTime) {
        self.snapshot.send_replace(update.snapshot.clone());
        if !update.changed.is_empty() {
            self.followers.update(update, born);
        }
        let spent = SystemTime::now().duration_since(born).unwrap_or_default();
        self.counters.batches.fetch_add(1, Relaxed);
        self.counters
            .busy_micros
            .fetch_add(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX), Relaxed);
        tracing::debug!(changed = update.changed.len(), ?spent, "mesh changed");
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
