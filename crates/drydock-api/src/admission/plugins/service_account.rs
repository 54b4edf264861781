//! Every pod runs as a service account and finds its token at the well-known path.

use super::creates;
use crate::{
    Core,
    error::ApiError,
    hooks::AdmissionRequest,
    objects::{Objects, text},
};
use serde_json::{Value, json};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Lifetime asked for, seconds: one hour and a bit, which the token API extends.
const TOKEN_SECONDS: i64 = 3607;
/// Letters of generated names.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(super) fn admit(core: &Core, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !creates(request, "", "pods") {
        return Ok(());
    }
    let namespace = request.namespace;
    let Some(pod) = request.object.as_ref() else {
        return Ok(());
    };
    // Static pods mirror what a node runs anyway; they have no identity.
    if pod["metadata"]["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_some()
    {
        return Ok(());
    }
    let name = match text(pod, &["spec", "serviceAccountName"]) {
        "" => "default".to_owned(),
        own => own.to_owned(),
    };
    let Some(account) = core.get("", "serviceaccounts", namespace, &name) else {
        let cause = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
        let shown = pod_name(pod);
        let subject = crate::error::Subject {
            group: "",
            resource: "pods",
            name: &shown,
        };
        return Err(ApiError::forbidden(subject, &cause));
    };
    let Some(pod) = request.object.as_mut() else {
        return Ok(());
    };
    let Some(spec) = pod.get_mut("spec") else { return Ok(()) };
    spec["serviceAccountName"] = json!(name);
    spec["serviceAccount"] = json!(name);
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount_token(spec);
    }
    let secrets = &account["imagePullSecrets"];
    if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
        && secrets.as_array().is_some_and(|s| !s.is_empty())
    {
        spec["imagePullSecrets"] = secrets.clone();
    }
    for key in [
        "imagePullSecrets",
        "automountServiceAccountToken",
        "volumes",
        "initContainers",
    ] {
        if spec.get(key).is_some_and(Value::is_null)
            && let Some(map) = spec.as_object_mut()
        {
            map.shift_remove(key);
        }
    }
    Ok(())
}

/// The name, or for a generated one its prefix.
fn pod_name(pod: &Value) -> String {
    match text(pod, &["metadata", "name"]) {
        "" => text(pod, &["metadata", "generateName"]).to_owned(),
        name => name.to_owned(),
    }
}

fn mount_token(spec: &mut Value) {
    let existing = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v["name"].as_str())
        .find(|n| n.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix()));
    let mut mounted = false;
    for key in ["initContainers", "containers"] {
        for container in spec[key].as_array_mut().into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            let present = mounts
                .as_array()
                .is_some_and(|m| m.iter().any(|m| m["mountPath"] == MOUNT_PATH));
            if present {
                continue;
            }
            let mount = json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH });
            match mounts {
                Value::Array(list) => list.push(mount),
                other => *other = json!([mount]),
            }
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        let source = token_volume(&volume);
        match &mut spec["volumes"] {
            Value::Array(list) => list.push(source),
            other => *other = json!([source]),
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [
                    { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
                ] } },
            ],
            "defaultMode": 420,
        },
    })
}

fn suffix() -> String {
    uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .take(5)
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_container_finds_the_token_and_a_second_round_adds_only_what_is_new() {
        let mut spec = json!({"containers": [{"name": "a"}]});
        mount_token(&mut spec);
        let volume = spec["volumes"][0]["name"].clone();
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
        spec["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "istio-proxy"}));
        mount_token(&mut spec);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][1]["volumeMounts"][0]["name"], volume);
        assert_eq!(spec["containers"][0]["volumeMounts"].as_array().unwrap().len(), 1);
    }
}
