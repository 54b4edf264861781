//! Virtual hosts as they are sent: those of services without a VirtualService are made once for all clients that
//! nobody tells apart. Configurations are put together from them without encoding or copying them again.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use mesh::{Registry, Resolution, Service, ServiceKey};
use prost::Message;
use prost::encoding::message;
use xds::envoy::config::route::v3::VirtualHost;

use super::domains::Domains;
use super::made::Made;
use super::{hash, http};
use crate::client::Client;
use crate::graph::Cx;
use crate::query::Query;
use crate::seen::Seen;
use crate::{naming, wire};

/// Number of the field `virtual_hosts` in a route configuration.
const VIRTUAL_HOSTS: u32 = 2;

/// What follows the routes of a virtual host whose servers are told how often a request was tried.
static ATTEMPTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let rest = VirtualHost {
        include_request_attempt_count: true,
        ..Default::default()
    };
    rest.encode_to_vec()
});

/// A virtual host, encoded as a field of a configuration.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) name: Arc<str>,
    pub(crate) domains: Domains,
    pub(crate) bytes: Bytes,
}

impl Kept {
    /// A virtual host that is held against no other.
    pub(crate) fn new(host: &VirtualHost) -> Self {
        let mut bytes = BytesMut::with_capacity(message::encoded_len(VIRTUAL_HOSTS, host));
        message::encode(VIRTUAL_HOSTS, host, &mut bytes);
        Self {
            name: host.name.as_str().into(),
            domains: Domains::default(),
            bytes: bytes.freeze(),
        }
    }

    /// A virtual host with these routes.
    pub(super) fn of_routes(name: &str, domains: Domains, routes: &Made, client: &Client) -> Self {
        let rest: &[u8] = if client.attempt_count { &ATTEMPTS } else { &[] };
        let mut bytes = BytesMut::new();
        let routes = [routes.some.as_ref(), routes.all.as_ref()];
        write(&mut bytes, name, domains.names(), routes.into_iter(), rest);
        Self {
            name: name.into(),
            bytes: bytes.freeze(),
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
    let length = wire::len(NAME, name.len())
        + domains.clone().map(|d| wire::len(DOMAINS, d.len())).sum::<usize>()
        + routes.clone().map(<[u8]>::len).sum::<usize>()
        + rest.len();
    out.reserve(wire::len(VIRTUAL_HOSTS, length));
    wire::put_head(VIRTUAL_HOSTS, length, out);
    wire::put(NAME, name.as_bytes(), out);
    domains.for_each(|domain| wire::put(DOMAINS, domain.as_bytes(), out));
    routes.for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(rest);
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.bytes == other.bytes && self.domains == other.domains)
    }
}

impl Eq for Kept {}

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
        let port = self.with_port.then(|| port.to_string());
        let push = |domains: &mut Domains, name: &[&str], is_short| {
            if let Some(port) = &port {
                domains.push(name.iter().copied().chain([":", port]), is_short);
            }
            domains.push(name.iter().copied(), is_short);
        };
        for host in std::iter::once(&service.key.host).chain(aliases) {
            push(&mut domains, &[host], false);
            if host.parse::<std::net::IpAddr>().is_err() {
                push(&mut domains, &[host, "."], true);
            }
            if let Some((name, namespace)) = in_cluster(host, self.suffix) {
                if namespace == self.namespace {
                    push(&mut domains, &[name], true);
                }
                push(&mut domains, &[name, ".", namespace, ".svc"], true);
                push(&mut domains, &[name, ".", namespace], true);
            }
        }
        // Pods of a headless service are addressed by names of their own.
        if service.resolution == Resolution::Passthrough && service.registry == Registry::Kubernetes {
            for name in domains.clone().names() {
                domains.push(["*.", name].into_iter(), false);
            }
        }
        for address in &service.addresses {
            let v6 = address.contains(':');
            if (v6 && self.client.ipv6) || (!v6 && self.client.ipv4) {
                push(&mut domains, &[&bracketed(address)], false);
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
    let name = format!("{}:{port}", key.host);
    Some(Kept::of_routes(&name, domains, &routes, client))
}

/// The routes of a service that no VirtualService is for.
pub(super) fn default_routes(cx: &mut Cx<'_>, client: &Client, service: &Service, port: u16) -> Made {
    let host = &service.key.host;
    let hash = hash::of_service(cx, client, service, "", port);
    let cluster = naming::outbound(port, "", host);
    http::default_route(cx, cluster, format!("{host}:{port}/*"), hash)
}
