//! Counts of validation, under Istio's names (revisions.md §11.4).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::kind::{KINDS, Kind};
use serde_json::Value;

/// What `/validate` did.
#[derive(Debug, Default)]
pub struct Validations {
    counts: Mutex<Counts>,
}

/// The numbers. Who asks is not known, so labels are those of known kinds, and all others are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects that may be written.
    pub passed: BTreeMap<Resource, u64>,
    /// Reviews of objects that may not be written, or of something else than a write, with the reason.
    pub failed: BTreeMap<(Resource, &'static str), u64>,
    /// Requests that were answered by a status instead of a review.
    pub http_errors: BTreeMap<u16, u64>,
}

/// What was reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// API group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural.
    pub resource: &'static str,
}

impl Resource {
    const UNKNOWN: Self = Self {
        group: "unknown",
        version: "unknown",
        resource: "unknown",
    };

    /// The resource that a request names.
    pub fn of(request: &Value) -> Self {
        let named = &request["resource"];
        let known = KINDS
            .iter()
            .filter(|kind| named["group"] == kind.group && named["resource"] == kind.plural);
        let mut known = known.flat_map(|kind| kind.versions.iter().map(move |version| (kind, *version)));
        known
            .find(|(_, version)| named["version"] == *version)
            .map_or(Self::UNKNOWN, |(kind, version)| Self {
                group: kind.group,
                version,
                resource: kind.plural,
            })
    }
}

/// Why an object may not be written, in Istio's words for metrics.
pub fn reason(object: &Value) -> &'static str {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, _) = version.split_once('/').unwrap_or_default();
    match Kind::find(group, object["kind"].as_str().unwrap_or_default()) {
        Some(_) => "invalid_resource",
        None => "unknown_type",
    }
}

impl Validations {
    /// The numbers of now.
    pub fn read(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An object may be written.
    pub fn passed(&self, request: &Value) {
        self.add(|counts| *counts.passed.entry(Resource::of(request)).or_default() += 1);
    }

    /// One may not. What is only tried is no failure of anybody.
    pub fn failed(&self, request: &Value, reason: &'static str) {
        if request["dryRun"] != true {
            let key = (Resource::of(request), reason);
            self.add(|counts| *counts.failed.entry(key).or_default() += 1);
        }
    }

    /// A request was answered by a status.
    pub fn http_error(&self, status: u16) {
        self.add(|counts| *counts.http_errors.entry(status).or_default() += 1);
    }
}
