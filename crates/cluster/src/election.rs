//! Who of several replicas and revisions may write (revisions.md §4.2).
//!
//! The lock is a ConfigMap annotation, the same object and format that Istio's own replicas use, so the two exclude
//! each other. It expires when it was not renewed for its duration *as seen by the observer*: clocks are not compared.
//!
//! There are never two leaders. A holder leads until a fixed time after it *asked* for its last renewal, whatever the
//! API answers meanwhile; who takes the lock from a living holder waits for longer than that before it leads. Nobody
//! takes it back at once, so two that do not agree on the default revision do not keep the API busy.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use revision::leadership::{Key, may_steal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::{Meter, Unwritten};
use crate::events;

/// Annotation of the lock.
const RECORD: &str = "control-plane.alpha.kubernetes.io/leader";
/// A lock that is not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(30);
/// A holder that could not renew for this long stops.
const RENEWAL: Duration = Duration::from_secs(15);
/// Who took the lock from a living holder leads after this time: the holder has stopped by then.
const HANDOVER: Duration = Duration::from_secs(16);
/// Time between two looks at the lock.
const RETRY: Duration = Duration::from_millis(7500);
/// The same after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// The same after a race.
const AGAIN: Duration = Duration::from_millis(200);
/// Lock of the writer of root certificates.
pub const NAMESPACE_CONTROLLER: &str = "istio-namespace-controller-election";

/// The lock's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Pod that holds it; empty if it was given up.
    pub holder_identity: String,
    /// Revision of the holder.
    pub holder_key: String,
    /// After this many seconds without renewal it is free.
    pub lease_duration_seconds: u64,
    /// When the holder got it.
    pub acquire_time: Option<String>,
    /// When the holder renewed it last.
    pub renew_time: Option<String>,
    /// How often the holder changed.
    pub leader_transitions: u64,
}

/// What the lock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock<'a> {
    /// Nothing: nobody has had it yet.
    Unheld,
    /// Who has it.
    Held(&'a Record),
    /// Something that cannot be read. Its holder may live all the same.
    Unreadable,
}

/// What to do about the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is mine: renew it.
    Renew,
    /// It is free.
    Acquire,
    /// Its holder lives, and it is mine to take over.
    Steal,
    /// Somebody else has it.
    Wait,
}

/// Decides by the lock's content, for how long it has not changed, and which revision is the default.
pub fn decide(lock: Lock<'_>, unchanged: Duration, me: &Candidate, default: Option<&str>) -> Step {
    let record = match lock {
        Lock::Held(record) => record,
        Lock::Unreadable if unchanged <= DURATION => return Step::Wait,
        Lock::Unheld | Lock::Unreadable => return Step::Acquire,
    };
    if record.holder_identity == me.identity {
        return Step::Renew;
    }
    if record.holder_identity.is_empty() || unchanged > Duration::from_secs(record.lease_duration_seconds.max(1)) {
        return Step::Acquire;
    }
    let own = Key {
        revision: me.revision.clone(),
        remote: false,
    };
    if may_steal(&own, &Key::parse(&record.holder_key), default) {
        Step::Steal
    } else {
        Step::Wait
    }
}

/// Who runs for election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Pod name.
    pub identity: String,
    /// Revision.
    pub revision: String,
    /// System namespace, where the locks are.
    pub namespace: String,
}

/// An election to run.
#[derive(Debug)]
pub struct Election {
    /// Name of the lock.
    pub name: &'static str,
    /// Who runs.
    pub me: Candidate,
    /// The name of the default revision, which may take the lock from another revision.
    pub default: watch::Receiver<Option<String>>,
    /// Told whether this process leads.
    pub leads: watch::Sender<bool>,
    /// Allowance of writes.
    pub meter: Meter,
}

impl Election {
    /// Runs until `ending`, then gives the lock up, which is when the task ends.
    pub fn run(self, client: &Client, ending: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
        let maps = Api::namespaced(client.clone(), &self.me.namespace);
        tokio::spawn(Run::new(self, maps).run(ending))
    }
}

