//! Random lives of a control plane and its proxies against a naive model: objects come and go, proxies connect, answer,
//! reject, leave and come back. After each change every view is what a control plane that starts now would make; at
//! rest every proxy has exactly what it asked for of it; on the way none refers to a cluster that it does not have, and
//! none is sent what it has.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ads::diff::Shared;
use ads::stream::Response;
use ads::{Limits, Peer, Protocol, Registry, Secrets, Source as _, Stream, kinds};
use proptest::prelude::*;
use prost::Message as _;
use testkit::ProxySpec;
use translate::{Generator, Proxy};
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::google::protobuf::Any;
use xds::google::rpc::Status;

use super::*;
use crate::debug::Debug as Pages;
use crate::source::{Source, Translation};

const OBJECTS: [&str; 3] = [
    include_str!("../../translate/tests/fixtures/shop.yaml"),
    include_str!("../../translate/tests/fixtures/changes.yaml"),
    include_str!("../../translate/tests/fixtures/more.yaml"),
];
const URLS: [&str; 4] = [kinds::CLUSTER, kinds::ENDPOINT, kinds::LISTENER, kinds::ROUTE];

#[derive(Clone, Debug)]
enum Step {
    Apply(usize),
    Delete(usize),
    /// A proxy of that number comes, or comes back.
    Connect(usize),
    Leave(usize),
    /// The server sends it what it has to.
    Send(usize),
    /// It answers the oldest unanswered response.
    Accept(usize),
    Reject(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (object, client) = (0..pool().len(), 0..specs().len());
    let step = prop_oneof![
        4 => object.clone().prop_map(Step::Apply),
        2 => object.prop_map(Step::Delete),
        2 => client.clone().prop_map(Step::Connect),
        1 => client.clone().prop_map(Step::Leave),
        6 => client.clone().prop_map(Step::Send),
        8 => client.clone().prop_map(Step::Accept),
        1 => client.prop_map(Step::Reject),
    ];
    prop::collection::vec(step, 20..50)
}

fn pool() -> Vec<Object> {
    OBJECTS
        .iter()
        .flat_map(|text| testkit::objects(text).unwrap())
        .collect()
}

/// Proxies of several classes, some of them of one, and the protocol that each speaks.
fn specs() -> Vec<(ProxySpec, Protocol)> {
    let catalog = |pod: &str, ip: &str| ProxySpec {
        locality: "r1/z1".to_owned(),
        ..ProxySpec::sidecar("shop", pod, ip, &[("app", "catalog"), ("version", "v1")])
    };
    let gateway = ProxySpec {
        role: "router".to_owned(),
        ..ProxySpec::sidecar("edge", "gateway-0", "10.244.0.2", &[("istio", "ingressgateway")])
    };
    vec![
        (catalog("catalog-0", "10.244.1.10"), Protocol::Delta),
        (catalog("catalog-7", "10.244.1.17"), Protocol::Delta),
        (
            ProxySpec::sidecar("other", "client-0", "10.244.2.1", &[("app", "client")]),
            Protocol::Sotw,
        ),
        (gateway, Protocol::Delta),
        (
            ProxySpec::sidecar("shop", "machine", "10.1.1.1", &[("app", "machines")]),
            Protocol::Sotw,
        ),
    ]
}

/// Name and version of a resource, and what it says.
type Held = BTreeMap<String, (String, Any)>;

/// What a control plane that starts now would owe, by type and name.
type Owed = BTreeMap<&'static str, BTreeMap<String, Any>>;

struct World {
    engine: Arc<Engine<Translation>>,
    source: Source,
    objects: BTreeMap<Key, Object>,
    clients: BTreeMap<usize, Client>,
}

impl World {
    fn new() -> Self {
        let mesh = Mesh::default();
        let translation = Translation::new(mesh.snapshot());
        let engine = Engine::new(mesh, translation);
        engine.ready.store(true, Relaxed);
        let pages = Pages {
            authenticate: true,
            namespace: "istio-system".to_owned(),
            allowed: Vec::default(),
            pod: "istiod".to_owned(),
        };
        let mut world = Self {
            source: Source::new(engine.clone(), Arc::new(Registry::default()), pages, true),
            engine,
            objects: BTreeMap::new(),
            clients: BTreeMap::new(),
        };
        // Of several forms the first is there.
        let mut first = pool();
        first.reverse();
        first.into_iter().for_each(|object| world.apply(object));
        world
    }

