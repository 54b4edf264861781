//! Who follows what: one view per class of connected proxies, made once and replaced when a change concerns it.
//!
//! A proxy that comes, and a class without a view, are work for later: they wait in a queue, and whoever comes does not.
//! The work is done by one thread, because classes share most of their answers and two at once would make them twice. It
//! holds no lock while it makes a view. What changes meanwhile is found by a count, and the view is made again, which
//! takes little: what still holds of it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ads::View;
use mesh::{Snapshot, Update};
use tokio::sync::watch;

use crate::sets::{Sets, Translate};

/// Fewest streams before a newcomer looks for those that left.
const FEW: usize = 64;

/// Tells one stream its view; nothing before that is made.
type ViewSender = watch::Sender<Option<Arc<View>>>;

/// All open streams and their classes. `state` is locked before `queue`, and before any lock of the translation.
#[derive(Debug)]
pub struct Followers<T: Translate> {
    translate: T,
    state: Mutex<State<T>>,
    queue: Mutex<Queue<T>>,
    arrival: Condvar,
}

/// What is served.
#[derive(Debug)]
struct State<T: Translate> {
    views: BTreeMap<T::Class, Arc<View>>,
    followers: Vec<Follower<T>>,
    /// Number of changes so far.
    changes: u64,
    /// Number of streams at which those that left are looked for.
    sweep_at: usize,
}

/// One open stream.
#[derive(Debug)]
struct Follower<T: Translate> {
    proxy: T::Proxy,
    class: T::Class,
    view: ViewSender,
}

/// What waits to be done.
#[derive(Debug)]
struct Queue<T: Translate> {
    newcomers: Vec<(T::Proxy, ViewSender)>,
    /// Classes that proxies are in and that have no view.
    classes: BTreeSet<T::Class>,
    closed: bool,
}

impl<T: Translate> Followers<T> {
    /// Nobody yet.
    pub fn new(translate: T) -> Self {
        Self {
            translate,
            state: Mutex::new(State {
                views: BTreeMap::new(),
                followers: Vec::new(),
                changes: 0,
                sweep_at: FEW,
            }),
            queue: Mutex::new(Queue {
                newcomers: Vec::new(),
                classes: BTreeSet::new(),
                closed: false,
            }),
            arrival: Condvar::new(),
        }
    }

    /// A proxy comes. Its view is there as soon as it is made; the receiver ends when all streams do.
    pub fn add(&self, proxy: T::Proxy) -> watch::Receiver<Option<Arc<View>>> {
        let (sender, receiver) = watch::channel(None);
        let mut queue = lock(&self.queue);
        if !queue.closed {
            queue.newcomers.push((proxy, sender));
            self.arrival.notify_one();
        }
        receiver
    }

    /// Number of classes of connected proxies.
    pub fn classes(&self) -> usize {
        lock(&self.state).views.len()
    }

