//! The services that clients see, as part of a question: clients that see the same share the answer, whatever
//! namespace they are in.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use mesh::Service;

/// Fewest entries before unused ones are looked for.
const FEW: usize = 16;

/// Services, one per host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// In order of age.
    pub(crate) services: Arc<Vec<Arc<Service>>>,
    /// Whether a Sidecar leaves out ports of them.
    pub(crate) narrowed: bool,
    by_host: Arc<HashMap<Arc<str>, usize>>,
    fingerprint: u64,
}

impl Seen {
    /// Place of the service of that host.
    pub(crate) fn place(&self, host: &str) -> Option<usize> {
        self.by_host.get(host).copied()
    }

    /// The service of that host.
    pub(crate) fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(self.place(host)?)
    }

    /// The same, if it has to be of a namespace and is.
    pub(crate) fn named(&self, namespace: Option<&str>, host: &str) -> Option<&Arc<Service>> {
        let is_of = |service: &&Arc<Service>| namespace.is_none_or(|namespace| *namespace == *service.key.namespace);
        self.service(host).filter(is_of)
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.narrowed == other.narrowed
            && self.fingerprint == other.fingerprint
            && (Arc::ptr_eq(&self.services, &other.services)
                || (self.services.len() == other.services.len()
                    && std::iter::zip(&*self.services, &*other.services).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)))
    }
}

impl Eq for Seen {}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// What namespaces see, each kept once: most see the same, and telling so must not take a look at every service.
#[derive(Debug, Default)]
pub(crate) struct Views {
    known: HashSet<Seen>,
    hashes: DefaultHashBuilder,
    sweep_at: usize,
}

impl Views {
    /// These services, where they already are if they are known.
    pub(crate) fn share(&mut self, services: Vec<Arc<Service>>, narrowed: bool) -> Seen {
        let mut hasher = self.hashes.build_hasher();
        services.iter().for_each(|service| service.key.hash(&mut hasher));
        let mut seen = Seen {
            services: Arc::new(services),
            narrowed,
            by_host: Arc::default(),
            fingerprint: hasher.finish(),
        };
        if let Some(known) = self.known.get(&seen) {
            return known.clone();
        }
        let hosts = seen.services.iter().map(|service| service.key.host.clone());
        seen.by_host = Arc::new(hosts.zip(0..).collect());
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|seen| Arc::strong_count(&seen.services) > 1);
            self.sweep_at = 2 * self.known.len();
        }
        self.known.insert(seen.clone());
        seen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_sees_the_same_shares_it_and_what_nobody_sees_goes() {
        let manifest = |number: usize| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: svc-{number}, namespace: a}}, spec: {{clusterIP: 10.0.0.1, ports: [{{name: http, port: 80}}]}}}}\n---\n"
            )
        };
        let mesh = testkit::mesh(&(0..4 * FEW).map(manifest).collect::<String>(), "").unwrap();
        let all = || mesh.snapshot().services().to_vec();
        let mut views = Views::default();
        let kept = views.share(all(), false);
        assert!(Arc::ptr_eq(&views.share(all(), false).services, &kept.services));
        assert_ne!(views.share(all(), true), kept);
        assert_eq!(&*kept.service("svc-7.a.svc.cluster.local").unwrap().name, "svc-7");
        for service in all() {
            views.share(vec![service], false);
        }
        assert!(views.known.len() <= FEW + 1, "{}", views.known.len());
    }
}
