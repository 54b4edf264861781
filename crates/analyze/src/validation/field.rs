//! Problems with their fields, and checks that several kinds share.

use std::fmt::Display;
use std::net::IpAddr;

use api::networking::Port;

/// Longest regular expression that proxies are given, in characters.
const LONGEST_REGEX: usize = 1024;

/// What is wrong with an object, field by field.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Records an error.
    pub(super) fn add(&mut self, field: impl Display, message: impl Display) {
        self.errors.push(format!("{field}: {message}"));
    }

    /// Records a warning.
    pub(super) fn warn(&mut self, field: impl Display, message: impl Display) {
        self.warnings.push(format!("{field}: {message}"));
    }

    /// Records an error unless the condition holds.
    pub(super) fn require(&mut self, holds: bool, field: impl Display, message: impl Display) {
        if !holds {
            self.add(field, message);
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The verdict.
    pub(super) fn into_result(self) -> Result<Vec<String>, String> {
        match self.errors.as_slice() {
            [] => Ok(self.warnings),
            [only] => Err(format!("configuration is invalid: {only}")),
            many => Err(format!(
                "configuration is invalid: {} errors occurred: {}",
                many.len(),
                many.join("; ")
            )),
        }
    }
}

/// A host name, perhaps with `*` as its first label or the start of it.
pub(super) fn check_host(problems: &mut Problems, field: &str, host: &str) {
    let bare = ["*.", "*-", "*"]
        .iter()
        .find_map(|wildcard| host.strip_prefix(wildcard))
        .unwrap_or(host);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= 63
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
    };
    if host.is_empty() {
        problems.add(field, "a host name is required");
    } else if host != "*" && (host.len() > 255 || !bare.split('.').all(label)) && host.parse::<IpAddr>().is_err() {
        problems.add(
            field,
            format!("{host:?} is no host name; use letters, digits, '-' and '.', with '*.' only in front"),
        );
    }
}

/// A host name with an optional namespace, `ns/host`, as gateways and sidecars take it.
pub(super) fn check_scoped_host(problems: &mut Problems, field: &str, host: &str) {
    match host.split_once('/') {
        Some((namespace, host)) => {
            problems.require(
                !namespace.is_empty(),
                field,
                format!("{host:?} has an empty namespace; use '*/' for all"),
            );
            check_host(problems, field, host);
        }
        None => check_host(problems, field, host),
    }
}

/// A port number.
pub(super) fn check_port_number(problems: &mut Problems, field: &str, number: u32) {
    problems.require(
        (1..=65535).contains(&number),
        field,
        format!("{number}: port must be between 1-65535"),
    );
}

const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "MONGO",
    "TCP",
    "TLS",
    "UDP",
    "REDIS",
    "MYSQL",
    "HTTP_PROXY",
];

/// A port with name and protocol.
pub(super) fn check_port(problems: &mut Problems, field: &str, port: &Port) {
    check_port_number(problems, &format!("{field}.number"), port.number.0);
    if let Some(target) = port.target_port {
        check_port_number(problems, &format!("{field}.targetPort"), target.0);
    }
    let known = port.protocol.is_empty() || PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(&port.protocol));
    problems.require(
        known,
        format!("{field}.protocol"),
        format!(
            "unsupported protocol {:?}; use one of {}",
            port.protocol,
            PROTOCOLS.join(", ")
        ),
    );
}

/// A regular expression of the dialect that proxies have (RE2).
pub(super) fn check_regex(problems: &mut Problems, field: &str, pattern: &str) {
    if pattern.chars().count() > LONGEST_REGEX {
        return problems.add(
            field,
            format!("the regular expression is longer than {LONGEST_REGEX} characters"),
        );
    }
    if let Err(error) = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build() {
        problems.add(field, format!("invalid regular expression: {error}"));
    }
}

/// An address or a range of addresses.
pub(super) fn check_cidr(problems: &mut Problems, field: &str, text: &str) {
    let range = text.parse::<ipnet::IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    problems.require(
        range,
        field,
        format!("{text:?} is neither an IP address nor a CIDR range"),
    );
}

/// Visibility of an object: `.`, `*`, `~` or a namespace.
pub(super) fn check_export_to(problems: &mut Problems, export_to: &[String]) {
    for (index, target) in export_to.iter().enumerate() {
        let namespace = |name: &str| revision::name::check_label("namespace", name).is_ok();
        let known = matches!(target.as_str(), "." | "*" | "~") || namespace(target);
        problems.require(
            known,
            format!("spec.exportTo[{index}]"),
            format!("{target:?} is neither a namespace nor one of . * ~"),
        );
    }
    if export_to.len() > 1 && export_to.iter().any(|target| matches!(target.as_str(), "*" | "~")) {
        problems.add("spec.exportTo", "'*' and '~' must stand alone");
    }
}
