//! TPROXY: inbound connections keep their source address. Packets are marked and routed to the loopback interface.

use crate::config::{Config, split};
use crate::program::{LOOPBACK_V6, PASSTHROUGH_V4, PASSTHROUGH_V6, Program};
use crate::rule::{Chain, Family, Table};

/// Mark of what the proxy sends to the pod's own address, so that it is not captured again.
const OUTBOUND_MARK: &str = "1338";

pub(crate) fn targets(p: &mut Program, config: &Config) {
    let (mark, port) = (&config.inbound_tproxy_mark, &config.inbound_capture_port);
    let divert = (Table::Mangle, Chain::Divert);
    p.add(
        divert,
        format!("-j MARK --set-mark {mark}"),
        format!("counter meta mark set {mark}"),
    );
    p.add(divert, "-j ACCEPT", "counter accept");
    p.add_each(
        (Table::Mangle, Chain::Tproxy),
        (&config.host_ipv4_loopback_cidr, LOOPBACK_V6),
        |loopback| format!("! -d {loopback} -p tcp -j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
        |ip, loopback| {
            let to = format!("tproxy {ip} to :{port} meta mark set {mark}");
            format!("meta l4proto tcp {ip} daddr != {loopback} {to} counter accept")
        },
    );
}

pub(crate) fn inbound_port(p: &mut Program, port: &str) {
    let inbound = (Table::Mangle, Chain::Inbound);
    p.add(
        inbound,
        format!("-p tcp --dport {port} -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT"),
        format!("meta l4proto tcp ct state related,established tcp dport {port} counter jump istio-divert"),
    );
    p.add(
        inbound,
        format!("-p tcp --dport {port} -j ISTIO_TPROXY"),
        format!("meta l4proto tcp tcp dport {port} counter jump istio-tproxy"),
    );
}

pub(crate) fn inbound_all(p: &mut Program) {
    let inbound = (Table::Mangle, Chain::Inbound);
    p.add(
        inbound,
        "-p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
        "meta l4proto tcp ct state related,established counter jump istio-divert",
    );
    p.add(
        inbound,
        "-p tcp -j ISTIO_TPROXY",
        "meta l4proto tcp counter jump istio-tproxy",
    );
}

pub(crate) fn marks(p: &mut Program, config: &Config) {
    let mark = &config.inbound_tproxy_mark;
    let (prerouting, output) = ((Table::Mangle, Chain::Prerouting), (Table::Mangle, Chain::Output));
    // The proxy's mark is kept with the connection, and given back to the answers of the application.
    p.add(
        prerouting,
        format!("-p tcp -m mark --mark {mark} -j CONNMARK --save-mark"),
        format!("meta l4proto tcp mark {mark} counter ct mark set mark"),
    );
    p.add(
        output,
        format!("-p tcp -o lo -m mark --mark {mark} -j RETURN"),
        format!("oifname lo meta l4proto tcp mark {mark} counter return"),
    );
    let users = split(&config.proxy_uid).map(|id| ("uid", "skuid", id));
    let groups = split(&config.proxy_gid).map(|id| ("gid", "skgid", id));
    for (owner, sk, id) in users.chain(groups) {
        p.add_each(
            output,
            (&config.host_ipv4_loopback_cidr, LOOPBACK_V6),
            |loopback| {
                format!("! -d {loopback} -p tcp -o lo -m owner --{owner}-owner {id} -j MARK --set-mark {OUTBOUND_MARK}")
            },
            |ip, loopback| {
                let from = format!("oifname lo meta l4proto tcp {ip} daddr != {loopback} {sk} {id}");
                format!("{from} counter meta mark set {OUTBOUND_MARK}")
            },
        );
    }
    p.add(
        output,
        format!("-p tcp -m connmark --mark {mark} -j CONNMARK --restore-mark"),
        format!("meta l4proto tcp ct mark {mark} counter meta mark set ct mark"),
    );
    spare_own_packets(p, mark);
}

/// What the proxy sent is not captured a second time, nor what the application sends to itself.
fn spare_own_packets(p: &mut Program, mark: &str) {
    let inbound = (Table::Mangle, Chain::Inbound);
    p.insert(
        Family::Any,
        0,
        inbound,
        format!("-p tcp -m mark --mark {mark} -j RETURN"),
        format!("meta l4proto tcp mark {mark} counter return"),
    );
    for (family, ip, address) in [(Family::V4, "ip", PASSTHROUGH_V4), (Family::V6, "ip6", PASSTHROUGH_V6)] {
        p.insert(
            family,
            1,
            inbound,
            format!("-p tcp -s {address} -i lo -j RETURN"),
            format!("iifname lo meta l4proto tcp {ip} saddr {address} counter return"),
        );
    }
    p.insert(
        Family::Any,
        2,
        inbound,
        format!("-p tcp -i lo -m mark ! --mark {OUTBOUND_MARK} -j RETURN"),
        format!("iifname lo meta l4proto tcp mark != {OUTBOUND_MARK} counter return"),
    );
}
