//! The cluster's zone, looked up without any IO. The rules are those of the Kubernetes DNS specification 1.1.0.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Record types that the zone knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Srv,
    Ptr,
    Any,
    /// AAAA, TXT, …: names exist, but never with these.
    Other,
}

/// One answer's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    A(Ipv4Addr),
    /// Absolute name without the final dot.
    Cname(String),
    Ptr(String),
    Srv {
        port: u16,
        target: String,
    },
}

/// What the zone says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name exists; without data it has no record of that type.
    Records(Vec<Data>),
    /// The name is in the zone and does not exist.
    Missing,
    /// Not a name of this zone.
    Elsewhere,
}

#[derive(Debug, Default)]
struct Entry {
    ips: Vec<Ipv4Addr>,
    external: Option<String>,
    headless: bool,
    /// (port name, protocol) → number
    ports: BTreeMap<(String, String), u16>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug)]
struct Endpoint {
    ip: Ipv4Addr,
    hostname: Option<String>,
    ports: BTreeMap<(String, String), u16>,
}

/// All names of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    domain: String,
    services: BTreeMap<(String, String), Entry>,
    by_ip: BTreeMap<Ipv4Addr, String>,
}

impl Zone {
    /// `domain` is the cluster domain without dots at its ends.
    pub(crate) fn build(domain: &str, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Self {
        let mut zone = Self {
            domain: domain.to_ascii_lowercase(),
            ..Self::default()
        };
        for service in services {
            let (Some(ns), Some(name), Some(spec)) =
                (&service.metadata.namespace, &service.metadata.name, &service.spec)
            else {
                continue;
            };
            let mut entry = Entry {
                headless: spec.cluster_ip.as_deref() == Some("None"),
                ..Entry::default()
            };
            if spec.type_.as_deref() == Some("ExternalName") {
                entry.external = spec.external_name.as_ref().map(|n| n.trim_end_matches('.').to_string());
            }
            entry
                .ips
                .extend(spec.cluster_ip.as_ref().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
            for port in spec.ports.iter().flatten() {
                entry.ports.insert(
                    port_key(port.name.as_deref(), port.protocol.as_deref()),
                    u16::try_from(port.port).unwrap_or(0),
                );
            }
            for ip in &entry.ips {
                zone.by_ip.insert(*ip, format!("{name}.{ns}.svc.{domain}"));
            }
            zone.services.insert((ns.clone(), name.clone()), entry);
        }
        for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
            zone.add_slice(slice);
        }
        zone
    }

    fn add_slice(&mut self, slice: &EndpointSlice) {
        let service = slice
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get("kubernetes.io/service-name"));
        let (Some(ns), Some(service)) = (&slice.metadata.namespace, service) else {
            return;
        };
        let Some(entry) = self
            .services
            .get_mut(&(ns.clone(), service.clone()))
            .filter(|e| e.headless)
        else {
            return;
        };
        let ports: BTreeMap<_, _> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                Some((
                    port_key(p.name.as_deref(), p.protocol.as_deref()),
                    u16::try_from(p.port?).ok()?,
                ))
            })
            .collect();
        for endpoint in &slice.endpoints {
            if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
                continue;
            }
            for ip in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                if let Some(hostname) = &endpoint.hostname {
                    self.by_ip
                        .insert(ip, format!("{hostname}.{service}.{ns}.svc.{}", self.domain));
                }
                entry.endpoints.push(Endpoint {
                    ip,
                    hostname: endpoint.hostname.clone(),
                    ports: ports.clone(),
                });
            }
        }
    }

    /// Looks up an absolute name (final dot optional, case does not matter).
    pub(crate) fn lookup(&self, name: &str, kind: Kind) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            return self.reverse(reversed, kind);
        }
        let Some(rest) = name.strip_suffix(&self.domain) else {
            return Answer::Elsewhere;
        };
        let labels: Vec<&str> = match rest.strip_suffix('.') {
            Some(rest) => rest.split('.').collect(),
            None if rest.is_empty() => return Answer::Records(vec![]),
            None => return Answer::Elsewhere,
        };
        match labels.as_slice() {
            ["svc" | "pod"] => Answer::Records(vec![]),
            [ns, "svc"] => exists(self.services.keys().any(|(n, _)| n == ns)),
            [_, "pod"] => Answer::Records(vec![]),
            [ip, _, "pod"] => match ip.replace('-', ".").parse() {
                Ok(ip) => only(kind, Kind::A, vec![Data::A(ip)]),
                Err(_) => Answer::Missing,
            },
            [service, ns, "svc"] => self
                .entry(ns, service)
                .map_or(Answer::Missing, |e| self.of_service(e, kind)),
            [host, service, ns, "svc"] => self
                .entry(ns, service)
                .map_or(Answer::Missing, |e| of_host(e, host, kind)),
            [port, protocol, service, ns, "svc"] => self.entry(ns, service).map_or(Answer::Missing, |e| {
                self.of_port(e, (ns, service), (port, protocol), kind)
            }),
            _ => Answer::Missing,
        }
    }

    fn entry(&self, ns: &str, service: &str) -> Option<&Entry> {
        self.services.get(&(ns.to_string(), service.to_string()))
    }

    fn of_service(&self, entry: &Entry, kind: Kind) -> Answer {
        if let Some(external) = &entry.external {
            return Answer::Records(vec![Data::Cname(external.clone())]);
        }
        let mut ips: Vec<Ipv4Addr> = if entry.headless {
            entry.endpoints.iter().map(|e| e.ip).collect()
        } else {
            entry.ips.clone()
        };
        ips.dedup();
        if entry.headless && ips.is_empty() {
            return Answer::Missing;
        }
        only(kind, Kind::A, ips.into_iter().map(Data::A).collect())
    }

    fn of_port(
        &self,
        entry: &Entry,
        (ns, service): (&str, &str),
        (port, protocol): (&str, &str),
        kind: Kind,
    ) -> Answer {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Answer::Missing;
        };
        let key = (port.to_string(), protocol.to_string());
        let base = format!("{service}.{ns}.svc.{}", self.domain);
        let records: Vec<Data> = if entry.headless {
            let target = |e: &Endpoint| format!("{}.{base}", e.hostname.clone().unwrap_or_else(|| dashed(e.ip)));
            entry
                .endpoints
                .iter()
                .filter_map(|e| {
                    Some(Data::Srv {
                        port: *e.ports.get(&key)?,
                        target: target(e),
                    })
                })
                .collect()
        } else {
            entry
                .ports
                .get(&key)
                .map(|p| Data::Srv {
                    port: *p,
                    target: base.clone(),
                })
                .into_iter()
                .collect()
        };
        if records.is_empty() {
            Answer::Missing
        } else {
            only(kind, Kind::Srv, records)
        }
    }

    fn reverse(&self, reversed: &str, kind: Kind) -> Answer {
        let mut octets: Vec<&str> = reversed.split('.').collect();
        octets.reverse();
        match octets
            .join(".")
            .parse()
            .ok()
            .and_then(|ip: Ipv4Addr| self.by_ip.get(&ip))
        {
            Some(name) => only(kind, Kind::Ptr, vec![Data::Ptr(name.clone())]),
            None => Answer::Elsewhere,
        }
    }
}

