//! What is configured: a small mesh of made-up resources that refer to each other as Envoy's do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use ads::{View, kinds};
use fake_envoy::{Configuration, text};
use xds::google::protobuf::{Any, StringValue};
use xds::resource::{Resource, ResourceSet};

use crate::random::Random;

/// Types in the order in which they are sent.
pub const TYPES: [&str; 5] = [
    kinds::CLUSTER,
    kinds::ENDPOINT,
    kinds::LISTENER,
    kinds::ROUTE,
    kinds::SECRET,
];
/// Proxies reject what has this version.
pub const POISON: u32 = 666;
/// Clusters from this number on are seen by the first class only.
const PRIVATE: u32 = 20;
const CLUSTERS: u32 = 24;
const ROUTES: u32 = 4;
const SECRETS: u32 = 3;

/// Everything there is. References always point to something that exists.
#[derive(Clone, Debug, Default)]
pub struct World {
    clusters: BTreeMap<u32, u32>,
    endpoints: BTreeMap<u32, u32>,
    /// Version and clusters; a listener of the same number refers to each.
    routes: BTreeMap<u32, (u32, BTreeSet<u32>)>,
    listeners: BTreeMap<u32, u32>,
    secrets: BTreeMap<u32, u32>,
    /// The last version that was given.
    version: u32,
    /// Bytes that are added to each resource.
    pub padding: usize,
    /// Every resource that was ever made for a view.
    made: Arc<Mutex<Vec<Weak<Resource>>>>,
}

impl World {
    pub fn new(random: &mut Random, padding: usize) -> Self {
        let mut world = Self {
            padding,
            ..Self::default()
        };
        for _ in 0..40 {
            world.change(random);
        }
        world.cure();
        world
    }

    /// One random change.
    pub fn change(&mut self, random: &mut Random) {
        self.version += 1;
        let version = if random.one_in(15) { POISON } else { self.version };
        match random.below(12) {
            0..4 => {
                let cluster = random.below(CLUSTERS);
                self.clusters.insert(cluster, version);
                self.endpoints.entry(cluster).or_insert(self.version);
            }
            4 => {
                let cluster = random.below(CLUSTERS);
                self.clusters.remove(&cluster);
                self.endpoints.remove(&cluster);
                for (_, clusters) in self.routes.values_mut() {
                    clusters.remove(&cluster);
                }
            }
            5..8 => {
                let cluster = random.below(CLUSTERS);
                if self.clusters.contains_key(&cluster) {
                    self.endpoints.insert(cluster, version);
                }
            }
            8 | 9 => {
                let (route, clusters) = (random.below(ROUTES), &self.clusters);
                let chosen = clusters.keys().copied().filter(|_| random.one_in(3)).collect();
                self.routes.insert(route, (version, chosen));
                self.listeners.entry(route).or_insert(self.version);
            }
            10 => {
                let route = random.below(ROUTES);
                if random.one_in(2) {
                    self.routes.remove(&route);
                    self.listeners.remove(&route);
                } else if self.routes.contains_key(&route) {
                    self.listeners.insert(route, version);
                }
            }
            _ => {
                let secret = random.below(SECRETS);
                if random.one_in(3) {
                    self.secrets.remove(&secret);
                } else {
                    self.secrets.insert(secret, self.version);
                }
            }
        }
    }

    /// Everything that proxies reject gets another version.
    pub fn cure(&mut self) {
        let routes = self.routes.values_mut().map(|(version, _)| version);
        let all = self.clusters.values_mut().chain(self.endpoints.values_mut());
        for version in all.chain(self.listeners.values_mut()).chain(routes) {
            if *version == POISON {
                self.version += 1;
                *version = self.version;
            }
        }
    }