    fn apply(&mut self, object: Object) {
        self.objects.insert(object.key(), object.clone());
        assert!(self.engine.take(vec![Event::Apply(object)], SystemTime::UNIX_EPOCH));
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Apply(at) => self.apply(pool().swap_remove(*at)),
            Step::Delete(at) => {
                let key = pool()[*at].key();
                self.objects.remove(&key);
                assert!(self.engine.take(vec![Event::Delete(key)], SystemTime::UNIX_EPOCH));
            }
            Step::Connect(who) => self.connect(*who),
            Step::Leave(who) => drop(self.clients.remove(who)),
            Step::Send(who) => self.clients.get_mut(who).into_iter().for_each(Client::receive),
            Step::Accept(who) => self.clients.get_mut(who).into_iter().for_each(|c| c.answer(false)),
            Step::Reject(who) => self.clients.get_mut(who).into_iter().for_each(|c| c.answer(true)),
        }
        if matches!(step, Step::Apply(_) | Step::Delete(_) | Step::Connect(_)) {
            self.check_views();
        }
    }

    fn work(&self, made: impl Fn() -> bool) {
        let once = |_: usize| {
            let done = made();
            let _: bool = done || self.engine.followers.work(Duration::ZERO);
            done
        };
        assert!((0..20).any(once), "a view is never made");
    }

    fn connect(&mut self, who: usize) {
        let (spec, protocol) = specs().swap_remove(who);
        let node = spec.node();
        let peer = Peer {
            secrets: Secrets::Of(spec.namespace),
            ..Peer::default()
        };
        let view = self.source.open(&node, &peer).unwrap().view;
        self.work(|| view.borrow().is_some());
        match self.clients.get_mut(&who) {
            Some(client) => client.reconnect(view),
            None => drop(self.clients.insert(who, Client::new(protocol, node, view))),
        }
    }

    /// Every view, of all types, is that of a new start.
    fn check_views(&self) {
        let mut fresh = self.new_start();
        for client in self.clients.values() {
            self.work(|| client.is_up_to(&mut fresh.borrow_mut()));
        }
        let fresh = fresh.get_mut();
        assert_eq!(fresh.stuck(), [""; 0]);
    }

    fn new_start(&self) -> std::cell::RefCell<Generator> {
        let mut mesh = Mesh::default();
        mesh.apply(self.objects.values().cloned().map(Event::Apply));
        std::cell::RefCell::new(Generator::new(mesh.snapshot()))
    }

    /// Nothing happens any more, and everybody answers.
    fn rest(&mut self) {
        let uncertain: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, c)| !c.doubtful.is_empty())
            .map(|(w, _)| *w)
            .collect();
        // What was rejected is tried again when something changes, or on another stream.
        uncertain.into_iter().for_each(|who| self.connect(who));
        let mut fresh = self.new_start();
        for client in self.clients.values_mut() {
            for _ in 0..40 {
                client.receive();
                client.answer(false);
            }
            assert!(client.unanswered.is_empty(), "there is no end of it");
            let owed = client.owed_by(fresh.get_mut());
            for url in URLS {
                let held: BTreeMap<&String, &Any> =
                    client.held[url].iter().map(|(name, (_, any))| (name, any)).collect();
                let owed: BTreeMap<&String, &Any> = owed[url]
                    .iter()
                    .filter(|(name, _)| client.asks_for(url, name))
                    .collect();
                let names = |map: &BTreeMap<&String, &Any>| map.keys().map(|name| (*name).clone()).collect::<Vec<_>>();
                assert_eq!(names(&held), names(&owed), "{url} of {}", client.node.id);
                assert!(held == owed, "{url} of {}", client.node.id);
            }
        }
    }
}

