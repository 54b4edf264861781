//! One type on one stream: what is subscribed, sent, accepted, rejected.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xds::resource::{ContentHash, Resource, ResourceSet};

use super::Protocol;
use super::nonce::Nonce;
use crate::diff::{Shared, Step, Whole, same, version};
use crate::kinds;
use crate::names::{NameSet, name_bytes};
use crate::wire;

/// How far a type got on a stream (revisions.md §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Nothing was ever sent.
    NotSent,
    /// The last response was accepted.
    Synced,
    /// The last response is not acknowledged yet.
    Stale,
    /// A response was rejected and none accepted since.
    Error,
}

/// What tools show about one type of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeStatus {
    /// Type URL.
    pub type_url: Arc<str>,
    /// State.
    pub sync: Sync,
    /// Nonce of the last response, empty if none; the version if the proxy brought everything along.
    pub nonce_sent: String,
    /// Last accepted nonce, empty if none.
    pub nonce_acked: String,
    /// Version last sent.
    pub version_sent: String,
    /// Version last accepted.
    pub version_acked: String,
    /// What the proxy said when it rejected.
    pub error: Option<String>,
    /// Time of the last response.
    pub last_sent: Option<SystemTime>,
}

/// What a response will hold.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// What the proxy lacks, or holds in another version.
    pub resources: Vec<Arc<Resource>>,
    /// If set, everything that is subscribed to is sent, not just `resources`.
    pub whole: Option<Arc<Whole>>,
    /// If set, `resources` are what changes in this step.
    pub step: Option<Arc<Step>>,
    pub removed: Vec<Arc<str>>,
    /// Even an empty response tells something.
    pub must_answer: bool,
    /// Covers everything that an earlier rejection left in doubt.
    pub settles: bool,
}

impl Content {
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.removed.is_empty()
    }

    /// Number of resources in the response.
    pub fn count(&self) -> usize {
        self.whole
            .as_ref()
            .map_or(self.resources.len(), |whole| whole.resources)
    }
}

#[derive(Debug)]
struct InFlight {
    nonce: Nonce,
    set: Arc<ResourceSet>,
    settles: bool,
    /// Answers a subscription, so it holds resources the proxy never had.
    asked: bool,
}

/// What is known of a proxy that rejected something.
#[derive(Debug)]
struct Doubt {
    good: Arc<ResourceSet>,
    /// Whether it has the contents of `good`; otherwise what it was sent since, nobody knows.
    is_sure: bool,
    /// Of these it may have what neither `good` nor what was sent last says: responses in between were answered, too.
    uncertain: BTreeSet<Arc<str>>,
}

/// So many names may be uncertain that are in no set any more; more are left to who rejects without end.
const UNCERTAIN: usize = 10_000;

impl Doubt {
    fn step(&self, sent: &ResourceSet, stage: &ResourceSet) -> Step {
        Step::from_doubt(&self.good, self.is_sure, &self.uncertain, sent, stage)
    }

    /// A response with this set was answered, and what came of it is open.
    fn add(&mut self, set: &ResourceSet) {
        self.uncertain.extend(Step::between(&self.good, set).into_names());
        if self.uncertain.len() > UNCERTAIN + self.good.len() + set.len() {
            let good = &self.good;
            self.uncertain
                .retain(|name| good.get(name).is_some() || set.get(name).is_some());
        }
    }
}

