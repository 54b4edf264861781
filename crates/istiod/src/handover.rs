//! Configuration of gateways whose owner changes (operators.md §4).
//!
//! An object labelled for another revision is not ours to read. But when one of ours is relabelled, the gateways that it
//! configures may still be connected here, and they would be left without a listener before anybody else serves them.
//! So what a gateway is made of stays as it was when it left, until it is deleted or ours again; those who connect to the
//! new owner get it from there. Its name is remembered beyond this process, so that one that starts later does not empty
//! them either.

use std::collections::BTreeSet;

use mesh::{Key, Kind, Snapshot};
use tokio::sync::watch;

/// What becomes of an object that belongs to another revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts as absent.
    Absent,
    /// It stays as it was.
    Stays,
    /// It was left by a process before this one; what it says now is the best that is known.
    Returns,
}

/// Objects that stay here although they are another revision's, by kind, namespace and name.
#[derive(Debug, Default)]
pub struct Kept(watch::Sender<BTreeSet<String>>);

impl Kept {
    /// Takes over what a process before this one knew.
    pub fn recall(&self, names: BTreeSet<String>) {
        self.0.send_replace(names);
    }

    /// What is kept, now and from now on.
    pub fn subscribe(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.subscribe()
    }

    /// Decides on an object that belongs to another revision.
    pub fn judge(&self, snapshot: &Snapshot, key: &Key) -> Verdict {
        let name = key.to_string();
        if is_of_a_gateway_here(snapshot, key) {
            self.0.send_if_modified(|kept| kept.insert(name));
            Verdict::Stays
        } else if self.0.borrow().contains(&name) {
            Verdict::Returns
        } else {
            Verdict::Absent
        }
    }

    /// An object is gone, or ours.
    pub fn forget(&self, key: &Key) {
        self.0
            .send_if_modified(|kept| !kept.is_empty() && kept.remove(&key.to_string()));
    }

    /// Everything was read once: what is not there any more was deleted while nobody looked.
    pub fn forget_absent(&self, snapshot: &Snapshot) {
        let gateways = snapshot.gateways.iter().map(|one| (Kind::Gateway, &one.meta));
        let routes = snapshot
            .virtual_services
            .iter()
            .map(|one| (Kind::VirtualService, &one.meta));
        let present: BTreeSet<String> = gateways
            .chain(routes)
            .map(|(kind, meta)| Key::new(kind, &meta.namespace, &meta.name).to_string())
            .collect();
        self.0.send_if_modified(|kept| {
            let before = kept.len();
            kept.retain(|name| present.contains(name));
            kept.len() != before
        });
    }
}

/// Whether an object is among what gateways of this revision are made of.
fn is_of_a_gateway_here(snapshot: &Snapshot, key: &Key) -> bool {
    match key.kind {
        Kind::Gateway => snapshot.gateways.get(&key.namespace, &key.name).is_some(),
        // One for sidecars alone goes at once: they have a route without it.
        Kind::VirtualService => snapshot
            .virtual_services
            .get(&key.namespace, &key.name)
            .is_some_and(|routes| routes.spec.gateways.iter().any(|gateway| gateway != "mesh")),
        _ => false,
    }
}
