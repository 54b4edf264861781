//! A filter chain in the making and as it is sent, and when two of them would clash.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use xds::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use xds::resource::Resource;

use crate::proto;
use crate::tls;

/// What plain HTTP looks like to the inspector.
pub(super) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];
/// Transport without TLS.
pub(super) const RAW: &str = "raw_buffer";
/// Transport with TLS.
pub(super) const TLS: &str = "tls";

/// Numbers of fields: of a listener, and of a chain.
const CHAINS: u32 = 3;
const DEFAULT_CHAIN: u32 = 25;
const SOCKET: u32 = 6;

/// A filter chain.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) sni: Vec<String>,
    pub(super) ranges: Vec<String>,
    pub(super) alpn: Vec<String>,
    pub(super) transport: &'static str,
    pub(super) filters: Vec<Filter>,
    pub(super) metadata: Option<core::Metadata>,
    pub(super) tls: Option<Arc<Socket>>,
}

/// How TLS ends at a chain, encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Whether it chooses among protocols.
    offers_alpn: bool,
    bytes: Bytes,
}

impl Socket {
    pub(super) fn new(context: &DownstreamTlsContext) -> Self {
        let common = context.common_tls_context.as_ref();
        Self {
            offers_alpn: common.is_some_and(|c| !c.alpn_protocols.is_empty()),
            bytes: tls::downstream_socket(context).encode_to_vec().into(),
        }
    }
}

/// What Envoy tells chains apart by.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Match {
    transport: &'static str,
    alpn: Vec<String>,
    names: BTreeSet<String>,
    ranges: BTreeSet<IpNet>,
}

/// A chain as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Envoy takes no two chains of a listener with the same match.
    pub(super) takes: Arc<Match>,
    /// Whether it takes everything.
    pub(super) takes_all: bool,
    /// Whether it asks for server names.
    pub(super) by_name: bool,
    /// Whether it chooses among protocols of clients.
    pub(super) offers_alpn: bool,
    bytes: Bytes,
}

impl Finished {
    /// A chain for all that no other takes.
    pub(super) fn of_rest(chain: &FilterChain) -> Arc<Self> {
        Arc::new(Self {
            takes: Arc::new(Match {
                transport: "",
                alpn: Vec::new(),
                names: BTreeSet::new(),
                ranges: BTreeSet::new(),
            }),
            takes_all: true,
            by_name: false,
            offers_alpn: false,
            bytes: chain.encode_to_vec().into(),
        })
    }

    /// Whether it asks for protocols.
    pub(super) fn by_alpn(&self) -> bool {
        !self.takes.alpn.is_empty()
    }
}

impl Chain {
    /// Whether it takes everything.
    fn takes_all(&self) -> bool {
        (self.sni.is_empty() || self.sni.iter().any(|s| s == "*"))
            && self.alpn.is_empty()
            && self.transport.is_empty()
            && self.ranges.is_empty()
    }

    fn chain_match(&self) -> Option<FilterChainMatch> {
        if self.takes_all() {
            return None;
        }
        let mut server_names = self.sni.clone();
        server_names.sort();
        if server_names.iter().any(|n| n == "*") {
            server_names.clear();
        }
        let mut ranges = self.ranges.clone();
        ranges.sort();
        Some(FilterChainMatch {
            server_names,
            prefix_ranges: ranges
                .iter()
                .filter_map(|r| range(r))
                .map(|net| core::CidrRange {
                    address_prefix: net.addr().to_string(),
                    prefix_len: Some(proto::u32_value(u32::from(net.prefix_len()))),
                })
                .collect(),
            application_protocols: self.alpn.clone(),
            transport_protocol: self.transport.to_owned(),
            ..Default::default()
        })
    }

    /// The chain as it is sent. The time limit keeps slow handshakes from holding memory.
    pub(super) fn finish(self) -> Arc<Finished> {
        let takes_all = self.takes_all();
        let head = FilterChain {
            filter_chain_match: self.chain_match(),
            filters: self.filters,
            metadata: self.metadata,
            ..Default::default()
        };
        let rest = FilterChain {
            transport_socket_connect_timeout: Some(proto::seconds(15)),
            ..Default::default()
        };
        let mut bytes =
            BytesMut::with_capacity(head.encoded_len() + self.tls.as_ref().map_or(0, |t| t.bytes.len()) + 16);
        head.encode_raw(&mut bytes);
        if let Some(socket) = &self.tls {
            field(SOCKET, &socket.bytes, &mut bytes);
        }
        rest.encode_raw(&mut bytes);
        Arc::new(Finished {
            takes_all,
            by_name: !self.sni.is_empty(),
            offers_alpn: self.tls.is_some_and(|socket| socket.offers_alpn),
            takes: Arc::new(Match {
                transport: self.transport,
                names: self.sni.into_iter().filter(|name| name != "*").collect(),
                ranges: self.ranges.iter().filter_map(|r| range(r)).collect(),
                alpn: self.alpn,
            }),
            bytes: bytes.freeze(),
        })
    }
}

/// A message that is encoded already, as a field of another.
fn field(number: u32, bytes: &[u8], out: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A listener with chains that are encoded already. Fields come in the order of their numbers.
pub(super) fn assemble(mut listener: Listener, chains: &[Arc<Finished>], default: Option<&Finished>) -> Resource {
    let head = Listener {
        name: std::mem::take(&mut listener.name),
        address: listener.address.take(),
        ..Default::default()
    };
    let length: usize = chains.iter().map(|chain| chain.bytes.len() + 8).sum();
    let mut bytes = BytesMut::with_capacity(length + 512);
    head.encode_raw(&mut bytes);
    chains.iter().for_each(|chain| field(CHAINS, &chain.bytes, &mut bytes));
    // The default chain's number is in the midst of what follows.
    let after = Listener {
        max_connections_to_accept_per_socket_event: listener.max_connections_to_accept_per_socket_event.take(),
        bind_to_port: listener.bind_to_port.take(),
        ..Default::default()
    };
    listener.encode_raw(&mut bytes);
    if let Some(default) = default {
        field(DEFAULT_CHAIN, &default.bytes, &mut bytes);
    }
    after.encode_raw(&mut bytes);
    Resource::of_pieces::<Listener>(head.name, vec![bytes.freeze()])
}

/// A range, or a single address as a range; none for "everything".
fn range(text: &str) -> Option<IpNet> {
    let net: IpNet = text
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()))?;
    (!net.addr().is_unspecified()).then(|| net.trunc())
}
