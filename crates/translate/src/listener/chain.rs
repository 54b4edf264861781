//! A filter chain in the making and as it is sent, and when two of them would clash.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use prost::Message;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use xds::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use xds::resource::Resource;

use crate::{proto, tls, wire};

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
/// Number of chains of a listener that are copied together.
const FEW: usize = 8;

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
        let chain = FilterChain {
            filter_chain_match: self.chain_match(),
            filters: self.filters,
            metadata: self.metadata,
            transport_socket_connect_timeout: Some(proto::seconds(15)),
            ..Default::default()
        };
        let socket = self.tls.as_ref().map(|socket| &*socket.bytes);
        let bytes = wire::encode_with(&chain, [(SOCKET, socket)]);
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
            bytes: bytes.into(),
        })
    }
}

/// A listener with chains that are encoded already.
pub(super) fn assemble(mut listener: Listener, chains: &[Arc<Finished>], default: Option<&Finished>) -> Resource {
    let head = Listener {
        name: std::mem::take(&mut listener.name),
        address: listener.address.take(),
        ..Default::default()
    };
    let default = default.map(|default| &*default.bytes);
    let rest = wire::encode_with(&listener, [(DEFAULT_CHAIN, default)]);
    let (few, many) = chains.split_at(chains.len().min(FEW));
    let length: usize = few.iter().map(|chain| wire::len(CHAINS, chain.bytes.len())).sum();
    let mut own = BytesMut::with_capacity(head.encoded_len() + length + 8 * many.len() + rest.len());
    head.encode_raw(&mut own);
    few.iter().for_each(|chain| wire::put(CHAINS, &chain.bytes, &mut own));
    // What is before each of many chains, which are not copied.
    let mut pieces = Vec::with_capacity(2 * many.len() + 1);
    for chain in many {
        wire::put_head(CHAINS, chain.bytes.len(), &mut own);
        pieces.extend([own.split().freeze(), chain.bytes.clone()]);
    }
    own.extend_from_slice(&rest);
    pieces.push(own.freeze());
    Resource::of_pieces::<Listener>(head.name, pieces)
}

/// A range, or a single address as a range; none for "everything".
fn range(text: &str) -> Option<IpNet> {
    let net: IpNet = text
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()))?;
    (!net.addr().is_unspecified()).then(|| net.trunc())
}