fn of_host(entry: &Entry, host: &str, kind: Kind) -> Answer {
    let matches = |e: &&Endpoint| {
        e.hostname
            .as_deref()
            .map_or_else(|| dashed(e.ip) == host, |h| h == host)
    };
    let ips: Vec<Data> = entry.endpoints.iter().filter(matches).map(|e| Data::A(e.ip)).collect();
    let proto = matches!(host, "_tcp" | "_udp" | "_sctp");
    if ips.is_empty() {
        exists(proto)
    } else {
        only(kind, Kind::A, ips)
    }
}

fn port_key(name: Option<&str>, protocol: Option<&str>) -> (String, String) {
    (
        name.unwrap_or_default().to_ascii_lowercase(),
        protocol.unwrap_or("TCP").to_ascii_lowercase(),
    )
}

fn dashed(ip: Ipv4Addr) -> String {
    ip.to_string().replace('.', "-")
}

fn exists(yes: bool) -> Answer {
    if yes { Answer::Records(vec![]) } else { Answer::Missing }
}

fn only(asked: Kind, has: Kind, records: Vec<Data>) -> Answer {
    Answer::Records(if asked == has || asked == Kind::Any {
        records
    } else {
        vec![]
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn zone() -> Zone {
        let service = |name: &str, spec| {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d"}, "spec": spec})).unwrap(),
            )
        };
        let slice = json!({"metadata": {"name": "h1", "namespace": "d", "labels": {"kubernetes.io/service-name": "h"}}, "addressType": "IPv4",
            "ports": [{"name": "db", "port": 5432}], "endpoints": [{"addresses": ["10.1.0.3"], "hostname": "h-0"}, {"addresses": ["10.1.0.4"]}, {"addresses": ["10.1.0.5"], "conditions": {"ready": false}}]});
        Zone::build(
            "cluster.local",
            &[
                service(
                    "web",
                    json!({"clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80}]}),
                ),
                service(
                    "h",
                    json!({"clusterIP": "None", "ports": [{"name": "db", "port": 5432}]}),
                ),
                service("out", json!({"type": "ExternalName", "externalName": "example.com."})),
            ],
            &[Arc::new(serde_json::from_value(slice).unwrap())],
        )
    }

    fn check(name: &str, kind: Kind, want: Answer) {
        assert_eq!(zone().lookup(name, kind), want, "{name} {kind:?}");
    }

    fn a(ips: &[&str]) -> Answer {
        Answer::Records(ips.iter().map(|ip| Data::A(ip.parse().unwrap())).collect())
    }

    #[test]
    fn services_and_pods() {
        check("web.d.svc.cluster.local.", Kind::A, a(&["10.96.0.5"]));
        check("WEB.d.svc.Cluster.Local", Kind::A, a(&["10.96.0.5"]));
        check("web.d.svc.cluster.local", Kind::Other, a(&[]));
        check("web.e.svc.cluster.local", Kind::A, Answer::Missing);
        check("d.svc.cluster.local", Kind::A, a(&[]));
        check("10-1-0-9.d.pod.cluster.local", Kind::A, a(&["10.1.0.9"]));
        check(
            "_http._tcp.web.d.svc.cluster.local",
            Kind::Srv,
            Answer::Records(vec![Data::Srv {
                port: 80,
                target: "web.d.svc.cluster.local".into(),
            }]),
        );
        check(
            "5.0.96.10.in-addr.arpa",
            Kind::Ptr,
            Answer::Records(vec![Data::Ptr("web.d.svc.cluster.local".into())]),
        );
    }

    #[test]
    fn headless_and_external() {
        check("h.d.svc.cluster.local", Kind::A, a(&["10.1.0.3", "10.1.0.4"]));
        check("h-0.h.d.svc.cluster.local", Kind::A, a(&["10.1.0.3"]));
        check("10-1-0-4.h.d.svc.cluster.local", Kind::A, a(&["10.1.0.4"]));
        check("h-1.h.d.svc.cluster.local", Kind::A, Answer::Missing);
        let srv = |target: &str| Data::Srv {
            port: 5432,
            target: format!("{target}.h.d.svc.cluster.local"),
        };
        check(
            "_db._tcp.h.d.svc.cluster.local",
            Kind::Srv,
            Answer::Records(vec![srv("h-0"), srv("10-1-0-4")]),
        );
        check(
            "out.d.svc.cluster.local",
            Kind::A,
            Answer::Records(vec![Data::Cname("example.com".into())]),
        );
    }

    #[test]
    fn the_rest_of_the_world_is_not_ours() {
        check("example.com", Kind::A, Answer::Elsewhere);
        check("xcluster.local", Kind::A, Answer::Elsewhere);
        check("1.1.1.1.in-addr.arpa", Kind::Ptr, Answer::Elsewhere);
    }
}
