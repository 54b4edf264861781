//! Random lives of proxies against a naive model: whatever happens in whatever order, at rest each has exactly what it
//! subscribed to, on the way it never refers to something it does not have, and is not sent what it has, what it
//! rejected, or what is another class's. Time moves, so that nobody is waited for for ever.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "model/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

use world::{Deed, PROXIES, Step, World, steps};

/// What all proxies have in common.
struct Server {
    limits: Arc<Limits>,
    shared: Arc<Shared>,
    views: [Arc<View>; 2],
    now: SystemTime,
}

impl Server {
    fn stream(&self, protocol: Protocol, class: u8) -> Stream {
        let view = self.views[usize::from(class)].clone();
        Stream::new(protocol, view, self.limits.clone(), self.shared.clone())
    }
}

/// A proxy as Envoy is: endpoints are asked for per cluster; a rejected response is applied not at all.
struct Proxy {
    class: u8,
    protocol: Protocol,
    stream: Stream,
    /// Type, name → version and content.
    held: BTreeMap<&'static str, Held>,
    /// Type → version last accepted.
    versions: BTreeMap<&'static str, String>,
    /// Endpoints it asks for, and those of them that it has no cluster for.
    asked: BTreeSet<String>,
    extra: BTreeSet<String>,
    /// How often something may be repeated, because it was asked for or its cluster was sent.
    owed: BTreeMap<(&'static str, String), usize>,
    /// Clusters that wait for endpoints: they changed, and nothing of them came since. No stream's end ends that.
    warming: BTreeSet<String>,
    unanswered: std::collections::VecDeque<Received>,
    /// Types of which something was rejected on this stream: what is known then is uncertain, repetitions are right.
    doubtful: BTreeSet<&'static str>,
    /// What was rejected on this stream: version of the set, and content.
    rejected: BTreeMap<(&'static str, String), (String, String)>,
    /// Whether anything was ever rejected, so that only a change repairs it.
    ever_rejected: bool,
    /// Whether it may lack what it refers to: it rejected clusters, or let the server wait too long and then rejected,
    /// or could not say what it holds, as full-state requests cannot.
    own_fault: bool,
}

/// Name → version and content.
type Held = BTreeMap<String, (String, String)>;

struct Received {
    at: SystemTime,
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
    fn new(class: u8, protocol: Protocol, server: &Server) -> Self {
        let mut proxy = Self {
            class,
            protocol,
            stream: server.stream(protocol, class),
            held: [kinds::CLUSTER, kinds::ENDPOINT, kinds::LISTENER]
                .map(|url| (url, Held::new()))
                .into(),
            versions: BTreeMap::new(),
            asked: BTreeSet::new(),
            extra: BTreeSet::new(),
            owed: BTreeMap::new(),
            warming: BTreeSet::new(),
            unanswered: Default::default(),
            doubtful: BTreeSet::new(),
            rejected: BTreeMap::new(),
            ever_rejected: false,
            own_fault: false,
        };
        proxy.connect();
        proxy
    }

    fn connect(&mut self) {
        for url in [kinds::CLUSTER, kinds::LISTENER] {
            self.request(url, &[], &[], "", false, true);
        }
        let clusters: BTreeSet<String> = self.held[kinds::CLUSTER].keys().cloned().collect();
        self.asked = clusters.union(&self.extra).cloned().collect();
        let names: Vec<String> = self.asked.iter().cloned().collect();
        // Any of them may be warming; the control plane cannot tell which.
        names.iter().for_each(|name| self.owe(kinds::ENDPOINT, name));
        if !names.is_empty() {
            self.request(kinds::ENDPOINT, &names, &[], "", false, true);
        }
    }

    fn reconnect(&mut self, server: &Server) {
        self.stream = server.stream(self.protocol, self.class);
        self.unanswered.clear();
        self.doubtful.clear();
        self.rejected.clear();
        self.owed.clear();
        self.own_fault |= self.protocol == Protocol::Sotw;
        self.connect();
    }

    fn owe(&mut self, url: &'static str, name: &str) {
        *self.owed.entry((url, name.to_owned())).or_default() += 1;
    }

    fn act(&mut self, deed: &Deed, server: &Server) {
        let name = |c: &u8| format!("c{c}");
        match deed {
            Deed::Send => self.receive(server.now),
            Deed::Accept => self.answer(None),
            Deed::Reject => self.answer(Some(server)),
            Deed::Reconnect => self.reconnect(server),
            Deed::Ask(c) => {
                self.extra.insert(name(c));
                self.ask_endpoints(vec![name(c)], Vec::new());
            }
            Deed::Unask(c) => {
                self.extra.remove(&name(c));
                if self.asked.contains(&name(c)) && !self.held[kinds::CLUSTER].contains_key(&name(c)) {
                    self.ask_endpoints(Vec::new(), vec![name(c)]);
                }
            }
            Deed::Name(c) if self.protocol == Protocol::Delta => {
                self.owe(kinds::CLUSTER, &name(c));
                self.request(kinds::CLUSTER, &[name(c)], &[], "", false, false);
            }
            Deed::Unname(c) if self.protocol == Protocol::Delta => {
                // It still sees all, so it is told what it no longer names.
                self.owe(kinds::CLUSTER, &name(c));
                self.request(kinds::CLUSTER, &[], &[name(c)], "", false, false);
            }
            Deed::Name(_) | Deed::Unname(_) => {}
        }
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
        let held = self.held[url].clone();
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
    fn receive(&mut self, now: SystemTime) {
        while let Some(response) = self.stream.poll(now) {
            let received = decode(self.protocol, response, now);
            self.check_told(&received);
            self.unanswered.push_back(received);
        }
    }

    /// What it has when all that was received is accepted.
    fn will_hold(&self, url: &'static str) -> Held {
        let mut held = self.held[url].clone();
        for earlier in self.unanswered.iter().filter(|r| r.url == url) {
            apply(self.protocol, &mut held, earlier);
        }
        held
    }

    /// Nothing is repeated that the proxy has or rejected, unless it asked, its cluster was sent, or it rejected
    /// something; and nothing is sent that another class sees.
    fn check_told(&mut self, received: &Received) {
        let url = received.url;
        let hidden = |name: &String| self.class != 0 && ["c6", "c7"].contains(&&**name);
        let named = received.resources.iter().map(|(name, ..)| name);
        // That something does not exist may be said of whatever was asked for.
        assert!(!named.clone().any(hidden), "{url} of another class was sent");
        if url == kinds::CLUSTER {
            let names: Vec<String> = named.cloned().collect();
            names.iter().for_each(|name| self.owe(kinds::ENDPOINT, name));
        }
        let held = self.will_hold(url);
        if self.protocol == Protocol::Sotw && kinds::is_wildcard(url) {
            let mut told = Held::new();
            apply(self.protocol, &mut told, received);
            let first = !self.versions.contains_key(url) && self.unanswered.iter().all(|r| r.url != url);
            let known = !first && told == held && !self.doubtful.contains(url);
            assert!(!known, "{url} was sent again unchanged");
        }
        // What changed may be tried again, even if it changed back.
        self.rejected
            .retain(|(of, _), (set, _)| *of != url || *set == received.version);
        for (name, version, content) in &received.resources {
            let rejected = self.rejected.get(&(url, name.clone()));
            let retried = rejected.is_some_and(|(set, old)| *set == received.version && old == content);
            let whole = self.protocol == Protocol::Sotw && kinds::is_wildcard(url);
            let known = !whole && held.get(name).is_some_and(|(v, c)| (v, c) == (version, content));
            // What was asked for may have been on its way already: the permission is for the next time.
            if !retried && (!known || self.doubtful.contains(url)) {
                continue;
            }
            let left = self.owed.entry((url, name.clone())).or_default();
            assert!(*left > 0, "{name} of {url} was sent again, retried: {retried}");
            *left -= 1;
        }
    }

    /// Accepts the oldest response, or rejects it.
    fn answer(&mut self, rejects: Option<&Server>) {
        let Some(received) = self.unanswered.pop_front() else {
            return;
        };
        let url = received.url;
        if let Some(server) = rejects {
            let late = server.now >= received.at + server.limits.patience;
            self.own_fault |= url == kinds::CLUSTER || late;
            self.ever_rejected = true;
            self.doubtful.insert(url);
            // If something else was sent since, going back is a change.
            let is_last = self.unanswered.iter().all(|later| later.url != url);
            for (name, _, content) in received.resources.into_iter().filter(|_| is_last) {
                self.rejected.insert((url, name), (received.version.clone(), content));
            }
            self.request(url, &[], &[], &received.nonce, true, false);
            return;
        }
        self.warm(&received);
        apply(self.protocol, self.held.get_mut(url).unwrap(), &received);
        self.versions.insert(url, received.version.clone());
        self.check_references();
        self.request(url, &[], &[], &received.nonce, false, false);
        if url == kinds::CLUSTER {
            self.follow_clusters();
        }
        // Endpoints that nobody wants any more fall on the floor.
        let asked = &self.asked;
        self.held
            .get_mut(kinds::ENDPOINT)
            .unwrap()
            .retain(|name, _| asked.contains(name));
    }

    /// A cluster that is another one is used when its endpoints came after it.
    fn warm(&mut self, received: &Received) {
        let held = &self.held[received.url];
        let content = |name: &String| held.get(name).map(|(_, content)| content);
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
        let wanted: BTreeSet<String> = clusters.union(&self.extra).cloned().collect();
        let add: Vec<String> = wanted.difference(&self.asked).cloned().collect();
        let remove: Vec<String> = self.asked.difference(&wanted).cloned().collect();
        if !add.is_empty() || !remove.is_empty() {
            self.ask_endpoints(add, remove);
        }
    }

    fn ask_endpoints(&mut self, add: Vec<String>, remove: Vec<String>) {
        self.asked.extend(add.iter().cloned());
        self.asked.retain(|name| !remove.contains(name));
        let status = self.stream.status();
        let nonce = status
            .iter()
            .find(|s| &*s.type_url == kinds::ENDPOINT)
            .map(|s| s.nonce_sent.clone());
        let nonce = nonce.filter(|_| self.protocol == Protocol::Sotw).unwrap_or_default();
        // A full-state request without a nonce starts the subscription again, so that all of it is answered.
        let anew = self.protocol == Protocol::Sotw && nonce.is_empty();
        let answered: Vec<String> = if anew {
            self.asked.iter().cloned().collect()
        } else {
            add.clone()
        };
        answered.iter().for_each(|name| self.owe(kinds::ENDPOINT, name));
        let asked = &self.asked;
        self.held
            .get_mut(kinds::ENDPOINT)
            .unwrap()
            .retain(|name, _| asked.contains(name));
        self.request(kinds::ENDPOINT, &add, &remove, &nonce, false, false);
    }

    /// Every cluster that the listener refers to is there.
    fn check_references(&self) {
        if self.own_fault {
            return;
        }
        let Some((_, listener)) = self.held[kinds::LISTENER].get("l") else {
            return;
        };
        let clusters = &self.held[kinds::CLUSTER];
        for cluster in listener.split(' ').skip(2).filter(|name| !name.is_empty()) {
            assert!(
                clusters.contains_key(cluster),
                "the listener refers to {cluster}, which the proxy does not have"
            );
        }
    }
}

fn decode(protocol: Protocol, response: Response, at: SystemTime) -> Received {
    let url = url_of(&response.type_url);
    let bytes: Vec<u8> = response.frames.flatten().skip(5).collect();
    match protocol {
        Protocol::Delta => {
            let message = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
            let resource =
                |r: xds::envoy::service::discovery::v3::Resource| (r.name, r.version, text_of(&r.resource.unwrap()));
            let resources = message.resources.into_iter().map(resource).collect();
            Received {
                at,
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
                at,
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
    let limits = Arc::new(Limits::default());
    let mut server = Server {
        shared: Arc::new(Shared::new(&limits)),
        limits,
        views: world.views(),
        now: SystemTime::UNIX_EPOCH,
    };
    let mut proxies = PROXIES.map(|class| Proxy::new(class, protocol, &server));
    let learn = |server: &mut Server, proxies: &mut [Proxy], world: &World| {
        server.views = world.views();
        for proxy in proxies {
            proxy.stream.set_view(server.views[usize::from(proxy.class)].clone());
        }
    };
    for step in steps {
        match step {
            Step::Wait(seconds) => server.now += Duration::from_secs(u64::from(*seconds)),
            Step::Of(proxy, deed) => proxies[*proxy].act(deed, &server),
            change => {
                world.apply(change);
                learn(&mut server, &mut proxies, &world);
            }
        }
    }
    // What was rejected is only tried again when it changes, so everything changes once more; then rest.
    if proxies.iter().any(|proxy| proxy.ever_rejected) {
        world.apply(&Step::Cluster(5, 0));
        world.apply(&Step::Cluster(7, 0));
        let last: Vec<u8> = world.clusters.keys().copied().collect();
        last.iter().for_each(|c| world.apply(&Step::Cluster(*c, 9)));
        last.iter().for_each(|c| world.apply(&Step::Endpoints(*c, 9)));
        world.apply(&Step::Listener(9));
        learn(&mut server, &mut proxies, &world);
    }
    for mut proxy in proxies {
        for _ in 0..50 {
            proxy.receive(server.now);
            proxy.answer(None);
        }
        assert!(proxy.unanswered.is_empty());
        for (url, held) in &proxy.held {
            // A full-state answer cannot say that endpoints are gone; their cluster is.
            let is_left = |name: &String| {
                protocol == Protocol::Sotw && *url == kinds::ENDPOINT && !proxy.held[kinds::CLUSTER].contains_key(name)
            };
            let held = held.iter().filter(|(name, _)| !is_left(name));
            let held = held.map(|(name, (_, content))| (name.clone(), content.clone()));
            assert_eq!(
                held.collect::<BTreeMap<String, String>>(),
                world.expected(proxy.class, url),
                "{url}"
            );
        }
        let clusters = &proxy.held[kinds::CLUSTER];
        proxy.warming.retain(|name| clusters.contains_key(name));
        assert_eq!(proxy.warming, BTreeSet::new(), "clusters wait for endpoints for ever");
    }
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
