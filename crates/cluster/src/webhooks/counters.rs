//! Numbers for the metrics page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::backends::Finding;

/// Configurations that are counted by name; whoever makes and removes more finds the rest under [`OTHER`].
const NAMED: usize = 256;
/// All further ones.
const OTHER: &str = "other";

/// Why an injector's `caBundle` was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The configuration is gone.
    NotFound,
    /// The API refused, or did not answer.
    NotUpdated,
}

impl Reason {
    /// That of an answer with this code.
    pub(super) fn of(code: Option<u16>) -> Self {
        match code {
            Some(404) => Self::NotFound,
            _ => Self::NotUpdated,
        }
    }

    /// Name in metrics, which is Istio's.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "webhook_config_not_found",
            Self::NotUpdated => "webhook_update_failure",
        }
    }
}

/// What was done about webhook configurations.
#[derive(Debug, Default)]
pub struct Counters {
    attempts: AtomicU64,
    patches: Mutex<Patches>,
    findings: Mutex<BTreeSet<Finding>>,
}

/// Writes of an injector's `caBundle` that failed, by configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    /// All of them.
    pub failures: BTreeMap<(String, Reason), u64>,
    /// Those that are tried again.
    pub retries: BTreeMap<String, u64>,
}

impl Patches {
    /// The name under which a configuration is counted.
    fn key<'a>(&self, configuration: &'a str) -> &'a str {
        let is_known = |reason| self.failures.contains_key(&(configuration.to_owned(), reason));
        let is_known = is_known(Reason::NotFound) || is_known(Reason::NotUpdated);
        if is_known || self.failures.len() < NAMED {
            configuration
        } else {
            OTHER
        }
    }
}

impl Counters {
    /// Attempts to write an injector's `caBundle`.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// Those that failed.
    pub fn patches(&self) -> Patches {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Webhooks that nobody answers.
    pub fn findings(&self) -> BTreeSet<Finding> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn attempted(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, configuration: &str, reason: Reason, again: bool) {
        let mut patches = self.patches.lock().unwrap_or_else(PoisonError::into_inner);
        let name = patches.key(configuration).to_owned();
        *patches.failures.entry((name.clone(), reason)).or_default() += 1;
        if again {
            *patches.retries.entry(name).or_default() += 1;
        }
    }

    /// Takes what was found, and returns what was found before.
    pub(super) fn found(&self, findings: BTreeSet<Finding>) -> BTreeSet<Finding> {
        let mut held = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_number() {
        let counters = Counters::default();
        for at in 0..2 * NAMED {
            counters.failed(&format!("w{at}"), Reason::NotUpdated, true);
        }
        counters.failed("w0", Reason::NotFound, false);
        let patches = counters.patches();
        let count = |name: &str| patches.retries.get(name).copied();
        assert_eq!((count("w0"), count(OTHER)), (Some(1), Some(NAMED as u64)));
        assert_eq!(patches.failures.get(&("w0".to_owned(), Reason::NotFound)), Some(&1));
        assert_eq!(patches.failures.values().sum::<u64>(), 2 * NAMED as u64 + 1);
    }
}
