//! Configuration → rules, in the order in which the kernel is to meet them (control-plane.md §4.9, the table).

use ipnet::IpNet;

use crate::config::{Config, ConfigError, Ranges, split};
use crate::rule::{Chain, Family, Rule, Table};
use crate::{dns, tproxy};

/// Source address of the proxy's inbound pass-through connections: not to be captured again.
pub(crate) const PASSTHROUGH_V4: &str = "127.0.0.6/32";
/// The same for IPv6.
pub(crate) const PASSTHROUGH_V6: &str = "::6/128";
/// IPv6 loopback.
pub(crate) const LOOPBACK_V6: &str = "::1/128";

/// The rules for `config`, which is validated first.
///
/// # Errors
/// What [`Config::validate`] refuses.
pub fn rules(config: &Config) -> Result<Vec<Rule>, ConfigError> {
    config.validate()?;
    let included = config.included_ranges()?;
    let excluded = config.excluded_ranges()?;
    let mut p = Program {
        rules: Vec::new(),
        ipv6: config.enable_ipv6,
    };
    spare_interfaces(&mut p, config);
    if config.drop_invalid {
        p.add(
            (Table::Mangle, Chain::Prerouting),
            "-m conntrack --ctstate INVALID -j ISTIO_DROP",
            "meta l4proto tcp ct state invalid counter jump istio-drop",
        );
        p.add((Table::Mangle, Chain::Drop), "-j DROP", "counter drop");
    }
    redirect_targets(&mut p, config);
    inbound(&mut p, config);
    outbound_exclusions(&mut p, config);
    spare_proxy(&mut p, config, included.has_loopback());
    owner_groups(&mut p, config);
    if config.captures_dns() {
        dns::rules(&mut p, config);
    }
    outbound_ranges(&mut p, config, &included, &excluded);
    if config.is_tproxy() {
        tproxy::marks(&mut p, config);
    }
    Ok(p.rules)
}

/// The rules so far. IPv6 rules are dropped where IPv6 is not set up.
pub(crate) struct Program {
    rules: Vec<Rule>,
    ipv6: bool,
}

/// A table and one of its chains.
pub(crate) type Place = (Table, Chain);

impl Program {
    fn push(&mut self, place: Place, family: Family, insert: Option<usize>, ipt: Option<String>, nft: Option<String>) {
        if family != Family::V6 || self.ipv6 {
            let (table, chain) = place;
            self.rules.push(Rule {
                table,
                chain,
                family,
                insert,
                iptables: ipt,
                nftables: nft,
            });
        }
    }

    /// At the end of the chain, for both families.
    pub(crate) fn add(&mut self, place: Place, iptables: impl Into<String>, nftables: impl Into<String>) {
        self.push(place, Family::Any, None, Some(iptables.into()), Some(nftables.into()));
    }

    /// At the end of the chain, for one family.
    pub(crate) fn add_for(&mut self, family: Family, place: Place, iptables: String, nftables: String) {
        self.push(place, family, None, Some(iptables), Some(nftables));
    }

    /// At the end of the chain, once per family, with that family's address.
    pub(crate) fn add_each(
        &mut self,
        place: Place,
        (v4, v6): (&str, &str),
        iptables: impl Fn(&str) -> String,
        nftables: impl Fn(&str, &str) -> String,
    ) {
        self.add_for(Family::V4, place, iptables(v4), nftables("ip", v4));
        self.add_for(Family::V6, place, iptables(v6), nftables("ip6", v6));
    }

    /// Only where iptables is used: it keeps the families apart.
    pub(crate) fn add_iptables(&mut self, family: Family, place: Place, iptables: &str) {
        self.push(place, family, None, Some(iptables.to_owned()), None);
    }

    /// Only where nftables is used.
    pub(crate) fn add_nftables(&mut self, place: Place, nftables: &str) {
        self.push(place, Family::Any, None, None, Some(nftables.to_owned()));
    }

    /// At `position` counted from the head of the chain.
    pub(crate) fn insert(&mut self, family: Family, position: usize, place: Place, iptables: String, nftables: String) {
        self.push(place, family, Some(position), Some(iptables), Some(nftables));
    }
}

