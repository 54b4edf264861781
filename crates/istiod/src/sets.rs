//! What the engine wants of a translation.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::{Snapshot, Update};
use xds::resource::ResourceSet;

/// From snapshots to sets of resources. One thread makes sets while another tells of changes.
pub trait Translate: Send + Sync + 'static {
    /// A connected proxy.
    type Proxy: Send + std::fmt::Debug + 'static;
    /// Number of a class: what translation reads about a proxy, shared by most proxies with others.
    type Class: Ord + Copy + Send + std::fmt::Debug + 'static;

    /// The class that a proxy falls into now. Paired with [`Translate::close`].
    fn open(&self, proxy: &Self::Proxy) -> Self::Class;

    /// One more use of an open class. Paired with [`Translate::close`].
    fn hold(&self, class: Self::Class);

    /// A class is used once less.
    fn close(&self, class: Self::Class);

    /// Tells which proxies this change may put into another class, if any.
    fn reclassifies(&self, update: &Update) -> Option<impl Fn(&Self::Proxy) -> bool>;

    /// The mesh changed; what classes are owed now that differs, by type URL, of those whose sets were made.
    fn update(&self, update: &Update) -> BTreeMap<Self::Class, Sets>;

    /// Forgets all that was made, and moves on to a mesh of which nobody says what differs. Classes stay open.
    fn start_again(&self, snapshot: &Arc<Snapshot>);

    /// What a class is owed, by type URL. Equal results should be the same `Arc`.
    fn sets(&self, class: Self::Class) -> Sets;
}

/// Resources by type URL.
pub type Sets = BTreeMap<Arc<str>, Arc<ResourceSet>>;
