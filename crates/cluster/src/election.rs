//! Who of several replicas and revisions may write (revisions.md §4.2).
//!
//! The lock is a ConfigMap annotation, the same object and format that Istio's own replicas use, so the two exclude
//! each other. It expires when it was not renewed for its duration *as seen by the observer*: clocks are not compared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use revision::leadership::{Key, may_steal};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Annotation of the lock.
const RECORD: &str = "control-plane.alpha.kubernetes.io/leader";
/// A lock that is not renewed for this long is free.
const DURATION: Duration = Duration::from_secs(30);
/// Time between two looks at the lock.
const RETRY: Duration = Duration::from_millis(7500);
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

/// What to do about the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is mine: renew it.
    Renew,
    /// It is free, or mine to take over.
    Acquire,
    /// Somebody else has it.
    Wait,
}

/// Decides by the lock's content, for how long it has not changed, and which revision is the default.
pub fn decide(record: Option<&Record>, unchanged: Duration, me: &Candidate, default: Option<&str>) -> Step {
    let Some(record) = record else { return Step::Acquire };
    if record.holder_identity == me.identity {
        return Step::Renew;
    }
    let expired = unchanged > Duration::from_secs(record.lease_duration_seconds.max(1));
    let mine = may_steal(
        &Key {
            revision: me.revision.clone(),
            remote: false,
        },
        &Key::parse(&record.holder_key),
        default,
    );
    if record.holder_identity.is_empty() || expired || mine {
        Step::Acquire
    } else {
        Step::Wait
    }
}

/// How a look at the lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The lock is ours.
    Leads,
    /// It is somebody else's.
    Follows,
    /// Somebody wrote it at the same moment; looking again at once tells more.
    Raced,
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

/// Runs for the lock `name` until `ending`, then gives it up, which is when the task ends. The value says whether this
/// process leads.
///
/// `default` follows the name of the default revision, which may take the lock from another revision.
pub fn run(
    client: &Client,
    name: &'static str,
    me: Candidate,
    default: watch::Receiver<Option<String>>,
    ending: watch::Receiver<bool>,
) -> (watch::Receiver<bool>, tokio::task::JoinHandle<()>) {
    let (leads, receiver) = watch::channel(false);
    let maps = Api::namespaced(client.clone(), &me.namespace);
    let election = Election {
        maps,
        name,
        me,
        default,
        leads,
        seen: None,
        renewed: Instant::now(),
    };
    (receiver, tokio::spawn(election.run(ending)))
}

struct Election {
    maps: Api<ConfigMap>,
    name: &'static str,
    me: Candidate,
    default: watch::Receiver<Option<String>>,
    leads: watch::Sender<bool>,
    /// Last content, and since when it has been that.
    seen: Option<(Record, Instant)>,
    renewed: Instant,
}

