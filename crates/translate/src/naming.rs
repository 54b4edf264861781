//! Names that users, dashboards and tools know (control-plane.md §2.1).

use std::sync::Arc;

use api::networking::virtual_service::PortSelector;
use mesh::{Meta, Port, Service, TargetPort};
use xds::resource::Resource;

/// Traffic to nowhere.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Outbound traffic to where the client sent it.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// Inbound traffic to a port that no service declares.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// `outbound|<port>|<subset>|<host>`.
pub(crate) fn outbound(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The port that a destination names; one that there is not leads nowhere.
pub(crate) fn port(selector: &PortSelector) -> u16 {
    u16::try_from(selector.number.0).unwrap_or_default()
}

/// Those of a service's resources that are for the ports a client sees, if a Sidecar narrows them.
pub(crate) fn of_ports<'a>(
    all: &'a [Arc<Resource>],
    service: &'a Service,
    narrowed: bool,
) -> impl Iterator<Item = Arc<Resource>> + 'a {
    let visible = move |name: &str| {
        let port = name.split('|').nth(1).and_then(|p| p.parse().ok());
        !narrowed || port.is_none_or(|p| service.port(p).is_some())
    };
    all.iter().filter(move |r| visible(&r.name)).cloned()
}

/// `inbound|<port>||`.
pub(crate) fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Server name that a proxy sends to another: `outbound_.<port>_.<subset>_.<host>`.
pub(crate) fn sni(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

/// Path of an object, as metadata carries it.
pub(crate) fn object_path(group: &str, kind: &str, meta: &Meta) -> String {
    format!("/apis/{group}/v1/namespaces/{}/{kind}/{}", meta.namespace, meta.name)
}

/// Statistics name: the pattern of the mesh configuration with its variables replaced.
pub(crate) fn stat_name(pattern: &str, service: &Service, subset: &str, port: &Port, cluster_domain: &str) -> String {
    let host = &*service.key.host;
    let short = host.strip_suffix(&format!(".svc.{cluster_domain}")).unwrap_or(host);
    let target = match port.target {
        TargetPort::Number(number) => number,
        _ => port.number,
    };
    pattern
        .replace("%SERVICE_FQDN%", host)
        .replace("%SERVICE_PORT_NAME%", &port.name)
        .replace("%SERVICE_PORT%", &port.number.to_string())
        .replace("%SERVICE_NAME%", &service.name)
        .replace("%SUBSET_NAME%", subset)
        .replace("%TARGET_PORT%", &target.to_string())
        .replace("%SERVICE%", short)
}

/// The same where there is no service: most variables are empty.
pub(crate) fn stat_name_of_nothing(pattern: &str) -> String {
    let mut name = pattern.to_owned();
    for variable in [
        "%SERVICE_FQDN%",
        "%SERVICE_PORT_NAME%",
        "%SERVICE_NAME%",
        "%SUBSET_NAME%",
        "%SERVICE%",
    ] {
        name = name.replace(variable, "");
    }
    name.replace("%SERVICE_PORT%", "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_there_is_not_is_no_other() {
        let check = |number, expected| {
            let number = api::lenient::Number(number);
            assert_eq!(port(&PortSelector { number }), expected);
        };
        check(8080, 8080);
        check(70_000, 0);
    }
}
