//! What a request does to a stream, for both variants of the protocol (control-plane.md §1.12, §1.13).

use std::collections::BTreeMap;
use std::sync::Arc;

use xds::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds::google::rpc::Status;

use super::Stream;
use super::watch::Watch;
use crate::kinds;
use crate::names::NameSet;
use crate::source::Refusal;

/// What a request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A subscription or a change of one.
    Subscribed,
    /// An acknowledgement, possibly with a change of subscription.
    Accepted,
    /// A rejection with the proxy's text.
    Rejected(String),
    /// An answer to a response that is no longer the last.
    Stale,
    /// Nothing to do.
    Ignored,
}

/// The name that subscribes to everything.
const EVERYTHING: &str = "*";

impl Stream {
    /// A request of the incremental variant.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] without a type, [`Refusal::ResourceExhausted`] over a bound.
    pub fn on_delta(&mut self, request: DeltaDiscoveryRequest) -> Result<Outcome, Refusal> {
        let type_url = check_type(&request.type_url)?;
        self.check_names(&request.resource_names_subscribe)?;
        self.check_names(&request.resource_names_unsubscribe)?;
        self.check_names(request.initial_resource_versions.keys())?;
        self.check_count(request.initial_resource_versions.len())?;
        let mut outcome = self.on_answer(type_url, &request.response_nonce, request.error_detail.as_ref());
        let existing = self.watches.iter().position(|w| **w.type_url() == *type_url);
        let at = match existing {
            Some(at) => at,
            None => self.add_watch(type_url)?,
        };
        let first = existing.is_none();
        if first {
            outcome = Outcome::Subscribed;
        }
        let (subscribe, unsubscribe) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        if !first && subscribe.is_empty() && unsubscribe.is_empty() {
            return Ok(outcome);
        }
        let named = |names: &[String]| names.iter().any(|name| name == EVERYTHING);
        let watch = &mut self.watches[at];
        let everything_before = watch.is_wildcard();
        if named(subscribe) || (first && subscribe.is_empty() && kinds::is_wildcard(type_url)) {
            watch.set_wildcard(true);
        }
        if named(unsubscribe) {
            watch.set_wildcard(false);
        }
        let held: Vec<&str> = if first && !watch.is_wildcard() {
            request.initial_resource_versions.keys().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        let added = subscribe
            .iter()
            .map(String::as_str)
            .filter(|name| *name != EVERYTHING)
            .chain(held);
        let names = self
            .shared
            .names
            .edit(watch.names(), added, unsubscribe.iter().map(String::as_str));
        watch.set_names(names);
        if first {
            self.take_held(at, &request.initial_resource_versions);
        } else {
            if watch.is_wildcard() && !everything_before {
                watch.owe();
                let all: Vec<Arc<str>> = self.view.get(type_url).iter().map(|r| r.name.clone()).collect();
                all.iter().for_each(|name| watch.send_again(name));
            }
            subscribe
                .iter()
                .filter(|name| *name != EVERYTHING)
                .for_each(|name| watch.send_again(name));
            watch.forget(unsubscribe.iter().map(String::as_str));
            // Still wanted by the wildcard, although no longer by name: the proxy must be told again.
            let kept = |name: &&String| watch.is_wildcard() && self.view.get(type_url).get(name).is_some();
            let kept: Vec<&String> = unsubscribe.iter().filter(kept).collect();
            kept.into_iter().for_each(|name| watch.send_again(name));
        }
        self.check_subscription(at)?;
        Ok(if outcome == Outcome::Ignored {
            Outcome::Subscribed
        } else {
            outcome
        })
    }

    /// A request of the state-of-the-world variant.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] without a type, [`Refusal::ResourceExhausted`] over a bound.
    pub fn on_sotw(&mut self, request: DiscoveryRequest) -> Result<Outcome, Refusal> {
        let type_url = check_type(&request.type_url)?;
        self.check_names(&request.resource_names)?;
        let existing = self.watches.iter().position(|w| **w.type_url() == *type_url);
        let nonce = &request.response_nonce;
        if request.error_detail.is_some() {
            return Ok(self.on_answer(type_url, nonce, request.error_detail.as_ref()));
        }
        if request.resource_names.is_empty() && !kinds::is_wildcard(type_url) {
            if let Some(at) = existing {
                self.watches.remove(at);
            }
            return Ok(Outcome::Ignored);
        }
        let names = request
            .resource_names
            .iter()
            .map(String::as_str)
            .filter(|name| *name != EVERYTHING);
        let names = self.shared.names.edit(&NameSet::empty(), names, []);
        let wildcard = request.resource_names.is_empty() || request.resource_names.iter().any(|n| n == EVERYTHING);
        let Some(at) = existing.filter(|_| !nonce.is_empty()) else {
            if let Some(at) = existing {
                self.watches.remove(at);
            }
            return self.subscribe_sotw(type_url, wildcard, names, &request.version_info);
        };
        if !self.watches[at].is_current(nonce) {
            // Its names may be old, but what it accepts it has, and what it does without it forgets.
            let watch = &mut self.watches[at];
            watch.accept(nonce);
            if !wildcard {
                watch.let_go_but(&names);
            }
            return Ok(Outcome::Stale);
        }
        let watch = &mut self.watches[at];
        watch.accept(nonce);
        let before = watch.names().clone();
        let widened = wildcard && !watch.is_wildcard();
        watch.set_wildcard(wildcard);
        watch.set_names(names.clone());
        // Most acknowledgements name what was named before.
        let is_another = !Arc::ptr_eq(&before, &names);
        if !wildcard && is_another {
            let dropped: Vec<&str> = before
                .iter()
                .map(|name| &**name)
                .filter(|name| !names.contains(name))
                .collect();
            watch.forget(dropped);
        }
        if widened || (kinds::is_wildcard(type_url) && is_another) {
            watch.owe();
        }
        if is_another {
            let added = names.iter().filter(|name| !before.contains(name));
            added.for_each(|name| watch.send_again(name));
        }
        watch.send_what_was_let_go();
        self.check_subscription(at)?;
        Ok(Outcome::Accepted)
    }

    fn subscribe_sotw(
        &mut self,
        type_url: &str,
        wildcard: bool,
        names: Arc<NameSet>,
        held: &str,
    ) -> Result<Outcome, Refusal> {
        let at = self.add_watch(type_url)?;
        let target = self.view.get(type_url).clone();
        let watch = &mut self.watches[at];
        watch.set_wildcard(wildcard);
        watch.set_names(names);
        // A proxy that comes back with the version of this very set holds it already.
        if wildcard && kinds::is_wildcard(type_url) {
            watch.set_held_version(held);
            watch.assume_if_held(&target);
        }
        self.check_subscription(at)?;
        Ok(Outcome::Subscribed)
    }

    fn on_answer(&mut self, type_url: &str, nonce: &str, error: Option<&Status>) -> Outcome {
        let bound = self.limits.error_bytes;
        let Some(watch) = self.watches.iter_mut().find(|w| **w.type_url() == *type_url) else {
            return Outcome::Ignored;
        };
        match error {
            Some(status) => {
                let text = truncate(&status.message, bound);
                if watch.reject(nonce, text.clone()) {
                    Outcome::Rejected(text)
                } else {
                    Outcome::Stale
                }
            }
            None if nonce.is_empty() => Outcome::Ignored,
            None if watch.accept(nonce) => Outcome::Accepted,
            None => Outcome::Stale,
        }
    }

    /// What the proxy holds from an earlier stream it is not sent again, but for endpoints of clusters that it has: that
    /// stream may have broken between a cluster and its endpoints. Then the proxy warms the cluster, waits for endpoints
    /// which it says to have, and does not ask for them (control-plane.md §1.13).
    fn take_held(&mut self, at: usize, versions: &BTreeMap<String, String>) {
        let type_url = self.watches[at].type_url().clone();
        self.watches[at].set_held(versions, self.view.get(&type_url));
        if ![kinds::CLUSTER, kinds::ENDPOINT].contains(&&*type_url) {
            return;
        }
        if let Some(clusters) = self.watch(kinds::CLUSTER).and_then(Watch::sent).cloned() {
            self.rewarm(clusters.iter().map(|cluster| &cluster.name));
        }
    }

    fn add_watch(&mut self, type_url: &str) -> Result<usize, Refusal> {
        if self.watches.len() >= self.limits.types {
            return Err(Refusal::ResourceExhausted(format!(
                "more than {} resource types on one stream",
                self.limits.types
            )));
        }
        let rank = kinds::rank(type_url);
        let at = self.watches.partition_point(|w| kinds::rank(w.type_url()) <= rank);
        self.watches.insert(at, Watch::new(kinds::intern(type_url)));
        Ok(at)
    }

    fn check_names<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<(), Refusal> {
        match names.into_iter().find(|name| name.len() > self.limits.name_bytes) {
            Some(name) => Err(Refusal::ResourceExhausted(format!(
                "a resource name of {} bytes; at most {} are accepted",
                name.len(),
                self.limits.name_bytes
            ))),
            None => Ok(()),
        }
    }

    fn check_subscription(&self, at: usize) -> Result<(), Refusal> {
        self.check_count(self.watches[at].names().len())?;
        let (bytes, bound) = (
            self.watches.iter().map(Watch::bytes).sum::<usize>(),
            self.limits.subscription_bytes,
        );
        if bytes <= bound {
            return Ok(());
        }
        Err(Refusal::ResourceExhausted(format!(
            "subscriptions of {bytes} bytes; at most {bound} are accepted (XDS_MAX_SUBSCRIPTION_BYTES)"
        )))
    }

    fn check_count(&self, count: usize) -> Result<(), Refusal> {
        if count <= self.limits.names {
            return Ok(());
        }
        Err(Refusal::ResourceExhausted(format!(
            "a subscription to {count} names; at most {} are accepted",
            self.limits.names
        )))
    }
}

/// Longer than the name of any type (bytes).
const LONGEST_TYPE: usize = 256;

fn check_type(type_url: &str) -> Result<&str, Refusal> {
    match type_url.len() {
        0 => Err(Refusal::InvalidArgument("a request without type_url".to_owned())),
        1..=LONGEST_TYPE => Ok(type_url),
        bytes => Err(Refusal::ResourceExhausted(format!(
            "a type_url of {bytes} bytes; at most {LONGEST_TYPE} are accepted"
        ))),
    }
}

fn truncate(text: &str, bound: usize) -> String {
    let mut end = bound.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
