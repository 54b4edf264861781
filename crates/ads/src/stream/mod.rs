//! One proxy's stream as a machine without IO.
//!
//! Requests go in ([`Stream::on_delta`], [`Stream::on_sotw`]), a new view goes in ([`Stream::set_view`]), and whenever
//! the wire has room it is asked for the next response ([`Stream::poll`]). Nothing is queued: a stream that is slow is
//! not asked, and when it is, goes straight to the newest view. Per type it holds a few pointers: to what was sent, what
//! was accepted, and at most [`Limits::unacknowledged`] sets whose answers are missing.
//!
//! Rules (control-plane.md §1.11–1.14, architecture.md §3):
//! - types are sent in the order of [`kinds`](crate::kinds); listeners and routes wait until the clusters they may
//!   name are accepted;
//! - what is gone is removed only after everything that may refer to it has been replaced *and accepted*;
//! - endpoints of a cluster that was sent, or that the proxy brought along from an earlier stream, are sent again,
//!   because Envoy warms it without asking;
//! - a rejected response is not repeated until the set changes, and the next one covers whatever may not have been
//!   applied. What only the rejected may still use stays, up to [`Limits::kept`] resources.

mod nonce;
mod request;
mod watch;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use xds::resource::{Body, ResourceSet};

use crate::diff::{Shared, same, version};
use crate::kinds;
use crate::limits::Limits;
use crate::source::{Answer, View};
use crate::wire::{self, Frames, Head};

use nonce::Nonce;
pub use request::Outcome;
use watch::Watch;
pub use watch::{Sync, TypeStatus};

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// State of the world: a response holds everything of a type.
    Sotw,
    /// Incremental: a response holds what changed.
    Delta,
}

/// A message for the proxy.
#[derive(Debug)]
pub struct Response {
    /// Type URL.
    pub type_url: Arc<str>,
    /// Resources in it.
    pub resources: usize,
    /// Size in bytes, gRPC's head included.
    pub bytes: usize,
    /// Time of the change that caused it, if it was not asked for.
    pub pushed_for: Option<SystemTime>,
    /// Resources that go although what may refer to them was rejected: there were more than [`Limits::kept`].
    pub abandons: usize,
    /// Head, then shared pieces.
    pub frames: Frames,
}

/// State of one stream.
#[derive(Debug)]
pub struct Stream {
    protocol: Protocol,
    limits: Arc<Limits>,
    shared: Arc<Shared>,
    view: Arc<View>,
    /// In sending order.
    watches: Vec<Watch>,
    answers: VecDeque<(Arc<str>, Answer)>,
    last_nonce: Nonce,
    /// Whether a type moved on without a response since it was last looked at.
    moved: bool,
}

impl Stream {
    /// A stream that has asked for nothing yet.
    pub fn new(protocol: Protocol, view: Arc<View>, limits: Arc<Limits>, shared: Arc<Shared>) -> Self {
        Self {
            protocol,
            limits,
            shared,
            view,
            watches: Vec::new(),
            answers: VecDeque::new(),
            last_nonce: Nonce::default(),
            moved: false,
        }
    }

    /// The newest configuration for this proxy.
    pub fn set_view(&mut self, view: Arc<View>) {
        self.view = view;
        for watch in &mut self.watches {
            watch.assume_if_held(self.view.get(watch.type_url()));
        }
    }

    /// The view this stream follows.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Adds an answer that is not configuration; `false` if too many wait already.
    pub fn answer(&mut self, type_url: &str, answer: Answer) -> bool {
        if self.answers.len() >= self.limits.unacknowledged {
            return false;
        }
        self.answers.push_back((kinds::intern(type_url), answer));
        true
    }

