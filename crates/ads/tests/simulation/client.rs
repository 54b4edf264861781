//! A proxy as Envoy is, and as it may be: slow, rejecting, flapping, vanishing. It checks what it is told as it is
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ads::{Protocol, kinds};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::net::Net;
use crate::random::Random;
use crate::wire::{Ask, Told, Wire, channel};
use crate::world::{POISON, TYPES, is_hidden, refers, version_of};

/// What a proxy does besides what it should.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    /// Longest pause between two responses that it reads, in milliseconds.
    pub slowness: u32,
    /// Leaves after this time at the latest and comes back, in seconds; 0: stays.
    pub flaps: u32,
    /// The control plane waits for its answers however long they take.
    pub patient: bool,
    /// Takes the good parts of a response that it rejects.
    pub takes_parts: bool,
}

/// What the driver wants of all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Wild,
    /// Keep to the protocol and stay.
    Calm,
    /// Report.
    Done,
}

type Held = BTreeMap<String, (String, String)>;

#[derive(Debug)]
pub struct Client {
    pub number: usize,
    pub class: u32,
    pub protocol: Protocol,
    pub habit: Habit,
    replicas: usize,
    random: Random,
    net: Net,
    held: BTreeMap<&'static str, Held>,
    /// Version of the last response that was accepted.
    versions: BTreeMap<&'static str, String>,
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    nonces: BTreeMap<&'static str, String>,
    /// How often something may be repeated, because it was asked for or its cluster was sent.
    owed: BTreeMap<(&'static str, String), usize>,
    /// Types of which something was rejected on this stream: what is known then is uncertain, repetitions are right.
    doubtful: BTreeSet<&'static str>,
    /// What was rejected of the set that was last told on this stream: version of the set and content.
    rejected: BTreeMap<(&'static str, String), (String, String)>,
    /// What it did not take, or had before a stream on which it could not say so: only its own fault if it lacks.
    own_fault: BTreeSet<(&'static str, String)>,
    /// What it stopped to ask for on this stream. When it asks again, what comes first may have left before.
    dropped: BTreeSet<(&'static str, String)>,
    /// Clusters that wait for endpoints.
    warming: BTreeSet<String>,
    /// Responses read, over all streams.
    pub received: usize,
    pub last_received: Option<Instant>,
    pub rejections: usize,
    pub streams: usize,
    /// The last things that happened, for when something is wrong.
    log: std::collections::VecDeque<String>,
}

const ON_DEMAND: [&str; 3] = [kinds::ENDPOINT, kinds::ROUTE, kinds::SECRET];

impl Client {
    pub fn new(number: usize, protocol: Protocol, habit: Habit, replicas: usize, net: Net, random: Random) -> Self {
        Self {
            number,
            class: u32::try_from(number % 2).unwrap(),
            protocol,
            habit,
            replicas,
            random,
            net,
            held: TYPES.map(|url| (url, Held::new())).into(),
            versions: BTreeMap::new(),
            asked: ON_DEMAND.map(|url| (url, BTreeSet::new())).into(),
            nonces: BTreeMap::new(),
            owed: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            rejected: BTreeMap::new(),
            own_fault: BTreeSet::new(),
            dropped: BTreeSet::new(),
            warming: BTreeSet::new(),
            received: 0,
            last_received: None,
            rejections: 0,
            streams: 0,
            log: std::collections::VecDeque::new(),
        }
    }

    /// Lives until the driver has enough.
    pub async fn live(mut self, mut mood: watch::Receiver<Mood>) -> Self {
        while *mood.borrow_and_update() != Mood::Done {
            let replica = usize::try_from(self.random.below(u32::try_from(self.replicas).unwrap())).unwrap();
            if let Ok(channel) = channel(&self.net, self.number, replica).await {
                let ended = self.stream(channel, &mut mood).await;
                self.note(|| format!("stream ended: {ended:?}"));
            }
            if *mood.borrow() == Mood::Done {
                break;
            }
            sleep(Duration::from_millis(100 + u64::from(self.random.below(900)))).await;
        }
        self
    }

    /// One stream, from its opening to its end.
    async fn stream(
        &mut self,
        channel: tonic::transport::Channel,
        mood: &mut watch::Receiver<Mood>,
    ) -> Result<(), tonic::Status> {
        let leaves = (self.habit.flaps > 0)
            .then(|| Instant::now() + Duration::from_secs(u64::from(1 + self.random.below(self.habit.flaps))));
        let first = self.first_words();
        let node = format!("proxy-{}~{}", self.number, self.class);
        // A control plane that does not answer is left alone after a while.
        let opening = Wire::open(self.protocol, channel, &node, first);
        let mut wire = tokio::time::timeout(Duration::from_secs(60), opening)
            .await
            .map_err(|_| tonic::Status::deadline_exceeded("no answer"))??;
        self.streams += 1;
        loop {
            let calm = *mood.borrow_and_update() != Mood::Wild;
            let far = Instant::now() + Duration::from_secs(86_400);
            tokio::select! {
                // Of what happens at the same moment nothing is left to chance.
                biased;
                changed = mood.changed() => {
                    if changed.is_err() || *mood.borrow() == Mood::Done {
                        return Ok(());
                    }
                }
                () = sleep_until(leaves.unwrap_or(far)), if !calm && leaves.is_some() => {
                    if self.random.one_in(2) {
                        // Its machine is gone: nobody tells the other side.
                        self.net.lose(self.number);
                    }
                    return Ok(());
                }
                told = wire.next() => {
                    let Some(told) = told? else { return Ok(()) };
                    for ask in self.hear(told) {
                        wire.ask(ask).await;
                    }
                    if self.habit.slowness > 0 && *mood.borrow() == Mood::Wild {
                        let pause = Duration::from_millis(u64::from(self.random.below(self.habit.slowness)));
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    fn first_words(&mut self) -> Vec<Ask> {
        self.note(|| "connects".to_owned());
        self.nonces.clear();
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
        for url in TYPES {
            let names: Vec<String> = self.asked.get(url).into_iter().flatten().cloned().collect();
            if names.is_empty() && ON_DEMAND.contains(&url) {
                continue;
            }
            // The last stream may have broken between a cluster and its endpoints, which only this side knows.
            let warms = |name: &str| url == kinds::ENDPOINT && self.held[kinds::CLUSTER].contains_key(name);
            let comes =
                |name: &&String| self.protocol == Protocol::Sotw || !self.held[url].contains_key(*name) || warms(name);
            for name in names.iter().filter(comes) {
                *self.owed.entry((url, name.clone())).or_default() += 1;
            }
            first.push(Ask {
                url,
                names,
                held: self.held[url]
                    .iter()
                    .map(|(name, (version, _))| (name.clone(), version.clone()))
                    .collect(),
                version: self.versions.get(url).cloned().unwrap_or_default(),
                ..Ask::default()
            });
        }
        first
    }

    /// Takes a response in, or rejects it; answers, and asks for what it refers to.
    fn hear(&mut self, told: Told) -> Vec<Ask> {
        self.received += 1;
        self.last_received = Some(Instant::now());
        self.note(|| {
            let names: Vec<String> = told
                .resources
                .iter()
                .map(|(n, (_, c))| format!("{n}={}", version_of(c)))
                .collect();
            format!(
                "{} {} {}: {} -{}",
                kinds::short_name(told.url),
                told.nonce,
                told.version,
                names.join(" "),
                told.removed.join(" -")
            )
        });
        let url = told.url;
        self.nonces.insert(url, told.nonce.clone());
        self.check_told(&told);
        // Another set is a change, even if the next one is as the rejected one was.
        self.rejected
            .retain(|(kind, _), (version, _)| *kind != url || *version == told.version);
        let bad: Vec<String> = told
            .resources
            .iter()
            .filter(|(_, (_, content))| version_of(content) == POISON)
            .map(|(name, _)| name.clone())
            .collect();
        let answer = if bad.is_empty() {
            self.take(&told, &[]);
            self.versions.insert(url, told.version.clone());
            self.answer(url, None)
        } else {
            self.rejections += 1;
            self.doubtful.insert(url);
            let refused = |(name, (_, content)): (&String, &(String, String))| {
                ((url, name.clone()), (told.version.clone(), content.clone()))
            };
            self.rejected.extend(told.resources.iter().map(refused));
            if self.habit.takes_parts {
                self.take(&told, &bad);
                self.own_fault.extend(bad.into_iter().map(|name| (url, name)));
            } else {
                let names = told.resources.keys().chain(&told.removed);
                self.own_fault.extend(names.map(|name| (url, name.clone())));
            }
            self.answer(url, Some("cannot read it".to_owned()))
        };
        let mut asks = vec![answer];
        asks.extend(self.follow());
        asks
    }

    fn answer(&self, url: &'static str, error: Option<String>) -> Ask {
        let names = if self.protocol == Protocol::Sotw {
            self.asked.get(url).into_iter().flatten().cloned().collect()
        } else {
            Vec::new()
        };
        Ask {
            url,
            names,
            version: self.versions.get(url).cloned().unwrap_or_default(),
            nonce: self.nonces[url].clone(),
            error,
            ..Ask::default()
        }
    }

    fn check_told(&mut self, told: &Told) {
        let url = told.url;
        for name in told.resources.keys().chain(&told.removed) {
            assert!(
                !is_hidden(self.class, name),
                "{} of another class\n{}",
                name,
                self.story()
            );
        }
        if url == kinds::CLUSTER {
            for (name, (_, content)) in &told.resources {
                let changed = self.held[url].get(name).is_none_or(|(_, held)| held != content);
                let doubted = self.doubtful.contains(url);
                if self.protocol == Protocol::Delta || changed || doubted {
                    *self.owed.entry((kinds::ENDPOINT, name.clone())).or_default() += 1;
                }
            }
        }
        for (name, (_, content)) in &told.resources {
            let key = (url, name.clone());
            let rejected = self.rejected.get(&key);
            let retried = rejected.is_some_and(|(set, old)| *set == told.version && old == content);
            let whole = self.protocol == Protocol::Sotw && kinds::is_wildcard(url);
            let known = !whole && self.held[url].get(name).is_some_and(|(_, held)| held == content);
            let known = known && !self.doubtful.contains(url);
            // What was asked for may have been on its way already: the permission is for the next time.
            if !retried && !known {
                continue;
            }
            let left = self.owed.entry(key).or_default();
            let allowed = *left > 0;
            *left = left.saturating_sub(1);
            let what = if retried { "rejected" } else { "known" };
            assert!(
                allowed,
                "{what} {name} of {url} was sent again unchanged\n{}",
                self.story()
            );
        }
        if self.protocol == Protocol::Sotw && kinds::is_wildcard(url) && !self.doubtful.contains(url) {
            let again = self.versions.get(url) == Some(&told.version);
            assert!(!again, "{url} was sent again unchanged\n{}", self.story());
        }
    }

    /// Applies a response except for some of its resources.
    fn take(&mut self, told: &Told, except: &[String]) {
        let url = told.url;
        let held = self.held.get_mut(url).unwrap();
        let mut gone: Vec<String> = told.removed.clone();
        if self.protocol == Protocol::Sotw && kinds::is_wildcard(url) {
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
            if url == kinds::CLUSTER && before.is_none_or(|(_, content)| content != resource.1) {
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
        let lacks = |url: &'static str, name: &str| {
            !self.held[url].contains_key(name) && !self.own_fault.contains(&(url, name.to_owned()))
        };
        for (holder, held) in &self.held {
            for (name, (_, content)) in held {
                if self.may_be_old(holder, name) {
                    continue;
                }
                for other in refers(content) {
                    let kind = kind_of(other);
                    let at_once = kind == kinds::CLUSTER;
                    let taken_away = kind == url && gone.iter().any(|name| name == other);
                    let broken = lacks(kind, other) && (at_once || taken_away);
                    assert!(
                        !broken,
                        "{name} of {holder} refers to {other}, which is not there\n{}",
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
        !self.habit.patient && (self.own_fault.contains(&key) || self.dropped.contains(&key))
    }

    /// What is referred to, by type.
    pub fn wanted(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut wanted: BTreeMap<&'static str, BTreeSet<String>> = ON_DEMAND.map(|url| (url, BTreeSet::new())).into();
        wanted.insert(kinds::ENDPOINT, self.held[kinds::CLUSTER].keys().cloned().collect());
        for url in [kinds::CLUSTER, kinds::LISTENER] {
            for (_, content) in self.held[url].values() {
                for name in refers(content) {
                    wanted.get_mut(kind_of(name)).unwrap().insert(name.to_owned());
                }
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
            if add.is_empty() && drop.is_empty() {
                continue;
            }
            // A request without a nonce starts the subscription again, so that all of it is answered.
            let anew = self.protocol == Protocol::Sotw && !self.nonces.contains_key(url);
            for name in if anew {
                wanted.iter().collect()
            } else {
                add.iter().collect::<Vec<_>>()
            } {
                *self.owed.entry((url, name.clone())).or_default() += 1;
            }
            self.dropped.extend(drop.iter().map(|name| (url, name.clone())));
            self.held.get_mut(url).unwrap().retain(|name, _| wanted.contains(name));
            self.warming
                .retain(|name| wanted.contains(name) || url != kinds::ENDPOINT);
            self.asked.insert(url, wanted);
            self.note(|| {
                format!(
                    "asks {} +{} -{}",
                    kinds::short_name(url),
                    add.join(" +"),
                    drop.join(" -")
                )
            });
            asks.push(match self.protocol {
                Protocol::Delta => Ask {
                    url,
                    names: add,
                    drop,
                    ..Ask::default()
                },
                Protocol::Sotw if self.nonces.contains_key(url) => self.answer(url, None),
                Protocol::Sotw => Ask {
                    url,
                    names: self.asked[url].iter().cloned().collect(),
                    ..Ask::default()
                },
            });
        }
        asks
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.log.len() >= 100 {
            self.log.pop_front();
        }
        self.log.push_back(text());
    }

    pub fn story(&self) -> String {
        let log: Vec<&str> = self.log.iter().map(String::as_str).collect();
        format!(
            "client {} {:?} {:?}:\n  {}",
            self.number,
            self.protocol,
            self.habit,
            log.join("\n  ")
        )
    }

    /// Name → content of what it has.
    pub fn has(&self, url: &str) -> BTreeMap<String, String> {
        self.held[url]
            .iter()
            .map(|(name, (_, content))| (name.clone(), content.clone()))
            .collect()
    }

    pub fn warming(&self) -> &BTreeSet<String> {
        &self.warming
    }
}

/// Type of what has that name.
fn kind_of(name: &str) -> &'static str {
    match name.as_bytes().first() {
        Some(b'c') => kinds::CLUSTER,
        Some(b'r') => kinds::ROUTE,
        Some(b's') => kinds::SECRET,
        _ => panic!("nothing is called {name}"),
    }
}
