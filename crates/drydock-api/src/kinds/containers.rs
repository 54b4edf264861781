//! Validation of containers: image, ports, environment, mounts, resources, probes, hooks, security context.

use serde_json::{Value, json};

use super::{list, names, text};
use crate::{field::FieldError, schema::quantity::Quantity};

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// What surrounds a container.
pub(super) struct Surroundings<'a> {
    pub(super) volumes: Vec<&'a str>,
    pub(super) host_network: bool,
}

pub(super) fn container_name<'a>(one: &'a Value, field: &str, seen: &mut Vec<&'a str>, errors: &mut Vec<FieldError>) {
    let name = text(one, "/name");
    let path = format!("{field}.name");
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if let Some(problem) = names::dns_label(name) {
        errors.push(FieldError::invalid(path, &one["name"], problem));
    } else if seen.contains(&name) {
        errors.push(FieldError::duplicate(path, &one["name"]));
    }
    seen.push(name);
}

pub(super) fn container(one: &Value, field: &str, around: &Surroundings<'_>, errors: &mut Vec<FieldError>) {
    let image = text(one, "/image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            format!("{field}.image"),
            &one["image"],
            "must not have leading or trailing whitespace",
        ));
    }
    for (name, allowed) in [
        ("imagePullPolicy", &["Always", "IfNotPresent", "Never"][..]),
        ("terminationMessagePolicy", &["File", "FallbackToLogsOnError"][..]),
        ("restartPolicy", &["Always", "Never", "OnFailure"][..]),
    ] {
        let value = text(one, &format!("/{name}"));
        if !value.is_empty() && !allowed.contains(&value) {
            errors.push(FieldError::not_supported(
                format!("{field}.{name}"),
                &one[name],
                allowed,
            ));
        }
    }
    ports(one, field, around.host_network, errors);
    env(one, field, errors);
    mounts(one, field, &around.volumes, errors);
    resources(&one["resources"], &format!("{field}.resources"), errors);
    container_security(&one["securityContext"], &format!("{field}.securityContext"), errors);
}

fn ports(one: &Value, field: &str, host_network: bool, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in list(one, "/ports").iter().enumerate() {
        let path = format!("{field}.ports[{index}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            let problems = names::port_name(name);
            if problems.is_empty() && seen.contains(&name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &port["name"]));
            }
            errors.extend(
                problems
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{path}.name"), &port["name"], problem)),
            );
            seen.push(name);
        }
        let number = port["containerPort"].as_i64().unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{path}.containerPort"), ""));
        } else if !(1..=65535).contains(&number) {
            errors.push(FieldError::invalid(
                format!("{path}.containerPort"),
                &port["containerPort"],
                PORT_RANGE,
            ));
        }
        let host = port["hostPort"].as_i64().unwrap_or(0);
        if host != 0 && !(1..=65535).contains(&host) {
            errors.push(FieldError::invalid(
                format!("{path}.hostPort"),
                &port["hostPort"],
                PORT_RANGE,
            ));
        }
        if host_network && host != number {
            errors.push(FieldError::invalid(
                format!("{path}.hostPort"),
                &port["hostPort"],
                "must match `containerPort` when `hostNetwork` is true",
            ));
        }
        if !matches!(text(port, "/protocol"), "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(
                format!("{path}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
    }
}

fn env(one: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (index, env) in list(one, "/env").iter().enumerate() {
        let path = format!("{field}.env[{index}]");
        let name = text(env, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if let Some(problem) = names::env_name(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &env["name"], problem));
        }
        let Some(from) = env["valueFrom"].as_object() else {
            continue;
        };
        let path = format!("{path}.valueFrom");
        let given = from.values().filter(|value| !value.is_null()).count();
        if given == 0 {
            errors.push(FieldError::invalid(
                path.clone(),
                &json!(""),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ));
        } else if !text(env, "/value").is_empty() {
            errors.push(FieldError::invalid(
                path.clone(),
                &json!(""),
                "may not be specified when `value` is not empty",
            ));
        } else if given > 1 {
            errors.push(FieldError::invalid(
                path.clone(),
                &json!(""),
                "may not have more than one field specified at a time",
            ));
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            if env["valueFrom"][reference].is_object() {
                for part in ["name", "key"] {
                    if text(env, &format!("/valueFrom/{reference}/{part}")).is_empty() {
                        errors.push(FieldError::required(format!("{path}.{reference}.{part}"), ""));
                    }
                }
            }
        }
    }
}

fn mounts(one: &Value, field: &str, volumes: &[&str], errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, mount) in list(one, "/volumeMounts").iter().enumerate() {
        let path = format!("{field}.volumeMounts[{index}]");
        let name = text(mount, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        if !volumes.contains(&name) {
            errors.push(FieldError::not_found(format!("{path}.name"), &mount["name"]));
        }
        let target = text(mount, "/mountPath");
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        }
        if seen.contains(&target) {
            errors.push(FieldError::invalid(
                format!("{path}.mountPath"),
                &mount["mountPath"],
                "must be unique",
            ));
        }
        seen.push(target);
        let sub = text(mount, "/subPath");
        if sub.starts_with('/') {
            errors.push(FieldError::invalid(
                format!("{path}.subPath"),
                &mount["subPath"],
                "must be a relative path",
            ));
        } else if sub.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(
                format!("{path}.subPath"),
                &mount["subPath"],
                "must not contain '..'",
            ));
        }
    }
}

/// Resources a container may ask for by a plain name.
fn standard_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

