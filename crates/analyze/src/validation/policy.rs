//! Authorization and peer authentication policies.

use api::security::authorization_policy::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use api::security::peer_authentication::PeerAuthentication;

use super::field::{Problems, check_cidr, check_port_number};

/// Most service accounts of one source, and the longest name of one.
const MOST_ACCOUNTS: usize = 16;
const LONGEST_ACCOUNT: usize = 320;
/// Conditions' keys that are complete names.
const KEYS: [&str; 12] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];
/// Keys that go on with a name in brackets.
const WITH_NAME: [&str; 3] = ["request.headers", "request.auth.claims", "experimental.envoy.filters."];
/// Parts of paths that stand for one segment, and for all that are left.
const ONE: &str = "{*}";
const REST: &str = "{**}";

pub(super) fn check_authorization(policy: &AuthorizationPolicy, problems: &mut Problems) {
    let action = policy.action();
    let custom = action == Action::Custom;
    let provider = policy.provider.as_ref();
    problems.require(
        !custom || provider.is_some_and(|provider| !provider.name.is_empty()),
        "spec.provider.name",
        "action CUSTOM requires a provider",
    );
    problems.require(
        custom || provider.is_none(),
        "spec.provider",
        "a provider must not be used with another action than CUSTOM",
    );
    problems.require(
        !policy.rules.is_empty() || !matches!(action, Action::Custom | Action::Deny),
        "spec.rules",
        "without rules it concerns no request; an empty one, {}, concerns every",
    );
    for (index, rule) in policy.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        if custom {
            check_custom(&field, rule, problems);
        }
        for (at, from) in rule.from.iter().enumerate() {
            match &from.source {
                Some(source) => check_source(&format!("{field}.from[{at}].source"), source, problems),
                None => problems.add(format!("{field}.from[{at}].source"), "a source is required"),
            }
        }
        for (at, to) in rule.to.iter().enumerate() {
            match &to.operation {
                Some(operation) => check_operation(&format!("{field}.to[{at}].operation"), operation, problems),
                None => problems.add(format!("{field}.to[{at}].operation"), "an operation is required"),
            }
        }
        for (at, condition) in rule.when.iter().enumerate() {
            check_condition(&format!("{field}.when[{at}]"), condition, problems);
        }
        if action == Action::Deny && is_of_http(rule) {
            problems.warn(
                field,
                "will deny all traffic to TCP ports under its scope due to the use of only HTTP attributes in a DENY rule; it \
                 is recommended to explicitly specify the port",
            );
        }
    }
}

/// Does a rule say nothing that a TCP connection has?
fn is_of_http(rule: &Rule) -> bool {
    let mut sources = rule.from.iter().filter_map(|from| from.source.as_ref()).peekable();
    let mut operations = rule.to.iter().filter_map(|to| to.operation.as_ref()).peekable();
    let (has_source, has_operation) = (sources.peek().is_some(), operations.peek().is_some());
    let of_connection = sources.any(|source| {
        [
            &source.principals,
            &source.not_principals,
            &source.ip_blocks,
            &source.not_ip_blocks,
            &source.namespaces,
            &source.not_namespaces,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &source.service_accounts,
            &source.not_service_accounts,
        ]
        .iter()
        .any(|list| !list.is_empty())
    });
    let of_port = operations.any(|operation| !operation.ports.is_empty() || !operation.not_ports.is_empty());
    (has_source && !has_operation && !of_connection) || (has_operation && !of_port)
}

/// Who is asked about a request is not told who sent it.
fn check_custom(field: &str, rule: &Rule, problems: &mut Problems) {
    for (at, source) in rule.from.iter().filter_map(|from| from.source.as_ref()).enumerate() {
        for (name, list) in named(source) {
            problems.require(
                list.is_empty() || name.to_lowercase().ends_with("ipblocks"),
                format!("{field}.from[{at}].source.{name}"),
                "is currently not supported with CUSTOM action",
            );
        }
    }
    for (at, condition) in rule.when.iter().enumerate() {
        let key = condition.key.as_str();
        let known = [
            "source.namespace",
            "source.serviceAccount",
            "source.trustDomain",
            "source.principal",
        ];
        problems.require(
            !known.contains(&key) && !key.starts_with("request.auth."),
            format!("{field}.when[{at}].key"),
            format!("{key} is currently not supported with CUSTOM action"),
        );
    }
}

