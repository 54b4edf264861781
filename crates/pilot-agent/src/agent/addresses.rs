//! Addresses of the pod and of the servers in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::dns::ResolvConf;

/// `localhost` stands for the families of the servers that the pod's clients ask.
pub(super) fn dns_addresses(address: &str, conf: &ResolvConf) -> Option<Vec<SocketAddr>> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    if host != "localhost" {
        return Some(vec![SocketAddr::new(host.trim_matches(['[', ']']).parse().ok()?, port)]);
    }
    let v6 = conf.servers.iter().any(SocketAddr::is_ipv6);
    let v4 = !v6 || conf.servers.iter().any(SocketAddr::is_ipv4);
    let v4 = v4.then(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    let v6 = v6.then(|| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
    Some(v4.into_iter().chain(v6).collect())
}

pub(super) fn ipv6_only(ips: &[IpAddr]) -> bool {
    !ips.is_empty() && ips.iter().all(IpAddr::is_ipv6)
}

/// The pod's address first, then those of the interfaces that are not excluded.
pub(super) fn instance_ips(pod: Option<IpAddr>, excluded: &str) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = pod.into_iter().collect();
    let excluded: Vec<&str> = excluded.split(',').map(str::trim).collect();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        let link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let usable = !ip.is_loopback() && !link_local && !ip.is_unspecified() && !ip.is_multicast();
        if usable && !excluded.contains(&interface.interface_name.as_str()) && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.is_empty() {
        ips = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    ips
}
