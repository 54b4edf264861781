//! What a proxy holds, asks for and expects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ads::{Protocol, kinds};
use xds::google::protobuf::Any;

use crate::{Ask, Resource, Told};

/// What resources of a test say.
pub trait Configuration {
    /// Types, in the order in which they are asked for.
    const TYPES: &'static [&'static str];

    /// Name of a resource: on the outside it has none where full states are sent.
    fn name(any: &Any) -> String;

    /// What it refers to, as type and name. A cluster whose endpoints are asked for refers to those.
    fn refers(url: &'static str, any: &Any) -> Vec<(&'static str, String)>;

    /// How it shows in a story.
    fn label(any: &Any) -> String;
}

/// Resources by name.
pub type Held = BTreeMap<String, Resource>;
/// Type and name.
type Key = (&'static str, String);

/// How a response is rejected.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// Only these are not taken, as Envoy does with some types; without any, nothing is.
    pub only: Option<Vec<String>>,
    /// The control plane did not wait for the answer, and may have gone on.
    pub late: bool,
}

/// A proxy as Envoy is: it asks for what it is referred to, and answers responses in their order, at once or later.
#[derive(Debug)]
pub struct Envoy<C> {
    protocol: Protocol,
    held: BTreeMap<&'static str, Held>,
    /// Version of the last response that was accepted.
    versions: BTreeMap<&'static str, String>,
    /// Names that are asked for, of types that are not sent whole.
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    /// What is asked for although nothing refers to it.
    extra: BTreeSet<Key>,
    /// The last response of this stream.
    nonces: BTreeMap<&'static str, String>,
    unanswered: VecDeque<Told>,
    /// How often something may be repeated, because it was asked for or its cluster was sent.
    owed: BTreeMap<Key, usize>,
    /// Whether such a permission is used by what comes next, known or not. Otherwise it is kept for what is known: what
    /// was asked for may have been on its way already.
    strict: bool,
    /// Types of which something was rejected on this stream: what is known then is uncertain, repetitions are right.
    doubtful: BTreeSet<&'static str>,
    /// Types of which it holds no set that there ever was.
    in_part: BTreeSet<&'static str>,
    /// What was rejected of the set that was last told on this stream: version of the set and content.
    rejected: BTreeMap<Key, (String, Any)>,
    /// What it did not take, or had before a stream on which it could not say so: only its own fault if it lacks.
    own_fault: BTreeSet<Key>,
    /// What it kept when it rejected the next one so late that the control plane may have gone on.
    kept: BTreeSet<Key>,
    /// What it stopped to ask for on this stream. When it asks again, what comes first may have left before.
    dropped: BTreeSet<Key>,
    /// Whether the control plane waits for answers however long they take.
    patient: bool,
    /// What the configuration itself refers to in vain.
    absent: BTreeSet<Key>,
    /// Clusters that wait for endpoints: they changed, and nothing of them came since. No stream's end ends that.
    warming: BTreeSet<String>,
    story: VecDeque<String>,
    configuration: std::marker::PhantomData<C>,
}

impl<C: Configuration> Envoy<C> {
    /// A proxy that has nothing yet. `patient`: its control plane waits for its answers however long they take.
    pub fn new(protocol: Protocol, patient: bool, strict: bool) -> Self {
        let on_demand = C::TYPES.iter().filter(|url| !kinds::is_wildcard(url));
        Self {
            protocol,
            held: C::TYPES.iter().map(|url| (*url, Held::new())).collect(),
            versions: BTreeMap::new(),
            asked: on_demand.map(|url| (*url, BTreeSet::new())).collect(),
            extra: BTreeSet::new(),
            nonces: BTreeMap::new(),
            unanswered: VecDeque::new(),
            owed: BTreeMap::new(),
            strict,
            doubtful: BTreeSet::new(),
            in_part: BTreeSet::new(),
            rejected: BTreeMap::new(),
            own_fault: BTreeSet::new(),
            kept: BTreeSet::new(),
            dropped: BTreeSet::new(),
            patient,
            absent: BTreeSet::new(),
            warming: BTreeSet::new(),
            story: VecDeque::new(),
            configuration: std::marker::PhantomData,
        }
    }

