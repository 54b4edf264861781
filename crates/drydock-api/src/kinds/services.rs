//! Services: defaults, addresses, ports, validation.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{default, default_zero, list, list_mut, names, ranges::ports as node_ports, text};
use crate::{
    error::{ApiError, Subject},
    field::FieldError,
    meta,
    resource::UpdateContext,
};

/// Fills defaults.
pub fn defaults(service: &mut Value) {
    if !service["spec"].is_object() {
        service["spec"] = json!({});
    }
    let spec = &mut service["spec"];
    default_zero(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        default(spec, "sessionAffinityConfig", json!({}));
        default(&mut spec["sessionAffinityConfig"], "clientIP", json!({}));
        default(&mut spec["sessionAffinityConfig"]["clientIP"], "timeoutSeconds", 10800);
    } else if let Some(map) = spec.as_object_mut() {
        map.shift_remove("sessionAffinityConfig");
    }
    default_zero(spec, "type", "ClusterIP");
    for port in list_mut(spec, "/ports") {
        default_zero(port, "protocol", "TCP");
        let unset = match &port["targetPort"] {
            Value::Null => true,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if unset {
            port["targetPort"] = port["port"].clone();
        }
    }
    let kind = text(spec, "/type").to_owned();
    if kind == "NodePort" || kind == "LoadBalancer" {
        default_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in list_mut(service, "/status/loadBalancer/ingress") {
            if !text(ingress, "/ip").is_empty() {
                default(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn remove(spec: &mut Value, fields: &[&str]) {
    if let Some(map) = spec.as_object_mut() {
        for field in fields {
            map.shift_remove(*field);
        }
    }
}

fn needs_address(service: &Value) -> bool {
    text(service, "/spec/type") != "ExternalName" && text(service, "/spec/clusterIP") != "None"
}

fn wants_node_ports(service: &Value) -> bool {
    match text(service, "/spec/type") {
        "NodePort" => true,
        "LoadBalancer" => service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&json!(false)),
        _ => false,
    }
}

fn wants_health_port(service: &Value) -> bool {
    text(service, "/spec/type") == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local"
}

/// Gives addresses and node ports; keeps what the Service already has.
///
/// # Errors
/// 422 for something wanted that cannot be had, 500 when nothing is left.
pub fn allocate(ctx: &UpdateContext<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    if let Some(old) = old {
        keep_old(service, old);
    }
    let kind = text(service, "/spec/type").to_owned();
    if kind == "ExternalName" {
        remove(
            &mut service["spec"],
            &[
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
                "externalTrafficPolicy",
            ],
        );
    }
    if !wants_node_ports(service) && !matches!(kind.as_str(), "LoadBalancer") {
        let explicit = old.is_none();
        if !explicit {
            for port in list_mut(service, "/spec/ports") {
                remove(port, &["nodePort"]);
            }
        }
    }
    if kind != "NodePort" && kind != "LoadBalancer" && old.is_some() {
        remove(&mut service["spec"], &["externalTrafficPolicy"]);
    }
    if kind != "LoadBalancer" {
        if old.is_some() {
            remove(&mut service["spec"], &["allocateLoadBalancerNodePorts"]);
        }
        if old.is_some_and(|old| text(old, "/spec/type") == "LoadBalancer") {
            service["status"] = json!({ "loadBalancer": {} });
        }
    }
    if !wants_health_port(service) && old.is_some() {
        remove(&mut service["spec"], &["healthCheckNodePort"]);
    }
    // Wrong Services are answered by validation, which follows.
    if !validate(service, old).is_empty() {
        return Ok(());
    }
    let uid = meta::text(service, "uid").to_owned();
    let result = take(ctx, service, &uid);
    match (&result, old) {
        (Err(_), None) => ctx.core.ranges.release_uid(&uid),
        (_, Some(old)) if !ctx.dry_run => release_dropped(ctx, service, old),
        _ => {}
    }
    if ctx.dry_run && old.is_none() {
        ctx.core.ranges.release_uid(&uid);
    }
    result
}

/// What a client leaves out of an update it does not mean to give up.
fn keep_old(service: &mut Value, old: &Value) {
    let was_external = text(old, "/spec/type") == "ExternalName";
    if needs_address(service) && !was_external && text(service, "/spec/type") != "ExternalName" {
        let unset = text(service, "/spec/clusterIP").is_empty();
        let list_unset = list(service, "/spec/clusterIPs").is_empty();
        let (old_ip, old_ips) = (
            old["spec"].get("clusterIP").cloned(),
            old["spec"].get("clusterIPs").cloned(),
        );
        let same_list = service["spec"].get("clusterIPs") == old["spec"].get("clusterIPs");
        if unset && (list_unset || same_list) {
            if let (Some(ip), Some(ips)) = (old_ip, old_ips) {
                service["spec"]["clusterIP"] = ip;
                service["spec"]["clusterIPs"] = ips;
            }
        } else if !unset && same_list && service["spec"].get("clusterIP") != old["spec"].get("clusterIP") {
            // Only the single address was changed: the list follows it.
            service["spec"]["clusterIPs"] = json!([service["spec"]["clusterIP"]]);
        } else if !unset && list_unset {
            service["spec"]["clusterIPs"] = json!([service["spec"]["clusterIP"]]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old["spec"].get(field).cloned() {
                default(&mut service["spec"], field, value);
            }
        }
    }
    if wants_node_ports(service) {
        let old_ports = list(old, "/spec/ports").to_vec();
        for port in list_mut(service, "/spec/ports") {
            let unset = port["nodePort"].as_i64().unwrap_or(0) == 0;
            let same =
                |other: &&Value| other["port"] == port["port"] && text(other, "/protocol") == text(port, "/protocol");
            if unset && let Some(number) = old_ports.iter().find(same).and_then(|other| other.get("nodePort")) {
                port["nodePort"] = number.clone();
            }
        }
    }
    if wants_health_port(service)
        && wants_health_port(old)
        && let Some(port) = old["spec"].get("healthCheckNodePort").cloned()
    {
        default_zero(&mut service["spec"], "healthCheckNodePort", port);
    }
}

fn take(ctx: &UpdateContext<'_>, service: &mut Value, uid: &str) -> Result<(), ApiError> {
    let ranges = &ctx.core.ranges;
    let name = meta::name(service).to_owned();
    let invalid = |error: FieldError| {
        Err(ApiError::invalid(
            Subject {
                group: "",
                resource: "Service",
                name: &name,
            },
            &[error],
        ))
    };
    if text(service, "/spec/type") != "ExternalName" {
        default(&mut service["spec"], "ipFamilyPolicy", "SingleStack");
        default(&mut service["spec"], "ipFamilies", json!(["IPv4"]));
    }
    if text(service, "/spec/clusterIP") == "None" {
        service["spec"]["clusterIPs"] = json!(["None"]);
    } else if needs_address(service) {
        let wanted = match text(service, "/spec/clusterIP") {
            "" => list(service, "/spec/clusterIPs")
                .first()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            ip => ip.to_owned(),
        };
        let address = if wanted.is_empty() {
            match ranges.take_address(uid) {
                Some(address) => address.to_string(),
                None => return Err(ApiError::internal("failed to allocate a serviceIP: range is full")),
            }
        } else {
            let problem = match wanted.parse::<Ipv4Addr>() {
                Ok(address) => ranges.claim_address(address, uid).err(),
                Err(_) => Some("must be a valid IP address"),
            };
            if let Some(problem) = problem {
                let detail = format!("failed to allocate IP {wanted}: {problem}");
                return invalid(FieldError::invalid("spec.clusterIPs", &json!([wanted]), detail));
            }
            wanted
        };
        service["spec"]["clusterIP"] = address.clone().into();
        service["spec"]["clusterIPs"] = json!([address]);
    }
    let wants = wants_node_ports(service);
    let mut taken: Vec<(u64, String)> = Vec::new();
    for (index, port) in list_mut(service, "/spec/ports").enumerate() {
        let wanted = port["nodePort"].as_u64().unwrap_or(0);
        let protocol = text(port, "/protocol").to_owned();
        if wanted > 0 {
            // One number may serve several protocols of the same Service.
            if !taken.iter().any(|(number, _)| *number == wanted) {
                let claimed = u16::try_from(wanted)
                    .map_err(|_| "provided port is not in the valid range. The range of valid ports is 30000-32767");
                if let Err(problem) = claimed.and_then(|number| ranges.claim_port(number, uid)) {
                    let field = format!("spec.ports[{index}].nodePort");
                    return invalid(FieldError::invalid(field, &json!(wanted), problem));
                }
            }
            taken.push((wanted, protocol));
        } else if wants {
            match ranges.take_port(uid) {
                Some(number) => {
                    taken.push((u64::from(number), protocol));
                    port["nodePort"] = number.into();
                }
                None => return Err(ApiError::internal("failed to allocate a nodePort: range is full")),
            }
        }
    }
    if wants_health_port(service) {
        let wanted = service
            .pointer("/spec/healthCheckNodePort")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if wanted == 0 {
            match ranges.take_port(uid) {
                Some(number) => service["spec"]["healthCheckNodePort"] = number.into(),
                None => return Err(ApiError::internal("failed to allocate a nodePort: range is full")),
            }
        } else if let Err(problem) = u16::try_from(wanted)
            .map_err(|_| "provided port is not in the valid range")
            .and_then(|number| ranges.claim_port(number, uid))
        {
            return invalid(FieldError::invalid("spec.healthCheckNodePort", &json!(wanted), problem));
        }
    }
    Ok(())
}

/// Gives back what an update has dropped.
fn release_dropped(ctx: &UpdateContext<'_>, service: &Value, old: &Value) {
    let kept = list(service, "/spec/clusterIPs");
    for address in list(old, "/spec/clusterIPs")
        .iter()
        .filter(|address| !kept.contains(address))
    {
        ctx.core.ranges.release_address(address.as_str().unwrap_or_default());
    }
    let kept = node_ports(service);
    for port in node_ports(old).into_iter().filter(|port| !kept.contains(port)) {
        ctx.core.ranges.release_port(port);
    }
}

/// Problems of a Service.
pub fn validate(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &service["spec"];
    let kind = text(spec, "/type");
    let ports = list(spec, "/ports");
    let headless = text(spec, "/clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if !matches!(kind, "ClusterIP" | "ExternalName" | "LoadBalancer" | "NodePort") {
        errors.push(FieldError::not_supported(
            "spec.type",
            &spec["type"],
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ));
    }
    match kind {
        "ExternalName" => {
            let name = text(spec, "/externalName");
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else if let Some(problem) = names::dns_subdomain(name.trim_end_matches('.')) {
                errors.push(FieldError::invalid("spec.externalName", &spec["externalName"], problem));
            }
        }
        "LoadBalancer" if headless => errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &json!("None"),
            "may not be set to 'None' for LoadBalancer services",
        )),
        "NodePort" if headless => errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &json!("None"),
            "may not be set to 'None' for NodePort services",
        )),
        _ => {}
    }
    errors.extend(port_problems(ports, kind));
    errors.extend(meta::labels(&spec["selector"], "spec.selector"));
    let affinity = text(spec, "/sessionAffinity");
    if !matches!(affinity, "None" | "ClientIP") {
        errors.push(FieldError::not_supported(
            "spec.sessionAffinity",
            &spec["sessionAffinity"],
            &["ClientIP", "None"],
        ));
    }
    for (field, allowed) in [
        ("externalTrafficPolicy", &["Cluster", "Local"]),
        ("internalTrafficPolicy", &["Cluster", "Local"]),
    ] {
        let value = text(spec, &format!("/{field}"));
        if !value.is_empty() && !allowed.contains(&value) {
            errors.push(FieldError::not_supported(
                format!("spec.{field}"),
                &spec[field],
                allowed,
            ));
        }
    }
    errors.extend(addresses(spec, old));
    for (index, ip) in list(spec, "/externalIPs").iter().enumerate() {
        if ip.as_str().is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            errors.push(FieldError::invalid(format!("spec.externalIPs[{index}]"), ip, IP_HINT));
        }
    }
    errors
}

const IP_HINT: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Problems of a Service's status.
pub fn validate_status(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, ingress) in list(service, "/status/loadBalancer/ingress").iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}]");
        let ip = text(ingress, "/ip");
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(FieldError::invalid(format!("{field}.ip"), &ingress["ip"], IP_HINT));
        }
        if !ip.is_empty() && text(ingress, "/ipMode").is_empty() {
            errors.push(FieldError::required(
                format!("{field}.ipMode"),
                "must be specified when `ip` is set",
            ));
        }
        let host = text(ingress, "/hostname");
        if !host.is_empty()
            && let Some(problem) = names::dns_subdomain(host)
        {
            errors.push(FieldError::invalid(
                format!("{field}.hostname"),
                &ingress["hostname"],
                problem,
            ));
        }
    }
    errors
}

