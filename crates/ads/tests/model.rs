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
use ads::{Limits, Protocol, Stream, View, kinds};
use fake_envoy::{Ask, Configuration, Envoy, Refused, Told, text};
use proptest::prelude::*;
use xds::google::protobuf::Any;

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

/// A resource is its name, its version, and the names that it refers to.
#[derive(Debug)]
struct Words;

impl Configuration for Words {
    const TYPES: &'static [&'static str] = &[kinds::CLUSTER, kinds::LISTENER, kinds::ENDPOINT];

    fn name(any: &Any) -> String {
        text(any).split(' ').next().unwrap_or_default().to_owned()
    }

    fn refers(url: &'static str, any: &Any) -> Vec<(&'static str, String)> {
        match url {
            kinds::CLUSTER => vec![(kinds::ENDPOINT, Self::name(any))],
            kinds::LISTENER => {
                let text = text(any);
                let names = text.split(' ').skip(2).filter(|name| !name.is_empty());
                names.map(|name| (kinds::CLUSTER, name.to_owned())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn label(any: &Any) -> String {
        text(any)
    }
}

/// A proxy that answers when it is told to.
struct Proxy {
    class: u8,
    stream: Stream,
    envoy: Envoy<Words>,
    /// When responses came that are not answered.
    came: BTreeMap<String, SystemTime>,
    /// Whether anything was ever rejected, so that only a change repairs it.
    ever_rejected: bool,
}

impl Proxy {
    fn new(class: u8, protocol: Protocol, server: &Server) -> Self {
        let mut proxy = Self {
            class,
            stream: server.stream(protocol, class),
            envoy: Envoy::new(protocol, false, false),
            came: BTreeMap::new(),
            ever_rejected: false,
        };
        let first = proxy.envoy.connect();
        proxy.say(first);
        proxy
    }

    fn act(&mut self, deed: &Deed, server: &Server) {
        let name = |c: &u8| format!("c{c}");
        let asks = match deed {
            Deed::Send => {
                self.receive(server.now);
                Vec::new()
            }
            Deed::Accept => self.envoy.accept(),
            Deed::Reject => self.reject(server),
            Deed::Reconnect => {
                self.stream = server.stream(self.envoy.protocol(), self.class);
                self.came.clear();
                self.envoy.connect()
            }
            Deed::Ask(c) => vec![self.envoy.ask_for(kinds::ENDPOINT, &name(c))],
            Deed::Unask(c) => self.envoy.stop_asking_for(kinds::ENDPOINT, &name(c)),
            Deed::Name(c) if self.envoy.protocol() == Protocol::Delta => {
                vec![self.envoy.name(kinds::CLUSTER, vec![name(c)], Vec::new())]
            }
            Deed::Unname(c) if self.envoy.protocol() == Protocol::Delta => {
                vec![self.envoy.name(kinds::CLUSTER, Vec::new(), vec![name(c)])]
            }
            Deed::Name(_) | Deed::Unname(_) => Vec::new(),
        };
        self.say(asks);
    }

    fn say(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            match self.envoy.protocol() {
                Protocol::Delta => drop(self.stream.on_delta(ask.into_delta())),
                Protocol::Sotw => drop(self.stream.on_sotw(ask.into_sotw())),
            }
        }
    }

    /// Takes everything that the server has to say. Nothing of it is another class's; that something does not exist may
    /// be said of whatever was asked for.
    fn receive(&mut self, now: SystemTime) {
        while let Some(response) = self.stream.poll(now) {
            let told = Told::of_frames::<Words>(self.envoy.protocol(), response.frames);
            let hidden = |name: &String| self.class != 0 && ["c6", "c7"].contains(&&**name);
            assert!(
                !told.resources.keys().any(hidden),
                "{} of another class was sent",
                told.url
            );
            self.came.insert(told.nonce.clone(), now);
            self.envoy.receive(told);
        }
    }

    fn reject(&mut self, server: &Server) -> Vec<Ask> {
        let Some(told) = self.envoy.unanswered() else {
            return Vec::new();
        };
        self.ever_rejected = true;
        let late = server.now >= self.came[&told.nonce] + server.limits.patience;
        self.envoy.reject(Refused {
            reason: "no".to_owned(),
            only: None,
            late,
        })
    }
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
            proxy.act(&Deed::Accept, &server);
        }
        assert!(proxy.envoy.unanswered().is_none(), "there is no end of it");
        for url in Words::TYPES {
            // A full-state answer cannot say that endpoints are gone; their cluster is.
            let is_left = |name: &String| {
                protocol == Protocol::Sotw
                    && *url == kinds::ENDPOINT
                    && !proxy.envoy.held(kinds::CLUSTER).contains_key(name)
            };
            let held = proxy.envoy.held(url).iter().filter(|(name, _)| !is_left(name));
            let held = held.map(|(name, known)| (name.clone(), text(&known.content)));
            assert_eq!(
                held.collect::<BTreeMap<String, String>>(),
                world.expected(proxy.class, url),
                "{url} of {}",
                proxy.envoy.story()
            );
        }
        let clusters = proxy.envoy.held(kinds::CLUSTER);
        let waiting: BTreeSet<&String> = proxy
            .envoy
            .warming()
            .iter()
            .filter(|name| clusters.contains_key(*name))
            .collect();
        assert!(
            waiting.is_empty(),
            "{waiting:?} wait for endpoints for ever\n{}",
            proxy.envoy.story()
        );
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