/// The fields of a source, by name.
fn named(source: &Source) -> [(&'static str, &Vec<String>); 14] {
    [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ]
}

fn check_source(field: &str, source: &Source, problems: &mut Problems) {
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [
        &source.namespaces,
        &source.not_namespaces,
        &source.principals,
        &source.not_principals,
    ];
    problems.require(
        !accounts || others.iter().all(|list| list.is_empty()),
        field,
        "Cannot set serviceAccounts with namespaces or principals",
    );
    let lists = named(source);
    problems.require(
        lists.iter().any(|(_, list)| !list.is_empty()),
        field,
        "an empty source matches nothing; leave it out",
    );
    for (name, list) in lists {
        let field = format!("{field}.{name}");
        check_values(&field, list, problems);
        match name.trim_start_matches("not").to_lowercase().as_str() {
            "ipblocks" | "remoteipblocks" => list.iter().for_each(|block| check_cidr(problems, &field, block)),
            "serviceaccounts" => check_accounts(&field, list, problems),
            "trustdomains" => check_trust_domains(&field, list, problems),
            _ => {}
        }
    }
}

fn check_values(field: &str, values: &[String], problems: &mut Problems) {
    problems.require(
        !values.iter().any(String::is_empty),
        field,
        "an empty value matches nothing; leave it out",
    );
}

fn check_accounts(field: &str, accounts: &[String], problems: &mut Problems) {
    problems.require(
        accounts.len() <= MOST_ACCOUNTS,
        field,
        format!("may not have more than {MOST_ACCOUNTS} values"),
    );
    for account in accounts.iter().filter(|account| !account.is_empty()) {
        let parts: Vec<&str> = account.split('/').collect();
        let valid = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty()) && !account.contains('*');
        problems.require(
            valid && account.len() <= LONGEST_ACCOUNT,
            field,
            format!("{account:?} must be of form serviceAccount or namespace/serviceAccount"),
        );
    }
}

/// A `*` stands at one end, or alone.
fn check_trust_domains(field: &str, domains: &[String], problems: &mut Problems) {
    check_wildcards(field, domains, problems);
    problems.require(
        !domains.iter().any(|domain| domain.contains('/')),
        field,
        "a trust domain has no '/'",
    );
}

fn check_wildcards(field: &str, values: &[String], problems: &mut Problems) {
    for value in values {
        let valid = match value.matches('*').count() {
            0 => true,
            1 => value.starts_with('*') || value.ends_with('*'),
            _ => false,
        };
        problems.require(
            valid,
            field,
            format!("{value:?}: one '*' may stand at the start or the end"),
        );
    }
}

fn check_ports(field: &str, ports: &[String], problems: &mut Problems) {
    for port in ports {
        problems.require(
            port.parse::<u16>().is_ok(),
            field,
            format!("{port:?} is no port; it must be between 0 and 65535"),
        );
    }
}

fn check_operation(field: &str, operation: &Operation, problems: &mut Problems) {
    let lists = [
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
    ];
    problems.require(
        lists.iter().any(|(_, list)| !list.is_empty()),
        field,
        "an empty operation matches nothing; leave it out",
    );
    for (name, list) in lists {
        let field = format!("{field}.{name}");
        check_values(&field, list, problems);
        match name {
            "ports" | "notPorts" => check_ports(&field, list, problems),
            "paths" | "notPaths" => list.iter().for_each(|path| check_path(&field, path, problems)),
            _ => {}
        }
    }
}

/// A path, perhaps with `{*}` for a segment and `{**}` for all that follows.
fn check_path(field: &str, path: &str, problems: &mut Problems) {
    let is_template = path.contains(ONE) || path.contains(REST);
    let mut ended = false;
    for segment in path.trim_matches('/').split('/') {
        if matches!(segment, ONE | REST) {
            problems.require(!ended, field, format!("{path:?}: nothing may follow {{**}} but text"));
            ended |= segment == REST;
            continue;
        }
        problems.require(
            !segment.contains(['{', '}']),
            field,
            format!("{path:?}: braces are for {{*}} and {{**}} only, as whole segments"),
        );
        let literal = !segment.is_empty()
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte));
        problems.require(
            !is_template || literal || segment.contains(['{', '}']),
            field,
            format!("{path:?}: {segment:?} is no segment of a template"),
        );
    }
}

fn check_condition(field: &str, condition: &Condition, problems: &mut Problems) {
    let key = condition.key.as_str();
    let named = WITH_NAME.iter().any(|prefix| key.starts_with(prefix));
    problems.require(!key.is_empty(), format!("{field}.key"), "key must not be empty");
    problems.require(
        key.is_empty() || named || KEYS.contains(&key),
        format!("{field}.key"),
        format!("unknown attribute {key:?}"),
    );
    let in_brackets = key
        .split_once('[')
        .is_some_and(|(before, name)| !before.is_empty() && name.ends_with(']') && name.len() > 1);
    problems.require(
        !named || in_brackets,
        format!("{field}.key"),
        format!("{key:?} should have the form a[b]"),
    );
    problems.require(
        !condition.values.is_empty() || !condition.not_values.is_empty(),
        field,
        "at least one of values and notValues is required",
    );
    for (name, list) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        let field = format!("{field}.{name}");
        check_values(&field, list, problems);
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => {
                list.iter().for_each(|value| check_cidr(problems, &field, value));
            }
            "source.serviceAccount" => check_accounts(&field, list, problems),
            "source.trustDomain" => check_wildcards(&field, list, problems),
            "destination.port" => check_ports(&field, list, problems),
            _ => {}
        }
    }
}

pub(super) fn check_peer(policy: &PeerAuthentication, problems: &mut Problems) {
    let labels = policy.selector.as_ref().map(|selector| &selector.match_labels);
    let selects = labels.is_some_and(|labels| !labels.is_empty());
    problems.require(
        policy.port_level_mtls.is_empty() || selects,
        "spec.portLevelMtls",
        "port level settings need a selector",
    );
    for port in policy.port_level_mtls.keys() {
        check_port_number(
            problems,
            &format!("spec.portLevelMtls[{port}]"),
            port.parse().unwrap_or(0),
        );
    }
}
