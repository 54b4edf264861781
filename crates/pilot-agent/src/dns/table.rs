//! istiod's name table, ready to be asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use xds::istio::networking::nds::v1::{NameTable, name_table::NameInfo};

/// Addresses of one host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Addresses {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

/// Hosts by name: lower case, without the dot at the end.
#[derive(Debug, Default)]
pub struct Table {
    hosts: BTreeMap<String, Arc<Addresses>>,
    search: Vec<String>,
}

/// A name that the mesh knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The name itself, if the question had a search suffix behind it.
    pub canonical: Option<&'a str>,
    /// IPv4 addresses.
    pub v4: &'a [Ipv4Addr],
    /// IPv6 addresses.
    pub v6: &'a [Ipv6Addr],
}

impl Table {
    /// For a proxy in `namespace` whose DNS domain is `domain` (`<namespace>.svc.cluster.local`); `search` are the
    /// suffixes that its clients try.
    pub fn new(table: &NameTable, namespace: &str, domain: &str, search: &[String]) -> Self {
        let domain = domain.strip_prefix(&format!("{namespace}.")).unwrap_or(domain);
        let mut hosts = BTreeMap::new();
        for (host, info) in &table.table {
            let addresses = Arc::new(addresses(info));
            if addresses.v4.is_empty() && addresses.v6.is_empty() {
                continue;
            }
            for name in names(host, info, namespace, domain) {
                hosts.insert(name, addresses.clone());
            }
        }
        Self {
            hosts,
            search: search.to_vec(),
        }
    }

    /// What is known of `name`; `None` means that somebody else has to be asked.
    pub fn lookup(&self, name: &str) -> Option<Found<'_>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = self.exact_or_wildcard(&name) {
            return Some(Found {
                canonical: None,
                v4: &addresses.v4,
                v6: &addresses.v6,
            });
        }
        // Clients try `host.<suffix>` before `host`: answer with where `host` is.
        self.search.iter().find_map(|suffix| {
            let bare = name.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
            let (host, addresses) = self.hosts.get_key_value(bare)?;
            Some(Found {
                canonical: Some(host),
                v4: &addresses.v4,
                v6: &addresses.v6,
            })
        })
    }

    fn exact_or_wildcard(&self, name: &str) -> Option<&Arc<Addresses>> {
        self.hosts.get(name).or_else(|| {
            let parents = name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..]));
            parents.into_iter().find_map(|wildcard| self.hosts.get(&wildcard))
        })
    }
}

fn addresses(info: &NameInfo) -> Addresses {
    let mut addresses = Addresses::default();
    for ip in &info.ips {
        match ip.parse() {
            Ok(IpAddr::V4(v4)) => addresses.v4.push(v4),
            Ok(IpAddr::V6(v6)) => addresses.v6.push(v6),
            Err(_) => {}
        }
    }
    addresses
}

/// All names of a host: a Kubernetes service of this cluster is also known by its short forms.
fn names(host: &str, info: &NameInfo, namespace: &str, domain: &str) -> Vec<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let mut names = vec![host.clone()];
    if info.registry == "Kubernetes" && !domain.is_empty() && host.ends_with(domain) {
        let short = format!("{}.{}", info.shortname, info.namespace);
        if info.namespace == namespace {
            names.push(info.shortname.clone());
        }
        let first = domain.split('.').next().unwrap_or_default();
        names.push(format!("{short}.{first}"));
        names.push(short);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let info = |ips: &[&str], registry: &str, shortname: &str, namespace: &str| NameInfo {
            ips: ips.iter().map(|s| (*s).to_owned()).collect(),
            registry: registry.into(),
            shortname: shortname.into(),
            namespace: namespace.into(),
        };
        let hosts = [
            (
                "httpbin.test-ns.svc.cluster.local",
                info(&["10.96.0.7"], "Kubernetes", "httpbin", "test-ns"),
            ),
            (
                "web.other.svc.cluster.local",
                info(&["10.96.0.8", "fd00::8"], "Kubernetes", "web", "other"),
            ),
            ("api.example.com", info(&["240.240.0.1"], "External", "", "")),
            ("*.wild.example.com", info(&["240.240.0.2"], "External", "", "")),
            ("broken.example.com", info(&["x"], "External", "", "")),
        ];
        let table = NameTable {
            table: hosts.map(|(h, i)| (h.to_owned(), i)).into(),
        };
        let search = ["test-ns.svc.cluster.local", "svc.cluster.local"].map(str::to_owned);
        Table::new(&table, "test-ns", "test-ns.svc.cluster.local", &search)
    }

    #[test]
    fn names_of_the_mesh() {
        let table = table();
        let check = |name: &str, expected: Option<(&str, Option<&str>)>| {
            let found = table.lookup(name).map(|f| (f.v4[0].to_string(), f.canonical));
            assert_eq!(found, expected.map(|(ip, c)| (ip.to_owned(), c)), "{name}");
        };
        check("httpbin.test-ns.svc.cluster.local.", Some(("10.96.0.7", None)));
        check("HTTPBIN.", Some(("10.96.0.7", None)));
        check("httpbin.test-ns.", Some(("10.96.0.7", None)));
        check("httpbin.test-ns.svc.", Some(("10.96.0.7", None)));
        check("web.", None);
        check("web.other.", Some(("10.96.0.8", None)));
        check("api.example.com.", Some(("240.240.0.1", None)));
        check(
            "api.example.com.test-ns.svc.cluster.local.",
            Some(("240.240.0.1", Some("api.example.com"))),
        );
        check(
            "api.example.com.svc.cluster.local.",
            Some(("240.240.0.1", Some("api.example.com"))),
        );
        check("a.b.wild.example.com.", Some(("240.240.0.2", None)));
        check("wild.example.com.", None);
        check("broken.example.com.", None);
        check("example.org.", None);
    }

    #[test]
    fn a_known_name_without_an_address_of_the_family_is_known() {
        let table = table();
        assert_eq!(table.lookup("httpbin").map(|f| f.v6.len()), Some(0));
        assert_eq!(table.lookup("web.other").map(|f| f.v6.len()), Some(1));
    }
}
