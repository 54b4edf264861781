//! Random lives of a control plane and its proxies against a naive model: objects come and go, proxies connect, answer,
//! reject, leave and come back. After each change every view is what a control plane that starts now would make; at
//! rest every proxy has exactly what it asked for of it; on the way none refers to a cluster that it does not have, and
//! none is sent what it has.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use ads::diff::Shared;
use ads::{Limits, Peer, Protocol, Registry, Secrets, Source as _, Stream, kinds};
use fake_envoy::{Ask, Configuration, Envoy, Refused, Told};
use proptest::prelude::*;
use prost::Message as _;
use testkit::ProxySpec;
use translate::{Generator, Proxy};
use xds::envoy::config::core::v3::Node;
use xds::google::protobuf::Any;
use xds::resource::ResourceSet;

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

/// Resources as translation makes them.
struct Translated;

impl Configuration for Translated {
    const TYPES: &'static [&'static str] = &URLS;

    /// It is the first field of all.
    fn name(any: &Any) -> String {
        let json = xds::json::any_to_json(any).unwrap();
        let name = json.get("clusterName").or_else(|| json.get("name"));
        name.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Listeners and routes refer to clusters, listeners to route configurations, and clusters to endpoints, which are
    /// named as the clusters are.
    fn refers(url: &'static str, any: &Any) -> Vec<(&'static str, String)> {
        let json = xds::json::any_to_json(any).unwrap();
        let named = |url: &'static str, key: &str| {
            let mut found = BTreeSet::new();
            texts(&json, key, &mut found);
            found.into_iter().map(move |name| (url, name))
        };
        match url {
            kinds::CLUSTER => named(kinds::ENDPOINT, "serviceName").collect(),
            kinds::LISTENER => {
                let routes = named(kinds::ROUTE, "routeConfigName");
                routes.chain(named(kinds::CLUSTER, "cluster")).collect()
            }
            kinds::ROUTE => named(kinds::CLUSTER, "cluster").collect(),
            _ => Vec::new(),
        }
    }

    fn label(any: &Any) -> String {
        format!("{} bytes", any.value.len())
    }
}

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
            .filter(|(_, c)| c.envoy.is_doubtful())
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
            assert!(client.envoy.unanswered().is_none(), "there is no end of it");
            let owed = client.owed_by(fresh.get_mut());
            for url in URLS {
                let held = client.envoy.held(url).iter();
                let held: BTreeMap<&String, &Any> = held.map(|(name, known)| (name, &known.content)).collect();
                let wanted = client.envoy.wanted();
                let asks = |name: &String| wanted.get(url).is_none_or(|wanted| wanted.contains(name));
                let owed: BTreeMap<&String, &Any> = owed[url].iter().filter(|(name, _)| asks(name)).collect();
                let names = |map: &BTreeMap<&String, &Any>| map.keys().map(|name| (*name).clone()).collect::<Vec<_>>();
                assert_eq!(
                    names(&held),
                    names(&owed),
                    "{url} of {}\n{}",
                    client.node.id,
                    client.envoy.story()
                );
                assert!(held == owed, "{url} of {}\n{}", client.node.id, client.envoy.story());
            }
        }
    }
}

/// A proxy that answers when it is told to.
struct Client {
    node: Node,
    view: watch::Receiver<Option<Arc<View>>>,
    stream: Stream,
    envoy: Envoy<Translated>,
}

impl Client {
    fn new(protocol: Protocol, node: Node, view: watch::Receiver<Option<Arc<View>>>) -> Self {
        let mut client = Self {
            node,
            stream: stream(protocol, &view),
            view,
            envoy: Envoy::new(protocol, true, protocol == Protocol::Delta),
        };
        client.subscribe();
        client
    }

    fn reconnect(&mut self, view: watch::Receiver<Option<Arc<View>>>) {
        self.stream = stream(self.envoy.protocol(), &view);
        self.view = view;
        self.subscribe();
    }

    fn subscribe(&mut self) {
        self.note_absent();
        let node = Some(self.node.clone());
        let first = self.envoy.connect().into_iter();
        let first = first.map(|ask| Ask {
            node: node.clone(),
            ..ask
        });
        self.say(first.collect());
    }

    fn say(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            let outcome = match self.envoy.protocol() {
                Protocol::Delta => self.stream.on_delta(ask.into_delta()),
                Protocol::Sotw => self.stream.on_sotw(ask.into_sotw()),
            };
            outcome.unwrap();
        }
    }

    /// Takes everything that the server has to say.
    fn receive(&mut self) {
        let newest = self.view.borrow_and_update().clone().unwrap();
        self.stream.set_view(newest);
        self.note_absent();
        while let Some(response) = self.stream.poll(SystemTime::UNIX_EPOCH) {
            let told = Told::of_frames::<Translated>(self.envoy.protocol(), response.frames);
            self.envoy.receive(told);
        }
    }

    fn answer(&mut self, reject: bool) {
        let asks = if reject {
            self.envoy.reject(Refused {
                reason: "no".to_owned(),
                ..Refused::default()
            })
        } else {
            self.envoy.accept()
        };
        self.say(asks);
    }

    /// Remembers what the newest view refers to in vain: that is the mesh's fault.
    fn note_absent(&mut self) {
        let view = self.stream.view();
        let resources = |url: &'static str| contents(view.get(url)).into_values().map(move |any| (url, any));
        let clusters = contents(view.get(kinds::CLUSTER));
        let referring = resources(kinds::LISTENER).chain(resources(kinds::ROUTE));
        let absent: Vec<(&'static str, String)> = referring
            .flat_map(|(url, any)| Translated::refers(url, &any))
            .filter(|(url, name)| *url == kinds::CLUSTER && !clusters.contains_key(name))
            .collect();
        self.envoy.note_absent(absent);
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
            (url, contents(set))
        };
        URLS.map(of).into()
    }
}

fn stream(protocol: Protocol, view: &watch::Receiver<Option<Arc<View>>>) -> Stream {
    let limits = Arc::new(Limits::default());
    let shared = Arc::new(Shared::new(&limits));
    Stream::new(protocol, view.borrow().clone().unwrap(), limits, shared)
}

fn contents(set: &ResourceSet) -> BTreeMap<String, Any> {
    let any = |body: &xds::resource::Body| Any::decode(body.to_bytes()).unwrap();
    set.iter().map(|r| (r.name.to_string(), any(&r.body))).collect()
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
