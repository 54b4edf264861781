//! Random lives of a proxy against a naive model: whatever happens in whatever order, at rest the proxy has exactly
//! what it subscribed to, on the way it never refers to something it does not have, and is not sent what it has.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use ads::diff::Shared;
use ads::stream::Response;
use ads::{Limits, Protocol, Stream, View, kinds};
use proptest::prelude::*;
use prost::Message;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::google::protobuf::{Any, StringValue};
use xds::google::rpc::Status;
use xds::resource::{Resource, ResourceSet};

/// The world: clusters by number, with a version; endpoints of each; one listener that refers to some clusters.
#[derive(Clone, Debug, Default)]
struct World {
    clusters: BTreeMap<u8, u8>,
    endpoints: BTreeMap<u8, u8>,
    listener: (BTreeSet<u8>, u8),
}

#[derive(Clone, Debug)]
enum Step {
    /// The world changes: a cluster, its endpoints, or what the listener refers to.
    Cluster(u8, u8),
    RemoveCluster(u8),
    Endpoints(u8, u8),
    Listener(u8),
    /// The server sends what it has to.
    Send,
    /// The proxy answers the oldest unanswered response.
    Accept,
    Reject,
    /// The stream breaks and the proxy comes back with what it has.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..6u8, 0..4u8).prop_map(|(c, v)| Step::Cluster(c, v)),
        2 => (0..6u8).prop_map(Step::RemoveCluster),
        2 => (0..6u8, 0..4u8).prop_map(|(c, v)| Step::Endpoints(c, v)),
        2 => (0..4u8).prop_map(Step::Listener),
        4 => Just(Step::Send),
        6 => Just(Step::Accept),
        1 => Just(Step::Reject),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 1..60)
}

impl World {
    fn apply(&mut self, step: &Step) {
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
            Step::Listener(v) => self.listener.1 = *v,
            _ => {}
        }
        // The listener refers to every cluster there is, except those its version leaves out.
        let refers = self.clusters.keys().filter(|c| **c % 4 != self.listener.1);
        self.listener.0 = refers.copied().collect();
    }

    /// Names and contents of a type.
    fn expected(&self, url: &str) -> BTreeMap<String, String> {
        let numbered = |map: &BTreeMap<u8, u8>| {
            map.iter()
                .map(|(c, v)| (format!("c{c}"), format!("c{c} {v}")))
                .collect()
        };
        match url {
            kinds::CLUSTER => numbered(&self.clusters),
            kinds::ENDPOINT => numbered(&self.endpoints),
            _ => {
                let refers: Vec<String> = self.listener.0.iter().map(|c| format!("c{c}")).collect();
                BTreeMap::from([("l".to_owned(), format!("l {} {}", self.listener.1, refers.join(" ")))])
            }
        }
    }

    fn view(&self) -> Arc<View> {
        let set = |url: &str| {
            let resource = |(name, value): (String, String)| Arc::new(Resource::encode(name, &StringValue { value }));
            (
                kinds::intern(url),
                Arc::new(ResourceSet::new(self.expected(url).into_iter().map(resource))),
            )
        };
        Arc::new(View::new(
            [kinds::CLUSTER, kinds::ENDPOINT, kinds::LISTENER].map(set).into(),
            SystemTime::UNIX_EPOCH,
        ))
    }
}

/// A proxy as Envoy is: endpoints are asked for per cluster; a rejected response is applied not at all.
struct Proxy {
    protocol: Protocol,
    stream: Stream,
    /// Type, name → version and content.
    held: BTreeMap<&'static str, BTreeMap<String, (String, String)>>,
    /// Type → version last accepted.
    versions: BTreeMap<&'static str, String>,
    asked: BTreeSet<String>,
    /// How often endpoints may be repeated, because they were asked for or their cluster was sent.
    owed: BTreeMap<String, usize>,
    /// Clusters that wait for endpoints: they changed, and nothing of them came since. No stream's end ends that.
    warming: BTreeSet<String>,
    unanswered: std::collections::VecDeque<Received>,
    /// Types of which something was ever rejected: what is known then is uncertain, repetitions are right.
    doubtful: BTreeSet<&'static str>,
    /// Whether it ever rejected clusters.
    rejected_clusters: bool,
    /// Whether the server had to forget what it holds: full-state requests cannot say it.
    forgotten: bool,
}

