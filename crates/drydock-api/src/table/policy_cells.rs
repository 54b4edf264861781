//! Cells of configuration, policy, identity and storage kinds.

use serde_json::{Value, json};

use super::age;
use crate::meta;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn keys(object: &Value, fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|field| object[*field].as_object().map_or(0, serde_json::Map::len))
        .sum::<usize>()
        .into()
}

fn count(object: &Value, field: &str) -> Value {
    object[field].as_array().map_or(0, Vec::len).into()
}

fn or(text: &str, other: &str) -> Value {
    if text.is_empty() { other.into() } else { text.into() }
}

/// What a quota has given of what there is: limits apart.
fn quota(object: &Value) -> [Value; 2] {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<(&String, &Value)> = object["status"]["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by_key(|(name, _)| *name);
    for (name, amount) in hard {
        let used = object["status"]["used"][name].as_str().unwrap_or("0");
        let told = format!("{name}: {used}/{}", amount.as_str().unwrap_or_default());
        let column = if name.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        };
        column.push(told);
    }
    [requests.join(", ").into(), limits.join(", ").into()]
}

pub fn cells(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    let mut cells = vec![json!(meta::name(object))];
    match (group, kind) {
        ("", "ConfigMap") => cells.push(keys(object, &["data", "binaryData"])),
        ("", "Secret") => cells.extend([text(object, "/type").into(), keys(object, &["data"])]),
        ("", "ServiceAccount") => {}
        ("", "Namespace") => cells.push(text(object, "/status/phase").into()),
        ("coordination.k8s.io", "Lease") => cells.push(text(object, "/spec/holderIdentity").into()),
        (_, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => cells.push(count(object, "webhooks")),
        ("autoscaling", _) => cells.extend(autoscaler(object)),
        ("", "ResourceQuota") => cells.extend(quota(object)),
        ("policy", "PodDisruptionBudget") => cells.extend([
            int_or_string(&object["spec"]["minAvailable"]),
            int_or_string(&object["spec"]["maxUnavailable"]),
            object
                .pointer("/status/disruptionsAllowed")
                .cloned()
                .unwrap_or(json!(0)),
        ]),
        (_, "RoleBinding" | "ClusterRoleBinding") => {
            let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
            cells.extend([role.into(), age(object).into()]);
            cells.extend(subjects(object));
            return cells;
        }
        (_, "PriorityClass") => {
            cells.extend([
                object["value"].clone(),
                object["globalDefault"].as_bool().unwrap_or(false).into(),
                age(object).into(),
                or(text(object, "/preemptionPolicy"), "PreemptLowerPriority"),
            ]);
            return cells;
        }
        (_, "RuntimeClass") => cells.push(text(object, "/handler").into()),
        (_, "StorageClass") => {
            let default = text(
                object,
                "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
            ) == "true";
            if default {
                cells = vec![format!("{} (default)", meta::name(object)).into()];
            }
            cells.extend([
                text(object, "/provisioner").into(),
                or(text(object, "/reclaimPolicy"), "Delete"),
                or(text(object, "/volumeBindingMode"), "Immediate"),
                object["allowVolumeExpansion"].as_bool().unwrap_or(false).into(),
            ]);
        }
        ("", "PersistentVolumeClaim") => {
            cells.extend(claim(object));
            return cells;
        }
        ("", "PersistentVolume") => {
            cells.extend(volume(object));
            return cells;
        }
        ("apiregistration.k8s.io", _) => {
            let service = &object["spec"]["service"];
            let shown = if service.is_object() {
                format!("{}/{}", text(service, "/namespace"), text(service, "/name"))
            } else {
                "Local".into()
            };
            cells.extend([shown.into(), "True".into()]);
        }
        (_, "ValidatingAdmissionPolicy") => {
            let kind = &object["spec"]["paramKind"];
            let shown = if kind.is_object() {
                format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind"))
            } else {
                "<unset>".into()
            };
            cells.extend([count(&object["spec"], "validations"), shown.into()]);
        }
        (_, "ValidatingAdmissionPolicyBinding") => {
            let reference = &object["spec"]["paramRef"];
            let shown = match (text(reference, "/namespace"), text(reference, "/name")) {
                (_, "") => "<unset>".to_owned(),
                ("", name) => format!("*/{name}"),
                (namespace, name) => format!("{namespace}/{name}"),
            };
            cells.extend([text(object, "/spec/policyName").into(), shown.into()]);
        }
        ("certificates.k8s.io", _) => {
            cells.push(age(object).into());
            cells.extend(request(object));
            return cells;
        }
        _ => {
            cells.push(
                object
                    .pointer("/metadata/creationTimestamp")
                    .cloned()
                    .unwrap_or_default(),
            );
            return cells;
        }
    }
    cells.push(age(object).into());
    cells
}

fn int_or_string(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}

fn subjects(object: &Value) -> [Value; 3] {
    let of = |kind: &str| {
        let list = object["subjects"].as_array();
        let names: Vec<String> = list
            .into_iter()
            .flatten()
            .filter(|subject| subject["kind"] == kind)
            .map(|subject| match (kind, text(subject, "/namespace")) {
                ("ServiceAccount", namespace) if !namespace.is_empty() => {
                    format!("{namespace}/{}", text(subject, "/name"))
                }
                _ => text(subject, "/name").to_owned(),
            })
            .collect();
        Value::from(names.join(", "))
    };
    [of("User"), of("Group"), of("ServiceAccount")]
}

fn autoscaler(object: &Value) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        text(object, "/spec/scaleTargetRef/kind"),
        text(object, "/spec/scaleTargetRef/name")
    );
    let metrics: Vec<String> = object["spec"]["metrics"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, metric)| {
            let current = &object["status"]["currentMetrics"][index];
            let name = text(metric, "/resource/name");
            let target = &metric["resource"]["target"];
            match target["averageUtilization"].as_i64() {
                Some(wanted) => {
                    let now = current
                        .pointer("/resource/current/averageUtilization")
                        .and_then(Value::as_i64);
                    let now = now.map_or("<unknown>".to_owned(), |now| format!("{now}%"));
                    format!("{name}: {now}/{wanted}%")
                }
                None => {
                    let now = text(current, "/resource/current/averageValue");
                    let now = if now.is_empty() { "<unknown>" } else { now };
                    format!("{name}: {now}/{}", text(target, "/averageValue"))
                }
            }
        })
        .collect();
    let targets = if metrics.is_empty() {
        "<none>".to_owned()
    } else {
        metrics.join(", ")
    };
    let min = object.pointer("/spec/minReplicas").and_then(Value::as_i64);
    vec![
        reference.into(),
        targets.into(),
        min.map_or("<unset>".into(), |min| min.to_string().into()),
        object.pointer("/spec/maxReplicas").cloned().unwrap_or(json!(0)),
        object.pointer("/status/currentReplicas").cloned().unwrap_or(json!(0)),
    ]
}