    /// The next message, if the proxy is owed one and may have it now. Ask until `None`.
    pub fn poll(&mut self, now: SystemTime) -> Option<Response> {
        if let Some((type_url, answer)) = self.answers.pop_front() {
            return Some(self.encode_answer(type_url, &answer));
        }
        loop {
            self.moved = false;
            let response = (0..self.watches.len()).find_map(|at| self.advance(at, now));
            // What moved silently may have been all that an earlier type waited for.
            if response.is_some() || !self.moved {
                return response;
            }
        }
    }

    /// A response of this type, made before, leaves only now: until here nobody could have answered it.
    pub(crate) fn left(&mut self, type_url: &str, now: SystemTime) {
        if let Some(watch) = self.watches.iter_mut().find(|w| **w.type_url() == *type_url) {
            watch.left(now);
        }
    }

    /// When [`Stream::poll`] should be asked again although nothing happened: the next time at which a missing
    /// acknowledgement stops holding back what waits for it.
    pub fn wake_at(&self, now: SystemTime) -> Option<SystemTime> {
        let waiting = self
            .watches
            .iter()
            .any(|w| w.sent().is_some_and(|sent| !same(sent, self.view.get(w.type_url()))));
        let ends = self.watches.iter().filter_map(|w| w.unacknowledged_since());
        let ends = ends.map(|since| since + self.limits.patience);
        waiting.then(|| ends.filter(|end| *end > now).min()).flatten()
    }

    /// How far each type got, in sending order.
    pub fn status(&self) -> Vec<TypeStatus> {
        self.watches.iter().map(Watch::status).collect()
    }

    /// What the proxy was sent of each type, restricted to what it subscribed to.
    pub fn sent(&self) -> Vec<(Arc<str>, Vec<Arc<xds::resource::Resource>>)> {
        let held = |w: &Watch| {
            w.sent()
                .map(|set| set.iter().filter(|r| w.covers(&r.name)).cloned().collect())
        };
        self.watches
            .iter()
            .map(|w| (w.type_url().clone(), held(w).unwrap_or_default()))
            .collect()
    }

    fn watch(&self, type_url: &str) -> Option<&Watch> {
        self.watches.iter().find(|w| **w.type_url() == *type_url)
    }

    /// Sends what watch `at` is owed, or moves it silently if what changed is not subscribed to.
    fn advance(&mut self, at: usize, now: SystemTime) -> Option<Response> {
        let watch = &self.watches[at];
        let asked = watch.is_owed();
        if watch.in_flight() >= self.limits.unacknowledged && watch.is_waiting(now, self.limits.patience) {
            return None;
        }
        let Stage { set: stage, abandons } = self.stage(watch, asked, now)?;
        let content = self.watches[at].take_content(self.protocol, &stage, &self.shared);
        if content.is_empty() && !content.must_answer {
            self.watches[at].advance_silently(stage, content.settles);
            self.moved = true;
            return None;
        }
        if &**self.watches[at].type_url() == kinds::CLUSTER {
            self.rewarm(content.resources.iter().map(|cluster| &cluster.name));
        }
        let nonce = self.last_nonce.next();
        self.last_nonce = nonce;
        let pieces = match (&content.whole, &content.step) {
            (Some(whole), _) => whole.pieces.clone(),
            (None, Some(step)) => step.encoded(self.protocol, &content.resources, &self.shared),
            (None, None) => wire::pieces(self.protocol, &content.resources, &self.shared).into(),
        };
        let watch = &mut self.watches[at];
        let head = Head {
            version: &version(&stage).to_digits(),
            type_url: watch.type_url(),
            nonce: &nonce.to_string(),
            removed: &content.removed,
            control_plane: "",
        };
        let response = response(self.protocol, watch.type_url().clone(), content.count(), &head, pieces);
        watch.sent_now(nonce, stage, content.settles, asked, now);
        watch.forget_beyond(self.limits.unacknowledged);
        Some(Response {
            pushed_for: (!asked).then(|| self.view.born()),
            abandons,
            ..response
        })
    }

