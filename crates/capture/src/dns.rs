//! DNS capture: queries to the servers of resolv.conf go to the agent. Queries of the agent itself and those to it are
//! kept in different connection-tracking zones, so that the two halves of one query cannot collide.

use crate::config::{Config, split};
use crate::program::Program;
use crate::rule::{Chain, Family, Table};

/// Where the agent answers DNS queries.
const AGENT_PORT: u16 = 15053;

/// Protocol and flag by which iptables redirects it.
const PROTOCOLS: [(&str, &str); 2] = [("tcp", "--to-ports"), ("udp", "--to-port")];

/// IPv4 servers first, each with its family, keyword and full prefix.
fn servers(config: &Config) -> Vec<(Family, &'static str, String)> {
    let v4 = config
        .dns_servers_v4
        .iter()
        .map(|s| (Family::V4, "ip", format!("{s}/32")));
    let v6 = config
        .dns_servers_v6
        .iter()
        .map(|s| (Family::V6, "ip6", format!("{s}/128")));
    v4.chain(v6).collect()
}

pub(crate) fn rules(p: &mut Program, config: &Config) {
    let all = config.capture_all_dns;
    p.add(
        (Table::Raw, Chain::Output),
        "-j ISTIO_OUTPUT_DNS",
        "counter jump istio-output-dns",
    );
    let output = (Table::Nat, Chain::IstioOutput);
    p.add_nftables(output, "counter jump istio-output-dns");
    for (family, empty) in [
        (Family::V4, config.dns_servers_v4.is_empty()),
        (Family::V6, config.dns_servers_v6.is_empty()),
    ] {
        if all || !empty {
            p.add_iptables(family, output, "-j ISTIO_OUTPUT_DNS");
        }
    }
    let place = (Table::Nat, Chain::OutputDns);
    for (protocol, flag) in PROTOCOLS {
        if all {
            let l4 = if protocol == "tcp" { "meta l4proto tcp " } else { "" };
            p.add(
                place,
                format!("-p {protocol} --dport 53 -j REDIRECT {flag} {AGENT_PORT}"),
                format!("{l4}{protocol} dport 53 counter redirect to :{AGENT_PORT}"),
            );
            continue;
        }
        for (family, ip, server) in servers(config) {
            p.add_for(
                family,
                place,
                format!("-p {protocol} --dport 53 -d {server} -j REDIRECT {flag} {AGENT_PORT}"),
                format!("{ip} daddr {server} {protocol} dport 53 counter redirect to :{AGENT_PORT}"),
            );
        }
    }
    zones(p, config);
}

fn zones(p: &mut Program, config: &Config) {
    let (queries, answers) = ((Table::Raw, Chain::OutputDns), (Table::Raw, Chain::Inbound));
    let users = split(&config.proxy_uid).map(|id| ("uid", "skuid", id));
    let groups = split(&config.proxy_gid).map(|id| ("gid", "skgid", id));
    for (owner, sk, id) in users.chain(groups) {
        for (ipt, nft, zone) in [
            ("--dport 53", "udp dport 53", 1),
            ("--sport 15053", "udp sport 15053", 2),
        ] {
            p.add(
                queries,
                format!("-p udp {ipt} -m owner --{owner}-owner {id} -j CT --zone {zone}"),
                format!("{nft} meta {sk} {id} counter ct zone set {zone}"),
            );
        }
    }
    let prerouting = (Table::Raw, Chain::Prerouting);
    if config.capture_all_dns {
        p.add(prerouting, "-j ISTIO_INBOUND", "counter jump istio-inbound");
        p.add(
            queries,
            "-p udp --dport 53 -j CT --zone 2",
            "udp dport 53 counter ct zone set 2",
        );
        p.add(
            answers,
            "-p udp --sport 53 -j CT --zone 1",
            "udp sport 53 counter ct zone set 1",
        );
        return;
    }
    p.add_nftables(prerouting, "counter jump istio-inbound");
    for (family, empty) in [
        (Family::V4, config.dns_servers_v4.is_empty()),
        (Family::V6, config.dns_servers_v6.is_empty()),
    ] {
        if !empty {
            p.add_iptables(family, prerouting, "-j ISTIO_INBOUND");
        }
    }
    for (family, ip, server) in servers(config) {
        p.add_for(
            family,
            queries,
            format!("-p udp --dport 53 -d {server} -j CT --zone 2"),
            format!("udp dport 53 {ip} daddr {server} counter ct zone set 2"),
        );
        p.add_for(
            family,
            answers,
            format!("-p udp --sport 53 -s {server} -j CT --zone 1"),
            format!("udp sport 53 {ip} saddr {server} counter ct zone set 1"),
        );
    }
}
