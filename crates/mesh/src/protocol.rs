//! Protocol of a service port (control-plane.md §1.3).

/// What a port speaks, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Http,
    HttpProxy,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Mongo,
    Redis,
    Mysql,
    /// Not declared: the proxy finds out by looking at the traffic.
    Unknown,
}

/// Well-known ports whose servers speak first: sniffing would hang.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Protocol of a Kubernetes service port.
    pub fn of_kubernetes_port(number: u16, name: &str, transport: &str, app_protocol: Option<&str>) -> Self {
        if transport == "UDP" {
            return Self::Udp;
        }
        let declared = match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            Some(protocol) => protocol,
            None => name,
        };
        match Self::parse(declared) {
            Self::Unknown if SERVER_FIRST.contains(&number) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Protocol by its name, or by the name of a port that starts with it (`http-admin`).
    pub fn parse(name: &str) -> Self {
        const NAMES: [(&str, Protocol); 12] = [
            ("http", Protocol::Http),
            ("https", Protocol::Https),
            ("tcp", Protocol::Tcp),
            ("tls", Protocol::Tls),
            ("grpc", Protocol::Grpc),
            ("grpc-web", Protocol::GrpcWeb),
            ("http2", Protocol::Http2),
            ("http_proxy", Protocol::HttpProxy),
            ("udp", Protocol::Udp),
            ("mongo", Protocol::Mongo),
            ("redis", Protocol::Redis),
            ("mysql", Protocol::Mysql),
        ];
        let starts_with_grpc_web = name
            .get(..8)
            .is_some_and(|start| start.eq_ignore_ascii_case("grpc-web"));
        if starts_with_grpc_web && matches!(name.as_bytes().get(8), None | Some(b'-')) {
            return Self::GrpcWeb;
        }
        let prefix = name.split('-').next().unwrap_or_default();
        let is_it = |(name, _): &&(&str, Self)| name.eq_ignore_ascii_case(prefix);
        NAMES
            .iter()
            .find(is_it)
            .map_or(Self::Unknown, |(_, protocol)| *protocol)
    }

    /// Whether it is HTTP in any form.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::HttpProxy | Self::Grpc | Self::GrpcWeb
        )
    }

    /// Whether it is HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether it is TLS that the proxy does not terminate.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether the proxy finds out what it is.
    pub fn is_unknown(self) -> bool {
        self == Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_the_name_decides() {
        let check = |name: &str, expected| assert_eq!(Protocol::parse(name), expected, "{name}");
        check("http", Protocol::Http);
        check("http-admin", Protocol::Http);
        check("HTTP2-x", Protocol::Http2);
        check("grpc-web", Protocol::GrpcWeb);
        check("grpc-web-x", Protocol::GrpcWeb);
        check("grpc-x", Protocol::Grpc);
        check("admin", Protocol::Unknown);
        check("", Protocol::Unknown);
    }

    #[test]
    fn app_protocol_wins_over_the_name_and_udp_over_both() {
        let check = |number, name, transport, app, expected| {
            assert_eq!(Protocol::of_kubernetes_port(number, name, transport, app), expected);
        };
        check(80, "tcp", "TCP", Some("http"), Protocol::Http);
        check(80, "tcp", "TCP", Some("kubernetes.io/h2c"), Protocol::Http2);
        check(80, "http", "UDP", None, Protocol::Udp);
        check(3306, "db", "TCP", None, Protocol::Tcp);
        check(8080, "db", "TCP", None, Protocol::Unknown);
    }
}