    /// Ends all streams, and those that come later at once.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.newcomers.clear();
        queue.classes.clear();
        state.followers.clear();
        self.arrival.notify_all();
    }

    /// Whether [`Self::close`] was called.
    pub fn are_closed(&self) -> bool {
        lock(&self.queue).closed
    }

    /// Waits for something to do and does it; `false` when all is closed. After `idle` without anything, what streams
    /// that left used is forgotten.
    pub fn work(&self, idle: Duration) -> bool {
        let nothing = |queue: &mut Queue<T>| !queue.closed && queue.newcomers.is_empty() && queue.classes.is_empty();
        let (queue, timeout) = self
            .arrival
            .wait_timeout_while(lock(&self.queue), idle, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let closed = queue.closed;
        if timeout.timed_out() {
            drop(queue);
            self.sweep(&mut lock(&self.state));
        } else {
            self.work_off(queue);
        }
        !closed
    }

    /// Forgets streams that ended, and classes and views that nobody has any more.
    fn sweep(&self, state: &mut State<T>) {
        self.forget_ended(state);
        state.forget_views();
    }

    /// Forgets streams that ended.
    fn forget_ended(&self, state: &mut State<T>) {
        self.forget(state, |follower| follower.view.is_closed());
        state.sweep_at = FEW.max(2 * state.followers.len());
    }

    fn forget(&self, state: &mut State<T>, ends: impl Fn(&Follower<T>) -> bool) {
        state.followers.retain(|follower| {
            let ends = ends(follower);
            if ends {
                self.translate.close(follower.class);
            }
            !ends
        });
    }

    /// One piece of work, if there is any: newcomers first, because most find a view that is made.
    fn work_off(&self, mut queue: MutexGuard<'_, Queue<T>>) {
        let newcomers = std::mem::take(&mut queue.newcomers);
        if !newcomers.is_empty() {
            drop(queue);
            for (proxy, view) in newcomers {
                // The stream of one that cannot be classified ends, and nobody else's.
                guarded(|| self.admit(proxy, view));
            }
            return;
        }
        let Some(class) = queue.classes.pop_first() else { return };
        drop(queue);
        if !guarded(|| self.make(class)) {
            self.end_streams_of(class);
        }
    }

    /// Ends the streams of a class, for now: they come back.
    fn end_streams_of(&self, class: T::Class) {
        let mut state = lock(&self.state);
        state.views.remove(&class);
        self.forget(&mut state, |follower| follower.class == class);
    }

    fn admit(&self, proxy: T::Proxy, view: ViewSender) {
        if view.is_closed() {
            return;
        }
        // While this is locked no change looks at who may have to change classes.
        let mut state = lock(&self.state);
        if state.followers.len() >= state.sweep_at {
            self.sweep(&mut state);
        }
        let class = self.translate.open(&proxy);
        match state.views.get(&class) {
            Some(known) => drop(view.send_replace(Some(known.clone()))),
            None => self.want([class]),
        }
        state.followers.push(Follower { proxy, class, view });
    }

    fn want(&self, classes: impl IntoIterator<Item = T::Class>) {
        let mut queue = lock(&self.queue);
        if !queue.closed {
            queue.classes.extend(classes);
            self.arrival.notify_one();
        }
    }

    /// Makes the view of a class that has none, and gives it to all who are in it.
    fn make(&self, class: T::Class) {
        {
            let state = lock(&self.state);
            if state.views.contains_key(&class) || !state.has_followers(class) {
                return;
            }
            // Even if all who are in it leave meanwhile, it is not forgotten before it is made.
            self.translate.hold(class);
        }
        let _held = Held {
            translate: &self.translate,
            class,
        };
        loop {
            let changes = lock(&self.state).changes;
            let sets = self.translate.sets(class);
            let mut state = lock(&self.state);
            if state.changes != changes {
                continue;
            }
            if state.has_followers(class) {
                state.views.insert(class, Arc::new(View::new(sets, SystemTime::now())));
                state.tell(|of| of == class);
            }
            return;
        }
    }

    /// Brings views and streams up to a change.
    pub fn update(&self, update: &Update, born: SystemTime) {
        let changed = self.translate.update(update);
        let reclassifies = self.translate.reclassifies(update);
        let mut state = lock(&self.state);
        state.changes += 1;
        self.forget_ended(&mut state);
        self.classify_again(&mut state, reclassifies);
        let missing = state.replace(changed, born);
        state.tell(|_| true);
        drop(state);
        if !missing.is_empty() {
            self.want(missing);
        }
    }

    /// The class of a proxy that cannot be told stays what it was.
    fn classify_again(&self, state: &mut State<T>, concerns: impl Fn(&T::Proxy) -> bool) {
        for follower in &mut state.followers {
            guarded(|| {
                if concerns(&follower.proxy) {
                    let class = self.translate.open(&follower.proxy);
                    self.translate.close(std::mem::replace(&mut follower.class, class));
                }
            });
        }
    }

    /// Makes everything anew, after a change of which nobody knows how far it was worked on: whoever is owed something
    /// else is sent it, and the streams of a class that cannot be made end.
    pub fn start_again(&self, snapshot: &Arc<Snapshot>, born: SystemTime) {
        let mut state = lock(&self.state);
        self.translate.start_again(snapshot);
        // Views that are being made are of the past, too.
        state.changes += 1;
        self.forget_ended(&mut state);
        self.classify_again(&mut state, |_| true);
        let missing = state.replace(BTreeMap::new(), born);
        state.tell(|_| true);
        let kept: Vec<T::Class> = state.views.keys().copied().collect();
        drop(state);
        self.want(missing);
        for class in kept {
            let mut sets = None;
            if !guarded(|| sets = Some(self.translate.sets(class))) {
                self.end_streams_of(class);
                continue;
            }
            let mut state = lock(&self.state);
            state.replace(sets.into_iter().map(|sets| (class, sets)).collect(), born);
            state.tell(|of| of == class);
        }
    }
}

impl<T: Translate> State<T> {
    fn has_followers(&self, class: T::Class) -> bool {
        self.followers.iter().any(|follower| follower.class == class)
    }

    /// Forgets views that nobody has any more; answers which classes proxies are in.
    fn forget_views(&mut self) -> BTreeSet<T::Class> {
        let classes = self.followers.iter().map(|follower| follower.class).collect();
        self.views.retain(|class, _| BTreeSet::contains(&classes, class));
        classes
    }

    /// Replaces views of which a set differs; answers which classes have no view.
    fn replace(&mut self, changed: BTreeMap<T::Class, Sets>, born: SystemTime) -> Vec<T::Class> {
        let classes = self.forget_views();
        for (class, mut sets) in changed {
            let Some(view) = self.views.get_mut(&class) else {
                continue;
            };
            sets.retain(|kind, set| view.get(kind).hash() != set.hash());
            if !sets.is_empty() {
                *view = Arc::new(view.with(sets, born));
            }
        }
        classes
            .into_iter()
            .filter(|class| !self.views.contains_key(class))
            .collect()
    }

    /// Gives streams the view of their class if they have another one.
    fn tell(&self, concerns: impl Fn(T::Class) -> bool) {
        for follower in self.followers.iter().filter(|follower| concerns(follower.class)) {
            let Some(newest) = self.views.get(&follower.class) else {
                continue;
            };
            follower.view.send_if_modified(|held| {
                let differs = held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, newest));
                if differs {
                    *held = Some(newest.clone());
                }
                differs
            });
        }
    }
}

/// A use of a class that ends with this value.
struct Held<'a, T: Translate> {
    translate: &'a T,
    class: T::Class,
}

impl<T: Translate> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.translate.close(self.class);
    }
}

/// Whether the work was done; a mistake in a translation must not stop all later work.
fn guarded(work: impl FnOnce()) -> bool {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
    if !done {
        tracing::error!("a proxy's configuration could not be made; this is a bug of the control plane");
    }
    done
}

/// A panic in a translation leaves what is locked as it was; going on beats ending the process.
pub(crate) fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "followers_tests.rs"]
pub(crate) mod tests;
