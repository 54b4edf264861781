//! Validation of policy, networking, identity and scheduling kinds.

use serde_json::{Value, json};

use super::{config::optional_selector, list, names, text};
use crate::field::FieldError;

/// Problems of an object of these kinds.
pub fn validate(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match (group, kind) {
        ("policy", _) => budget(object),
        ("autoscaling", _) => autoscaler(object),
        ("scheduling.k8s.io", _) => priority(object, old),
        (_, "Role" | "ClusterRole") => role(kind, object),
        (_, "RoleBinding" | "ClusterRoleBinding") => binding(kind, object, old),
        ("certificates.k8s.io", _) => crate::auth::csr::problems(object),
        ("networking.k8s.io", "Ingress") => ingress(object),
        ("networking.k8s.io", "IngressClass") => ingress_class(object, old),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(object),
        _ => Vec::new(),
    }
}

fn budget(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        errors.push(FieldError::invalid(
            "spec",
            &super::pod_diff::internal("policy.v1.PodDisruptionBudgetSpec", spec),
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        amount(&spec[field], &format!("spec.{field}"), &mut errors);
    }
    errors.extend(optional_selector(&spec["selector"], "spec.selector"));
    errors
}

fn amount(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::String(text) => match text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok()) {
            None => errors.push(FieldError::invalid(
                field,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            )),
            Some(percent) if percent > 100 => {
                errors.push(FieldError::invalid(field, value, "must not be greater than 100%"));
            }
            Some(_) => {}
        },
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.push(FieldError::invalid(field, value, "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

fn autoscaler(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let (min, max) = (
        spec["minReplicas"].as_i64().unwrap_or(1),
        spec["maxReplicas"].as_i64().unwrap_or(0),
    );
    if min < 1 {
        errors.push(FieldError::invalid(
            "spec.minReplicas",
            &json!(min),
            "must be greater than or equal to 1",
        ));
    }
    let metrics = list(spec, "/metrics");
    let wakes = |metric: &Value| matches!(text(metric, "/type"), "Object" | "External");
    if min == 0 && !metrics.iter().any(wakes) {
        errors.push(FieldError::forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        ));
    }
    for (index, metric) in metrics.iter().enumerate() {
        metric_target(metric, &format!("spec.metrics[{index}]"), &mut errors);
    }
    if max < 1 {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            &json!(max),
            "must be greater than 0",
        ));
    }
    if min > max {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            &json!(max),
            "must be greater than or equal to `minReplicas`",
        ));
    }
    for field in ["kind", "name"] {
        if text(spec, &format!("/scaleTargetRef/{field}")).is_empty() {
            errors.push(FieldError::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    errors
}

fn metric_target(metric: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let resource = &metric["resource"];
    if !resource.is_object() {
        return;
    }
    let target = &resource["target"];
    if text(resource, "/name").is_empty() {
        errors.push(FieldError::required(
            format!("{path}.resource.name"),
            "must specify a resource name",
        ));
    }
    let field = format!("{path}.resource.target.averageUtilization");
    match (&target["averageUtilization"], &target["averageValue"]) {
        (Value::Null, Value::Null) => errors.push(FieldError::required(
            field,
            "must set either a target raw value or a target utilization",
        )),
        (utilization, Value::Null) if utilization.as_i64().is_some_and(|value| value < 1) => {
            errors.push(FieldError::invalid(field, utilization, "must be greater than 0"));
        }
        (utilization, value) if !utilization.is_null() && !value.is_null() => errors.push(FieldError::forbidden(
            format!("{path}.resource.target.averageValue"),
            "may not set both a target raw value and a target utilization",
        )),
        _ => {}
    }
}

fn ingress_class(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let controller = text(object, "/spec/controller");
    if let Some(old) = old
        && object["spec"]["controller"] != old["spec"]["controller"]
    {
        errors.push(FieldError::invalid(
            "spec.controller",
            &json!(controller),
            "field is immutable",
        ));
    }
    let (domain, path) = controller.split_once('/').unwrap_or((controller, ""));
    if path.is_empty() {
        errors.push(FieldError::invalid(
            "spec.controller",
            &json!(controller),
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ));
    } else if let Some(problem) = names::dns_subdomain(domain) {
        errors.push(FieldError::invalid("spec.controller", &json!(domain), problem));
    }
    errors
}

fn priority(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    const HIGHEST: i64 = 1_000_000_000;
    let mut errors = Vec::new();
    let name = crate::meta::name(object);
    if let Some(old) = old {
        if object["value"] != old["value"] {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        if object["preemptionPolicy"] != old["preemptionPolicy"] {
            errors.push(FieldError::invalid(
                "preemptionPolicy",
                &object["preemptionPolicy"],
                "field is immutable",
            ));
        }
        return errors;
    }
    if name.starts_with("system-") {
        if !matches!(name, "system-cluster-critical" | "system-node-critical") {
            errors.push(FieldError::forbidden(
                "metadata.name",
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"),
            ));
        }
    } else if object["value"].as_i64().is_some_and(|value| value > HIGHEST) {
        errors.push(FieldError::forbidden(
            "value",
            format!("maximum allowed value of a user defined priority is {HIGHEST}"),
        ));
    }
    let policy = text(object, "/preemptionPolicy");
    if !policy.is_empty() && !matches!(policy, "PreemptLowerPriority" | "Never") {
        errors.push(FieldError::not_supported(
            "preemptionPolicy",
            &object["preemptionPolicy"],
            &["Never", "PreemptLowerPriority"],
        ));
    }
    errors
}

fn role(kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, rule) in list(object, "/rules").iter().enumerate() {
        let path = format!("rules[{index}]");
        if list(rule, "/verbs").is_empty() {
            errors.push(FieldError::required(
                format!("{path}.verbs"),
                "verbs must contain at least one value",
            ));
        }
        let urls = list(rule, "/nonResourceURLs");
        if !urls.is_empty() {
            if kind == "Role" {
                errors.push(FieldError::invalid(
                    format!("{path}.nonResourceURLs"),
                    &rule["nonResourceURLs"],
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !list(rule, "/apiGroups").is_empty()
                || !list(rule, "/resources").is_empty()
                || !list(rule, "/resourceNames").is_empty()
            {
                errors.push(FieldError::invalid(
                    format!("{path}.nonResourceURLs"),
                    &rule["nonResourceURLs"],
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if list(rule, "/apiGroups").is_empty() {
            errors.push(FieldError::required(
                format!("{path}.apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if list(rule, "/resources").is_empty() {
            errors.push(FieldError::required(
                format!("{path}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors.extend(
        list(object, "/aggregationRule/clusterRoleSelectors")
            .iter()
            .enumerate()
            .flat_map(|(index, one)| optional_selector(one, &format!("aggregationRule.clusterRoleSelectors[{index}]"))),
    );
    errors
}

fn binding(kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let reference = &object["roleRef"];
    if text(reference, "/apiGroup") != "rbac.authorization.k8s.io" {
        errors.push(FieldError::not_supported(
            "roleRef.apiGroup",
            &reference["apiGroup"],
            &["rbac.authorization.k8s.io"],
        ));
    }
    let kinds: &[&str] = if kind == "RoleBinding" {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&text(reference, "/kind")) {
        errors.push(FieldError::not_supported(
            "roleRef.kind",
            &json!(text(reference, "/kind")),
            kinds,
        ));
    }
    if text(reference, "/name").is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    for (index, subject) in list(object, "/subjects").iter().enumerate() {
        let path = format!("subjects[{index}]");
        if text(subject, "/name").is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        let group = text(subject, "/apiGroup");
        match text(subject, "/kind") {
            "ServiceAccount" => {
                let name = text(subject, "/name");
                if !name.is_empty()
                    && let Some(problem) = names::dns_subdomain(name)
                {
                    errors.push(FieldError::invalid(format!("{path}.name"), &subject["name"], problem));
                }
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(
                        format!("{path}.apiGroup"),
                        &subject["apiGroup"],
                        &[""],
                    ));
                }
                if kind == "ClusterRoleBinding" && text(subject, "/namespace").is_empty() {
                    errors.push(FieldError::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != "rbac.authorization.k8s.io" {
                    errors.push(FieldError::not_supported(
                        format!("{path}.apiGroup"),
                        &subject["apiGroup"],
                        &["rbac.authorization.k8s.io"],
                    ));
                }
            }
            _ => errors.push(FieldError::not_supported(
                format!("{path}.kind"),
                &json!(text(subject, "/kind")),
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
    if let Some(old) = old
        && object["roleRef"] != old["roleRef"]
    {
        errors.push(FieldError::invalid(
            "roleRef",
            &super::pod_diff::internal("rbac.v1.RoleRef", reference),
            "cannot change roleRef",
        ));
    }
    errors
}

fn ingress(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let (rules, default) = (list(spec, "/rules"), &spec["defaultBackend"]);
    if rules.is_empty() && !default.is_object() {
        errors.push(FieldError::invalid(
            "spec",
            &Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if default.is_object() {
        backend(default, "spec.defaultBackend", &mut errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        let host = text(rule, "/host");
        if !host.is_empty() {
            let bare = host.strip_prefix("*.").unwrap_or(host);
            if bare.parse::<std::net::IpAddr>().is_ok() {
                errors.push(FieldError::invalid(
                    format!("{path}.host"),
                    &rule["host"],
                    "must be a DNS name, not an IP address",
                ));
            } else if let Some(problem) = names::dns_subdomain(bare) {
                errors.push(FieldError::invalid(format!("{path}.host"), &rule["host"], problem));
            }
        }
        if !rule["http"].is_object() {
            continue;
        }
        let paths = list(rule, "/http/paths");
        if paths.is_empty() {
            errors.push(FieldError::required(format!("{path}.http.paths"), ""));
        }
        for (at, one) in paths.iter().enumerate() {
            let path = format!("{path}.http.paths[{at}]");
            match text(one, "/pathType") {
                "" => {
                    errors.push(FieldError::required(
                        format!("{path}.pathType"),
                        "pathType must be specified",
                    ));
                    continue;
                }
                "Exact" | "Prefix" => {
                    let value = text(one, "/path");
                    if !value.starts_with('/') {
                        errors.push(FieldError::invalid(
                            format!("{path}.path"),
                            &json!(value),
                            "must be an absolute path",
                        ));
                    }
                }
                "ImplementationSpecific" => {
                    let value = text(one, "/path");
                    if !value.is_empty() && !value.starts_with('/') {
                        errors.push(FieldError::invalid(
                            format!("{path}.path"),
                            &json!(value),
                            "must be an absolute path",
                        ));
                    }
                }
                _ => errors.push(FieldError::not_supported(
                    format!("{path}.pathType"),
                    &one["pathType"],
                    &["Exact", "ImplementationSpecific", "Prefix"],
                )),
            }
            backend(&one["backend"], &format!("{path}.backend"), &mut errors);
        }
    }
    errors
}

fn backend(backend: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let service = &backend["service"];
    if service.is_object() {
        let name = text(service, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.service.name"), ""));
        } else if let Some(problem) = names::dns_label(name) {
            errors.push(FieldError::invalid(
                format!("{path}.service.name"),
                &service["name"],
                problem,
            ));
        }
        let (number, port) = (
            service["port"]["number"].as_i64().unwrap_or(0),
            text(service, "/port/name"),
        );
        if number == 0 && port.is_empty() {
            errors.push(FieldError::required(path, "port name or number is required"));
        } else if number != 0 && !port.is_empty() {
            errors.push(FieldError::invalid(
                path,
                &super::pod_diff::internal("networking.v1.IngressBackend", backend),
                "cannot set both port name & port number",
            ));
        }
    } else if !backend["resource"].is_object() {
        errors.push(FieldError::required(path, "resource or service backend is required"));
    }
}

fn network_policy(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = optional_selector(&spec["podSelector"], "spec.podSelector");
    for (index, kind) in list(spec, "/policyTypes").iter().enumerate() {
        if !matches!(kind.as_str(), Some("Ingress" | "Egress")) {
            errors.push(FieldError::not_supported(
                format!("spec.policyTypes[{index}]"),
                kind,
                &["Ingress", "Egress"],
            ));
        }
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(spec, &format!("/{field}")).iter().enumerate() {
            for (at, peer) in list(rule, &format!("/{peers}")).iter().enumerate() {
                let path = format!("spec.{field}[{index}].{peers}[{at}]");
                let given = ["podSelector", "namespaceSelector"]
                    .iter()
                    .filter(|name| peer[**name].is_object())
                    .count();
                let block = &peer["ipBlock"];
                if given == 0 && !block.is_object() {
                    errors.push(FieldError::required(path.clone(), "must specify a peer"));
                } else if given > 0 && block.is_object() {
                    errors.push(FieldError::forbidden(
                        path.clone(),
                        "may not specify both ipBlock and another peer",
                    ));
                }
                if block.is_object() && text(block, "/cidr").parse::<ipnet::IpNet>().is_err() {
                    errors.push(FieldError::invalid(
                        format!("{path}.ipBlock.cidr"),
                        &block["cidr"],
                        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                    ));
                }
            }
            for (at, port) in list(rule, "/ports").iter().enumerate() {
                let path = format!("spec.{field}[{index}].ports[{at}]");
                if !matches!(text(port, "/protocol"), "TCP" | "UDP" | "SCTP") {
                    errors.push(FieldError::not_supported(
                        format!("{path}.protocol"),
                        &port["protocol"],
                        &["TCP", "UDP", "SCTP"],
                    ));
                }
                if let (Some(end), Some(start)) = (port["endPort"].as_i64(), port["port"].as_i64())
                    && end < start
                {
                    errors.push(FieldError::invalid(
                        format!("{path}.endPort"),
                        &json!(start),
                        "must be greater than or equal to `port`",
                    ));
                }
                if port["port"]
                    .as_i64()
                    .is_some_and(|number| !(1..=65535).contains(&number))
                {
                    errors.push(FieldError::invalid(
                        format!("{path}.port"),
                        &port["port"],
                        "must be between 1 and 65535, inclusive",
                    ));
                }
            }
        }
    }
    errors
}