fn addresses(spec: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (ip, ips) = (text(spec, "/clusterIP"), list(spec, "/clusterIPs"));
    let first = ips.first().and_then(Value::as_str).unwrap_or_default();
    if !ip.is_empty() && !ips.is_empty() && ip != first {
        errors.push(FieldError::invalid(
            "spec.clusterIPs",
            &spec["clusterIPs"],
            "first value must match `clusterIP`",
        ));
        return errors;
    }
    if !ip.is_empty() && ip != "None" && ip.parse::<std::net::IpAddr>().is_err() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!(ip), IP_HINT));
    }
    if let Some(old) = old {
        let before = list(old, "/spec/clusterIPs");
        let kept_kind = text(old, "/spec/type") != "ExternalName" && text(spec, "/type") != "ExternalName";
        if kept_kind && !before.is_empty() && !ips.is_empty() && before.first() != ips.first() {
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                &spec["clusterIPs"],
                "may not change once set",
            ));
        }
    }
    errors
}

fn port_problems(ports: &[Value], kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen_names: Vec<&str> = Vec::new();
    let mut seen: Vec<(i64, &str)> = Vec::new();
    let mut seen_node: Vec<(i64, &str)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            if let Some(problem) = names::dns_label(name) {
                errors.push(FieldError::invalid(format!("{field}.name"), &port["name"], problem));
            }
            if seen_names.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), &port["name"]));
            }
            seen_names.push(name);
        }
        let number = port["port"].as_i64().unwrap_or(0);
        let range = "must be between 1 and 65535, inclusive";
        if !(1..=65535).contains(&number) {
            errors.push(FieldError::invalid(format!("{field}.port"), &json!(number), range));
        }
        let protocol = text(port, "/protocol");
        if protocol.is_empty() {
            errors.push(FieldError::required(format!("{field}.protocol"), ""));
        } else if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(
                format!("{field}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        match &port["targetPort"] {
            Value::Number(target) if !target.as_i64().is_some_and(|target| (1..=65535).contains(&target)) => {
                errors.push(FieldError::invalid(
                    format!("{field}.targetPort"),
                    &port["targetPort"],
                    range,
                ));
            }
            Value::String(target) => errors.extend(
                names::port_name(target)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.targetPort"), &json!(target), problem)),
            ),
            _ => {}
        }
        if let Some(app) = port["appProtocol"].as_str() {
            errors.extend(
                names::qualified_name(app)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.appProtocol"), &port["appProtocol"], problem)),
            );
        }
        let node = port["nodePort"].as_i64().unwrap_or(0);
        if node != 0 && kind == "ClusterIP" {
            errors.push(FieldError::forbidden(
                format!("{field}.nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            ));
        }
        if node != 0 {
            if seen_node.contains(&(node, protocol)) {
                errors.push(FieldError::duplicate(format!("{field}.nodePort"), &json!(node)));
            }
            seen_node.push((node, protocol));
        }
        if seen.contains(&(number, protocol)) {
            let bare = json!({ "protocol": protocol, "port": number, "targetPort": 0 });
            let shown = super::pod_diff::internal("core.v1.ServicePort", &bare);
            errors.push(FieldError::duplicate(field, &shown));
        }
        seen.push((number, protocol));
    }
    errors
}
