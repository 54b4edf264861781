//! Validation of leases, events, endpoints, quotas, claims.

use serde_json::{Value, json};

use super::{list, names, text};
use crate::field::FieldError;

/// Problems of an object of these kinds.
pub fn validate(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match kind {
        "Lease" => lease(object),
        "EndpointSlice" => slice(object, old),
        "Endpoints" => endpoints(object),
        "Event" => event(group, object, old),
        "PersistentVolumeClaim" => claim(object, old),
        "Node" => node(object, old),
        _ => Vec::new(),
    }
}

fn lease(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    if spec["leaseDurationSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds <= 0)
    {
        errors.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            &spec["leaseTransitions"],
            "must be greater than or equal to 0",
        ));
    }
    errors
}

fn slice(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // An update is measured by the type it had: the change of type itself is the one error then.
    let kind = text(old.unwrap_or(object), "/addressType");
    if kind.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !matches!(kind, "FQDN" | "IPv4" | "IPv6") {
        errors.push(FieldError::not_supported(
            "addressType",
            &object["addressType"],
            &["FQDN", "IPv4", "IPv6"],
        ));
    }
    for (index, endpoint) in list(object, "/endpoints").iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let addresses = list(endpoint, "/addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(
                format!("{path}.addresses"),
                "must contain at least 1 address",
            ));
        }
        for address in addresses {
            let text = address.as_str().unwrap_or_default();
            let problem = match kind {
                "IPv4" if text.parse::<std::net::Ipv4Addr>().is_err() => Some("must be an IPv4 address".to_owned()),
                "IPv6" if text.parse::<std::net::Ipv6Addr>().is_err() => Some("must be an IPv6 address".to_owned()),
                "FQDN" => names::dns_subdomain(text),
                _ => None,
            };
            if let Some(problem) = problem {
                errors.push(FieldError::invalid(format!("{path}.addresses"), address, problem));
            }
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in list(object, "/ports").iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = text(port, "/name");
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
        }
        if !name.is_empty()
            && let Some(problem) = names::dns_label(name)
        {
            errors.push(FieldError::invalid(format!("{path}.name"), &port["name"], problem));
        }
        seen.push(name);
        if !matches!(text(port, "/protocol"), "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(
                format!("{path}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
    }
    if let Some(old) = old
        && object["addressType"] != old["addressType"]
    {
        errors.push(FieldError::invalid(
            "addressType",
            &object["addressType"],
            "field is immutable",
        ));
    }
    errors
}

/// Why an address cannot be an endpoint's.
fn address_problem(text: &str) -> Option<&'static str> {
    let Ok(ip) = text.parse::<std::net::IpAddr>() else {
        return Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    };
    let link_local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
    };
    if ip.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if ip.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else {
        None
    }
}

fn event(group: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let new_form = group == "events.k8s.io";
    let (about, involved) = if new_form {
        ("regarding", "regarding")
    } else {
        ("involvedObject", "involvedObject")
    };
    let mut errors = Vec::new();
    let own = crate::meta::namespace(object);
    let theirs = text(object, &format!("/{about}/namespace"));
    let fits = if theirs.is_empty() {
        matches!(own, "" | "default" | "kube-system")
    } else {
        theirs == own
    };
    if !fits && (old.is_none() || !new_form) {
        errors.push(FieldError::invalid(
            format!("{involved}.namespace"),
            &json!(theirs),
            "does not match event.namespace",
        ));
    }
    let timed = !text(object, "/eventTime").is_empty();
    if timed {
        let controller = if new_form {
            "reportingController"
        } else {
            "reportingComponent"
        };
        let required = [controller, "reportingInstance", "action", "reason"];
        let missing = required
            .iter()
            .filter(|field| text(object, &format!("/{field}")).is_empty());
        errors.extend(missing.map(|field| FieldError::required(*field, "")));
    }
    if new_form && old.is_none() {
        if !timed {
            errors.push(FieldError::required("eventTime", ""));
        }
        let kind = text(object, "/type");
        if !matches!(kind, "Normal" | "Warning") {
            errors.push(FieldError::invalid(
                "type",
                &json!(""),
                format!("has invalid value: {kind}"),
            ));
        }
        for field in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount"] {
            let given = object[field].as_str().is_some() || object[field].as_i64().is_some_and(|count| count != 0);
            if given {
                errors.push(FieldError::invalid(field, &json!(""), "needs to be unset"));
            }
        }
    }
    errors
}