struct Received {
    url: &'static str,
    nonce: String,
    version: String,
    /// Name, version, content.
    resources: Vec<(String, String, String)>,
    removed: Vec<String>,
}

fn url_of(text: &str) -> &'static str {
    [kinds::CLUSTER, kinds::ENDPOINT, kinds::LISTENER]
        .into_iter()
        .find(|u| *u == text)
        .unwrap()
}

fn text_of(any: &Any) -> String {
    StringValue::decode(&any.value[..]).unwrap().value
}

impl Proxy {
    fn new(protocol: Protocol, view: Arc<View>) -> Self {
        let mut proxy = Self {
            protocol,
            stream: stream(protocol, view),
            held: BTreeMap::new(),
            versions: BTreeMap::new(),
            asked: BTreeSet::new(),
            owed: BTreeMap::new(),
            warming: BTreeSet::new(),
            unanswered: Default::default(),
            doubtful: BTreeSet::new(),
            rejected_clusters: false,
            forgotten: false,
        };
        proxy.connect();
        proxy
    }

    fn connect(&mut self) {
        for url in [kinds::CLUSTER, kinds::LISTENER] {
            self.request(url, &[], &[], "", false, true);
        }
        let names: Vec<String> = self
            .held
            .get(kinds::CLUSTER)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        self.asked = names.iter().cloned().collect();
        // Any of them may be warming; the control plane cannot tell which.
        self.owed.extend(names.iter().map(|name| (name.clone(), 1)));
        if !names.is_empty() {
            self.request(kinds::ENDPOINT, &names, &[], "", false, true);
        }
    }

    fn reconnect(&mut self, view: Arc<View>) {
        self.stream = stream(self.protocol, view);
        self.unanswered.clear();
        self.doubtful.clear();
        self.owed.clear();
        self.forgotten |= self.protocol == Protocol::Sotw;
        self.connect();
    }

    fn request(
        &mut self,
        url: &'static str,
        add: &[String],
        remove: &[String],
        nonce: &str,
        reject: bool,
        first: bool,
    ) {
        let error_detail = reject.then(|| Status {
            message: "no".into(),
            ..Default::default()
        });
        let held = self.held.get(url).cloned().unwrap_or_default();
        match self.protocol {
            Protocol::Delta => drop(self.stream.on_delta(DeltaDiscoveryRequest {
                type_url: url.into(),
                resource_names_subscribe: add.to_vec(),
                resource_names_unsubscribe: remove.to_vec(),
                initial_resource_versions: if first {
                    held.into_iter().map(|(n, (v, _))| (n, v)).collect()
                } else {
                    BTreeMap::new()
                },
                response_nonce: nonce.into(),
                error_detail,
                ..Default::default()
            })),
            Protocol::Sotw => drop(self.stream.on_sotw(DiscoveryRequest {
                type_url: url.into(),
                resource_names: if url == kinds::ENDPOINT {
                    self.asked.iter().cloned().collect()
                } else {
                    Vec::new()
                },
                response_nonce: nonce.into(),
                version_info: self.versions.get(url).cloned().unwrap_or_default(),
                error_detail,
                ..Default::default()
            })),
        }
    }

    /// Takes everything that the server has to say.
    fn receive(&mut self) {
        while let Some(response) = self.stream.poll(SystemTime::UNIX_EPOCH) {
            let received = decode(self.protocol, response);
            self.check_not_held(&received);
            self.unanswered.push_back(received);
        }
    }

