//! Validation of pod specifications.

use serde_json::{Value, json};

use super::{
    containers::{Surroundings, container, container_name, id_range, lifecycle, probes, seccomp},
    list, names, text, volumes,
};
use crate::{field::FieldError, meta};

/// Problems of a pod specification.
pub fn pod_spec(spec: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = volumes::volumes(spec, root, &mut errors);
    let around = Surroundings {
        volumes,
        host_network: spec["hostNetwork"] == true,
    };
    let containers = list(spec, "/containers");
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{root}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, one) in containers.iter().enumerate() {
        let field = format!("{root}.containers[{index}]");
        container_name(one, &field, &mut seen, &mut errors);
        container(one, &field, &around, &mut errors);
        probes(one, &field, &mut errors);
        lifecycle(&one["lifecycle"], &format!("{field}.lifecycle"), &mut errors);
    }
    for (index, one) in list(spec, "/initContainers").iter().enumerate() {
        let field = format!("{root}.initContainers[{index}]");
        container_name(one, &field, &mut seen, &mut errors);
        container(one, &field, &around, &mut errors);
        if text(one, "/restartPolicy") == "Always" {
            probes(one, &field, &mut errors);
            lifecycle(&one["lifecycle"], &format!("{field}.lifecycle"), &mut errors);
        } else {
            for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if one[name].is_object() {
                    errors.push(FieldError::forbidden(
                        format!("{field}.{name}"),
                        "may not be set for init containers without restartPolicy=Always",
                    ));
                }
            }
        }
    }
    policies(spec, root, &mut errors);
    security(
        &spec["securityContext"],
        &format!("{root}.securityContext"),
        &mut errors,
    );
    errors.extend(meta::labels(&spec["nodeSelector"], &format!("{root}.nodeSelector")));
    tolerations(spec, root, &mut errors);
    super::pod_scheduling::validate(spec, root, &mut errors);
    for (index, alias) in list(spec, "/hostAliases").iter().enumerate() {
        if text(alias, "/ip").parse::<std::net::IpAddr>().is_err() {
            errors.push(FieldError::invalid(
                format!("{root}.hostAliases[{index}].ip"),
                &alias["ip"],
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
    }
    for (field, check) in [
        ("hostname", names::dns_label as fn(&str) -> Option<String>),
        ("subdomain", names::dns_label),
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ] {
        let value = text(spec, &format!("/{field}"));
        if !value.is_empty()
            && let Some(problem) = check(value)
        {
            errors.push(FieldError::invalid(format!("{root}.{field}"), &spec[field], problem));
        }
    }
    errors
}

fn policies(spec: &Value, root: &str, errors: &mut Vec<FieldError>) {
    let mut choice = |field: &str, allowed: &[&str]| match text(spec, &format!("/{field}")) {
        "" => errors.push(FieldError::required(format!("{root}.{field}"), "")),
        value if allowed.contains(&value) => {}
        _ => errors.push(FieldError::not_supported(
            format!("{root}.{field}"),
            &spec[field],
            allowed,
        )),
    };
    choice("restartPolicy", &["Always", "OnFailure", "Never"]);
    choice(
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline
        .as_i64()
        .is_some_and(|value| !(1..=i64::from(i32::MAX)).contains(&value))
    {
        errors.push(FieldError::invalid(
            format!("{root}.activeDeadlineSeconds"),
            deadline,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if text(spec, "/dnsPolicy") == "None" && list(spec, "/dnsConfig/nameservers").is_empty() {
        errors.push(FieldError::required(
            format!("{root}.dnsConfig.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
}

fn security(context: &Value, field: &str, errors: &mut Vec<FieldError>) {
    id_range(context, field, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    seccomp(context, field, errors);
}

fn tolerations(spec: &Value, root: &str, errors: &mut Vec<FieldError>) {
    for (index, toleration) in list(spec, "/tolerations").iter().enumerate() {
        let path = format!("{root}.tolerations[{index}]");
        let (key, operator, effect) = (
            text(toleration, "/key"),
            text(toleration, "/operator"),
            text(toleration, "/effect"),
        );
        if !key.is_empty() {
            errors.extend(
                names::qualified_name(key)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{path}.key"), &toleration["key"], problem)),
            );
        }
        if key.is_empty() && operator != "Exists" {
            errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &json!(operator),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            errors.push(FieldError::invalid(
                format!("{path}.effect"),
                &json!(effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "" | "Equal" => {
                if let Some(problem) = names::label_value(text(toleration, "/value")) {
                    errors.push(FieldError::invalid(
                        format!("{path}.operator"),
                        &toleration["value"],
                        problem,
                    ));
                }
            }
            "Exists" if !text(toleration, "/value").is_empty() => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            _ => errors.push(FieldError::not_supported(
                format!("{path}.operator"),
                &toleration["operator"],
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            errors.push(FieldError::not_supported(
                format!("{path}.effect"),
                &toleration["effect"],
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ));
        }
    }
}

/// Problems of ephemeral containers.
pub fn ephemeral(spec: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = list(spec, "/containers")
        .iter()
        .chain(list(spec, "/initContainers"))
        .map(|one| text(one, "/name"))
        .collect();
    for (index, one) in list(spec, "/ephemeralContainers").iter().enumerate() {
        let field = format!("{root}.ephemeralContainers[{index}]");
        container_name(one, &field, &mut seen, &mut errors);
        if text(one, "/image").is_empty() {
            errors.push(FieldError::required(format!("{field}.image"), ""));
        }
        for name in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
            "resizePolicy",
        ] {
            let given = match &one[name] {
                Value::Array(list) => !list.is_empty(),
                Value::Object(_) => true,
                _ => false,
            };
            if given {
                errors.push(FieldError::forbidden(
                    format!("{field}.{name}"),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
        if one["resources"].as_object().is_some_and(|map| !map.is_empty()) {
            errors.push(FieldError::forbidden(
                format!("{field}.resources"),
                "cannot be set for an Ephemeral Container",
            ));
        }
        let target = text(one, "/targetContainerName");
        if !target.is_empty() && !list(spec, "/containers").iter().any(|one| text(one, "/name") == target) {
            errors.push(FieldError::not_found(
                format!("{field}.targetContainerName"),
                &one["targetContainerName"],
            ));
        }
    }
    errors
}