fn resources(resources: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let amount = |value: &Value| value.as_str().and_then(Quantity::parse);
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            let path = format!("{field}.{kind}[{name}]");
            let problems = names::qualified_name(name);
            let known = standard_resource(name);
            errors.extend(
                problems
                    .iter()
                    .map(|problem| FieldError::invalid(path.clone(), &json!(name), problem.clone())),
            );
            if problems.is_empty() && !name.contains('/') && !known {
                errors.push(FieldError::invalid(
                    path.clone(),
                    &json!(name),
                    "must be a standard resource type or fully qualified",
                ));
                errors.push(FieldError::invalid(
                    path.clone(),
                    &json!(name),
                    "must be a standard resource for containers",
                ));
            }
            if amount(value).is_some_and(|amount| amount.nanos() < 0) {
                errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        match (&resources["limits"][name], amount(request)) {
            (Value::Null, _) if !standard_resource(name) && name.contains('/') => errors.push(FieldError::required(
                format!("{field}.limits"),
                "Limit must be set for non overcommitable resources",
            )),
            (limit, Some(wanted)) => {
                if let Some(bound) = amount(limit)
                    && wanted.nanos() > bound.nanos()
                {
                    errors.push(FieldError::invalid(
                        format!("{field}.requests"),
                        request,
                        format!(
                            "must be less than or equal to {name} limit of {}",
                            limit.as_str().unwrap_or_default()
                        ),
                    ));
                }
            }
            _ => {}
        }
    }
}

/// Problems of all containers' resources.
pub fn resources_of(spec: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["containers", "initContainers"] {
        for (index, one) in list(spec, &format!("/{name}")).iter().enumerate() {
            resources(
                &one["resources"],
                &format!("{root}.{name}[{index}].resources"),
                &mut errors,
            );
        }
    }
    errors
}

pub(super) fn probes(one: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &one[name];
        if !probe.is_object() {
            continue;
        }
        let path = format!("{field}.{name}");
        handler(probe, &path, errors);
        for number in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            if probe[number].as_i64().is_some_and(|value| value < 0) {
                errors.push(FieldError::invalid(
                    format!("{path}.{number}"),
                    &probe[number],
                    "must be greater than or equal to 0",
                ));
            }
        }
        if name != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|value| value != 1) {
            errors.push(FieldError::invalid(
                format!("{path}.successThreshold"),
                &probe["successThreshold"],
                "must be 1",
            ));
        }
    }
}

pub(super) fn lifecycle(lifecycle: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for name in ["postStart", "preStop"] {
        if lifecycle[name].is_object() {
            handler(&lifecycle[name], &format!("{field}.{name}"), errors);
        }
    }
}

fn handler(handler: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut count = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let one = &handler[name];
        if !one.is_object() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.push(FieldError::forbidden(
                format!("{field}.{name}"),
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        match name {
            "exec" if list(one, "/command").is_empty() => {
                errors.push(FieldError::required(format!("{field}.exec.command"), ""));
            }
            "httpGet" => {
                if text(one, "/path").is_empty() {
                    errors.push(FieldError::required(format!("{field}.httpGet.path"), ""));
                }
                port_or_name(&one["port"], &format!("{field}.httpGet.port"), errors);
                if !matches!(text(one, "/scheme"), "HTTP" | "HTTPS") {
                    errors.push(FieldError::not_supported(
                        format!("{field}.httpGet.scheme"),
                        &one["scheme"],
                        &["HTTP", "HTTPS"],
                    ));
                }
            }
            "tcpSocket" => port_or_name(&one["port"], &format!("{field}.tcpSocket.port"), errors),
            "grpc" => port_or_name(&one["port"], &format!("{field}.grpc.port"), errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(FieldError::required(field, "must specify a handler type"));
    }
}

fn port_or_name(port: &Value, field: &str, errors: &mut Vec<FieldError>) {
    match port {
        Value::String(name) => errors.extend(
            names::port_name(name)
                .into_iter()
                .map(|problem| FieldError::invalid(field, port, problem)),
        ),
        other if !other.as_i64().is_some_and(|number| (1..=65535).contains(&number)) => {
            let shown = if other.is_null() { json!(0) } else { other.clone() };
            errors.push(FieldError::invalid(field, &shown, PORT_RANGE));
        }
        _ => {}
    }
}

pub(super) fn id_range(context: &Value, field: &str, names: &[&str], errors: &mut Vec<FieldError>) {
    for name in names {
        if context[*name]
            .as_i64()
            .is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id))
        {
            errors.push(FieldError::invalid(
                format!("{field}.{name}"),
                &context[*name],
                "must be between 0 and 2147483647, inclusive",
            ));
        }
    }
}

pub(super) fn seccomp(context: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let profile = &context["seccompProfile"];
    if profile.is_object() && !matches!(text(profile, "/type"), "Localhost" | "RuntimeDefault" | "Unconfined") {
        errors.push(FieldError::not_supported(
            format!("{field}.seccompProfile.type"),
            &profile["type"],
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ));
    }
}

fn container_security(context: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if !context.is_object() {
        return;
    }
    id_range(context, field, &["runAsUser", "runAsGroup"], errors);
    seccomp(context, field, errors);
    let mount = text(context, "/procMount");
    if !mount.is_empty() && !matches!(mount, "Default" | "Unmasked") {
        errors.push(FieldError::not_supported(
            format!("{field}.procMount"),
            &context["procMount"],
            &["Default", "Unmasked"],
        ));
    }
    if context["allowPrivilegeEscalation"] == false && context["privileged"] == true {
        let internal = super::pod_diff::internal("core.v1.SecurityContext", context);
        errors.push(FieldError::invalid(
            field,
            &internal,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
}