/// A proxy as Envoy is.
struct Client {
    protocol: Protocol,
    node: Node,
    view: watch::Receiver<Option<Arc<View>>>,
    stream: Stream,
    held: BTreeMap<&'static str, Held>,
    versions: BTreeMap<&'static str, String>,
    nonces: BTreeMap<&'static str, String>,
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    unanswered: VecDeque<Received>,
    /// Types of which it rejected something.
    doubtful: BTreeSet<&'static str>,
    /// How often a resource may be repeated, because it was asked for, or the cluster was sent that it belongs to.
    repeatable: BTreeMap<(&'static str, String), usize>,
    /// Clusters that the mesh itself refers to and does not have.
    absent: BTreeSet<String>,
    /// Whether what it has may be unknown to the server, or incomplete by its own fault.
    excused: bool,
}

struct Received {
    url: &'static str,
    nonce: String,
    version: String,
    resources: Held,
    removed: Vec<String>,
}

impl Client {
    fn new(protocol: Protocol, node: Node, view: watch::Receiver<Option<Arc<View>>>) -> Self {
        let mut client = Self {
            protocol,
            node,
            stream: stream(protocol, &view),
            view,
            held: URLS.map(|url| (url, Held::new())).into(),
            versions: BTreeMap::new(),
            nonces: BTreeMap::new(),
            asked: URLS.map(|url| (url, BTreeSet::new())).into(),
            unanswered: VecDeque::new(),
            doubtful: BTreeSet::new(),
            repeatable: BTreeMap::new(),
            absent: BTreeSet::new(),
            excused: false,
        };
        client.subscribe();
        client
    }

    fn reconnect(&mut self, view: watch::Receiver<Option<Arc<View>>>) {
        // Full-state requests cannot say what is held.
        self.excused |= self.protocol == Protocol::Sotw;
        self.stream = stream(self.protocol, &view);
        self.view = view;
        self.unanswered.clear();
        self.doubtful.clear();
        self.nonces.clear();
        self.repeatable.clear();
        self.subscribe();
    }

