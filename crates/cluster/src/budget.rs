//! How often one writer may write one object.
//!
//! Two writers that do not agree can keep each other busy for ever, and an API server with them. Each writer of istiod
//! therefore has an allowance per object: a burst, and then one write per interval. Who uses it up is held back, which
//! is told once by an Event and counted (`istiod_writes_held_total`); the write is tried again when there is allowance.
//! Only what was written counts: what the API refuses is no sign of a second writer, and is tried again with back-off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

use crate::deadline::timely;
use crate::events::Events;

/// What istiod writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `caBundle` of injector webhooks.
    CaBundle,
    /// `caBundle` and `failurePolicy` of validator webhooks.
    Validator,
    /// ConfigMap `istio-ca-root-cert`.
    RootCertificate,
    /// Leader locks.
    Lease,
    /// ConfigMap `istio-handover[-REVISION]`.
    Handover,
}

impl Writer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CaBundle,
        Self::Validator,
        Self::RootCertificate,
        Self::Lease,
        Self::Handover,
    ];

    /// Name in metrics and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::CaBundle => "ca-bundle",
            Self::Validator => "validator",
            Self::RootCertificate => "root-certificate",
            Self::Lease => "lease",
            Self::Handover => "handover",
        }
    }

    /// Writes of one object at once, and the interval at which one more is allowed.
    pub fn allowance(self) -> (u32, Duration) {
        match self {
            Self::CaBundle | Self::Validator | Self::RootCertificate | Self::Handover => (10, Duration::from_secs(30)),
            // Renewed every 7.5 s.
            Self::Lease => (20, Duration::from_secs(5)),
        }
    }
}

/// Numbers for the metrics page.
#[derive(Debug, Default)]
pub struct Ledger([(AtomicU64, AtomicU64); Writer::ALL.len()]);

impl Ledger {
    /// Writes that were done, and that were held back.
    pub fn read(&self, writer: Writer) -> (u64, u64) {
        let (written, held) = &self.0[writer as usize];
        (written.load(Relaxed), held.load(Relaxed))
    }
}

/// The allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When there is some again.
    pub until: Instant,
    /// Whether this is the first time since a write was allowed.
    pub first: bool,
}

/// Allowances of one writer, by object.
#[derive(Debug)]
pub struct Budget {
    writer: Writer,
    ledger: Arc<Ledger>,
    /// When all that was spent has come back, and whether the holder was told that it is held.
    spent: BTreeMap<String, (Instant, bool)>,
}

impl Budget {
    /// A full one.
    pub fn new(writer: Writer, ledger: Arc<Ledger>) -> Self {
        Self {
            writer,
            ledger,
            spent: BTreeMap::new(),
        }
    }

    /// Whether `object` may be written.
    ///
    /// # Errors
    /// There is no allowance left.
    pub fn admit(&mut self, object: &str, now: Instant) -> Result<(), Held> {
        let (burst, interval) = self.writer.allowance();
        // What has all come back needs no memory.
        self.spent.retain(|_, (full, _)| *full > now);
        let (_, held) = &self.ledger.0[self.writer as usize];
        let (full, told) = self.spent.get(object).copied().unwrap_or((now, false));
        let until = full.checked_sub(interval * (burst - 1)).unwrap_or(now);
        if until > now {
            held.fetch_add(1, Relaxed);
            self.spent.insert(object.to_owned(), (full, true));
            return Err(Held { until, first: !told });
        }
        Ok(())
    }

    /// Takes one write of `object`, which was done, out of the allowance.
    pub fn spend(&mut self, object: &str, now: Instant) {
        let (_, interval) = self.writer.allowance();
        let (written, _) = &self.ledger.0[self.writer as usize];
        written.fetch_add(1, Relaxed);
        let full = self.spent.get(object).map_or(now, |(full, _)| (*full).max(now));
        self.spent.insert(object.to_owned(), (full + interval, false));
    }
}

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// The writer's allowance for it is used up.
    #[error("held back: it was written too often")]
    Held(Held),
    /// The API refused, or did not answer.
    #[error(transparent)]
    Failed(#[from] kube::Error),
}

impl Unwritten {
    /// The API's code, if it refused.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// A budget that tells.
#[derive(Debug)]
pub struct Meter {
    budget: Mutex<Budget>,
    events: Events,
}

impl Meter {
    /// For one writer.
    pub fn new(writer: Writer, ledger: Arc<Ledger>, events: Events) -> Self {
        Self {
            budget: Mutex::new(Budget::new(writer, ledger)),
            events,
        }
    }

    /// Writes `object` by one request, if it may be written.
    ///
    /// # Errors
    /// There is no allowance left, of which who watches the object was told; or the request failed, and takes none.
    pub async fn write<T>(
        &self,
        object: &ObjectReference,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Unwritten> {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let key = format!(
            "{}/{}/{}",
            text(&object.kind),
            text(&object.namespace),
            text(&object.name)
        );
        let admitted = self.budget().admit(&key, Instant::now());
        if let Err(held) = admitted {
            if held.first {
                self.tell(object, &key).await;
            }
            return Err(Unwritten::Held(held));
        }
        let written = timely(request).await?;
        self.budget().spend(&key, Instant::now());
        Ok(written)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, object: &ObjectReference, key: &str) {
        let writer = self.budget().writer;
        let (burst, interval) = writer.allowance();
        let note = format!(
            "istiod has written this object {burst} times in a row and now writes it at most every {} s: something else \
             keeps changing it (writer {}); see its managedFields, and let one of the two go",
            interval.as_secs(),
            writer.name(),
        );
        tracing::error!(object = key, writer = writer.name(), "write budget used up");
        self.events.warn(object, "WriteBudgetExhausted", "Write", note).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `count` times at `at` seconds; how many were allowed, and whether the first refusal was told.
    fn check(budget: &mut Budget, start: Instant, at: u64, count: u32, allowed: u32, told: bool) {
        let now = start + Duration::from_secs(at);
        let mut write = || {
            budget.admit("object", now)?;
            budget.spend("object", now);
            Ok::<_, Held>(())
        };
        let outcomes: Vec<_> = (0..count).map(|_| write()).collect();
        let granted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(granted, allowed as usize, "at {at}");
        assert_eq!(
            outcomes.iter().any(|o| o.is_err_and(|held| held.first)),
            told,
            "at {at}"
        );
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_per_interval() {
        let ledger = Arc::new(Ledger::default());
        let (mut budget, start) = (Budget::new(Writer::CaBundle, ledger.clone()), Instant::now());
        check(&mut budget, start, 0, 12, 10, true);
        check(&mut budget, start, 29, 2, 0, false);
        check(&mut budget, start, 30, 2, 1, true);
        check(&mut budget, start, 3600, 10, 10, false);
        assert!(budget.admit("another", start).is_ok(), "objects do not share");
        assert_eq!(ledger.read(Writer::CaBundle), (21, 5));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (mut budget, start) = (Budget::new(Writer::Lease, Arc::default()), Instant::now());
        for object in 0..100 {
            budget.spend(&object.to_string(), start);
        }
        assert!(budget.admit("now", start + Duration::from_secs(60)).is_ok());
        assert_eq!(budget.spent.len(), 0);
    }
}