impl Election {
    async fn run(mut self, mut ending: watch::Receiver<bool>) {
        loop {
            let mut pause = RETRY;
            match self.turn().await {
                Ok(Turn::Leads) => {
                    self.renewed = Instant::now();
                    self.tell(true);
                }
                Ok(Turn::Follows) => self.tell(false),
                Ok(Turn::Raced) => pause = AGAIN,
                Err(error) => {
                    tracing::warn!(lock = self.name, %error, "leader lock not reached");
                    // Others may take it when it expires, so stop before that.
                    if self.renewed.elapsed() > DURATION / 2 {
                        self.tell(false);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.default.changed() => if changed.is_err() { tokio::time::sleep(RETRY).await },
                _ = ending.changed() => {}
            }
            if *ending.borrow_and_update() {
                return self.give_up().await;
            }
        }
    }

    fn tell(&self, leads: bool) {
        let changed = self
            .leads
            .send_if_modified(|value| std::mem::replace(value, leads) != leads);
        if changed {
            tracing::info!(
                lock = self.name,
                revision = self.me.revision,
                leads,
                "leadership changed"
            );
        }
    }

    /// Looks once, and takes or renews the lock if that is right.
    async fn turn(&mut self) -> Result<Turn, kube::Error> {
        let map = self.maps.get_opt(self.name).await?;
        let record: Option<Record> = map
            .as_ref()
            .and_then(|map| map.metadata.annotations.as_ref()?.get(RECORD))
            .and_then(|text| serde_json::from_str(text).ok());
        let unchanged = self.unchanged(record.as_ref());
        let default = self.default.borrow_and_update().clone();
        let step = decide(record.as_ref(), unchanged, &self.me, default.as_deref());
        if step == Step::Wait {
            return Ok(Turn::Follows);
        }
        let next = self.next_record(record.unwrap_or_default(), step);
        match self.write(map, &next).await {
            Ok(()) => {
                self.seen = Some((next, Instant::now()));
                Ok(Turn::Leads)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Turn::Raced),
            Err(error) => Err(error),
        }
    }

    fn unchanged(&mut self, record: Option<&Record>) -> Duration {
        let Some(record) = record else { return Duration::ZERO };
        match &self.seen {
            Some((seen, since)) if seen == record => since.elapsed(),
            _ => {
                self.seen = Some((record.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn next_record(&self, before: Record, step: Step) -> Record {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let acquired = step == Step::Acquire;
        Record {
            holder_identity: self.me.identity.clone(),
            holder_key: self.me.revision.clone(),
            lease_duration_seconds: DURATION.as_secs(),
            acquire_time: if acquired {
                Some(now.clone())
            } else {
                before.acquire_time
            },
            renew_time: Some(now),
            leader_transitions: before.leader_transitions + u64::from(acquired),
        }
    }

    async fn write(&self, map: Option<ConfigMap>, record: &Record) -> Result<(), kube::Error> {
        let text = serde_json::to_string(record).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams::default();
        match map {
            Some(mut map) => {
                map.metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(RECORD.to_owned(), text);
                self.maps.replace(self.name, &parameters, &map).await?;
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.name.to_owned()),
                    annotations: Some(BTreeMap::from([(RECORD.to_owned(), text)])),
                    ..Default::default()
                };
                self.maps
                    .create(
                        &parameters,
                        &ConfigMap {
                            metadata,
                            ..Default::default()
                        },
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// Lets the next one in without waiting for the lock to expire.
    async fn give_up(self) {
        if !*self.leads.borrow() {
            return;
        }
        let Ok(Some(map)) = self.maps.get_opt(self.name).await else {
            return;
        };
        let record = Record {
            lease_duration_seconds: 1,
            ..Record::default()
        };
        if let Err(error) = self.write(Some(map), &record).await {
            tracing::debug!(lock = self.name, %error, "leader lock not given up; it will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn candidate(api: &fake::Api, identity: &str, revision: &str, default: Option<&str>) -> Election {
        let me = Candidate {
            identity: identity.into(),
            revision: revision.into(),
            namespace: "istio-system".into(),
        };
        let maps = Api::namespaced(api.client(), &me.namespace);
        let (leads, default) = (watch::Sender::new(false), watch::channel(default.map(str::to_owned)).1);
        Election {
            maps,
            name: NAMESPACE_CONTROLLER,
            me,
            default,
            leads,
            seen: None,
            renewed: Instant::now(),
        }
    }

    #[tokio::test]
    async fn the_default_revision_takes_the_lock_and_the_other_notices() {
        let api = fake::Api::default();
        let mut old = candidate(&api, "istiod-a", "default", Some("canary"));
        let mut second = candidate(&api, "istiod-b", "default", Some("canary"));
        let mut new = candidate(&api, "istiod-canary-c", "canary", Some("canary"));
        let turn = async |election: &mut Election| election.turn().await.ok();
        assert_eq!(turn(&mut old).await, Some(Turn::Leads), "nobody has it");
        assert_eq!(turn(&mut second).await, Some(Turn::Follows), "held and fresh");
        assert_eq!(
            turn(&mut new).await,
            Some(Turn::Leads),
            "the default revision may take it"
        );
        assert_eq!(turn(&mut old).await, Some(Turn::Follows), "it is gone");
        new.tell(true);
        new.give_up().await;
        assert_eq!(turn(&mut second).await, Some(Turn::Leads), "given up");
        let path = format!("/api/v1/namespaces/istio-system/configmaps/{NAMESPACE_CONTROLLER}");
        let lock = api.get(&path).unwrap_or_default();
        let record = lock["metadata"]["annotations"][RECORD].as_str().unwrap_or_default();
        assert!(record.contains(r#""holderIdentity":"istiod-b""#), "{record}");
    }

    fn check(holder: Option<(&str, &str)>, unchanged: u64, default: Option<&str>, expected: Step) {
        let record = holder.map(|(identity, key)| Record {
            holder_identity: identity.into(),
            holder_key: key.into(),
            lease_duration_seconds: 30,
            ..Record::default()
        });
        let me = Candidate {
            identity: "me".into(),
            revision: "canary".into(),
            namespace: "istio-system".into(),
        };
        assert_eq!(
            decide(record.as_ref(), Duration::from_secs(unchanged), &me, default),
            expected
        );
    }

    #[test]
    fn the_lock_is_taken_when_free_expired_or_ours_by_right() {
        check(None, 0, None, Step::Acquire);
        check(Some(("", "")), 0, None, Step::Acquire);
        check(Some(("me", "canary")), 60, None, Step::Renew);
        check(Some(("other", "default")), 29, None, Step::Wait);
        check(Some(("other", "default")), 31, None, Step::Acquire);
        check(Some(("other", "default")), 0, Some("canary"), Step::Acquire);
        check(Some(("other", "default")), 0, Some("default"), Step::Wait);
    }

    #[test]
    fn the_record_reads_what_other_implementations_write() {
        let text = r#"{"holderIdentity":"istiod-x","holderKey":"default","leaseDurationSeconds":30,"acquireTime":"2026-01-01T00:00:00Z","renewTime":"2026-01-01T00:00:00Z","leaderTransitions":3}"#;
        let record: Record = serde_json::from_str(text).unwrap_or_default();
        assert_eq!((&*record.holder_identity, record.leader_transitions), ("istiod-x", 3));
    }
}
