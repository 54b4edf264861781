//! Gateways, and TLS of servers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::networking::gateway::{Server, ServerTls};
use api::networking::{Gateway, Port};

use super::field::{
    Problems, check_complete_host, check_host_or_address, check_port_number, check_protocol, check_socket, is_http,
    is_tls,
};
use super::name;

/// What begins the path of a socket.
const SOCKET: &str = "unix://";
/// Ciphers that proxies know.
const CIPHERS: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

pub(super) fn check(gateway: &Gateway, name: &str, problems: &mut Problems) {
    problems.require(
        name::is_label(name),
        "metadata.name",
        format!("{name:?} is no name of a gateway; use letters, digits and '-'"),
    );
    problems.require(
        !gateway.servers.is_empty(),
        "spec.servers",
        "a gateway must have at least one server",
    );
    let mut names = BTreeSet::new();
    for (index, server) in gateway.servers.iter().enumerate() {
        let field = format!("spec.servers[{index}]");
        check_server(&field, server, problems);
        let Some(port) = &server.port else { continue };
        problems.require(
            names.insert(port.name.as_str()),
            format!("{field}.port.name"),
            format!("port names in servers must be unique: duplicate name {:?}", port.name),
        );
        if !is_http(&port.protocol) && server.tls.as_ref().is_some_and(|tls| tls.https_redirect) {
            problems.warn(
                format!("{field}.tls.httpsRedirect"),
                "should only be used with http servers",
            );
        }
    }
}

fn check_server(field: &str, server: &Server, problems: &mut Problems) {
    problems.require(
        !server.hosts.is_empty(),
        format!("{field}.hosts"),
        "at least one host is required",
    );
    for (index, host) in server.hosts.iter().enumerate() {
        check_scoped_host(&format!("{field}.hosts[{index}]"), host, problems);
    }
    check_bind(&format!("{field}.bind"), &server.bind, server.port.as_ref(), problems);
    if let Some(tls) = &server.tls {
        check_tls(&format!("{field}.tls"), tls, problems);
    }
    let Some(port) = &server.port else {
        return problems.add(format!("{field}.port"), "a port is required");
    };
    check_port(
        &format!("{field}.port"),
        port,
        server.bind.starts_with(SOCKET),
        problems,
    );
    match &server.tls {
        None => problems.require(
            !is_tls(&port.protocol),
            format!("{field}.tls"),
            format!("protocol {} needs TLS settings", port.protocol),
        ),
        Some(tls) if !is_tls(&port.protocol) => {
            let passes = matches!(mode(tls), "PASSTHROUGH" | "AUTO_PASSTHROUGH");
            let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
            let only_redirects = is_http(&port.protocol) && passes && files.iter().all(|file| file.is_empty());
            problems.require(
                only_redirects,
                format!("{field}.tls"),
                format!(
                    "protocol {} cannot have TLS settings, but for a redirect of HTTP",
                    port.protocol
                ),
            );
        }
        Some(_) => {}
    }
}

/// `namespace/host`, or a host alone.
fn check_scoped_host(field: &str, host: &str, problems: &mut Problems) {
    let (namespace, host) = host.split_once('/').unwrap_or(("*", host));
    problems.require(
        matches!(namespace, "*" | ".") || name::is_label(namespace),
        field,
        format!("{namespace:?} is no namespace; use '*/' for all, './' for its own"),
    );
    if host.parse::<IpAddr>().is_err() {
        check_complete_host(problems, field, host);
    }
    check_host_or_address(problems, field, host);
}

fn check_bind(field: &str, bind: &str, port: Option<&Port>, problems: &mut Problems) {
    match bind.strip_prefix(SOCKET) {
        Some(path) => {
            check_socket(problems, field, path);
            problems.require(
                port.is_none_or(|port| port.number.0 == 0),
                field,
                "a socket has no port: port.number must be 0",
            );
        }
        None => problems.require(
            bind.is_empty() || bind.parse::<IpAddr>().is_ok(),
            field,
            format!("{bind:?} is neither an IP address nor a socket (unix://…)"),
        ),
    }
}

