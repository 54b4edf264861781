//! A proxy as Envoy is, and as it may be: slow, rejecting, flapping, vanishing. It checks what it is told as it is
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ads::Protocol;
use fake_envoy::{Ask, Envoy, Refused, Resource, Told, text};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::net::Net;
use crate::random::Random;
use crate::wire::{Wire, channel};
use crate::world::{POISON, Words, is_hidden, version_of};

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

#[derive(Debug)]
pub struct Client {
    pub number: usize,
    pub class: u32,
    pub habit: Habit,
    replicas: usize,
    random: Random,
    net: Net,
    envoy: Envoy<Words>,
    /// Responses read, over all streams.
    pub received: usize,
    pub last_received: Option<Instant>,
    /// All that was told, and when since the beginning.
    pub trace: Vec<String>,
    born: Instant,
}

impl Client {
    pub fn new(number: usize, protocol: Protocol, habit: Habit, replicas: usize, net: Net, random: Random) -> Self {
        Self {
            number,
            class: u32::try_from(number % 2).unwrap(),
            habit,
            replicas,
            random,
            net,
            envoy: Envoy::new(protocol, habit.patient, false),
            received: 0,
            last_received: None,
            trace: Vec::new(),
            born: Instant::now(),
        }
    }

    /// Lives until the driver has enough.
    pub async fn live(mut self, mut mood: watch::Receiver<Mood>) -> Self {
        while *mood.borrow_and_update() != Mood::Done {
            let replica = usize::try_from(self.random.below(u32::try_from(self.replicas).unwrap())).unwrap();
            if let Ok(channel) = channel(&self.net, self.number, replica).await {
                let ended = self.stream(channel, &mut mood).await;
                self.envoy.note(|| format!("stream ended: {ended:?}"));
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
        let first = self.envoy.connect();
        let node = format!("proxy-{}~{}", self.number, self.class);
        // A control plane that does not answer is left alone after a while.
        let opening = Wire::open(self.envoy.protocol(), channel, &node, first);
        let mut wire = tokio::time::timeout(Duration::from_secs(60), opening)
            .await
            .map_err(|_| tonic::Status::deadline_exceeded("no answer"))??;
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

    /// Takes a response in, or rejects it; answers, and asks for what it refers to.
    fn hear(&mut self, told: Told) -> Vec<Ask> {
        self.received += 1;
        self.last_received = Some(Instant::now());
        let names: Vec<&str> = told.resources.keys().map(String::as_str).collect();
        let (when, names, removed) = (self.born.elapsed(), names.join(" "), told.removed.join(" -"));
        self.trace.push(format!(
            "{when:?} {} {} {}: {names} -{removed}",
            told.url, told.nonce, told.version
        ));
        let of_another = told
            .resources
            .keys()
            .chain(&told.removed)
            .find(|name| is_hidden(self.class, name));
        assert_eq!(of_another, None, "another class's was told\n{}", self.story());
        let is_bad =
            |(name, told): (&String, &Resource)| (version_of(&text(&told.content)) == POISON).then(|| name.clone());
        let bad: Vec<String> = told.resources.iter().filter_map(is_bad).collect();
        self.envoy.receive(told);
        if bad.is_empty() {
            return self.envoy.accept();
        }
        self.envoy.reject(Refused {
            reason: "cannot read it".to_owned(),
            only: self.habit.takes_parts.then_some(bad),
            late: !self.habit.patient,
        })
    }

    pub fn story(&self) -> String {
        format!("client {} {:?} {}", self.number, self.habit, self.envoy.story())
    }

    /// What is referred to, by type.
    pub fn wanted(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        self.envoy.wanted()
    }

    /// Name → content of what it has.
    pub fn has(&self, url: &str) -> BTreeMap<String, String> {
        let held = self.envoy.held(url).iter();
        held.map(|(name, known)| (name.clone(), text(&known.content))).collect()
    }

    pub fn warming(&self) -> &BTreeSet<String> {
        self.envoy.warming()
    }
}
