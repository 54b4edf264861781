//! What happens during an installation, told to whoever shows it.

use crate::component::Kind;
use crate::object::Id;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A component's objects are being applied or waited for.
    Processing {
        /// Which component.
        kind: Kind,
        /// Objects that are not ready, `Kind/namespace/name`, each with a reason if there is one to tell.
        waiting: Vec<String>,
    },
    /// What keeps a pod of an object that is waited for from starting. Told again and again until it starts.
    Problem(String),
    /// A component is applied and ready.
    Installed(Kind),
    /// A component failed.
    Failed(Kind, String),
    /// Objects that are no longer rendered are being removed.
    Pruning,
    /// An object that is no longer rendered would be removed, were this no dry run.
    WouldRemove(Id),
    /// Something the user should know.
    Note(String),
}

/// Receives events. Called from several components at once.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Nobody is watching.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