fn spare_interfaces(p: &mut Program, config: &Config) {
    let tables: &[Table] = if config.is_tproxy() {
        &[Table::Nat, Table::Mangle]
    } else {
        &[Table::Nat]
    };
    for &table in tables {
        for interface in split(&config.exclude_interfaces) {
            let (inward, outward) = (format!("-i {interface} -j RETURN"), format!("-o {interface} -j RETURN"));
            p.add(
                (table, Chain::Prerouting),
                inward,
                format!("iifname {interface} counter return"),
            );
            p.add(
                (table, Chain::Output),
                outward,
                format!("oifname {interface} counter return"),
            );
        }
    }
    for interface in split(&config.reroute_virtual_interfaces) {
        let (ipt, nft) = (
            format!("-i {interface} -j RETURN"),
            format!("iifname {interface} counter return"),
        );
        p.insert(Family::Any, 0, (Table::Nat, Chain::Prerouting), ipt, nft);
    }
}

fn redirect_targets(p: &mut Program, config: &Config) {
    let (tunnel, outbound, inbound) = (
        &config.inbound_tunnel_port,
        &config.proxy_port,
        &config.inbound_capture_port,
    );
    p.add(
        (Table::Nat, Chain::Inbound),
        format!("-p tcp --dport {tunnel} -j RETURN"),
        format!("meta l4proto tcp tcp dport {tunnel} counter return"),
    );
    for (chain, port) in [(Chain::Redirect, outbound), (Chain::InRedirect, inbound)] {
        p.add(
            (Table::Nat, chain),
            format!("-p tcp -j REDIRECT --to-ports {port}"),
            format!("meta l4proto tcp counter redirect to :{port}"),
        );
    }
}

fn inbound(p: &mut Program, config: &Config) {
    if config.inbound_ports_include.is_empty() {
        return;
    }
    let tproxy = config.is_tproxy();
    let table = if tproxy { Table::Mangle } else { Table::Nat };
    if tproxy {
        tproxy::targets(p, config);
    }
    p.add(
        (table, Chain::Prerouting),
        "-p tcp -j ISTIO_INBOUND",
        "meta l4proto tcp counter jump istio-inbound",
    );
    let place = (table, Chain::Inbound);
    if config.inbound_ports_include != "*" {
        for port in split(&config.inbound_ports_include) {
            if tproxy {
                tproxy::inbound_port(p, port);
            } else {
                p.add(
                    place,
                    format!("-p tcp --dport {port} -j ISTIO_IN_REDIRECT"),
                    format!("meta l4proto tcp tcp dport {port} counter jump istio-in-redirect"),
                );
            }
        }
        return;
    }
    for port in split(&config.inbound_ports_exclude) {
        p.add(
            place,
            format!("-p tcp --dport {port} -j RETURN"),
            format!("meta l4proto tcp tcp dport {port} counter return"),
        );
    }
    if tproxy {
        tproxy::inbound_all(p);
    } else {
        p.add(
            place,
            "-p tcp -j ISTIO_IN_REDIRECT",
            "meta l4proto tcp counter jump istio-in-redirect",
        );
    }
}

fn outbound_exclusions(p: &mut Program, config: &Config) {
    p.add(
        (Table::Nat, Chain::Output),
        "-j ISTIO_OUTPUT",
        "counter jump istio-output",
    );
    for port in split(&config.outbound_ports_exclude) {
        for protocol in ["tcp", "udp"] {
            p.add(
                (Table::Nat, Chain::IstioOutput),
                format!("-p {protocol} --dport {port} -j RETURN"),
                format!("{protocol} dport {port} counter return"),
            );
        }
    }
    p.add_each(
        (Table::Nat, Chain::IstioOutput),
        (PASSTHROUGH_V4, PASSTHROUGH_V6),
        |address| format!("-o lo -s {address} -j RETURN"),
        |ip, address| format!("oifname lo {ip} saddr {address} counter return"),
    );
}