#[derive(Debug)]
pub(super) struct Watch {
    type_url: Arc<str>,
    wildcard: bool,
    names: Arc<NameSet>,
    /// Version of all resources that the proxy says to hold (full state only).
    held_version: Option<ContentHash>,
    /// Memory of names that only stand for what the proxy brought along.
    held_bytes: usize,
    /// What the proxy has if it accepted everything.
    sent: Option<Arc<ResourceSet>>,
    /// What it surely had at the last acknowledgement.
    acked: Option<Arc<ResourceSet>>,
    /// Set after a rejection: what it had before. It may hold that, or parts of `sent`.
    doubt: Option<Doubt>,
    /// The rejected response was not the last one: what came after it was made without knowing, so that what it did
    /// not repeat must be sent although nothing changes any more.
    unsettled: bool,
    /// Owes a response even if nothing changed.
    owed: bool,
    /// Names to send whether or not they changed.
    again: BTreeSet<Arc<str>>,
    /// Names that a request did without which came too late to count (full state only): what it named it forgot.
    let_go: BTreeSet<Arc<str>>,
    in_flight: VecDeque<InFlight>,
    /// The last response whose answer is not waited for any more.
    given_up: Nonce,
    nonce_sent: Nonce,
    nonce_acked: Nonce,
    error: Option<String>,
    last_sent: Option<SystemTime>,
}

impl Watch {
    pub fn new(type_url: Arc<str>) -> Self {
        Self {
            type_url,
            wildcard: false,
            names: NameSet::empty(),
            held_version: None,
            held_bytes: 0,
            sent: None,
            acked: None,
            doubt: None,
            unsettled: false,
            owed: true,
            again: BTreeSet::new(),
            let_go: BTreeSet::new(),
            in_flight: VecDeque::new(),
            given_up: Nonce::default(),
            nonce_sent: Nonce::default(),
            nonce_acked: Nonce::default(),
            error: None,
            last_sent: None,
        }
    }

    pub fn type_url(&self) -> &Arc<str> {
        &self.type_url
    }

    pub fn names(&self) -> &Arc<NameSet> {
        &self.names
    }

    pub fn set_names(&mut self, names: Arc<NameSet>) {
        self.names = names;
    }

    /// The proxy did without all names but these for a while.
    pub fn let_go_but(&mut self, names: &NameSet) {
        let gone = self.names.iter().filter(|name| !names.contains(name)).cloned();
        self.let_go.extend(gone);
    }

    /// What it asks for again after it did without must be sent, although it was named all the time.
    pub fn send_what_was_let_go(&mut self) {
        for name in std::mem::take(&mut self.let_go) {
            self.send_again(&name);
        }
    }