    /// Nothing is repeated that the proxy has, unless it asked, its cluster was sent, or it rejected something.
    fn check_not_held(&mut self, received: &Received) {
        if received.url == kinds::CLUSTER {
            received
                .resources
                .iter()
                .for_each(|(name, ..)| *self.owed.entry(name.clone()).or_default() += 1);
        }
        if self.protocol == Protocol::Sotw || self.doubtful.contains(received.url) {
            return;
        }
        let mut held = self.held.get(received.url).cloned().unwrap_or_default();
        for earlier in self.unanswered.iter().filter(|r| r.url == received.url) {
            apply(self.protocol, &mut held, earlier);
        }
        for (name, version, content) in &received.resources {
            let rewarmed = received.url == kinds::ENDPOINT && self.take_owed(name);
            let known = held.get(name).is_some_and(|(v, c)| (v, c) == (version, content));
            assert!(!known || rewarmed, "{name} of {} was sent again", received.url);
        }
    }

    fn take_owed(&mut self, name: &str) -> bool {
        let Some(left) = self.owed.get_mut(name).filter(|left| **left > 0) else {
            return false;
        };
        *left -= 1;
        true
    }

    fn answer(&mut self, reject: bool) {
        let Some(received) = self.unanswered.pop_front() else {
            return;
        };
        let url = received.url;
        if reject {
            self.doubtful.insert(url);
            self.rejected_clusters |= url == kinds::CLUSTER;
            self.request(url, &[], &[], &received.nonce, true, false);
            return;
        }
        self.warm(&received);
        apply(self.protocol, self.held.entry(url).or_default(), &received);
        self.versions.insert(url, received.version.clone());
        self.check_references();
        self.request(url, &[], &[], &received.nonce, false, false);
        if url == kinds::CLUSTER {
            self.follow_clusters();
        }
        // Endpoints that nobody wants any more fall on the floor.
        self.held
            .entry(kinds::ENDPOINT)
            .or_default()
            .retain(|name, _| self.asked.contains(name));
    }

    /// A cluster that is another one is used when its endpoints came after it.
    fn warm(&mut self, received: &Received) {
        let held = self.held.get(received.url);
        let content = |name: &String| held.and_then(|held| held.get(name)).map(|(_, content)| content);
        for (name, _, now) in &received.resources {
            match received.url {
                kinds::CLUSTER if content(name) != Some(now) => drop(self.warming.insert(name.clone())),
                kinds::ENDPOINT => drop(self.warming.remove(name)),
                _ => {}
            }
        }
    }

    /// Asks for endpoints of new clusters, and drops those of clusters that are gone.
    fn follow_clusters(&mut self) {
        let clusters: BTreeSet<String> = self.held[kinds::CLUSTER].keys().cloned().collect();
        let add: Vec<String> = clusters.difference(&self.asked).cloned().collect();
        let remove: Vec<String> = self.asked.difference(&clusters).cloned().collect();
        self.asked = clusters;
        if !add.is_empty() || !remove.is_empty() {
            add.iter()
                .for_each(|name| *self.owed.entry(name.clone()).or_default() += 1);
            let nonce = self
                .stream
                .status()
                .iter()
                .find(|s| &*s.type_url == kinds::ENDPOINT)
                .map(|s| s.nonce_sent.clone());
            let nonce = if self.protocol == Protocol::Sotw {
                nonce.unwrap_or_default()
            } else {
                String::new()
            };
            self.request(kinds::ENDPOINT, &add, &remove, &nonce, false, false);
        }
    }

    /// Every cluster that the listener refers to is there.
    fn check_references(&self) {
        // A proxy that rejected clusters has itself to blame.
        if self.rejected_clusters || self.forgotten {
            return;
        }
        let Some((_, listener)) = self.held.get(kinds::LISTENER).and_then(|held| held.get("l")) else {
            return;
        };
        let Some(clusters) = self.held.get(kinds::CLUSTER) else {
            return;
        };
        for cluster in listener.split(' ').skip(2).filter(|name| !name.is_empty()) {
            assert!(
                clusters.contains_key(cluster),
                "the listener refers to {cluster}, which the proxy does not have"
            );
        }
    }
}