/// The lock is ours.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    /// When the holder before has surely stopped.
    leads_from: Instant,
}

/// How a look at the lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The lock is ours.
    Holds,
    /// It is somebody else's.
    Follows,
    /// Somebody wrote it at the same moment; looking again at once tells more.
    Raced,
}

struct Run {
    election: Election,
    maps: Api<ConfigMap>,
    /// Last content, and since when it has been that.
    seen: Option<(String, Instant)>,
    held: Option<Held>,
    /// When somebody took the lock from us.
    robbed: Option<Instant>,
    /// The time of day at one instant; times of records follow from it.
    epoch: (Timestamp, Instant),
}

impl Run {
    fn new(election: Election, maps: Api<ConfigMap>) -> Self {
        Self {
            election,
            maps,
            seen: None,
            held: None,
            robbed: None,
            epoch: (Timestamp::now(), Instant::now()),
        }
    }

    async fn run(mut self, mut ending: watch::Receiver<bool>) {
        loop {
            let limit = self
                .held
                .map_or_else(|| Instant::now() + RENEWAL, |held| held.renewed + RENEWAL);
            let mut pause = match tokio::time::timeout_at(limit, self.turn()).await {
                Ok(Ok(Turn::Holds | Turn::Follows)) => RETRY,
                Ok(Ok(Turn::Raced)) => AGAIN,
                Ok(Err(error)) => {
                    tracing::warn!(lock = self.election.name, %error, "leader lock not reached");
                    AFTER_FAILURE
                }
                Err(_) => {
                    tracing::warn!(lock = self.election.name, "the API server does not answer");
                    AGAIN
                }
            };
            let now = Instant::now();
            // What was asked too long ago is lost, whether or not an answer is still to come.
            self.held = self.held.filter(|held| now < held.renewed + RENEWAL);
            if let Some(held) = self.held {
                let times = [held.renewed + RENEWAL, held.leads_from];
                for until in times
                    .iter()
                    .filter_map(|time| time.checked_duration_since(now))
                    .filter(|d| !d.is_zero())
                {
                    pause = pause.min(until);
                }
            }
            self.tell(self.held.is_some_and(|held| held.leads_from <= now));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.election.default.changed() => {}
                Ok(_) = ending.wait_for(|ending| *ending) => {}
            }
            if *ending.borrow() {
                return self.give_up().await;
            }
        }
    }

    fn tell(&self, leads: bool) {
        let changed = self
            .election
            .leads
            .send_if_modified(|value| std::mem::replace(value, leads) != leads);
        if changed {
            let (lock, revision) = (self.election.name, &self.election.me.revision);
            tracing::info!(lock, revision, leads, "leadership changed");
        }
    }

    /// Looks once, and takes or renews the lock if that is right.
    async fn turn(&mut self) -> Result<Turn, kube::Error> {
        let asked = Instant::now();
        let map = self.maps.get_opt(self.election.name).await?;
        let text = map.as_ref().and_then(content);
        let unchanged = self.unchanged(text);
        let record: Option<Record> = text.and_then(|text| serde_json::from_str(text).ok());
        let lock = match (&record, text) {
            (Some(record), _) => Lock::Held(record),
            (None, None) => Lock::Unheld,
            (None, Some(_)) => Lock::Unreadable,
        };
        if lock == Lock::Unreadable {
            let (lock, namespace) = (self.election.name, &self.election.me.namespace);
            tracing::warn!(
                lock,
                namespace,
                "annotation {RECORD} of the ConfigMap cannot be read; taken as free if it stays so"
            );
        }
        let default = self.election.default.borrow_and_update().clone();
        let is_ours = record
            .as_ref()
            .is_some_and(|record| record.holder_identity == self.election.me.identity);
        if !is_ours && self.held.take().is_some() {
            self.robbed = Some(asked);
        }
        // Who was robbed does not rob back: one of the two sees an old default.
        let calm = self.robbed.is_none_or(|at| at.elapsed() > DURATION);
        let step = decide(lock, unchanged, &self.election.me, default.as_deref().filter(|_| calm));
        if step == Step::Wait {
            return Ok(Turn::Follows);
        }
        // Woken early: a renewal now would change nothing.
        if step == Step::Renew && self.held.is_some_and(|held| held.renewed.elapsed() < RETRY / 2) {
            return Ok(Turn::Holds);
        }
        let next = self.next_record(record.unwrap_or_default(), step);
        let next = serde_json::to_string(&next).map_err(kube::Error::SerdeError)?;
        match self.write(map, next.clone()).await? {
            false => Ok(Turn::Raced),
            true => {
                self.seen = Some((next, Instant::now()));
                let leads_from = match (step, self.held) {
                    (Step::Acquire, _) => asked,
                    (Step::Renew, Some(held)) => held.leads_from,
                    // Ours without our knowing how: a former life, or an answer that was lost.
                    _ => Instant::now() + HANDOVER,
                };
                self.held = Some(Held {
                    renewed: asked,
                    leads_from,
                });
                Ok(Turn::Holds)
            }
        }
    }

    fn unchanged(&mut self, text: Option<&str>) -> Duration {
        let Some(text) = text else { return Duration::ZERO };
        match &self.seen {
            Some((seen, since)) if seen == text => since.elapsed(),
            _ => {
                self.seen = Some((text.to_owned(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn time(&self) -> String {
        let now = self.epoch.0.checked_add(self.epoch.1.elapsed()).unwrap_or(self.epoch.0);
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn next_record(&self, before: Record, step: Step) -> Record {
        let renewed = step == Step::Renew;
        let acquired = before.acquire_time.filter(|_| renewed);
        Record {
            holder_identity: self.election.me.identity.clone(),
            holder_key: self.election.me.revision.clone(),
            lease_duration_seconds: DURATION.as_secs(),
            acquire_time: Some(acquired.unwrap_or_else(|| self.time())),
            renew_time: Some(self.time()),
            leader_transitions: before.leader_transitions + u64::from(!renewed),
        }
    }

    /// Writes the record if the lock is still as it was read; answers whether it was.
    async fn write(&self, map: Option<ConfigMap>, record: String) -> Result<bool, kube::Error> {
        let lock = events::named::<ConfigMap>(Some(&self.election.me.namespace), self.election.name);
        let (meter, parameters) = (&self.election.meter, PostParams::default());
        let written = match map {
            Some(mut map) => {
                let annotations = map.metadata.annotations.get_or_insert_default();
                annotations.insert(RECORD.to_owned(), record);
                let request = self.maps.replace(self.election.name, &parameters, &map);
                meter.write(&lock, request).await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.election.name.to_owned()),
                    annotations: Some(BTreeMap::from([(RECORD.to_owned(), record)])),
                    ..Default::default()
                };
                let map = ConfigMap {
                    metadata,
                    ..Default::default()
                };
                meter.write(&lock, self.maps.create(&parameters, &map)).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(Unwritten::Held(_)) => Ok(false),
            Err(refused) if refused.code() == Some(409) => Ok(false),
            Err(Unwritten::Failed(error)) => Err(error),
        }
    }

    /// Lets the next one in without waiting for the lock to expire.
    async fn give_up(self) {
        // First: the next one may lead as soon as the lock is free.
        self.tell(false);
        let Ok(Some(map)) = self.maps.get_opt(self.election.name).await else {
            return;
        };
        let held: Option<Record> = content(&map).and_then(|text| serde_json::from_str(text).ok());
        let Some(held) = held.filter(|record| record.holder_identity == self.election.me.identity) else {
            return;
        };
        let free = Record {
            lease_duration_seconds: 1,
            leader_transitions: held.leader_transitions,
            acquire_time: Some(self.time()),
            renew_time: Some(self.time()),
            ..Record::default()
        };
        let Ok(free) = serde_json::to_string(&free) else { return };
        if let Err(error) = self.write(Some(map), free).await {
            tracing::debug!(lock = self.election.name, %error, "leader lock not given up; it will expire");
        }
    }
}

fn content(map: &ConfigMap) -> Option<&str> {
    Some(map.metadata.annotations.as_ref()?.get(RECORD)?)
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
