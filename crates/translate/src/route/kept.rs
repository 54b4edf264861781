//! Virtual hosts as they are sent: those of services without a VirtualService are made once for all clients that
//! nobody tells apart. Configurations are put together from them without encoding or copying them again.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use mesh::{Registry, Resolution, Service, ServiceKey};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, message};
use xds::envoy::config::route::v3::VirtualHost;

use super::made::Made;
use super::{encoded, hash, http};
use crate::client::Client;
use crate::graph::Cx;
use crate::query::Query;
use crate::seen::Seen;
use crate::{host, naming};

/// Number of the field `virtual_hosts` in a route configuration.
const VIRTUAL_HOSTS: u32 = 2;

/// A virtual host, encoded as a field of a configuration.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: Arc<str>,
    pub(crate) domains: Domains,
    pub(crate) bytes: Bytes,
    /// Of the domains in lower case, without repetition: by them hosts are held against one another.
    pub(super) claims: Box<[Claim]>,
}

impl Kept {
    pub(crate) fn new(host: &VirtualHost, domains: Domains) -> Self {
        let mut bytes = BytesMut::with_capacity(message::encoded_len(VIRTUAL_HOSTS, host));
        message::encode(VIRTUAL_HOSTS, host, &mut bytes);
        Self {
            name: host.name.as_str().into(),
            domains,
            bytes: bytes.freeze(),
            claims: host.domains.iter().map(|domain| claim(domain)).collect(),
        }
    }

    /// A virtual host with these routes; of its domains, those are sent that nobody else has.
    pub(super) fn of_routes(name: &str, sent: &[String], domains: Domains, routes: &Made, client: &Client) -> Self {
        let rest = VirtualHost {
            include_request_attempt_count: client.attempt_count,
            ..Default::default()
        };
        let mut bytes = BytesMut::new();
        let routes = [routes.some.as_ref(), routes.all.as_ref()];
        let names = sent.iter().map(String::as_str);
        write(&mut bytes, name, names, routes.into_iter(), &rest.encode_to_vec());
        Self {
            name: name.into(),
            bytes: bytes.freeze(),
            claims: sent.iter().map(|domain| claim(domain)).collect(),
            domains,
        }
    }

    /// The message again.
    pub(crate) fn decode(&self) -> VirtualHost {
        let mut field = self.bytes.clone();
        let decoded = prost::encoding::decode_key(&mut field).and_then(|_| VirtualHost::decode_length_delimited(field));
        decoded.unwrap_or_default()
    }
}

/// Writes a virtual host as a field of a configuration: its routes, which are encoded, and what comes before and after
/// them.
pub(super) fn write<'a>(
    out: &mut BytesMut,
    name: &str,
    domains: impl Iterator<Item = &'a str> + Clone,
    routes: impl Iterator<Item = &'a [u8]> + Clone,
    rest: &[u8],
) {
    const NAME: u32 = 1;
    const DOMAINS: u32 = 2;
    // The keys of these fields are one byte.
    let of_text = |text: &str| 1 + encoded_len_varint(text.len() as u64) + text.len();
    let length = of_text(name)
        + domains.clone().map(of_text).sum::<usize>()
        + routes.clone().map(<[u8]>::len).sum::<usize>()
        + rest.len();
    let put_text = |field: u32, text: &str, out: &mut BytesMut| {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    };
    out.reserve(1 + encoded_len_varint(length as u64) + length);
    encode_key(VIRTUAL_HOSTS, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
    put_text(NAME, name, out);
    domains.for_each(|domain| put_text(DOMAINS, domain, out));
    routes.for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(rest);
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.bytes == other.bytes && self.domains == other.domains)
    }
}

/// A domain without its case, told from others by 128 bits that nobody outside can foresee.
pub(super) type Claim = [u64; 2];

impl Eq for Kept {}

/// Names of hosts have no case.
pub(super) fn claim(domain: &str) -> Claim {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    let lower = host::lower(domain);
    [KEYS[0].hash_one(&*lower), KEYS[1].hash_one(&*lower)]
}

/// Names under which a service is addressed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Domains {
    pub(crate) all: Vec<String>,
    /// Those of them that are short forms.
    pub(crate) short: Vec<String>,
}

/// How domains are made.
pub(super) struct Naming<'a> {
    pub(super) client: &'a Client,
    /// DNS suffix of the cluster's services.
    pub(super) suffix: &'a str,
    /// The client's namespace, whose services it calls by their bare names.
    pub(super) namespace: &'a str,
    /// Whether every name is there with a port as well.
    pub(super) with_port: bool,
}