    /// All resources of a type that a class sees, computed from nothing: name → content. A content is the name, the
    /// version and the names that it refers to.
    pub fn expected(&self, class: u32, url: &str) -> BTreeMap<String, String> {
        let sees = |cluster: &u32| class == 0 || *cluster < PRIVATE;
        let secret = |number: u32| {
            let number = number % SECRETS;
            self.secrets.contains_key(&number).then(|| format!("s{number}"))
        };
        let pad = "x".repeat(self.padding);
        let text = |name: String, version: u32, refers: Vec<String>| {
            let content = format!("{name} {version} {} |{pad}", refers.join(" "));
            (name, content)
        };
        let clusters = self.clusters.iter().filter(|(c, _)| sees(c));
        let endpoints = self.endpoints.iter().filter(|(c, _)| sees(c));
        match url {
            kinds::CLUSTER => clusters
                .map(|(c, v)| text(format!("c{c}"), *v, secret(*c).into_iter().collect()))
                .collect(),
            kinds::ENDPOINT => endpoints.map(|(c, v)| text(format!("c{c}"), *v, Vec::new())).collect(),
            kinds::LISTENER => self
                .listeners
                .iter()
                .map(|(l, v)| {
                    let refers = secret(*l).into_iter().chain([format!("r{l}")]);
                    text(format!("l{l}"), *v, refers.collect())
                })
                .collect(),
            kinds::ROUTE => self
                .routes
                .iter()
                .map(|(r, (v, clusters))| {
                    let refers = clusters.iter().filter(|c| sees(c)).map(|c| format!("c{c}"));
                    text(format!("r{r}"), *v, refers.collect())
                })
                .collect(),
            kinds::SECRET => self
                .secrets
                .iter()
                .map(|(s, v)| text(format!("s{s}"), *v, Vec::new()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    /// The same as the server wants it.
    pub fn view(&self, class: u32) -> Arc<View> {
        let set = |url: &str| {
            let resource = |(name, value): (String, String)| {
                let resource = Arc::new(Resource::encode(name, &StringValue { value }));
                self.made.lock().unwrap().push(Arc::downgrade(&resource));
                resource
            };
            let mut resources: Vec<Arc<Resource>> = self.expected(class, url).into_iter().map(resource).collect();
            // Some lie over others, as translation has them.
            let own = resources.split_off(resources.len() / 3 * 2);
            let below = Arc::new(ResourceSet::new(resources));
            (kinds::intern(url), Arc::new(ResourceSet::over(below, own)))
        };
        // Time of the world is of no interest to the machine; only metrics show it.
        Arc::new(View::new(TYPES.map(set).into(), SystemTime::UNIX_EPOCH))
    }
}

impl World {
    /// Bytes of all resources that somebody still holds.
    pub fn alive_bytes(&self) -> usize {
        let mut made = self.made.lock().unwrap();
        made.retain(|resource| resource.strong_count() > 0);
        let alive = made.iter().filter_map(Weak::upgrade);
        alive.map(|resource| resource.body.len()).sum()
    }

    /// Bytes of a view of everything.
    pub fn view_bytes(&self) -> usize {
        let contents = TYPES.map(|url| {
            self.expected(0, url)
                .into_values()
                .map(|text| text.len())
                .sum::<usize>()
        });
        contents.iter().sum()
    }
}

/// Version of a content.
pub fn version_of(content: &str) -> u32 {
    content
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// A resource is its name, its version, the names that it refers to, and bytes that say nothing.
#[derive(Debug)]
pub struct Words;

impl Configuration for Words {
    const TYPES: &'static [&'static str] = &TYPES;

    fn name(any: &Any) -> String {
        text(any).split(' ').next().unwrap_or_default().to_owned()
    }

    fn refers(url: &'static str, any: &Any) -> Vec<(&'static str, String)> {
        let text = text(any);
        let words = text.split('|').next().unwrap_or_default();
        let names = words.split(' ').skip(2).filter(|word| !word.is_empty());
        let own = (url == kinds::CLUSTER).then(|| (kinds::ENDPOINT, Self::name(any)));
        names.map(|name| (kind_of(name), name.to_owned())).chain(own).collect()
    }

    fn label(any: &Any) -> String {
        version_of(&text(any)).to_string()
    }
}

/// Type of what has that name.
fn kind_of(name: &str) -> &'static str {
    match name.as_bytes().first() {
        Some(b'c') => kinds::CLUSTER,
        Some(b'r') => kinds::ROUTE,
        Some(b's') => kinds::SECRET,
        _ => panic!("nothing is called {name}"),
    }
}

/// Whether a class must never hear of that name.
pub fn is_hidden(class: u32, name: &str) -> bool {
    let number = name.strip_prefix('c').and_then(|number| number.parse::<u32>().ok());
    class != 0 && number.is_some_and(|number| number >= PRIVATE)
}