fn modes(value: &Value) -> Value {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let list: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(short)
        .collect();
    list.join(",").into()
}

fn claim(object: &Value) -> Vec<Value> {
    let volume = text(object, "/spec/volumeName");
    let phase = if meta::is_deleting(object) {
        "Terminating"
    } else {
        text(object, "/status/phase")
    };
    let (capacity, access) = if volume.is_empty() {
        ("".into(), "".into())
    } else {
        (
            text(object, "/status/capacity/storage").into(),
            modes(&object["status"]["accessModes"]),
        )
    };
    vec![
        phase.into(),
        volume.into(),
        capacity,
        access,
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>"),
        age(object).into(),
        or(text(object, "/spec/volumeMode"), "<unset>"),
    ]
}

fn volume(object: &Value) -> Vec<Value> {
    let claim = &object["spec"]["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", text(claim, "/namespace"), text(claim, "/name"))
    } else {
        String::new()
    };
    let phase = if meta::is_deleting(object) {
        "Terminating"
    } else {
        text(object, "/status/phase")
    };
    vec![
        text(object, "/spec/capacity/storage").into(),
        modes(&object["spec"]["accessModes"]),
        text(object, "/spec/persistentVolumeReclaimPolicy").into(),
        phase.into(),
        claim.into(),
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>"),
        text(object, "/status/reason").into(),
        age(object).into(),
        or(text(object, "/spec/volumeMode"), "<unset>"),
    ]
}

fn request(object: &Value) -> Vec<Value> {
    let mut state = "Pending";
    for condition in object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        match text(condition, "/type") {
            "Approved" => state = "Approved",
            "Denied" => state = "Denied",
            "Failed" => state = "Failed",
            _ => {}
        }
    }
    let issued = state == "Approved" && !text(object, "/status/certificate").is_empty();
    let state = if issued { "Approved,Issued" } else { state };
    let duration = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        or(text(object, "/spec/signerName"), "<none>"),
        text(object, "/spec/username").into(),
        duration.map_or("<none>".into(), |seconds| super::short_duration(seconds).into()),
        state.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_shows_what_is_used_of_what_there_is() {
        let quota = json!({
            "metadata": { "name": "q" },
            "status": { "hard": { "pods": "10", "limits.cpu": "1", "configmaps": "5" }, "used": { "pods": "2" } },
        });
        let cells = cells("", "ResourceQuota", &quota);
        assert_eq!(cells[..3], ["q", "configmaps: 0/5, pods: 2/10", "limits.cpu: 0/1"]);
    }
}