fn claim(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let spec = &object["spec"];
    let mut errors = Vec::new();
    if let Some(old) = old {
        let bound = text(old, "/status/phase") == "Bound";
        let mut fixed = spec.clone();
        if let (true, Some(map)) = (bound, fixed.as_object_mut()) {
            for field in ["resources", "volumeAttributesClassName"] {
                match old["spec"].get(field) {
                    Some(value) => map.insert(field.into(), value.clone()),
                    None => map.shift_remove(field),
                };
            }
        }
        if let (true, Some(map)) = (text(old, "/spec/volumeName").is_empty(), fixed.as_object_mut()) {
            map.shift_remove("volumeName");
        }
        if fixed != old["spec"] {
            let diff = super::pod_diff::spec_diff("core.v1.PersistentVolumeClaimSpec", &fixed, &old["spec"]);
            errors.push(FieldError::forbidden(
                "spec",
                format!("spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{diff}"),
            ));
        }
        return errors;
    }
    let modes = list(spec, "/accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    for mode in modes
        .iter()
        .filter(|mode| mode.as_str().is_none_or(|mode| !MODES.contains(&mode)))
    {
        errors.push(FieldError::not_supported("spec.accessModes", mode, &MODES));
    }
    if spec.pointer("/resources/requests/storage").is_none_or(Value::is_null) {
        errors.push(FieldError::required("spec.resources[storage]", ""));
    }
    errors
}

fn node(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, taint) in list(object, "/spec/taints").iter().enumerate() {
        let path = format!("metadata.taints[{index}]");
        errors.extend(
            names::qualified_name(text(taint, "/key"))
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{path}.key"), &json!(text(taint, "/key")), problem)),
        );
        let effect = text(taint, "/effect");
        if effect.is_empty() {
            errors.push(FieldError::required(format!("{path}.effect"), ""));
        } else if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            errors.push(FieldError::not_supported(
                format!("{path}.effect"),
                &taint["effect"],
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ));
        }
    }
    if let Some(old) = old {
        let before = text(old, "/spec/podCIDR");
        if !before.is_empty() && before != text(object, "/spec/podCIDR") {
            errors.push(FieldError::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        let before = text(old, "/spec/providerID");
        if !before.is_empty() && before != text(object, "/spec/providerID") {
            errors.push(FieldError::forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
    }
    errors
}

fn endpoints(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in list(object, "/subsets").iter().enumerate() {
        let path = format!("subsets[{index}]");
        let (ready, waiting) = (list(subset, "/addresses"), list(subset, "/notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.push(FieldError::required(
                path.clone(),
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        for (name, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (at, address) in addresses.iter().enumerate() {
                if let Some(problem) = address_problem(text(address, "/ip")) {
                    errors.push(FieldError::invalid(
                        format!("{path}.{name}[{at}].ip"),
                        &address["ip"],
                        problem,
                    ));
                }
            }
        }
        let ports = list(subset, "/ports");
        for (at, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{at}]");
            if ports.len() > 1 && text(port, "/name").is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            if !port["port"]
                .as_i64()
                .is_some_and(|number| (1..=65535).contains(&number))
            {
                errors.push(FieldError::invalid(
                    format!("{path}.port"),
                    &json!(port["port"].as_i64().unwrap_or(0)),
                    "must be between 1 and 65535, inclusive",
                ));
            }
        }
    }
    errors
}
