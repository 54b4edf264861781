//! Configuration of gateways whose owner changes (operators.md §4).
//!
//! An object labelled for another revision is not ours to read. But when one of ours is relabelled, the gateways that it
//! configures may still be connected here, and they would be left without a listener before anybody else serves them.
//! So what a gateway is made of stays as it was when it left, until it is deleted or this process ends; those who
//! connect to the new owner get it from there.

use mesh::{Key, Kind, Snapshot};

/// Whether an object that now belongs to another revision stays in force here as it was.
pub fn stays(snapshot: &Snapshot, key: &Key) -> bool {
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