impl Naming<'_> {
    /// Domains of a service that has other names besides its own.
    pub(super) fn domains<'a>(
        &self,
        service: &'a Service,
        aliases: impl Iterator<Item = &'a Arc<str>>,
        port: u16,
    ) -> Domains {
        let mut domains = Domains::default();
        let push = |list: &mut Vec<String>, name: String| {
            if self.with_port {
                list.push(format!("{name}:{port}"));
            }
            list.push(name);
        };
        for host in std::iter::once(&service.key.host).chain(aliases) {
            push(&mut domains.all, host.to_string());
            let mut alternatives = Vec::new();
            if host.parse::<std::net::IpAddr>().is_err() {
                push(&mut alternatives, format!("{host}."));
            }
            if let Some((name, namespace)) = in_cluster(host, self.suffix) {
                if namespace == self.namespace {
                    push(&mut alternatives, name.to_owned());
                }
                push(&mut alternatives, format!("{name}.{namespace}.svc"));
                push(&mut alternatives, format!("{name}.{namespace}"));
            }
            domains.short.extend(alternatives.iter().cloned());
            domains.all.extend(alternatives);
        }
        // Pods of a headless service are addressed by names of their own.
        if service.resolution == Resolution::Passthrough && service.registry == Registry::Kubernetes {
            let wild: Vec<String> = domains.all.iter().map(|d| format!("*.{d}")).collect();
            domains.all.extend(wild);
        }
        for address in &service.addresses {
            let v6 = address.contains(':');
            if (v6 && self.client.ipv6) || (!v6 && self.client.ipv4) {
                push(&mut domains.all, bracketed(address));
            }
        }
        domains
    }
}

/// Name and namespace of a host of the cluster.
fn in_cluster<'a>(host: &'a str, suffix: &str) -> Option<(&'a str, &'a str)> {
    host.strip_suffix(suffix)?.strip_suffix(".svc.")?.split_once('.')
}

/// An IPv6 address as it stands in a URL.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The client without what only rules ask about.
pub(super) fn anyone(client: &Client) -> Arc<Client> {
    Arc::new(Client {
        namespace: None,
        labels: None,
        sidecar: None,
        ..client.clone()
    })
}

/// The answer to [`Query::VirtualHosts`].
pub(crate) fn of_anyone(cx: &mut Cx<'_>, anyone: &Arc<Client>, seen: &Seen, port: u16) -> Vec<Option<Arc<Kept>>> {
    let of_service = |service: &Arc<Service>| {
        service.port(port)?;
        let is_same = cx.host_rules(&service.key.host).is_empty();
        let query = || Query::VirtualHost(service.key.clone(), port, false, anyone.clone());
        if is_same { cx.kept(&query()) } else { None }
    };
    seen.services.iter().map(of_service).collect()
}

/// The virtual host of a service's port, for a client in `namespace`; `anyone` is [`anyone`] of the client.
pub(super) fn of_service(
    cx: &mut Cx<'_>,
    client: &Client,
    anyone: &Arc<Client>,
    service: &Service,
    port: u16,
    namespace: &str,
) -> Option<Arc<Kept>> {
    let rules = cx.host_rules(&service.key.host);
    let narrow = if rules.is_empty() {
        anyone.clone()
    } else {
        Arc::new(Client {
            namespace: client.namespace.clone().filter(|n| rules.names(n)),
            labels: client.labels.clone().filter(|_| rules.select_by_labels()),
            ..Client::clone(anyone)
        })
    };
    let is_local = is_local(service, cx.domain(), namespace);
    cx.kept(&Query::VirtualHost(service.key.clone(), port, is_local, narrow))
}

/// Whether a service is called by its bare name in a namespace.
pub(super) fn is_local(service: &Service, suffix: &str, namespace: &str) -> bool {
    in_cluster(&service.key.host, suffix).is_some_and(|(_, own)| own == namespace)
}

/// The answer to [`Query::VirtualHost`].
pub(crate) fn compute(cx: &mut Cx<'_>, key: &ServiceKey, port: u16, is_local: bool, client: &Client) -> Option<Kept> {
    let service = cx.service(key).cloned()?;
    let naming = Naming {
        client,
        suffix: cx.domain(),
        namespace: in_cluster(&key.host, cx.domain())
            .filter(|_| is_local)
            .map_or("", |(_, namespace)| namespace),
        with_port: false,
    };
    let domains = naming.domains(&service, std::iter::empty(), port);
    let routes = default_routes(cx, client, &service, port);
    let mut seen = hashbrown::HashSet::new();
    let mut sent = domains.all.clone();
    sent.retain(|domain| seen.insert(claim(domain)));
    let name = format!("{}:{port}", key.host);
    Some(Kept::of_routes(&name, &sent, domains, &routes, client))
}

/// The routes of a service that no VirtualService is for.
pub(super) fn default_routes(cx: &mut Cx<'_>, client: &Client, service: &Service, port: u16) -> Made {
    let host = &service.key.host;
    let hash = hash::of_service(cx, client, service, "", port);
    let cluster = naming::outbound(port, "", host);
    let route = http::default_route(cx, cluster, format!("{host}:{port}/*"), hash);
    let mut bytes = BytesMut::new();
    encoded::write(route, &mut bytes);
    Made {
        some: Bytes::new(),
        all: bytes.freeze(),
    }
}
