//! The work queue of one controller: each key at most once, one worker per key at a time, back-off per key.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Key;

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Key>,
    /// What is in `ready`, or must go there when its worker is done.
    wanted: BTreeSet<Key>,
    running: BTreeSet<Key>,
    later: BTreeSet<(Instant, Key)>,
    failures: BTreeMap<Key, u32>,
}

impl State {
    fn add(&mut self, key: Key) {
        if self.wanted.insert(key.clone()) && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn due(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.add(key);
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Asks for `key` to be reconciled. While it is being reconciled, asks for another round afterwards.
    pub fn add(&self, key: Key) {
        self.lock().add(key);
        self.wake.notify_one();
    }

    /// Asks for `key` to be reconciled after `delay`.
    pub fn add_after(&self, key: Key, delay: Duration) {
        self.lock().later.insert((Instant::now() + delay, key));
        self.wake.notify_one();
    }

    /// Asks for another try after a failure: 5 ms, then doubling up to 30 s.
    pub fn retry(&self, key: Key) -> Duration {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(16)).min(LAST_RETRY)
        };
        self.add_after(key, delay);
        delay
    }

    /// Ends the back-off of `key`.
    pub fn forget(&self, key: &Key) {
        self.lock().failures.remove(key);
    }

    /// The next key to work on. Must be given back with [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let sleep_until = {
                let mut state = self.lock();
                state.due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.wanted.remove(&key);
                    state.running.insert(key.clone());
                    if !state.ready.is_empty() {
                        // Notify holds one permit only; pass it on to the next worker.
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match sleep_until {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Ends the work on `key`.
    pub fn done(&self, key: &Key) {
        let mut state = self.lock();
        state.running.remove(key);
        if state.wanted.contains(key) {
            state.ready.push_back(key.clone());
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    /// Long enough for a key that is wrongly there to come out.
    const SHORT: Duration = Duration::from_millis(20);

    async fn nothing_within(queue: &Queue, time: Duration) -> bool {
        tokio::time::timeout(time, queue.next()).await.is_err()
    }

    #[tokio::test]
    async fn a_key_added_twice_is_worked_on_once() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.done(&key("a"));
        assert!(nothing_within(&queue, SHORT).await);
    }

    #[tokio::test]
    async fn a_key_added_while_worked_on_waits_for_its_worker() {
        let queue = Queue::default();
        queue.add(key("a"));
        let running = queue.next().await;
        queue.add(key("a"));
        assert!(nothing_within(&queue, SHORT).await);
        queue.done(&running);
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test]
    async fn back_off_doubles_and_ends_with_success() {
        let queue = Queue::default();
        let delays: Vec<_> = (0..4).map(|_| queue.retry(key("a")).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40]);
        queue.forget(&key("a"));
        assert_eq!(queue.retry(key("a")).as_millis(), 5);
        let many = (0..40).map(|_| queue.retry(key("b"))).last();
        assert_eq!(many, Some(LAST_RETRY));
    }

    #[tokio::test]
    async fn delayed_keys_come_when_due() {
        let queue = Queue::default();
        queue.add_after(key("late"), Duration::from_millis(30));
        queue.add_after(key("soon"), Duration::from_millis(10));
        let began = Instant::now();
        assert_eq!(queue.next().await, key("soon"));
        assert_eq!(queue.next().await, key("late"));
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}
