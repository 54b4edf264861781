//! What can be asked for. Field names, flags and defaults are those of `istio-iptables` (control-plane.md §4.9).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

/// A list in a flag holds at most this many elements.
pub const MAX_LIST: usize = 512;
/// One iptables rule has one match per included owner group, and the kernel bounds matches per rule.
pub const MAX_OWNER_GROUPS: usize = 64;

/// Capture configuration. Lists are comma-separated; `*` means all where the field says so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct Config {
    /// Port of the proxy's outbound listener.
    pub proxy_port: String,
    /// Port of the proxy's inbound listener.
    pub inbound_capture_port: String,
    /// Port of the proxy's tunnel, reached directly.
    pub inbound_tunnel_port: String,
    /// Users whose traffic is the proxy's own.
    #[serde(rename = "ProxyUID")]
    pub proxy_uid: String,
    /// Groups whose traffic is the proxy's own.
    #[serde(rename = "ProxyGID")]
    pub proxy_gid: String,
    /// `REDIRECT` (or empty) or `TPROXY`.
    pub inbound_interception_mode: String,
    /// Packet mark in TPROXY mode.
    #[serde(rename = "InboundTProxyMark")]
    pub inbound_tproxy_mark: String,
    /// Routing table in TPROXY mode.
    #[serde(rename = "InboundTProxyRouteTable")]
    pub inbound_tproxy_route_table: String,
    /// Inbound ports to capture, or `*`; empty captures nothing inbound.
    pub inbound_ports_include: String,
    /// Inbound ports not to capture when all are.
    pub inbound_ports_exclude: String,
    /// Groups whose outbound traffic is captured, or `*`.
    pub owner_groups_include: String,
    /// Groups whose outbound traffic is not captured when that of all is.
    pub owner_groups_exclude: String,
    /// Outbound ports to capture whatever the address.
    pub outbound_ports_include: String,
    /// Outbound ports not to capture.
    pub outbound_ports_exclude: String,
    /// Outbound ranges to capture, or `*`.
    #[serde(rename = "OutboundIPRangesInclude")]
    pub outbound_ip_ranges_include: String,
    /// Outbound ranges not to capture.
    #[serde(rename = "OutboundIPRangesExclude")]
    pub outbound_ip_ranges_exclude: String,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound.
    pub reroute_virtual_interfaces: String,
    /// Interfaces that are left alone.
    pub exclude_interfaces: String,
    /// Print, do not apply.
    pub dry_run: bool,
    /// Send DNS queries to the agent.
    #[serde(rename = "RedirectDNS")]
    pub redirect_dns: bool,
    /// Send all DNS queries to the agent, not just those to the servers of resolv.conf.
    #[serde(rename = "CaptureAllDNS")]
    pub capture_all_dns: bool,
    /// Drop packets that connection tracking calls invalid.
    pub drop_invalid: bool,
    /// Set up IPv6 as well.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// IPv4 servers of resolv.conf.
    #[serde(rename = "DNSServersV4")]
    pub dns_servers_v4: Vec<String>,
    /// IPv6 servers of resolv.conf, as written there.
    #[serde(rename = "DNSServersV6")]
    pub dns_servers_v6: Vec<String>,
    /// IPv4 range that the application calls itself on.
    #[serde(rename = "HostIPv4LoopbackCidr")]
    pub host_ipv4_loopback_cidr: String,
}

impl Default for Config {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            proxy_port: text("15001"),
            inbound_capture_port: text("15006"),
            inbound_tunnel_port: text("15008"),
            proxy_uid: text("1337"),
            proxy_gid: text("1337"),
            inbound_interception_mode: String::new(),
            inbound_tproxy_mark: text("1337"),
            inbound_tproxy_route_table: text("133"),
            inbound_ports_include: String::new(),
            inbound_ports_exclude: String::new(),
            owner_groups_include: text("*"),
            owner_groups_exclude: String::new(),
            outbound_ports_include: String::new(),
            outbound_ports_exclude: String::new(),
            outbound_ip_ranges_include: String::new(),
            outbound_ip_ranges_exclude: String::new(),
            reroute_virtual_interfaces: String::new(),
            exclude_interfaces: String::new(),
            dry_run: false,
            redirect_dns: false,
            capture_all_dns: false,
            drop_invalid: false,
            enable_ipv6: false,
            dns_servers_v4: Vec::new(),
            dns_servers_v6: Vec::new(),
            host_ipv4_loopback_cidr: text("127.0.0.1/32"),
        }
    }
}