    fn subscribe(&mut self) {
        self.note_absent();
        for url in URLS {
            let names: Vec<String> = self.asked[url].iter().cloned().collect();
            if url == kinds::ENDPOINT {
                names.iter().for_each(|name| {
                    self.repeatable.insert((url, name.clone()), 1);
                });
            }
            if is_wildcard(url) || !names.is_empty() {
                self.request(url, &names, &[], "", false, true);
            }
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
        let held = |(name, (version, _)): (&String, &(String, Any))| (name.clone(), version.clone());
        let node = first.then(|| self.node.clone());
        let outcome = match self.protocol {
            Protocol::Delta => self.stream.on_delta(DeltaDiscoveryRequest {
                node,
                type_url: url.into(),
                resource_names_subscribe: add.to_vec(),
                resource_names_unsubscribe: remove.to_vec(),
                initial_resource_versions: self.held[url].iter().filter(|_| first).map(held).collect(),
                response_nonce: nonce.into(),
                error_detail,
                ..Default::default()
            }),
            Protocol::Sotw => self.stream.on_sotw(DiscoveryRequest {
                node,
                type_url: url.into(),
                resource_names: self.asked[url].iter().cloned().collect(),
                response_nonce: nonce.into(),
                version_info: self.versions.get(url).cloned().unwrap_or_default(),
                error_detail,
                ..Default::default()
            }),
        };
        outcome.unwrap();
    }

    /// Takes everything that the server has to say.
    fn receive(&mut self) {
        let newest = self.view.borrow_and_update().clone().unwrap();
        self.stream.set_view(newest);
        self.note_absent();
        while let Some(response) = self.stream.poll(SystemTime::UNIX_EPOCH) {
            let received = decode(self.protocol, response);
            self.check_is_new(&received);
            self.nonces.insert(received.url, received.nonce.clone());
            self.unanswered.push_back(received);
        }
    }

    fn check_is_new(&mut self, received: &Received) {
        if received.url == kinds::CLUSTER {
            for name in received.resources.keys() {
                *self.repeatable.entry((kinds::ENDPOINT, name.clone())).or_default() += 1;
            }
        }
        if self.protocol == Protocol::Sotw || self.doubtful.contains(received.url) {
            return;
        }
        let mut held = self.held[received.url].clone();
        let earlier = self.unanswered.iter().filter(|r| r.url == received.url);
        earlier.for_each(|earlier| hold(self.protocol, &mut held, earlier));
        for (name, resource) in &received.resources {
            let left = self.repeatable.entry((received.url, name.clone())).or_default();
            let may = *left > 0;
            *left = left.saturating_sub(1);
            assert!(
                may || held.get(name) != Some(resource),
                "{name} of {} is sent again",
                received.url
            );
        }
    }

    fn answer(&mut self, reject: bool) {
        let Some(received) = self.unanswered.pop_front() else {
            return;
        };
        let url = received.url;
        if reject {
            self.doubtful.insert(url);
            self.excused = true;
            self.request(url, &[], &[], &received.nonce, true, false);
            return;
        }
        hold(self.protocol, self.held.get_mut(url).unwrap(), &received);
        self.versions.insert(url, received.version.clone());
        self.check_references();
        self.request(url, &[], &[], &received.nonce, false, false);
        match url {
            kinds::CLUSTER => self.ask(kinds::ENDPOINT, |client| assignments(&client.held[kinds::CLUSTER])),
            kinds::LISTENER => self.ask(kinds::ROUTE, |client| routes(&client.held[kinds::LISTENER])),
            _ => {}
        }
        for url in [kinds::ENDPOINT, kinds::ROUTE] {
            let asked = &self.asked[url];
            self.held.get_mut(url).unwrap().retain(|name, _| asked.contains(name));
        }
    }

    /// Subscribes to what is referred to, and to nothing else.
    fn ask(&mut self, url: &'static str, wanted: impl Fn(&Self) -> BTreeSet<String>) {
        let wanted = wanted(self);
        let asked = self.asked.insert(url, wanted.clone()).unwrap();
        let add: Vec<String> = wanted.difference(&asked).cloned().collect();
        let remove: Vec<String> = asked.difference(&wanted).cloned().collect();
        if add.is_empty() && remove.is_empty() {
            return;
        }
        for name in &add {
            *self.repeatable.entry((url, name.clone())).or_default() += 1;
        }
        let nonce = match self.protocol {
            Protocol::Sotw => self.nonces.get(url).cloned().unwrap_or_default(),
            Protocol::Delta => String::new(),
        };
        let first = nonce.is_empty() && asked.is_empty();
        self.request(
            url,
            &add,
            &remove,
            &nonce,
            false,
            first && self.protocol == Protocol::Sotw,
        );
    }

    fn asks_for(&self, url: &str, name: &str) -> bool {
        is_wildcard(url) || self.asked[url].contains(name)
    }

    /// Remembers what the newest view refers to in vain: that is the mesh's fault.
    fn note_absent(&mut self) {
        let set = |url: &str| held_of(self.stream.view().get(url));
        let clusters = set(kinds::CLUSTER);
        let wanted = [kinds::LISTENER, kinds::ROUTE].map(|url| references(&set(url)));
        let absent = wanted.into_iter().flatten().filter(|name| !clusters.contains_key(name));
        self.absent.extend(absent);
    }

    /// Whatever listeners and routes refer to is there.
    fn check_references(&self) {
        if self.excused {
            return;
        }
        for url in [kinds::LISTENER, kinds::ROUTE] {
            for name in references(&self.held[url]) {
                assert!(
                    self.held[kinds::CLUSTER].contains_key(&name) || self.absent.contains(&name),
                    "{url} of {} refers to {name}, which it does not have",
                    self.node.id
                );
            }
        }
    }

    fn proxy(&self) -> Proxy {
        let mut proxy = Proxy::of_node(&self.node).unwrap();
        proxy.secrets = Some(mesh::SecretReader::of_verified_namespace(&proxy.namespace));
        proxy
    }

    /// Whether its view is the one that a new start would make.
    fn is_up_to(&self, fresh: &mut Generator) -> bool {
        let view = self.view.borrow().clone().unwrap();
        let class = fresh.open(fresh.class_of(&self.proxy()));
        let sets = fresh.sets(class);
        let content = |set: &ResourceSet| -> Vec<_> { set.iter().map(|r| (r.name.clone(), r.hash)).collect() };
        sets.iter()
            .all(|(kind, set)| content(set) == content(view.get(kind.type_url())))
    }

    fn owed_by(&self, fresh: &mut Generator) -> Owed {
        let class = fresh.open(fresh.class_of(&self.proxy()));
        let sets = fresh.sets(class);
        let of = |url: &'static str| {
            let set = sets.iter().find(|(kind, _)| kind.type_url() == url).unwrap().1;
            let resources = held_of(set).into_iter().map(|(name, (_, any))| (name, any));
            (url, resources.collect())
        };
        URLS.map(of).into()
    }
}

fn is_wildcard(url: &str) -> bool {
    [kinds::CLUSTER, kinds::LISTENER].contains(&url)
}

fn stream(protocol: Protocol, view: &watch::Receiver<Option<Arc<View>>>) -> Stream {
    let limits = Arc::new(Limits::default());
    let shared = Arc::new(Shared::new(&limits));
    Stream::new(protocol, view.borrow().clone().unwrap(), limits, shared)
}

fn held_of(set: &ResourceSet) -> Held {
    let any = |body: &xds::resource::Body| Any::decode(body.to_bytes()).unwrap();
    set.iter()
        .map(|r| (r.name.to_string(), (r.hash.to_string(), any(&r.body))))
        .collect()
}

fn decode(protocol: Protocol, response: Response) -> Received {
    let url = URLS.into_iter().find(|url| *url == &*response.type_url).unwrap();
    let bytes: Vec<u8> = response.frames.flatten().skip(5).collect();
    match protocol {
        Protocol::Delta => {
            let message = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
            let resources = message.resources.into_iter();
            Received {
                url,
                nonce: message.nonce,
                version: message.system_version_info,
                resources: resources.map(|r| (r.name, (r.version, r.resource.unwrap()))).collect(),
                removed: message.removed_resources,
            }
        }
        Protocol::Sotw => {
            let message = DiscoveryResponse::decode(&bytes[..]).unwrap();
            Received {
                url,
                nonce: message.nonce,
                version: message.version_info,
                resources: message
                    .resources
                    .into_iter()
                    .map(|any| (name_of(&any), (String::new(), any)))
                    .collect(),
                removed: Vec::new(),
            }
        }
    }
}

/// Full-state resources have no name on the outside; it is the first field of all.
fn name_of(any: &Any) -> String {
    let json = xds::json::any_to_json(any).unwrap();
    let name = json.get("clusterName").or_else(|| json.get("name"));
    name.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn hold(protocol: Protocol, held: &mut Held, received: &Received) {
    if protocol == Protocol::Sotw && is_wildcard(received.url) {
        held.clear();
    }
    received.removed.iter().for_each(|name| drop(held.remove(name)));
    held.extend(received.resources.clone());
}

/// Texts under a key, wherever they stand.
fn texts(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| texts(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

fn texts_of(held: &Held, key: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, any) in held.values() {
        texts(&xds::json::any_to_json(any).unwrap(), key, &mut found);
    }
    found
}

/// Clusters that listeners or routes refer to.
fn references(held: &Held) -> BTreeSet<String> {
    texts_of(held, "cluster")
}

/// Route configurations that listeners ask for.
fn routes(listeners: &Held) -> BTreeSet<String> {
    texts_of(listeners, "routeConfigName")
}

/// Endpoint sets that clusters ask for: they are named as the clusters are.
fn assignments(clusters: &Held) -> BTreeSet<String> {
    texts_of(clusters, "serviceName")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_proxy_has_what_a_new_control_plane_would_send_it(steps in steps()) {
        let mut world = World::new();
        (0..specs().len()).for_each(|who| world.connect(who));
        steps.iter().for_each(|step| world.play(step));
        world.rest();
    }
}
