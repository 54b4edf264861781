//! Gateways.

use std::collections::BTreeSet;

use api::networking::Gateway;
use api::networking::gateway::{Server, ServerTls};

use super::field::{Problems, check_port, check_scoped_host};

pub(super) fn check(gateway: &Gateway, problems: &mut Problems) {
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
        if !port.name.is_empty() && !names.insert((port.name.as_str(), server.bind.as_str())) {
            problems.add(
                format!("{field}.port.name"),
                format!("port names in servers must be unique: duplicate name {:?}", port.name),
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
        check_scoped_host(problems, &format!("{field}.hosts[{index}]"), host);
    }
    let Some(port) = &server.port else {
        return problems.add(format!("{field}.port"), "a port is required");
    };
    check_port(problems, &format!("{field}.port"), port);
    problems.require(
        !port.name.is_empty(),
        format!("{field}.port.name"),
        "a port name is required",
    );
    let secure = ["HTTPS", "TLS"]
        .iter()
        .any(|protocol| protocol.eq_ignore_ascii_case(&port.protocol));
    match &server.tls {
        Some(tls) => check_tls(&format!("{field}.tls"), tls, secure, problems),
        None => problems.require(
            !secure,
            format!("{field}.tls"),
            format!("protocol {} needs TLS settings", port.protocol),
        ),
    }
}

fn check_tls(field: &str, tls: &ServerTls, secure: bool, problems: &mut Problems) {
    let mode = tls.mode.as_deref().unwrap_or("PASSTHROUGH");
    let served = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    let named = !tls.credential_name.is_empty() || !tls.credential_names.is_empty() || !tls.tls_certificates.is_empty();
    if !secure {
        let only_redirect = tls.https_redirect && !served && !named;
        problems.require(
            only_redirect || !tls.https_redirect,
            format!("{field}.httpsRedirect"),
            "a plain HTTP server has either a redirect or certificates",
        );
        return;
    }
    problems.require(
        !tls.https_redirect,
        format!("{field}.httpsRedirect"),
        "only plain HTTP servers can redirect to HTTPS",
    );
    match mode {
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" => {
            problems.require(
                served || named,
                field,
                format!("{mode} TLS requires credentialName, or serverCertificate and privateKey"),
            );
            let has_ca = !tls.ca_certificates.is_empty() || named;
            problems.require(
                mode != "MUTUAL" || has_ca,
                format!("{field}.caCertificates"),
                "MUTUAL TLS requires the client's CA",
            );
        }
        "ISTIO_MUTUAL" => problems.require(
            !served && !named,
            field,
            "ISTIO_MUTUAL uses the mesh's own certificates; leave the others out",
        ),
        "PASSTHROUGH" | "AUTO_PASSTHROUGH" => {
            if served || named {
                problems.warn(
                    field,
                    format!("{mode} does not terminate TLS; the certificates are not used"),
                );
            }
        }
        other => problems.add(format!("{field}.mode"), format!("unknown TLS mode {other:?}")),
    }
}
