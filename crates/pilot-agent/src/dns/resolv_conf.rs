//! `/etc/resolv.conf`: servers to ask and suffixes that clients try.

use std::net::{IpAddr, SocketAddr};

/// No more servers and suffixes are used than this.
const MAX: usize = 16;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Servers.
    pub servers: Vec<SocketAddr>,
    /// Search suffixes, without dots at the ends.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Parses the file.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|w| w.split('%').next()?.parse::<IpAddr>().ok());
                    conf.servers.extend(
                        ip.filter(|_| conf.servers.len() < MAX)
                            .map(|ip| SocketAddr::new(ip, 53)),
                    );
                }
                // The last one counts.
                Some("search" | "domain") => {
                    let suffix = |w: &str| w.trim_matches('.').to_ascii_lowercase();
                    conf.search = words.take(MAX).map(suffix).filter(|s| !s.is_empty()).collect();
                }
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_suffixes() {
        let conf = ResolvConf::parse(
            "search a.svc.cluster.local svc.cluster.local.\nnameserver 10.96.0.10\nnameserver ::1 # x\noptions ndots:5\n",
        );
        assert_eq!(
            conf.servers,
            ["10.96.0.10:53".parse(), "[::1]:53".parse()].map(|s| s.unwrap_or(SocketAddr::from(([0; 4], 0))))
        );
        assert_eq!(conf.search, ["a.svc.cluster.local", "svc.cluster.local"]);
    }
}