/// The proxy's own traffic goes out; only what it sends to the pod itself comes in through the inbound listener.
fn spare_proxy(p: &mut Program, config: &Config, loopback_included: bool) {
    let dns = config.captures_dns();
    let tunnel = &config.inbound_tunnel_port;
    let one = (format!("-p tcp ! --dport {tunnel}"), format!("tcp dport != {tunnel}"));
    let two = (
        format!("-p tcp -m multiport ! --dports 53,{tunnel}"),
        format!("tcp dport != {{ 53, {tunnel} }}"),
    );
    let users = split(&config.proxy_uid).map(|id| ("uid", "skuid", id, if dns { &two } else { &one }));
    let groups = split(&config.proxy_gid).map(|id| ("gid", "skgid", id, &one));
    let place = (Table::Nat, Chain::IstioOutput);
    for (owner, sk, id, (ipt_ports, nft_ports)) in users.chain(groups) {
        p.add_each(
            place,
            (&config.host_ipv4_loopback_cidr, LOOPBACK_V6),
            |loopback| format!("-o lo ! -d {loopback} {ipt_ports} -m owner --{owner}-owner {id} -j ISTIO_IN_REDIRECT"),
            |ip, loopback| {
                let to = format!("{ip} daddr != {loopback} {nft_ports}");
                format!("oifname lo meta l4proto tcp {to} {sk} {id} counter jump istio-in-redirect")
            },
        );
        if !loopback_included {
            // A DNS server on localhost is to be captured as well, so port 53 is left to the DNS rules.
            let (ipt, nft) = if dns {
                ("-p tcp ! --dport 53 ", "meta l4proto tcp tcp dport != 53 ")
            } else {
                ("", "")
            };
            p.add(
                place,
                format!("-o lo {ipt}-m owner ! --{owner}-owner {id} -j RETURN"),
                format!("oifname lo {nft}{sk} != {id} counter return"),
            );
        }
        p.add(
            place,
            format!("-m owner --{owner}-owner {id} -j RETURN"),
            format!("{sk} {id} counter return"),
        );
    }
}

fn owner_groups(p: &mut Program, config: &Config) {
    let place = (Table::Nat, Chain::IstioOutput);
    if config.owner_groups_include == "*" {
        for group in split(&config.owner_groups_exclude) {
            p.add(
                place,
                format!("-m owner --gid-owner {group} -j RETURN"),
                format!("skgid {group} counter return"),
            );
        }
        return;
    }
    let groups: Vec<&str> = split(&config.owner_groups_include).collect();
    let ipt: String = groups.iter().map(|g| format!("-m owner ! --gid-owner {g} ")).collect();
    let nft: String = groups.iter().map(|g| format!("skgid != {g} ")).collect();
    p.add(place, format!("{ipt}-j RETURN"), format!("{nft}counter return"));
}

fn outbound_ranges(p: &mut Program, config: &Config, included: &Ranges, excluded: &Ranges) {
    let place = (Table::Nat, Chain::IstioOutput);
    p.add_each(
        place,
        (&config.host_ipv4_loopback_cidr, LOOPBACK_V6),
        |loopback| format!("-d {loopback} -j RETURN"),
        |ip, loopback| format!("{ip} daddr {loopback} counter return"),
    );
    for range in by_family(excluded) {
        let (family, ip) = family(range);
        p.add_for(
            family,
            place,
            format!("-d {range} -j RETURN"),
            format!("{ip} daddr {range} counter return"),
        );
    }
    for port in split(&config.outbound_ports_include) {
        p.add(
            place,
            format!("-p tcp --dport {port} -j ISTIO_REDIRECT"),
            format!("tcp dport {port} counter jump istio-redirect"),
        );
    }
    if included.all {
        p.add(place, "-j ISTIO_REDIRECT", "counter jump istio-redirect");
        for interface in split(&config.reroute_virtual_interfaces) {
            let ipt = format!("-i {interface} -j ISTIO_REDIRECT");
            let nft = format!("iifname {interface} counter jump istio-redirect");
            p.insert(Family::Any, 0, (Table::Nat, Chain::Prerouting), ipt, nft);
        }
    }
    for range in by_family(included) {
        let (family, ip) = family(range);
        for interface in split(&config.reroute_virtual_interfaces) {
            let ipt = format!("-i {interface} -d {range} -j ISTIO_REDIRECT");
            let nft = format!("iifname {interface} {ip} daddr {range} counter jump istio-redirect");
            p.insert(family, 0, (Table::Nat, Chain::Prerouting), ipt, nft);
        }
        let nft = format!("{ip} daddr {range} counter jump istio-redirect");
        p.add_for(family, place, format!("-d {range} -j ISTIO_REDIRECT"), nft);
    }
}

/// IPv4 ranges first.
fn by_family(ranges: &Ranges) -> impl Iterator<Item = &IpNet> {
    let v4 = ranges.list.iter().filter(|r| matches!(r, IpNet::V4(_)));
    v4.chain(ranges.list.iter().filter(|r| matches!(r, IpNet::V6(_))))
}

fn family(range: &IpNet) -> (Family, &'static str) {
    match range {
        IpNet::V4(_) => (Family::V4, "ip"),
        IpNet::V6(_) => (Family::V6, "ip6"),
    }
}