/// A value that would not make a rule, or not the rule that was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} {value:?}: {why}")]
pub struct ConfigError {
    /// Flag whose value it is.
    pub flag: &'static str,
    /// The element that is wrong.
    pub value: String,
    /// What it should be.
    pub why: &'static str,
}

/// Outbound ranges, by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub all: bool,
    pub list: Vec<IpNet>,
}

impl Ranges {
    pub(crate) fn has_loopback(&self) -> bool {
        self.list.iter().any(|r| r.addr().is_loopback())
    }
}

/// Elements of a comma-separated list; empty ones are skipped.
pub(crate) fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|s| !s.is_empty())
}

impl Config {
    /// Whether inbound traffic keeps its source address.
    pub fn is_tproxy(&self) -> bool {
        self.inbound_interception_mode == "TPROXY"
    }

    /// Whether DNS is captured: asked for, and there is a server to capture for.
    pub fn captures_dns(&self) -> bool {
        let servers = !self.dns_servers_v4.is_empty() || !self.dns_servers_v6.is_empty();
        self.redirect_dns && (self.capture_all_dns || servers)
    }

    pub(crate) fn included_ranges(&self) -> Result<Ranges, ConfigError> {
        ranges("istio-service-cidr", &self.outbound_ip_ranges_include)
    }

    pub(crate) fn excluded_ranges(&self) -> Result<Ranges, ConfigError> {
        let excluded = ranges("istio-service-exclude-cidr", &self.outbound_ip_ranges_exclude)?;
        if excluded.all {
            let value = self.outbound_ip_ranges_exclude.clone();
            let why = "a list of ranges; to capture nothing leave --istio-service-cidr empty";
            return Err(ConfigError {
                flag: "istio-service-exclude-cidr",
                value,
                why,
            });
        }
        Ok(excluded)
    }

    /// Refuses what would not make the rule that was meant. Rules are text that a privileged program reads, so every
    /// value is checked, even those that other components have checked before.
    ///
    /// # Errors
    /// Names the flag and the value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const PORT: &str = "a port is a number from 1 to 65535";
        let port = |s: &str| s.parse::<u16>().is_ok_and(|p| p > 0);
        let number = |s: &str| s.parse::<u32>().is_ok();
        for (flag, value) in [
            ("envoy-port", &self.proxy_port),
            ("inbound-capture-port", &self.inbound_capture_port),
            ("inbound-tunnel-port", &self.inbound_tunnel_port),
        ] {
            check(flag, value, port(value), PORT)?;
        }
        for (flag, list) in [
            ("istio-local-exclude-ports", &self.inbound_ports_exclude),
            ("istio-outbound-ports", &self.outbound_ports_include),
            ("istio-local-outbound-ports-exclude", &self.outbound_ports_exclude),
        ] {
            check_list(flag, list, port, PORT)?;
        }
        if self.inbound_ports_include != "*" {
            check_list("istio-inbound-ports", &self.inbound_ports_include, port, PORT)?;
        }
        check_list("proxy-uid", &self.proxy_uid, number, "a user is a number here")?;
        check_list("proxy-gid", &self.proxy_gid, number, "a group is a number here")?;
        check(
            "istio-inbound-tproxy-mark",
            &self.inbound_tproxy_mark,
            number(&self.inbound_tproxy_mark),
            "a number",
        )?;
        let table = &self.inbound_tproxy_route_table;
        check("istio-inbound-tproxy-route-table", table, number(table), "a number")?;
        let mode = &self.inbound_interception_mode;
        let known = matches!(mode.as_str(), "" | "REDIRECT" | "TPROXY");
        check("istio-inbound-interception-mode", mode, known, "REDIRECT or TPROXY")?;
        const INTERFACE: &str = "an interface name has at most 15 characters of A-Z a-z 0-9 . _ - @ : +";
        check_list(
            "istio-exclude-interfaces",
            &self.exclude_interfaces,
            is_interface,
            INTERFACE,
        )?;
        check_list(
            "kube-virt-interfaces",
            &self.reroute_virtual_interfaces,
            is_interface,
            INTERFACE,
        )?;
        for server in &self.dns_servers_v4 {
            check(
                "redirect-dns",
                server,
                server.parse::<Ipv4Addr>().is_ok(),
                "not an IPv4 address in resolv.conf",
            )?;
        }
        for server in &self.dns_servers_v6 {
            check(
                "redirect-dns",
                server,
                server.parse::<Ipv6Addr>().is_ok(),
                "not an IPv6 address in resolv.conf",
            )?;
        }
        self.validate_groups()?;
        self.included_ranges()?;
        self.excluded_ranges()?;
        let loopback = &self.host_ipv4_loopback_cidr;
        let inside = loopback
            .parse::<Ipv4Net>()
            .is_ok_and(|n| n.addr().is_loopback() && n.prefix_len() >= 8);
        check(
            "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
            loopback,
            inside,
            "an IPv4 range within 127.0.0.0/8",
        )
    }

    fn validate_groups(&self) -> Result<(), ConfigError> {
        const GROUP: &str = "a group is a number or a name of at most 32 characters of A-Z a-z 0-9 . _ -";
        const VARIABLE: &str = "ISTIO_OUTBOUND_OWNER_GROUPS";
        let include = &self.owner_groups_include;
        if include != "*" {
            check_list(VARIABLE, include, is_group, GROUP)?;
            let few = split(include).count() <= MAX_OWNER_GROUPS;
            check(
                VARIABLE,
                include,
                few,
                "at most 64 groups can be included; exclude groups instead",
            )?;
        }
        check_list(
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
            &self.owner_groups_exclude,
            is_group,
            GROUP,
        )
    }
}

