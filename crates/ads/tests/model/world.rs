//! What is configured, what may happen to it, and what may happen to the proxies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ads::{View, kinds};
use proptest::prelude::*;
use xds::google::protobuf::StringValue;
use xds::resource::{Resource, ResourceSet};

/// The world: clusters by number, with a version; endpoints of each; one listener that refers to some clusters.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub clusters: BTreeMap<u8, u8>,
    endpoints: BTreeMap<u8, u8>,
    listener: u8,
}

/// Clusters from this number on are seen by the first class only.
const PRIVATE: u8 = 6;
const CLUSTERS: u8 = 8;
/// Classes of the proxies.
pub const PROXIES: [u8; 3] = [0, 1, 0];

#[derive(Clone, Debug)]
pub enum Step {
    /// The world changes: a cluster, its endpoints, or what the listener refers to.
    Cluster(u8, u8),
    RemoveCluster(u8),
    Endpoints(u8, u8),
    Listener(u8),
    /// So many seconds pass; at five nobody is waited for any more.
    Wait(u8),
    /// Something happens to one of the proxies.
    Of(usize, Deed),
}

#[derive(Clone, Debug)]
pub enum Deed {
    /// The server sends what it has to.
    Send,
    /// The proxy answers the oldest unanswered response.
    Accept,
    Reject,
    /// The stream breaks and the proxy comes back with what it has.
    Reconnect,
    /// It asks for endpoints, whether or not it has the cluster or asked already, and does without them again.
    Ask(u8),
    Unask(u8),
    /// It asks for a cluster by name although it is sent all (incremental protocol only).
    Name(u8),
    Unname(u8),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let deed = prop_oneof![
        8 => Just(Deed::Send),
        12 => Just(Deed::Accept),
        2 => Just(Deed::Reject),
        2 => Just(Deed::Reconnect),
        1 => (0..CLUSTERS).prop_map(Deed::Ask),
        1 => (0..CLUSTERS).prop_map(Deed::Unask),
        1 => (0..CLUSTERS).prop_map(Deed::Name),
        1 => (0..CLUSTERS).prop_map(Deed::Unname),
    ];
    let step = prop_oneof![
        2 => (0..CLUSTERS, 0..4u8).prop_map(|(c, v)| Step::Cluster(c, v)),
        2 => (0..CLUSTERS).prop_map(Step::RemoveCluster),
        2 => (0..CLUSTERS, 0..4u8).prop_map(|(c, v)| Step::Endpoints(c, v)),
        2 => (0..4u8).prop_map(Step::Listener),
        1 => (1..4u8).prop_map(Step::Wait),
        20 => (0..PROXIES.len(), deed).prop_map(|(proxy, deed)| Step::Of(proxy, deed)),
    ];
    proptest::collection::vec(step, 1..150)
}

impl World {
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Cluster(c, v) => {
                self.clusters.insert(*c, *v);
                self.endpoints.entry(*c).or_default();
            }
            Step::RemoveCluster(c) => {
                self.clusters.remove(c);
                self.endpoints.remove(c);
            }
            Step::Endpoints(c, v) if self.clusters.contains_key(c) => drop(self.endpoints.insert(*c, *v)),
            Step::Listener(v) => self.listener = *v,
            _ => {}
        }
    }

    /// Names and contents of a type.
    pub fn expected(&self, class: u8, url: &str) -> BTreeMap<String, String> {
        let sees = |c: &u8| class == 0 || *c < PRIVATE;
        let numbered = |map: &BTreeMap<u8, u8>| {
            let seen = map.iter().filter(|(c, _)| sees(c));
            seen.map(|(c, v)| (format!("c{c}"), format!("c{c} {v}"))).collect()
        };
        match url {
            kinds::CLUSTER => numbered(&self.clusters),
            kinds::ENDPOINT => numbered(&self.endpoints),
            _ => {
                // The listener refers to every cluster there is, except those its version leaves out.
                let refers = self.clusters.keys().filter(|c| sees(c) && **c % 4 != self.listener);
                let refers: Vec<String> = refers.map(|c| format!("c{c}")).collect();
                BTreeMap::from([("l".to_owned(), format!("l {} {}", self.listener, refers.join(" ")))])
            }
        }
    }

    /// The view of each class. Clusters that all see lie below those that one class sees.
    pub fn views(&self) -> [Arc<View>; 2] {
        let resource = |(name, value): (String, String)| Arc::new(Resource::encode(name, &StringValue { value }));
        let set = |class: u8, url: &str| -> Vec<Arc<Resource>> {
            self.expected(class, url).into_iter().map(resource).collect()
        };
        let below = Arc::new(ResourceSet::new(set(1, kinds::CLUSTER)));
        [0, 1].map(|class| {
            let own = set(class, kinds::CLUSTER)
                .into_iter()
                .filter(|r| below.get(&r.name).is_none());
            let clusters = ResourceSet::over(below.clone(), own);
            let flat = |url: &str| (kinds::intern(url), Arc::new(ResourceSet::new(set(class, url))));
            let mut sets: BTreeMap<_, _> = [kinds::ENDPOINT, kinds::LISTENER].map(flat).into();
            sets.insert(kinds::intern(kinds::CLUSTER), Arc::new(clusters));
            Arc::new(View::new(sets, SystemTime::UNIX_EPOCH))
        })
    }
}
