//! A filter chain in the making, and when two of them would clash.

use std::collections::BTreeSet;

use ipnet::IpNet;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use xds::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use crate::proto;
use crate::tls;

/// What plain HTTP looks like to the inspector.
pub(super) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];
/// Transport without TLS.
pub(super) const RAW: &str = "raw_buffer";
/// Transport with TLS.
pub(super) const TLS: &str = "tls";

/// A filter chain.
#[derive(Clone, Default)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) sni: Vec<String>,
    pub(super) ranges: Vec<String>,
    pub(super) alpn: Vec<String>,
    pub(super) transport: &'static str,
    pub(super) filters: Vec<Filter>,
    pub(super) metadata: Option<core::Metadata>,
    pub(super) tls: Option<DownstreamTlsContext>,
}

impl Chain {
    /// Whether it takes everything.
    pub(super) fn matches_all(&self) -> bool {
        (self.sni.is_empty() || self.sni.iter().any(|s| s == "*"))
            && self.alpn.is_empty()
            && self.transport.is_empty()
            && self.ranges.is_empty()
    }

    /// Whether Envoy would see the same match twice.
    pub(super) fn clashes(&self, other: &Self) -> bool {
        let names = |c: &Self| c.sni.iter().filter(|s| *s != "*").cloned().collect::<BTreeSet<_>>();
        let ranges = |c: &Self| c.ranges.iter().filter_map(|r| range(r)).collect::<BTreeSet<_>>();
        self.transport == other.transport
            && self.alpn == other.alpn
            && names(self) == names(other)
            && ranges(self) == ranges(other)
    }

    fn chain_match(&self) -> Option<FilterChainMatch> {
        if self.matches_all() {
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

    /// The message. The time limit keeps slow handshakes from holding memory.
    pub(super) fn finish(self) -> FilterChain {
        FilterChain {
            filter_chain_match: self.chain_match(),
            filters: self.filters,
            metadata: self.metadata,
            transport_socket: self.tls.as_ref().map(tls::downstream_socket),
            transport_socket_connect_timeout: Some(proto::seconds(15)),
            name: self.name,
            ..Default::default()
        }
    }
}

/// A range, or a single address as a range; none for "everything".
fn range(text: &str) -> Option<IpNet> {
    let net: IpNet = text
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()))?;
    (!net.addr().is_unspecified()).then(|| net.trunc())
}
