//! Who follows what: one view per class of connected proxies, made once and replaced when a change concerns it.
//!
//! A proxy that comes, and a class without a view, are work for later: they wait in a queue, and whoever comes does not.
//! The work is done by one thread, because classes share most of their answers and two at once would make them twice. It
//! holds no lock while it makes a view. What changes meanwhile is found by a count, and the view is made again, which
//! takes little: what still holds of it is kept.
//!
//! Streams are kept by class, so that a change looks at those of the classes that it concerns.

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
    /// Classes that proxies are in.
    classes: BTreeMap<T::Class, Class<T>>,
    /// Number of streams.
    streams: usize,
    /// Number of changes so far.
    changes: u64,
    /// Number of streams at which those that left are looked for.
    sweep_at: usize,
}

/// What is known of one class.
#[derive(Debug)]
struct Class<T: Translate> {
    /// Nothing before it is made.
    view: Option<Arc<View>>,
    followers: Vec<Follower<T>>,
}

/// One open stream.
#[derive(Debug)]
struct Follower<T: Translate> {
    proxy: T::Proxy,
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
                classes: BTreeMap::new(),
                streams: 0,
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
        lock(&self.state).classes.len()
    }

    /// Ends all streams, and those that come later at once.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.newcomers.clear();
        queue.classes.clear();
        state.classes.clear();
        state.streams = 0;
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

    /// Forgets streams that ended, and classes that nobody is in any more.
    fn sweep(&self, state: &mut State<T>) {
        let classes: Vec<T::Class> = state.classes.keys().copied().collect();
        classes.into_iter().for_each(|class| self.forget_ended(state, class));
        state.sweep_at = FEW.max(2 * state.streams);
    }

    /// Forgets streams of a class that ended.
    fn forget_ended(&self, state: &mut State<T>, class: T::Class) {
        let Some(known) = state.classes.get_mut(&class) else {
            return;
        };
        let before = known.followers.len();
        known.followers.retain(|follower| !follower.view.is_closed());
        let gone = before - known.followers.len();
        if known.followers.is_empty() {
            state.classes.remove(&class);
        }
        state.streams -= gone;
        (0..gone).for_each(|_| self.translate.close(class));
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
        let ended = state.classes.remove(&class).map_or(0, |known| known.followers.len());
        state.streams -= ended;
        (0..ended).for_each(|_| self.translate.close(class));
    }

    fn admit(&self, proxy: T::Proxy, view: ViewSender) {
        if view.is_closed() {
            return;
        }
        // While this is locked no change looks at who may have to change classes.
        let mut state = lock(&self.state);
        if state.streams >= state.sweep_at {
            self.sweep(&mut state);
        }
        let class = self.translate.open(&proxy);
        if state.enter(class, Follower { proxy, view }) {
            self.want([class]);
        }
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
            if state.classes.get(&class).is_none_or(|known| known.view.is_some()) {
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
            if let Some(known) = state.classes.get_mut(&class) {
                known.view = Some(Arc::new(View::new(sets, SystemTime::now())));
                known.tell();
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
        let moved = reclassifies.map(|concerns| self.classify_again(&mut state, concerns));
        for (class, sets) in changed {
            self.forget_ended(&mut state, class);
            state.replace(class, sets, born);
        }
        // Who comes into a class is told what it is now, and not first what it was.
        let missing = state.enter_all(moved.unwrap_or_default());
        drop(state);
        if !missing.is_empty() {
            self.want(missing);
        }
    }

    /// Takes proxies that are in other classes now out of those that they were in. The class of a proxy that cannot be told
    /// stays what it was.
    fn classify_again(
        &self,
        state: &mut State<T>,
        concerns: impl Fn(&T::Proxy) -> bool,
    ) -> Vec<(T::Class, Follower<T>)> {
        let classes: Vec<T::Class> = state.classes.keys().copied().collect();
        let mut moved = Vec::new();
        for class in classes {
            self.forget_ended(state, class);
            let Some(known) = state.classes.get_mut(&class) else {
                continue;
            };
            for follower in std::mem::take(&mut known.followers) {
                let mut now = class;
                guarded(|| {
                    if concerns(&follower.proxy) {
                        now = self.translate.open(&follower.proxy);
                        self.translate.close(class);
                    }
                });
                if now == class {
                    known.followers.push(follower);
                } else {
                    moved.push((now, follower));
                }
            }
            if known.followers.is_empty() {
                state.classes.remove(&class);
            }
        }
        state.streams -= moved.len();
        moved
    }

    /// Makes everything anew, after a change of which nobody knows how far it was worked on: whoever is owed something
    /// else is sent it, and the streams of a class that cannot be made end.
    pub fn start_again(&self, snapshot: &Arc<Snapshot>, born: SystemTime) {
        let mut state = lock(&self.state);
        self.translate.start_again(snapshot);
        // Views that are being made are of the past, too.
        state.changes += 1;
        let moved = self.classify_again(&mut state, |_| true);
        state.enter_all(moved);
        let made = |(class, known): (&T::Class, &Class<T>)| (*class, known.view.is_some());
        let (kept, missing): (Vec<_>, Vec<_>) = state.classes.iter().map(made).partition(|(_, made)| *made);
        drop(state);
        self.want(missing.into_iter().map(|(class, _)| class));
        for (class, _) in kept {
            let mut sets = None;
            if !guarded(|| sets = Some(self.translate.sets(class))) {
                self.end_streams_of(class);
                continue;
            }
            if let Some(sets) = sets {
                lock(&self.state).replace(class, sets, born);
            }
        }
    }
}

impl<T: Translate> State<T> {
    /// Streams come into classes; those that have no view yet.
    fn enter_all(&mut self, moved: Vec<(T::Class, Follower<T>)>) -> Vec<T::Class> {
        let entered = moved
            .into_iter()
            .map(|(class, follower)| (class, self.enter(class, follower)));
        entered.filter(|(_, lacks)| *lacks).map(|(class, _)| class).collect()
    }

    /// A stream comes into a class; whether that has no view yet.
    fn enter(&mut self, class: T::Class, follower: Follower<T>) -> bool {
        let known = self.classes.entry(class).or_insert_with(|| Class {
            view: None,
            followers: Vec::new(),
        });
        self.streams += 1;
        if let Some(view) = &known.view {
            follower.take(view);
        }
        known.followers.push(follower);
        known.view.is_none()
    }

    /// Replaces the view of a class, if it has one and a set of it differs, and tells its streams.
    fn replace(&mut self, class: T::Class, mut sets: Sets, born: SystemTime) {
        let Some(known) = self.classes.get_mut(&class) else {
            return;
        };
        let Some(view) = &mut known.view else { return };
        sets.retain(|kind, set| view.get(kind).hash() != set.hash());
        if !sets.is_empty() {
            *view = Arc::new(view.with(sets, born));
            known.tell();
        }
    }
}

impl<T: Translate> Class<T> {
    /// Gives the streams the view.
    fn tell(&self) {
        if let Some(view) = &self.view {
            self.followers.iter().for_each(|follower| follower.take(view));
        }
    }
}

impl<T: Translate> Follower<T> {
    /// Takes a view, if it is another one.
    fn take(&self, newest: &Arc<View>) {
        self.view.send_if_modified(|held| {
            let differs = held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, newest));
            if differs {
                *held = Some(newest.clone());
            }
            differs
        });
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
