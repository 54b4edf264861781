//! Changes in, views out: the mesh, its translation, and one view per class of connected proxies.
//!
//! One thread takes changes as they come. The first after quiet is worked on at once; what follows it closely is
//! gathered for a moment, because many small pushes cost far more than few. A view is replaced, and its streams woken,
//! only if one of its sets is a different one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ads::View;
use cluster::feed::Change;
use mesh::{Event, Key, Kind, Mesh, Object, Snapshot, Update};
use revision::webhook::REVISION_KEY;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use xds::resource::ResourceSet;

use crate::handover::{Kept, Verdict};

/// Largest batch of changes worked on at once.
const BATCH: usize = 10_000;
/// Shortest time between the beginnings of two batches. A proxy that is told of changes a dozen times a second knows
/// soon enough, and a push costs the same for one change as for ten.
const PACE: Duration = Duration::from_millis(80);

/// What the engine is told.
#[derive(Debug)]
pub enum Message {
    /// Something happened to an object.
    Change(Change),
    /// The mesh configuration is this.
    MeshConfig(Box<api::mesh_config::MeshConfig>),
}

/// From snapshots to sets of resources.
pub trait Translate: Send + 'static {
    /// A connected proxy.
    type Proxy: Send + std::fmt::Debug + 'static;
    /// Number of a class: what translation reads about a proxy, shared by most proxies with others.
    type Class: Ord + Copy + Send + std::fmt::Debug + 'static;

    /// The class that a proxy falls into now. Paired with [`Translate::close`].
    fn open(&mut self, proxy: &Self::Proxy) -> Self::Class;

    /// A proxy left the class.
    fn close(&mut self, class: Self::Class);

    /// Whether this change may put the proxy into another class.
    fn reclassifies(&self, proxy: &Self::Proxy, update: &Update) -> bool;

    /// The mesh changed; what classes are owed now that differs, by type URL.
    fn update(&mut self, update: &Update) -> BTreeMap<Self::Class, Sets>;

    /// What a class is owed, by type URL. Equal results should be the same `Arc`.
    fn sets(&mut self, class: Self::Class) -> Sets;
}

/// Resources by type URL.
pub type Sets = BTreeMap<Arc<str>, Arc<ResourceSet>>;

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
    inner: Mutex<Inner<T>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    ready: AtomicBool,
    /// What stays here although it is another revision's.
    pub kept: Kept,
    /// Counts.
    pub counters: Counters,
}

#[derive(Debug)]
struct Inner<T: Translate> {
    mesh: Mesh,
    translate: T,
    views: BTreeMap<T::Class, Arc<View>>,
    followers: Vec<Follower<T>>,
}

/// One open stream.
#[derive(Debug)]
struct Follower<T: Translate> {
    proxy: T::Proxy,
    class: T::Class,
    view: watch::Sender<Arc<View>>,
}

impl<T: Translate> Inner<T> {
    fn view(&mut self, class: T::Class, born: SystemTime) -> Arc<View> {
        if let Some(view) = self.views.get(&class) {
            return view.clone();
        }
        let view = Arc::new(View::new(self.translate.sets(class), born));
        self.views.insert(class, view.clone());
        view
    }

    /// Brings views and streams up to a change.
    fn update(&mut self, update: &Update, born: SystemTime) {
        let changed = self.translate.update(update);
        let mut followers = std::mem::take(&mut self.followers);
        followers.retain(|follower| {
            let gone = follower.view.is_closed();
            if gone {
                self.translate.close(follower.class);
            }
            !gone
        });
        for follower in &mut followers {
            if self.translate.reclassifies(&follower.proxy, update) {
                let class = self.translate.open(&follower.proxy);
                self.translate.close(std::mem::replace(&mut follower.class, class));
            }
        }
        let classes: BTreeSet<T::Class> = followers.iter().map(|f| f.class).collect();
        self.views.retain(|class, _| classes.contains(class));
        for (class, mut sets) in changed {
            let Some(view) = self.views.get(&class) else { continue };
            sets.retain(|kind, set| view.get(kind).hash() != set.hash());
            if !sets.is_empty() {
                let mut all = view.sets().clone();
                all.extend(sets);
                self.views.insert(class, Arc::new(View::new(all, born)));
            }
        }
        for follower in &followers {
            let newest = self.view(follower.class, born);
            follower.view.send_if_modified(|held| {
                let differs = !Arc::ptr_eq(held, &newest);
                *held = newest;
                differs
            });
        }
        self.followers = followers;
    }
}