fn stream(protocol: Protocol, view: Arc<View>) -> Stream {
    let limits = Arc::new(Limits::default());
    let shared = Arc::new(Shared::new(&limits));
    Stream::new(protocol, view, limits, shared)
}

fn decode(protocol: Protocol, response: Response) -> Received {
    let url = url_of(&response.type_url);
    let bytes: Vec<u8> = response.frames.flatten().skip(5).collect();
    match protocol {
        Protocol::Delta => {
            let message = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
            let resource =
                |r: xds::envoy::service::discovery::v3::Resource| (r.name, r.version, text_of(&r.resource.unwrap()));
            let resources = message.resources.into_iter().map(resource).collect();
            Received {
                url,
                nonce: message.nonce,
                version: message.system_version_info,
                resources,
                removed: message.removed_resources,
            }
        }
        Protocol::Sotw => {
            let message = DiscoveryResponse::decode(&bytes[..]).unwrap();
            // Full-state resources have no name on the outside; here the content starts with it.
            let named = |any| {
                let content = text_of(any);
                (content.split(' ').next().unwrap().to_owned(), String::new(), content)
            };
            let resources = message.resources.iter().map(named).collect();
            Received {
                url,
                nonce: message.nonce,
                version: message.version_info,
                resources,
                removed: Vec::new(),
            }
        }
    }
}

fn apply(protocol: Protocol, held: &mut BTreeMap<String, (String, String)>, received: &Received) {
    if protocol == Protocol::Sotw && received.url != kinds::ENDPOINT {
        held.clear();
    }
    received.removed.iter().for_each(|name| drop(held.remove(name)));
    held.extend(
        received
            .resources
            .iter()
            .map(|(n, v, c)| (n.clone(), (v.clone(), c.clone()))),
    );
}

fn live(protocol: Protocol, steps: &[Step]) {
    let mut world = World::default();
    world.apply(&Step::Listener(0));
    let mut proxy = Proxy::new(protocol, world.view());
    for step in steps {
        match step {
            Step::Send => proxy.receive(),
            Step::Accept => proxy.answer(false),
            Step::Reject => proxy.answer(true),
            Step::Reconnect => proxy.reconnect(world.view()),
            change => {
                world.apply(change);
                proxy.stream.set_view(world.view());
            }
        }
    }
    // What was rejected is only tried again when it changes, so everything changes once more; then rest.
    if !proxy.doubtful.is_empty() {
        world.apply(&Step::Cluster(7, 0));
        let last: Vec<u8> = world.clusters.keys().copied().collect();
        last.iter().for_each(|c| world.apply(&Step::Cluster(*c, 9)));
        last.iter().for_each(|c| world.apply(&Step::Endpoints(*c, 9)));
        world.apply(&Step::Listener(9));
        proxy.stream.set_view(world.view());
    }
    for _ in 0..50 {
        proxy.receive();
        proxy.answer(false);
    }
    assert!(proxy.unanswered.is_empty());
    for url in [kinds::CLUSTER, kinds::LISTENER, kinds::ENDPOINT] {
        let held = proxy.held.get(url).cloned().unwrap_or_default();
        let held: BTreeMap<String, String> = held.into_iter().map(|(name, (_, content))| (name, content)).collect();
        assert_eq!(held, world.expected(url), "{url}");
    }
    proxy.warming.retain(|name| proxy.asked.contains(name));
    assert_eq!(proxy.warming, BTreeSet::new(), "clusters wait for endpoints for ever");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_the_proxy_has_what_it_asked_for(steps in steps()) {
        live(Protocol::Delta, &steps);
    }

    #[test]
    fn at_rest_a_full_state_proxy_has_what_it_asked_for(steps in steps()) {
        live(Protocol::Sotw, &steps);
    }
}