fn is_interface(s: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".:_-@+".contains(c);
    s.len() <= 15 && !s.starts_with('-') && s.chars().all(allowed)
}

fn is_group(s: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    s.len() <= 32 && !s.starts_with('-') && s.chars().all(allowed)
}

fn check(flag: &'static str, value: &str, ok: bool, why: &'static str) -> Result<(), ConfigError> {
    if ok {
        Ok(())
    } else {
        Err(ConfigError {
            flag,
            value: value.chars().take(64).collect(),
            why,
        })
    }
}

fn check_list(
    flag: &'static str,
    list: &str,
    element: impl Fn(&str) -> bool,
    why: &'static str,
) -> Result<(), ConfigError> {
    for (i, value) in split(list).enumerate() {
        check(flag, value, i < MAX_LIST, "the list is longer than 512")?;
        check(flag, value, element(value), why)?;
    }
    Ok(())
}

fn ranges(flag: &'static str, list: &str) -> Result<Ranges, ConfigError> {
    if list == "*" {
        return Ok(Ranges {
            all: true,
            list: Vec::new(),
        });
    }
    check_list(
        flag,
        list,
        |s| s.parse::<IpNet>().is_ok(),
        "a range is an address with a prefix length, or all is *",
    )?;
    Ok(Ranges {
        all: false,
        list: split(list).filter_map(|s| s.parse().ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(change: impl FnOnce(&mut Config), flag: Option<&str>) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.validate().err().map(|e| e.flag), flag, "{config:?}");
    }

    #[test]
    fn what_the_injector_asks_for_is_accepted() {
        let asked = |c: &mut Config| {
            c.inbound_ports_include = "*".into();
            c.inbound_ports_exclude = "15090,15021,15020".into();
            c.outbound_ip_ranges_include = "*".into();
            c.inbound_interception_mode = "REDIRECT".into();
        };
        check(asked, None);
        check(|c| c.inbound_ports_exclude = "6000,7000,".into(), None);
    }

    #[test]
    fn values_that_would_smuggle_rules_are_refused() {
        check(
            |c| c.exclude_interfaces = "eth0\n-A INPUT -j DROP".into(),
            Some("istio-exclude-interfaces"),
        );
        check(
            |c| c.reroute_virtual_interfaces = "--flush".into(),
            Some("kube-virt-interfaces"),
        );
        check(
            |c| c.owner_groups_exclude = "a b".into(),
            Some("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"),
        );
        check(|c| c.proxy_port = "0".into(), Some("envoy-port"));
        check(
            |c| c.inbound_ports_include = "80,http".into(),
            Some("istio-inbound-ports"),
        );
        check(
            |c| c.outbound_ip_ranges_include = "10.0.0.0/33".into(),
            Some("istio-service-cidr"),
        );
        check(
            |c| c.outbound_ip_ranges_exclude = "*".into(),
            Some("istio-service-exclude-cidr"),
        );
        check(
            |c| c.host_ipv4_loopback_cidr = "10.0.0.0/8".into(),
            Some("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"),
        );
        check(
            |c| c.inbound_interception_mode = "NONE".into(),
            Some("istio-inbound-interception-mode"),
        );
        check(
            |c| c.owner_groups_include = vec!["1"; 65].join(","),
            Some("ISTIO_OUTBOUND_OWNER_GROUPS"),
        );
        check(
            |c| c.inbound_ports_include = vec!["1"; 600].join(","),
            Some("istio-inbound-ports"),
        );
    }
}