    /// The protocol that it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Its first words on a new stream.
    pub fn connect(&mut self) -> Vec<Ask> {
        self.note(|| "connects".to_owned());
        self.nonces.clear();
        self.unanswered.clear();
        self.owed.clear();
        self.doubtful.clear();
        self.rejected.clear();
        self.dropped.clear();
        if self.protocol == Protocol::Sotw {
            let names =
                |(url, held): (&&'static str, &Held)| held.keys().map(|n| (*url, n.clone())).collect::<Vec<_>>();
            self.own_fault.extend(self.held.iter().flat_map(names));
        }
        let mut first = Vec::new();
        for url in C::TYPES.iter().copied() {
            let names: Vec<String> = self.asked.get(url).into_iter().flatten().cloned().collect();
            if names.is_empty() && !kinds::is_wildcard(url) {
                continue;
            }
            // The last stream may have broken between a cluster and its endpoints, which only this side knows.
            let warms = |name: &str| url == kinds::ENDPOINT && self.held[kinds::CLUSTER].contains_key(name);
            let comes =
                |name: &&String| self.protocol == Protocol::Sotw || !self.held[url].contains_key(*name) || warms(name);
            for name in names.iter().filter(comes) {
                *self.owed.entry((url, name.clone())).or_default() += 1;
            }
            let versions = self.held[url]
                .iter()
                .map(|(name, known)| (name.clone(), known.version.clone()));
            first.push(Ask {
                url,
                names,
                held: versions.collect(),
                version: self.versions.get(url).cloned().unwrap_or_default(),
                ..Ask::default()
            });
        }
        first
    }

    /// A response comes in. It is checked, and waits for its answer.
    ///
    /// # Panics
    /// It should not have been sent.
    pub fn receive(&mut self, told: Told) {
        self.note(|| {
            let resources = told.resources.iter();
            let names: Vec<String> = resources
                .map(|(n, told)| format!("{n}={}", C::label(&told.content)))
                .collect();
            let (names, removed) = (names.join(" "), told.removed.join(" -"));
            format!(
                "{} {} {}: {names} -{removed}",
                kinds::short_name(told.url),
                told.nonce,
                told.version
            )
        });
        self.nonces.insert(told.url, told.nonce.clone());
        self.check_told(&told);
        self.unanswered.push_back(told);
    }

    /// Accepts the oldest response that is not answered, and asks for what it refers to.
    ///
    /// # Panics
    /// Something is referred to that is not there.
    pub fn accept(&mut self) -> Vec<Ask> {
        let Some(told) = self.unanswered.pop_front() else {
            return Vec::new();
        };
        let url = told.url;
        self.versions.insert(url, told.version.clone());
        self.in_part.remove(url);
        self.take(&told, &[]);
        let mut asks = vec![self.answer(url, told.nonce, None)];
        asks.extend(self.follow());
        asks
    }

    /// Rejects the oldest response that is not answered.
    ///
    /// # Panics
    /// Something is referred to that is not there.
    pub fn reject(&mut self, refused: Refused) -> Vec<Ask> {
        let Some(told) = self.unanswered.pop_front() else {
            return Vec::new();
        };
        let url = told.url;
        self.doubtful.insert(url);
        // If something else was sent since, going back is a change.
        if self.unanswered.iter().all(|later| later.url != url) {
            let content = |(name, resource): (&String, &Resource)| {
                ((url, name.clone()), (told.version.clone(), resource.content.clone()))
            };
            self.rejected.extend(told.resources.iter().map(content));
        }
        let missed: Vec<Key> = match refused.only {
            Some(bad) => {
                self.in_part.insert(url);
                self.take(&told, &bad);
                bad.into_iter().map(|name| (url, name)).collect()
            }
            None => {
                let names = told.resources.keys().chain(&told.removed);
                names.map(|name| (url, name.clone())).collect()
            }
        };
        if refused.late {
            self.kept.extend(missed.iter().cloned());
        }
        self.own_fault.extend(missed);
        let mut asks = vec![self.answer(url, told.nonce, Some(refused.reason))];
        asks.extend(self.follow());
        asks
    }

    /// Asks for something that nothing refers to, whether or not it asks for it already.
    pub fn ask_for(&mut self, url: &'static str, name: &str) -> Ask {
        self.extra.insert((url, name.to_owned()));
        self.ask(url, vec![name.to_owned()], Vec::new())
    }

    /// Does without it again.
    pub fn stop_asking_for(&mut self, url: &'static str, name: &str) -> Vec<Ask> {
        self.extra.remove(&(url, name.to_owned()));
        self.follow()
    }

    /// Names something of a type that is sent whole, or names it no longer. It still sees all, so it is told in both
    /// cases.
    pub fn name(&mut self, url: &'static str, names: Vec<String>, drop: Vec<String>) -> Ask {
        for name in names.iter().chain(&drop) {
            *self.owed.entry((url, name.clone())).or_default() += 1;
        }
        Ask {
            url,
            names,
            drop,
            ..Ask::default()
        }
    }

    /// What the configuration itself refers to in vain from now on, besides what it did before.
    pub fn note_absent(&mut self, absent: impl IntoIterator<Item = Key>) {
        self.absent.extend(absent);
    }

    fn answer(&self, url: &'static str, nonce: String, error: Option<String>) -> Ask {
        let names = match self.protocol {
            Protocol::Sotw => self.asked.get(url).into_iter().flatten().cloned().collect(),
            Protocol::Delta => Vec::new(),
        };
        Ask {
            url,
            names,
            version: self.versions.get(url).cloned().unwrap_or_default(),
            nonce,
            error,
            ..Ask::default()
        }
    }

    /// What it has when all that was received is accepted.
    fn will_hold(&self, url: &'static str) -> Held {
        let mut held = self.held[url].clone();
        for told in self.unanswered.iter().filter(|told| told.url == url) {
            self.apply(&mut held, told);
        }
        held
    }

    fn apply(&self, held: &mut Held, told: &Told) {
        if self.is_whole(told.url) {
            held.clear();
        }
        told.removed.iter().for_each(|name| drop(held.remove(name)));
        held.extend(told.resources.clone());
    }

    /// Whether each response holds all there is.
    fn is_whole(&self, url: &str) -> bool {
        self.protocol == Protocol::Sotw && kinds::is_wildcard(url)
    }

    /// Nothing is repeated that the proxy has or rejected, unless it asked, its cluster was sent, or it rejected something.
    fn check_told(&mut self, told: &Told) {
        let url = told.url;
        let held = self.will_hold(url);
        let doubted = self.doubtful.contains(url);
        if url == kinds::CLUSTER {
            for (name, resource) in &told.resources {
                let changed = held.get(name).is_none_or(|held| held.content != resource.content);
                if self.protocol == Protocol::Delta || changed || doubted {
                    *self.owed.entry((kinds::ENDPOINT, name.clone())).or_default() += 1;
                }
            }
        }
        if self.is_whole(url) && !doubted {
            let last = self.unanswered.iter().rev().find(|earlier| earlier.url == url);
            let last = last.map(|earlier| &earlier.version).or(self.versions.get(url));
            let same = held.len() == told.resources.len()
                && told
                    .resources
                    .iter()
                    .all(|(name, resource)| held.get(name).is_some_and(|held| held.content == resource.content));
            let again = last == Some(&told.version) || (last.is_some() && same && !self.in_part.contains(url));
            assert!(!again, "{url} was sent again unchanged\n{}", self.story());
        }
        // Another set is a change, even if the next one is as the rejected one was.
        self.rejected
            .retain(|(kind, _), (version, _)| *kind != url || *version == told.version);
        for (name, Resource { content, .. }) in &told.resources {
            let key = (url, name.clone());
            let retried = self.rejected.get(&key).is_some_and(|(_, rejected)| rejected == content);
            let known = !self.is_whole(url) && held.get(name).is_some_and(|held| held.content == *content);
            let known = known && !doubted;
            if !self.strict && !retried && !known {
                continue;
            }
            let left = self.owed.entry(key).or_default();
            let allowed = *left > 0;
            *left = left.saturating_sub(1);
            let what = if retried { "rejected" } else { "known" };
            assert!(
                allowed || !(retried || known),
                "{what} {name} of {url} was sent again unchanged\n{}",
                self.story()
            );
        }
    }

    /// Applies a response except for some of its resources.
    fn take(&mut self, told: &Told, except: &[String]) {
        let url = told.url;
        let whole = self.is_whole(url);
        let Some(held) = self.held.get_mut(url) else { return };
        let mut gone: Vec<String> = told.removed.clone();
        if whole {
            gone.extend(held.keys().filter(|name| !told.resources.contains_key(*name)).cloned());
        }
        // What it never had is only said not to exist.
        gone.retain(|name| held.remove(name).is_some());
        // What is no longer asked for falls on the floor.
        let asked = self.asked.get(url);
        let taken = |name: &String| !except.contains(name) && asked.is_none_or(|asked| asked.contains(name));
        for (name, resource) in told.resources.iter().filter(|(name, _)| taken(name)) {
            let before = held.insert(name.clone(), resource.clone());
            self.own_fault.remove(&(url, name.clone()));
            self.kept.remove(&(url, name.clone()));
            let waits = || resource.refers.contains(&(kinds::ENDPOINT, name.clone()));
            // A cluster that is another one is used when its endpoints came after it.
            if url == kinds::CLUSTER && before.is_none_or(|before| before.content != resource.content) && waits() {
                self.warming.insert(name.clone());
            }
            if url == kinds::ENDPOINT {
                self.warming.remove(name);
            }
        }
        self.check_references(url, &gone);
    }

    /// Make before break: nothing that is used was taken away, and no route came before its clusters.
    fn check_references(&self, url: &'static str, gone: &[String]) {
        let lacks = |key: &Key| {
            !self.held[key.0].contains_key(&key.1) && !self.own_fault.contains(key) && !self.absent.contains(key)
        };
        for (holder, held) in &self.held {
            for (name, resource) in held {
                if self.may_be_old(holder, name) {
                    continue;
                }
                for other in &resource.refers {
                    let at_once = other.0 == kinds::CLUSTER;
                    let taken_away = other.0 == url && other.0 != kinds::ENDPOINT && gone.contains(&other.1);
                    assert!(
                        !(lacks(other) && (at_once || taken_away)),
                        "{name} of {holder} refers to {}, which is not there\n{}",
                        other.1,
                        self.story()
                    );
                }
            }
        }
        if url == kinds::ENDPOINT {
            let orphan = gone.iter().find(|name| self.held[kinds::CLUSTER].contains_key(*name));
            let orphan = orphan.filter(|name| !self.own_fault.contains(&(kinds::CLUSTER, (*name).clone())));
            assert!(
                orphan.is_none(),
                "endpoints of {orphan:?} went before it\n{}",
                self.story()
            );
        }
    }

    /// Who lets the server wait for so long that it goes on may find that something refers to nothing: what it kept when
    /// it rejected the next, or what it took in that had left before it asked for it again.
    fn may_be_old(&self, url: &'static str, name: &str) -> bool {
        let key = (url, name.to_owned());
        self.kept.contains(&key) || !self.patient && self.dropped.contains(&key)
    }

    /// What is referred to or asked for besides, by type.
    pub fn wanted(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut wanted: BTreeMap<_, BTreeSet<String>> = self.asked.keys().map(|url| (*url, BTreeSet::new())).collect();
        let resources = self.held.values().flat_map(BTreeMap::values);
        let referred = resources.flat_map(|resource| &resource.refers);
        for (url, name) in referred.chain(&self.extra) {
            if let Some(names) = wanted.get_mut(url) {
                names.insert(name.clone());
            }
        }
        wanted
    }

    /// Subscribes to what is referred to, and drops the rest.
    fn follow(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        for (url, wanted) in self.wanted() {
            let asked = &self.asked[url];
            let add: Vec<String> = wanted.difference(asked).cloned().collect();
            let drop: Vec<String> = asked.difference(&wanted).cloned().collect();
            if !add.is_empty() || !drop.is_empty() {
                asks.push(self.ask(url, add, drop));
            }
        }
        asks
    }

    fn ask(&mut self, url: &'static str, add: Vec<String>, drop: Vec<String>) -> Ask {
        self.note(|| {
            let (add, drop) = (add.join(" +"), drop.join(" -"));
            format!("asks {} +{add} -{drop}", kinds::short_name(url))
        });
        let asked = self.asked.entry(url).or_default();
        asked.extend(add.iter().cloned());
        asked.retain(|name| !drop.contains(name));
        // A request without a nonce starts the subscription again, so that all of it is answered.
        let nonce = self
            .nonces
            .get(url)
            .filter(|_| self.protocol == Protocol::Sotw)
            .cloned();
        let anew = self.protocol == Protocol::Sotw && nonce.is_none();
        let answered: Vec<String> = if anew {
            asked.iter().cloned().collect()
        } else {
            add.clone()
        };
        for name in answered {
            *self.owed.entry((url, name)).or_default() += 1;
        }
        self.dropped.extend(drop.iter().map(|name| (url, name.clone())));
        let asked = &self.asked[url];
        if let Some(held) = self.held.get_mut(url) {
            held.retain(|name, _| asked.contains(name));
        }
        self.warming
            .retain(|name| asked.contains(name) || url != kinds::ENDPOINT);
        match self.protocol {
            Protocol::Delta => Ask {
                url,
                names: add,
                drop,
                ..Ask::default()
            },
            Protocol::Sotw => self.answer(url, nonce.unwrap_or_default(), None),
        }
    }

    /// What it has of a type.
    pub fn held(&self, url: &str) -> &Held {
        &self.held[url]
    }

    /// The oldest response that is not answered.
    pub fn unanswered(&self) -> Option<&Told> {
        self.unanswered.front()
    }

    /// Whether something was rejected on this stream.
    pub fn is_doubtful(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Clusters that wait for endpoints.
    pub fn warming(&self) -> &BTreeSet<String> {
        &self.warming
    }

    /// Adds to the story.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.story.len() >= 100 {
            self.story.pop_front();
        }
        self.story.push_back(text());
    }

    /// The last things that happened, for when something is wrong.
    pub fn story(&self) -> String {
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        format!("{:?}:\n  {}", self.protocol, story.join("\n  "))
    }
}