fn check_port(field: &str, port: &Port, is_socket: bool, problems: &mut Problems) {
    if port.number.0 > 0 || !is_socket {
        check_port_number(problems, &format!("{field}.number"), port.number.0);
    }
    let protocol = if port.protocol.is_empty() {
        "none"
    } else {
        &port.protocol
    };
    check_protocol(problems, &format!("{field}.protocol"), protocol);
    problems.require(
        !port.name.is_empty(),
        format!("{field}.name"),
        "a port name is required",
    );
    problems.require(
        port.target_port.is_none_or(|target| target.0 == 0),
        format!("{field}.targetPort"),
        "has no impact on gateways; leave it out",
    );
}

fn mode(tls: &ServerTls) -> &str {
    tls.mode.as_deref().unwrap_or("PASSTHROUGH")
}

/// Who a server is, and whom it lets in.
pub(super) fn check_tls(field: &str, tls: &ServerTls, problems: &mut Problems) {
    check_ciphers(field, tls, problems);
    let served = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    let named = !tls.credential_name.is_empty() || !tls.credential_names.is_empty();
    let files = !tls.server_certificate.is_empty() || !tls.private_key.is_empty() || !tls.ca_certificates.is_empty();
    let mode = mode(tls);
    if mode == "ISTIO_MUTUAL" {
        return problems.require(
            !files && !named && tls.tls_certificates.is_empty(),
            field,
            "ISTIO_MUTUAL uses the mesh's own certificates; leave the others out",
        );
    }
    if matches!(mode, "PASSTHROUGH" | "AUTO_PASSTHROUGH")
        && (files || named || !tls.tls_certificates.is_empty() || !tls.ca_crl.is_empty())
    {
        problems.warn(
            field,
            format!("{mode} does not terminate TLS; the certificates are not used"),
        );
    }
    let sources = [
        served,
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    problems.require(
        sources.iter().filter(|given| **given).count() < 2,
        field,
        "only one of credentialName, credentialNames, serverCertificate with privateKey, and tlsCertificates can be set",
    );
    let terminates = matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL");
    if terminates && named {
        return;
    }
    if terminates {
        problems.require(
            mode == "SIMPLE" || !tls.ca_certificates.is_empty(),
            format!("{field}.caCertificates"),
            format!("{mode} TLS requires the client's CA"),
        );
        if tls.tls_certificates.len() > 2 {
            problems.warn(format!("{field}.tlsCertificates"), "up to 2 certificates are used");
        }
        let complete = |certificate: &str, key: &str| !certificate.is_empty() && !key.is_empty();
        let all = tls
            .tls_certificates
            .iter()
            .all(|pair| complete(&pair.server_certificate, &pair.private_key));
        problems.require(
            if tls.tls_certificates.is_empty() { served } else { all },
            field,
            format!("{mode} TLS requires credentialName, or serverCertificate and privateKey"),
        );
    }
    problems.require(
        tls.ca_crl.is_empty() || tls.credential_name.is_empty(),
        format!("{field}.caCrl"),
        "cannot be combined with credentialName, which brings its own list",
    );
    problems.require(
        tls.ca_crl.is_empty() || mode != "SIMPLE",
        format!("{field}.caCrl"),
        "SIMPLE TLS asks clients for no certificate, so that none can be revoked",
    );
}

fn check_ciphers(field: &str, tls: &ServerTls, problems: &mut Problems) {
    let oldest = tls.min_protocol_version.as_deref().unwrap_or_default();
    if matches!(oldest, "TLSV1_0" | "TLSV1_1") && tls.cipher_suites.is_empty() {
        problems.warn(
            format!("{field}.minProtocolVersion"),
            "versions below TLSV1_2 need cipherSuites that are compatible with them",
        );
    }
    let mut seen = BTreeSet::new();
    for cipher in &tls.cipher_suites {
        // Lists may also have operators.
        let known = matches!(cipher.as_str(), "" | "ALL")
            || !cipher.starts_with(char::is_alphanumeric)
            || CIPHERS.contains(&cipher.as_str());
        if !known {
            problems.warn(
                format!("{field}.cipherSuites"),
                format!("{cipher:?} is not known and is ignored"),
            );
        } else if !seen.insert(cipher) {
            problems.warn(
                format!("{field}.cipherSuites"),
                format!("{cipher:?} is there twice and is ignored"),
            );
        }
    }
}