impl<T: Translate> Engine<T> {
    /// An engine that knows nothing yet.
    pub fn new(mesh: Mesh, translate: T) -> Arc<Self> {
        let snapshot = mesh.snapshot();
        Arc::new(Self {
            inner: Mutex::new(Inner {
                mesh,
                translate,
                views: BTreeMap::new(),
                followers: Vec::new(),
            }),
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

    /// Whether everything was read once; before that nobody is served.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// What a proxy is owed, now and from now on. Only changes that touch it wake the receiver.
    pub fn follow(&self, proxy: T::Proxy) -> watch::Receiver<Arc<View>> {
        let mut inner = self.lock();
        let class = inner.translate.open(&proxy);
        let view = inner.view(class, SystemTime::now());
        let (sender, receiver) = watch::channel(view);
        inner.followers.push(Follower {
            proxy,
            class,
            view: sender,
        });
        receiver
    }

    /// Number of classes of connected proxies.
    pub fn classes(&self) -> usize {
        self.lock().views.len()
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.ready.store(false, Relaxed);
        self.lock().followers.clear();
    }

    /// Works on messages until there are no more senders, on a thread of its own. Nobody is served before `sources`
    /// times [`Change::Synced`] was told.
    pub fn run(
        self: &Arc<Self>,
        mut messages: mpsc::Receiver<Message>,
        own: String,
        sources: usize,
        gather: Duration,
    ) -> std::io::Result<()> {
        let engine = self.clone();
        std::thread::Builder::new().name("mesh".to_owned()).spawn(move || {
            let mut unsynced = sources;
            let mut last: Option<Instant> = None;
            while let Some(first) = messages.blocking_recv() {
                let started = SystemTime::now();
                if engine.is_ready() {
                    let rest = last.map_or(Duration::ZERO, |last| PACE.saturating_sub(last.elapsed()));
                    std::thread::sleep(rest.max(gather));
                }
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
                    .filter_map(|message| engine.event(message, &own))
                    .collect();
                // A mistake in a translation must not stop all later changes: its streams end and come back.
                let work = std::panic::AssertUnwindSafe(|| engine.apply(events, started));
                if std::panic::catch_unwind(work).is_err() {
                    tracing::error!("a change could not be translated; this is a bug of the control plane");
                }
                if unsynced == 0 && !engine.ready.swap(true, Relaxed) {
                    engine.kept.forget_absent(&engine.snapshot());
                    tracing::info!("everything was read once; serving");
                }
            }
        })?;
        Ok(())
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
            Message::Change(Change::Apply(value)) => self.apply_event(value, own),
        }
    }

    /// An object that another revision reads, or that cannot be read, counts as absent.
    fn apply_event(&self, value: Value, own: &str) -> Option<Event> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::find(group, text("/kind"))?;
        let key = Key::new(kind, text("/metadata/namespace"), text("/metadata/name"));
        self.count(kind);
        let foreign = value["metadata"]["labels"][REVISION_KEY]
            .as_str()
            .is_some_and(|revision| revision != own);
        if group.ends_with("istio.io") && foreign {
            match self.kept.judge(&self.snapshot(), &key) {
                Verdict::Absent => return Some(Event::Delete(key)),
                Verdict::Stays => {
                    tracing::info!(object = %key, "belongs to another revision now; gateways that are connected here keep it");
                    return None;
                }
                Verdict::Returns => {}
            }
        } else {
            self.kept.forget(&key);
        }
        match Object::from_json(value) {
            Ok(object) => object.map(Event::Apply),
            Err(error) => {
                self.counters.unreadable.fetch_add(1, Relaxed);
                tracing::warn!(object = %key, %error, "object left out");
                None
            }
        }
    }

    fn count(&self, kind: Kind) {
        let counter = if kind.group().ends_with("istio.io") {
            &self.counters.config_events
        } else {
            &self.counters.registry_events
        };
        counter.fetch_add(1, Relaxed);
    }

    fn apply(&self, events: Vec<Event>, born: SystemTime) {
        let mut inner = self.lock();
        let update = inner.mesh.apply(events);
        self.snapshot.send_replace(update.snapshot.clone());
        if !update.changed.is_empty() {
            inner.update(&update, born);
        }
        let spent = SystemTime::now().duration_since(born).unwrap_or_default();
        self.counters.batches.fetch_add(1, Relaxed);
        self.counters
            .busy_micros
            .fetch_add(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX), Relaxed);
        tracing::debug!(changed = update.changed.len(), ?spent, "mesh changed");
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A panic in a translation leaves the views as they were; going on beats ending the process.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translates each class to one resource: how many services there are, if the class asks for it.
    #[derive(Debug, Default)]
    struct Counting(usize);

    impl Translate for Counting {
        type Proxy = bool;
        type Class = bool;

        fn open(&mut self, proxy: &bool) -> bool {
            *proxy
        }

        fn close(&mut self, _: bool) {}

        fn reclassifies(&self, _: &bool, _: &Update) -> bool {
            false
        }

        fn update(&mut self, update: &Update) -> BTreeMap<bool, Sets> {
            self.0 = update.snapshot.services().len();
            [true, false].map(|counts| (counts, self.sets(counts))).into()
        }

        fn sets(&mut self, counts: bool) -> Sets {
            let value = if counts { self.0.to_string() } else { String::new() };
            let resource = xds::resource::Resource::encode("count", &xds::google::protobuf::StringValue { value });
            BTreeMap::from([(Arc::from("type"), Arc::new(ResourceSet::new([Arc::new(resource)])))])
        }
    }

    fn service(name: &str) -> Value {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "a" },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "http", "port": 80 }] },
        })
    }

    #[test]
    fn only_classes_that_changed_are_woken() {
        let engine = Engine::new(Mesh::default(), Counting::default());
        let (mut counts, mut ignores) = (engine.follow(true), engine.follow(false));
        counts.mark_unchanged();
        ignores.mark_unchanged();
        let event = engine.apply_event(service("x"), "default");
        engine.apply(event.into_iter().collect(), SystemTime::now());
        assert_eq!(counts.has_changed().ok(), Some(true));
        assert_eq!(ignores.has_changed().ok(), Some(false));
    }

    #[test]
    fn classes_without_streams_are_forgotten() {
        let engine = Engine::new(Mesh::default(), Counting::default());
        drop(engine.follow(true));
        let event = engine.apply_event(service("x"), "default");
        engine.apply(event.into_iter().collect(), SystemTime::now());
        assert!(engine.lock().views.is_empty());
    }

    /// A process that starts after a Gateway went to another revision knows it from the one before.
    #[test]
    fn what_stayed_here_stays_after_a_restart() {
        let gateway = |name: &str, revision: &str| {
            serde_json::json!({
                "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
                "metadata": { "name": name, "namespace": "a", "labels": { "istio.io/rev": revision } }, "spec": {},
            })
        };
        let tell = |engine: &Engine<Counting>, object: Value| {
            let event = engine.apply_event(object, "old");
            engine.apply(event.into_iter().collect(), SystemTime::now());
            let names: Vec<String> = engine
                .snapshot()
                .gateways
                .iter()
                .map(|g| g.meta.name.to_string())
                .collect();
            names.join(" ")
        };
        let before = Engine::new(Mesh::default(), Counting::default());
        assert_eq!(tell(&before, gateway("g", "old")), "g");
        assert_eq!(tell(&before, gateway("g", "new")), "g");
        assert_eq!(tell(&before, gateway("h", "new")), "g");
        let known = before.kept.subscribe().borrow().clone();

        let after = Engine::new(Mesh::default(), Counting::default());
        after.kept.recall(known);
        assert_eq!(tell(&after, gateway("h", "new")), "", "never ours");
        assert_eq!(tell(&after, gateway("g", "new")), "g");
        assert_eq!(after.kept.subscribe().borrow().len(), 1);
        // What is ours again, or gone, need not be remembered.
        assert_eq!(tell(&after, gateway("g", "old")), "g");
        assert!(after.kept.subscribe().borrow().is_empty());

        let gone = Engine::new(Mesh::default(), Counting::default());
        gone.kept.recall(["Gateway a/g".to_owned()].into());
        gone.kept.forget_absent(&gone.snapshot());
        assert!(gone.kept.subscribe().borrow().is_empty(), "deleted while nobody looked");
    }

    #[test]
    fn configuration_of_other_revisions_counts_as_absent() {
        let engine = Engine::new(Mesh::default(), Counting::default());
        let object = |revision: &str| {
            serde_json::json!({
                "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
                "metadata": { "name": "g", "namespace": "a", "labels": { "istio.io/rev": revision } }, "spec": {},
            })
        };
        assert!(matches!(
            engine.apply_event(object("canary"), "canary"),
            Some(Event::Apply(_))
        ));
        assert!(matches!(
            engine.apply_event(object("other"), "canary"),
            Some(Event::Delete(_))
        ));
    }
}
