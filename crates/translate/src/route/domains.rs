//! Names of virtual hosts, and who has which of them.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use hashbrown::{DefaultHashBuilder, HashSet, HashTable};

use super::kept::Kept;
use crate::host;

/// Names under which a service is addressed, each once: they have no case.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Domains {
    /// One after the other.
    text: String,
    list: Vec<Domain>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Domain {
    end: usize,
    is_short: bool,
    /// Of the name in lower case.
    hash: u64,
}

fn hash_of(name: &str) -> u64 {
    static HASHES: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    HASHES.hash_one(&*host::lower(name))
}

impl Domains {
    /// Adds a name, which may be a short form of another.
    pub(super) fn push<'a>(&mut self, parts: impl Iterator<Item = &'a str>, is_short: bool) {
        let start = self.text.len();
        self.text.extend(parts);
        let name = &self.text[start..];
        let same = self.iter().position(|(_, known)| known.eq_ignore_ascii_case(name));
        match same {
            Some(place) => {
                self.list[place].is_short |= is_short;
                self.text.truncate(start);
            }
            None => self.list.push(Domain {
                end: self.text.len(),
                is_short,
                hash: hash_of(name),
            }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.iter().map(|(_, name)| name)
    }

    fn iter(&self) -> impl Iterator<Item = (Domain, &str)> + Clone {
        let starts = std::iter::once(0).chain(self.list.iter().map(|domain| domain.end));
        let name = |(start, domain): (usize, &Domain)| (*domain, &self.text[start..domain.end]);
        starts.zip(&self.list).map(name)
    }

    fn name(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.list[before].end);
        &self.text[start..self.list[place].end]
    }
}

/// Names that are spoken for.
pub(super) struct Claims<'a> {
    /// Hosts of services.
    services: HashSet<&'a str>,
    /// Names of virtual hosts.
    hosts: HashSet<Arc<str>>,
    holders: Vec<Holder>,
    /// Holder and place of a domain, by the domain's hash.
    taken: HashTable<(usize, usize)>,
}

/// Who has domains.
enum Holder {
    Kept(Arc<Kept>),
    Domains(Domains),
}

impl Holder {
    fn domains(&self) -> &Domains {
        match self {
            Self::Kept(kept) => &kept.domains,
            Self::Domains(domains) => domains,
        }
    }
}

impl<'a> Claims<'a> {
    /// Nobody's yet, of hosts with these services.
    pub(super) fn among(services: HashSet<&'a str>) -> Self {
        Self {
            services,
            hosts: HashSet::new(),
            holders: Vec::new(),
            taken: HashTable::new(),
        }
    }

    /// Takes what is free of a virtual host's domains, and says what that is; nothing if there is one of that name.
    pub(super) fn take(&mut self, host: &str, domains: &Domains) -> Option<Domains> {
        if !self.hosts.insert(host.into()) {
            return None;
        }
        let mut own = Domains::default();
        let free = domains.iter().filter(|(domain, name)| self.is_free(*domain, name));
        free.for_each(|(_, name)| own.push(std::iter::once(name), false));
        self.hold(Holder::Domains(own.clone()));
        Some(own)
    }

    /// Takes all domains of a virtual host, or nothing.
    pub(super) fn take_all(&mut self, kept: &Arc<Kept>) -> bool {
        let is_free =
            !self.hosts.contains(&kept.name) && kept.domains.iter().all(|(domain, name)| self.is_free(domain, name));
        if is_free {
            self.hosts.insert(kept.name.clone());
            self.hold(Holder::Kept(kept.clone()));
        }
        is_free
    }

    /// A short form may be the full name of another service, which has the better claim.
    fn is_free(&self, domain: Domain, name: &str) -> bool {
        let is_it = |(holder, place): &(usize, usize)| {
            let other = self.holders[*holder].domains().name(*place);
            other.eq_ignore_ascii_case(name)
        };
        !(domain.is_short && self.services.contains(name)) && self.taken.find(domain.hash, is_it).is_none()
    }

    fn hold(&mut self, holder: Holder) {
        let number = self.holders.len();
        self.holders.push(holder);
        let Self { holders, taken, .. } = self;
        let hash_of = |(holder, place): &(usize, usize)| holders[*holder].domains().list[*place].hash;
        for (place, domain) in holders[number].domains().list.iter().enumerate() {
            taken.insert_unique(domain.hash, (number, place), hash_of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_whatever_their_case() {
        let domains = |names: &str| {
            let mut domains = Domains::default();
            for name in names.split(' ') {
                domains.push(std::iter::once(name.trim_end_matches('?')), name.ends_with('?'));
            }
            domains
        };
        let mut claims = Claims::among(["b.shop"].into_iter().collect());
        let mut check = |host: &str, names: &str, expected: &str| {
            let own = claims.take(host, &domains(names));
            let own = own.map(|own| own.names().collect::<Vec<_>>().join(" "));
            assert_eq!(own.as_deref().unwrap_or("-"), expected, "{host}");
        };
        check("one", "a.com A.com a.com.? b.shop?", "a.com a.com.");
        check("one", "z.com", "-");
        check("two", "b.shop A.COM. c.com", "b.shop c.com");
        check("three", "C.com", "");
    }
}
