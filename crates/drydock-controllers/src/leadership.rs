//! Whose turn it is. Of all who run controllers for one API server only one may act at a time: the holder of a Lease in
//! `kube-system`. The Leases are those of Kubernetes' own controller manager and scheduler, so that those wait for us, and
//! we for them.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

/// What everything but the scheduler runs under.
pub const CONTROLLERS: &str = "kube-controller-manager";
/// What the scheduler runs under.
pub const SCHEDULER: &str = "kube-scheduler";

const NAMESPACE: &str = "kube-system";
const SECONDS: i32 = 15;
const RENEWAL: Duration = Duration::from_secs(2);
/// A holder that could not renew for so long stops, before others may begin.
const DEADLINE: Duration = Duration::from_secs(10);

/// How controllers come to act.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Turn {
    /// At once, and without a Lease: nobody else can be there.
    #[default]
    Unasked,
    /// At once: whoever holds the Leases loses them.
    Taken {
        /// Name of the holder.
        identity: String,
    },
    /// When the Leases are free, or their holder is silent.
    Awaited {
        /// Name of the holder.
        identity: String,
    },
}

/// What a look at a Lease leads to.
#[derive(Debug, PartialEq)]
enum Step {
    Write(LeaseSpec),
    /// Somebody else holds it.
    Wait(String),
}

/// What another holder wrote last, and since when (by our own clock, as theirs may be wrong) it has not changed.
#[derive(Debug, Default)]
struct Heard {
    spec: Option<LeaseSpec>,
    since: Option<Instant>,
}

impl Heard {
    fn silent(&mut self, spec: &LeaseSpec, now: Instant) -> Duration {
        if self.spec.as_ref() != Some(spec) {
            self.spec = Some(spec.clone());
            self.since = Some(now);
        }
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

fn decide(held: Option<&LeaseSpec>, identity: &str, takes: bool, heard: &mut Heard, now: (Instant, Timestamp)) -> Step {
    let before = held.cloned().unwrap_or_default();
    let holder = before.holder_identity.clone().unwrap_or_default();
    if !holder.is_empty() && holder != identity && !takes {
        let lasts = u64::try_from(before.lease_duration_seconds.unwrap_or(SECONDS)).unwrap_or(0);
        if heard.silent(&before, now.0) < Duration::from_secs(lasts) {
            return Step::Wait(holder);
        }
    }
    let changes = holder != identity;
    let time = Some(MicroTime(now.1));
    Step::Write(LeaseSpec {
        holder_identity: Some(identity.into()),
        lease_duration_seconds: Some(SECONDS),
        acquire_time: before.acquire_time.clone().filter(|_| !changes).or(time.clone()),
        renew_time: time,
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(changes && held.is_some())),
        ..before
    })
}

/// Opens `gate` once the Lease is held, and keeps it. Ends when it is lost.
pub async fn hold(client: Client, name: &'static str, turn: Turn, gate: watch::Sender<bool>) {
    let (identity, takes) = match turn {
        Turn::Unasked => {
            gate.send_replace(true);
            return std::future::pending().await;
        }
        Turn::Taken { identity } => (identity, true),
        Turn::Awaited { identity } => (identity, false),
    };
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let (mut heard, mut renewed, mut waits_for) = (Heard::default(), None::<Instant>, String::new());
    loop {
        let asked = tokio::time::timeout(DEADLINE, attempt(&api, name, &identity, takes, &mut heard)).await;
        match asked {
            Ok(Ok(None)) => {
                renewed = Some(Instant::now());
                gate.send_replace(true);
            }
            Ok(Ok(Some(other))) if renewed.is_some() => {
                tracing::error!(lease = name, holder = other, "another has taken over");
                return;
            }
            Ok(Ok(Some(other))) => {
                if waits_for != other {
                    tracing::info!(lease = name, holder = other, "waits: others do this work");
                    waits_for = other;
                }
            }
            Ok(Err(error)) => tracing::debug!(lease = name, %error, "lease not renewed"),
            Err(_) => tracing::debug!(lease = name, "no answer about the lease"),
        }
        if renewed.is_some_and(|at| at.elapsed() > DEADLINE) && !takes {
            tracing::error!(lease = name, "the lease could not be renewed in time");
            return;
        }
        tokio::time::sleep(RENEWAL).await;
    }
}

/// One look and, if it is our turn, one write. Answers with the holder to wait for.
async fn attempt(
    api: &Api<Lease>,
    name: &str,
    identity: &str,
    takes: bool,
    heard: &mut Heard,
) -> Result<Option<String>, kube::Error> {
    let found = api.get_opt(name).await?;
    let held = found.as_ref().and_then(|lease| lease.spec.as_ref());
    let spec = match decide(held, identity, takes, heard, (Instant::now(), Timestamp::now())) {
        Step::Wait(holder) => return Ok(Some(holder)),
        Step::Write(spec) => spec,
    };
    let params = PostParams::default();
    match found {
        Some(mut lease) => {
            lease.spec = Some(spec);
            api.replace(name, &params, &lease).await?;
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            };
            let spec = Some(spec);
            api.create(&params, &Lease { metadata, spec }).await?;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The holder of before and for how long it has been silent; then who holds it, or `None` while we wait.
    fn check(holder: Option<&str>, silent: u64, takes: bool, expected: Option<(&str, i32)>) {
        let (start, time) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let held = holder.map(|name| LeaseSpec {
            holder_identity: Some(name.into()),
            lease_duration_seconds: Some(SECONDS),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        });
        let mut heard = Heard::default();
        decide(held.as_ref(), "me", takes, &mut heard, (start, time));
        let now = start + Duration::from_secs(silent);
        let got = match decide(held.as_ref(), "me", takes, &mut heard, (now, time)) {
            Step::Wait(_) => None,
            Step::Write(spec) => Some((spec.holder_identity.unwrap(), spec.lease_transitions.unwrap())),
        };
        assert_eq!(got.as_ref().map(|(name, n)| (name.as_str(), *n)), expected);
    }

    #[test]
    fn a_lease_passes_on_when_its_holder_is_silent() {
        check(None, 0, false, Some(("me", 0)));
        check(Some("me"), 0, false, Some(("me", 3)));
        check(Some("other"), 14, false, None);
        check(Some("other"), 15, false, Some(("me", 4)));
        check(Some(""), 0, false, Some(("me", 4)));
        check(Some("other"), 0, true, Some(("me", 4)));
    }

    #[test]
    fn a_holder_that_renews_keeps_it() {
        let mut heard = Heard::default();
        let start = Instant::now();
        for seconds in (0..60).step_by(10) {
            let spec = LeaseSpec {
                holder_identity: Some("other".into()),
                renew_time: Some(MicroTime(Timestamp::from_second(seconds).unwrap())),
                ..LeaseSpec::default()
            };
            let now = (
                start + Duration::from_secs(seconds.unsigned_abs()),
                Timestamp::UNIX_EPOCH,
            );
            let step = decide(Some(&spec), "me", false, &mut heard, now);
            assert_eq!(step, Step::Wait("other".into()));
        }
    }
}