    /// What is no longer asked for is not owed either.
    pub fn forget<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.again.remove(name);
        }
    }

    /// Rough memory of what the proxy says: names, and what it holds that is not any more.
    pub fn bytes(&self) -> usize {
        self.names.bytes() + self.held_bytes
    }

    pub fn set_wildcard(&mut self, wildcard: bool) {
        self.wildcard = wildcard;
    }

    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The proxy says what it holds from an earlier stream, by name and version. What `target` has otherwise, or
    /// not at all, is held as an empty body: it only stands for a name that will be replaced or removed.
    pub fn set_held(&mut self, versions: &BTreeMap<String, String>, target: &ResourceSet) {
        if versions.is_empty() {
            return;
        }
        let mut stands_for = 0;
        let held = versions.iter().map(|(name, version)| {
            let hash = ContentHash::parse(version).unwrap_or_else(|| ContentHash::of(version.as_bytes()));
            match target.get(name) {
                Some(resource) if resource.hash == hash => resource.clone(),
                _ => {
                    stands_for += name_bytes(name);
                    Arc::new(Resource {
                        name: Arc::from(name.as_str()),
                        hash,
                        body: Bytes::new().into(),
                    })
                }
            }
        });
        let held = Arc::new(ResourceSet::new(held));
        self.assume(held);
        self.held_bytes = stands_for;
        let fresh: Vec<Arc<str>> = self
            .names
            .iter()
            .filter(|name| !versions.contains_key(&***name))
            .cloned()
            .collect();
        self.again.extend(fresh);
    }

    /// The proxy says it already holds exactly this set.
    pub fn assume(&mut self, set: Arc<ResourceSet>) {
        self.owed = false;
        self.advance_silently(set, false);
    }

    /// The proxy says to hold everything in this version.
    pub fn set_held_version(&mut self, version: &str) {
        self.held_version = ContentHash::parse(version);
    }

    /// If nothing was sent yet and the proxy holds just this set, it need not be.
    pub fn assume_if_held(&mut self, target: &Arc<ResourceSet>) {
        if self.sent.is_none() && self.held_version == Some(version(target)) {
            self.assume(target.clone());
        }
    }

    pub fn owe(&mut self) {
        self.owed = true;
    }

    pub fn send_again(&mut self, name: &str) {
        if self.sent.is_some() && self.covers(name) {
            self.again.insert(name.into());
        }
    }

    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub fn sent(&self) -> Option<&Arc<ResourceSet>> {
        self.sent.as_ref()
    }

    pub fn is_owed(&self) -> bool {
        self.owed || !self.again.is_empty()
    }

    /// Whether a rejection left open what later responses did not cover, and all of them are answered.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled && self.doubt.is_some() && self.in_flight.is_empty()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn unacknowledged_since(&self) -> Option<SystemTime> {
        if self.in_flight.is_empty() {
            None
        } else {
            self.last_sent
        }
    }

    /// Whether an acknowledgement is missing, and not for so long that nobody should wait for it.
    pub fn is_waiting(&self, now: SystemTime, patience: Duration) -> bool {
        self.unacknowledged_since().is_some_and(|since| now < since + patience)
    }

    /// Whether the proxy was given exactly `target` and answered, as far as it can be expected to. What is owed still it
    /// may have as it was: a name that it asks for again, while a response with the name was on its way.
    pub fn has_moved(&self, target: &Arc<ResourceSet>, now: SystemTime, patience: Duration) -> bool {
        let was_given = self.sent.as_ref().is_some_and(|sent| same(sent, target)) && !self.is_owed();
        was_given && !self.is_waiting(now, patience)
    }

    /// Whether something was rejected, and nothing that makes up for it accepted since.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// What to send to move the proxy to `stage`; forgets what was owed.
    pub fn take_content(&mut self, protocol: Protocol, stage: &Arc<ResourceSet>, shared: &Shared) -> Content {
        let owed = std::mem::take(&mut self.owed);
        let again = std::mem::take(&mut self.again);
        if protocol == Protocol::Sotw && kinds::is_wildcard(&self.type_url) {
            let differs = self.step(stage, shared);
            let changed = self.is_unsettled() || self.sent.as_ref().is_none_or(|sent| !same(sent, stage));
            self.unsettled &= !changed;
            return Content {
                resources: self.restrict(named(&differs.changed, stage)),
                whole: Some(self.whole(protocol, stage, shared)),
                must_answer: owed || changed,
                settles: changed,
                ..Content::default()
            };
        }
        let Some(sent) = &self.sent else {
            let whole = self.whole(protocol, stage, shared);
            let tells = protocol == Protocol::Delta && kinds::is_removable(&self.type_url);
            let removed = match (tells, self.wildcard) {
                (false, _) => Vec::new(),
                // What is named besides the wildcard is one stream's own.
                (true, true) => missing(&self.names, stage),
                (true, false) => whole.missing.clone(),
            };
            return Content {
                removed,
                whole: Some(whole),
                must_answer: true,
                ..Content::default()
            };
        };
        let settles = self.doubt.is_some() && (self.is_unsettled() || !same(sent, stage));
        let step = self.step(stage, shared);
        let mut resources = self.restrict(named(&step.changed, stage));
        let is_step = again.is_empty() && resources.len() == step.changed.len();
        let mut removed: Vec<Arc<str>> = step.removed.iter().filter(|n| self.covers(n)).cloned().collect();
        for name in &again {
            match stage.get(name) {
                // It is gone, and stays at the proxy until nothing uses it any more.
                Some(stands_for) if stands_for.body.is_empty() => {}
                Some(resource) => resources.push(resource.clone()),
                None => removed.push(name.clone()),
            }
        }
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        resources.dedup_by(|a, b| a.name == b.name);
        removed.sort();
        removed.dedup();
        if protocol == Protocol::Sotw || !kinds::is_removable(&self.type_url) {
            removed.clear();
        }
        let must_answer = owed || (protocol == Protocol::Sotw && !again.is_empty());
        self.unsettled &= !settles;
        Content {
            resources,
            whole: None,
            step: is_step.then_some(step),
            removed,
            must_answer,
            settles,
        }
    }

    /// What differs between what was sent and `stage`; nothing if nothing was sent.
    fn step(&self, stage: &Arc<ResourceSet>, shared: &Shared) -> Arc<Step> {
        match (&self.sent, &self.doubt) {
            (Some(sent), _) if !self.is_unsettled() && same(sent, stage) => Arc::default(),
            (Some(sent), Some(doubt)) => Arc::new(doubt.step(sent, stage)),
            (Some(sent), None) => shared.step(sent, stage),
            (None, _) => Arc::default(),
        }
    }

    /// Everything of `stage` that is subscribed to, encoded; made once for all streams with this subscription. What a
    /// set has in common with others is encoded once for all of them.
    fn whole(&self, protocol: Protocol, stage: &ResourceSet, shared: &Shared) -> Arc<Whole> {
        if let (Some((base, own)), true) = (stage.layers(), self.wildcard) {
            // Little is a set's own, and what is below is remembered.
            let below = self.whole(protocol, base, shared);
            let own = self.restrict(own.iter());
            let mut pieces = wire::pieces(protocol, &own, shared);
            pieces.extend(below.pieces.iter().cloned());
            return Arc::new(Whole {
                resources: own.len() + below.resources,
                missing: Vec::new(),
                pieces: pieces.into(),
            });
        }
        let names = if self.wildcard { None } else { Some(&*self.names) };
        shared.whole(protocol, stage, names, || {
            let covered = self.restrict(stage.iter());
            Whole {
                resources: covered.len(),
                missing: names.map(|names| missing(names, stage)).unwrap_or_default(),
                pieces: wire::pieces(protocol, &covered, shared).into(),
            }
        })
    }

    /// What is subscribed to; names that only stand for what the proxy brought along have no body to send.
    fn restrict<'a>(&self, resources: impl Iterator<Item = &'a Arc<Resource>>) -> Vec<Arc<Resource>> {
        resources
            .filter(|r| !r.body.is_empty() && self.covers(&r.name))
            .cloned()
            .collect()
    }

    /// The set changed only in what is not subscribed to. If that `settles` what was in doubt, nothing of it is left.
    pub fn advance_silently(&mut self, stage: Arc<ResourceSet>, settles: bool) {
        if let Some(last) = self.in_flight.back_mut() {
            last.set = stage.clone();
            last.settles |= settles;
        } else if self.doubt.is_none() || settles {
            self.doubt = None;
            self.error = None;
            self.acked = Some(stage.clone());
        }
        self.sent = Some(stage);
    }

    /// The last response left later than it was made.
    pub fn left(&mut self, now: SystemTime) {
        self.last_sent = Some(now);
    }

    /// A response leaves.
    pub fn sent_now(&mut self, nonce: Nonce, set: Arc<ResourceSet>, settles: bool, asked: bool, now: SystemTime) {
        self.nonce_sent = nonce;
        self.sent = Some(set.clone());
        self.last_sent = Some(now);
        self.in_flight.push_back(InFlight {
            nonce,
            set,
            settles,
            asked,
        });
    }

    /// Of responses without an answer only the last `most` are remembered: a proxy that never answers must not keep every
    /// set that there ever was.
    pub fn forget_beyond(&mut self, most: usize) {
        while self.in_flight.len() > most.max(1)
            && let Some(oldest) = self.in_flight.pop_front()
        {
            self.given_up = oldest.nonce;
            // A rejection of any that comes after it concerns this one, too.
            if let Some(next) = self.in_flight.front_mut() {
                next.asked |= oldest.asked;
            }
        }
    }

    /// `false`: the nonce is not one that waits for an answer.
    pub fn accept(&mut self, nonce: &str) -> bool {
        let Some(done) = self.take_in_flight(nonce).pop() else {
            return false;
        };
        self.nonce_acked = done.nonce;
        if self.doubt.is_none() || (done.settles && !self.unsettled) {
            self.doubt = None;
            self.error = None;
            self.acked = Some(done.set);
        } else if let Some(doubt) = &mut self.doubt {
            doubt.add(&done.set);
        }
        true
    }

    /// `false`: the nonce is not one that waits for an answer, or was given up.
    pub fn reject(&mut self, nonce: &str, error: String) -> bool {
        let dropped = self.take_in_flight(nonce);
        let given_up = dropped.is_empty() && Nonce::parse(nonce).is_some_and(|nonce| nonce <= self.given_up);
        if dropped.is_empty() && !given_up {
            return false;
        }
        let newest = |response: &InFlight| self.sent.as_ref().is_some_and(|sent| same(&response.set, sent));
        self.unsettled = !dropped.last().is_some_and(newest);
        // What was in a response that is forgotten, nobody knows.
        let unknown = given_up || dropped.iter().any(|response| response.asked);
        let mut doubt = match self.doubt.take() {
            Some(doubt) => Doubt {
                is_sure: doubt.is_sure && !unknown,
                ..doubt
            },
            None => Doubt {
                is_sure: self.acked.is_some() && !unknown,
                good: self.acked.clone().unwrap_or_default(),
                uncertain: BTreeSet::new(),
            },
        };
        dropped.iter().for_each(|response| doubt.add(&response.set));
        self.doubt = Some(doubt);
        self.error = Some(error);
        true
    }

    /// Responses up to the one with this nonce, oldest first.
    fn take_in_flight(&mut self, nonce: &str) -> Vec<InFlight> {
        let nonce = Nonce::parse(nonce);
        match self.in_flight.iter().position(|response| Some(response.nonce) == nonce) {
            Some(at) => self.in_flight.drain(..=at).collect(),
            None => Vec::new(),
        }
    }

    /// Whether this nonce was the last one sent.
    pub fn is_current(&self, nonce: &str) -> bool {
        Nonce::parse(nonce) == Some(self.nonce_sent)
    }

    pub fn status(&self) -> TypeStatus {
        let sync = match (&self.error, &self.sent) {
            (Some(_), _) => Sync::Error,
            (None, None) => Sync::NotSent,
            (None, Some(_)) if self.in_flight.is_empty() => Sync::Synced,
            (None, Some(_)) => Sync::Stale,
        };
        let text = |set: &Option<Arc<ResourceSet>>| set.as_ref().map(|s| version(s).to_string()).unwrap_or_default();
        // A proxy that came back with everything was sent nothing, but tools compare nonces.
        let quiet = sync == Sync::Synced && self.nonce_sent == Nonce::default();
        let shown = |nonce: Nonce| if quiet { text(&self.sent) } else { nonce.shown() };
        TypeStatus {
            type_url: self.type_url.clone(),
            sync,
            nonce_sent: shown(self.nonce_sent),
            nonce_acked: shown(self.nonce_acked),
            version_sent: text(&self.sent),
            version_acked: text(&self.acked),
            error: self.error.clone(),
            last_sent: self.last_sent,
        }
    }
}

/// The resources of these names.
fn named<'a>(names: &'a [Arc<str>], set: &'a ResourceSet) -> impl Iterator<Item = &'a Arc<Resource>> {
    names.iter().filter_map(|name| set.get(name))
}

/// Names that are not in the set, in order.
fn missing(names: &NameSet, set: &ResourceSet) -> Vec<Arc<str>> {
    let mut missing: Vec<Arc<str>> = names.iter().filter(|n| set.get(n).is_none()).cloned().collect();
    missing.sort_unstable();
    missing
}