    /// The set to move to now: the view's, or the one in between while removals must wait. `None`: stay.
    fn stage(&self, watch: &Watch, asked: bool, now: SystemTime) -> Option<Stage> {
        let (target, patience) = (self.view.get(watch.type_url()), self.limits.patience);
        // Even an answer waits if it may name what cannot be sent yet.
        let behind = |url: &&str| {
            let lacks = |sent: &Arc<ResourceSet>| !self.shared.step(sent, self.view.get(url)).changed.is_empty();
            self.watch(url)
                .is_some_and(|w| w.is_waiting(now, patience) && w.sent().is_some_and(lacks))
        };
        if kinds::prerequisites(watch.type_url()).iter().any(behind) {
            return None;
        }
        let Some(sent) = watch.sent() else {
            return Some(Stage::of(target.clone()));
        };
        if same(sent, target) {
            return (asked || watch.is_unsettled()).then(|| Stage::of(target.clone()));
        }
        let blocked = |url: &&str| self.watch(url).is_some_and(|w| w.is_waiting(now, patience));
        if !asked && (watch.is_waiting(now, patience) || kinds::prerequisites(watch.type_url()).iter().any(blocked)) {
            return None;
        }
        let referrers = || {
            kinds::referrers(watch.type_url())
                .iter()
                .filter_map(|url| self.watch(url))
        };
        let moving = referrers().any(|w| !w.has_moved(self.view.get(w.type_url()), now, patience));
        let in_doubt = !moving && referrers().any(Watch::is_in_doubt);
        let gone = if in_doubt {
            self.shared.step(sent, target).removed.len()
        } else {
            0
        };
        let doubted = gone > 0;
        let keeps = moving || (doubted && gone <= self.limits.kept);
        let stage = if keeps {
            self.shared.union(sent, target)
        } else {
            target.clone()
        };
        let moves = asked || watch.is_unsettled() || !same(sent, &stage);
        moves.then_some(Stage {
            set: stage,
            abandons: if doubted && !keeps { gone } else { 0 },
        })
    }

    /// Envoy warms a changed cluster and waits for its endpoints without asking again (control-plane.md §1.13).
    fn rewarm(&mut self, clusters: impl IntoIterator<Item = impl AsRef<str>>) {
        let Some(endpoints) = self.watches.iter_mut().find(|w| &**w.type_url() == kinds::ENDPOINT) else {
            return;
        };
        if endpoints.sent().is_none() {
            // Everything is still to be sent.
            return;
        }
        for cluster in clusters {
            if self.view.get(kinds::ENDPOINT).get(cluster.as_ref()).is_some() {
                endpoints.send_again(cluster.as_ref());
            }
        }
    }

    fn encode_answer(&mut self, type_url: Arc<str>, answer: &Answer) -> Response {
        self.last_nonce = self.last_nonce.next();
        let pieces = wire::answer_pieces(self.protocol, &answer.resources);
        let head = Head {
            version: &[],
            type_url: &type_url,
            nonce: &self.last_nonce.to_string(),
            removed: &[],
            control_plane: &answer.control_plane,
        };
        response(
            self.protocol,
            type_url.clone(),
            answer.resources.len(),
            &head,
            pieces.into(),
        )
    }
}

/// Where a type goes next.
struct Stage {
    set: Arc<ResourceSet>,
    /// See [`Response::abandons`].
    abandons: usize,
}

impl Stage {
    fn of(set: Arc<ResourceSet>) -> Self {
        Self { set, abandons: 0 }
    }
}

fn response(
    protocol: Protocol,
    type_url: Arc<str>,
    resources: usize,
    head: &Head<'_>,
    pieces: Arc<[Body]>,
) -> Response {
    let body: usize = pieces.iter().map(Body::len).sum();
    let head = head.encode(protocol, body);
    let bytes = head.len() + body;
    Response {
        type_url,
        resources,
        bytes,
        pushed_for: None,
        abandons: 0,
        frames: Frames::new(head, pieces),
    }
}
