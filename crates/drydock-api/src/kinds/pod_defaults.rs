//! Defaults inside pod specifications.

use serde_json::{Value, json};

use super::{default, default_zero, list_mut, text};

/// Fills a `PodSpec`.
pub fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    default_zero(spec, "restartPolicy", "Always");
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default_zero(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    // The older name of the service account follows the newer one, and the other way round.
    let (account, deprecated) = (
        text(spec, "/serviceAccountName").to_owned(),
        text(spec, "/serviceAccount").to_owned(),
    );
    if !account.is_empty() {
        spec["serviceAccount"] = account.into();
    } else if !deprecated.is_empty() {
        spec["serviceAccountName"] = deprecated.into();
    }
    let host_network = spec["hostNetwork"] == true;
    for field in ["/initContainers", "/containers", "/ephemeralContainers"] {
        for one in list_mut(spec, field) {
            container(one);
            if host_network {
                for port in list_mut(one, "/ports") {
                    let number = port["containerPort"].clone();
                    default_zero(port, "hostPort", number);
                }
            }
        }
    }
    for volume in list_mut(spec, "/volumes") {
        volume_source(volume);
    }
}

/// Fills what only whole pods get, not templates.
pub fn pod(pod: &mut Value) {
    pod_spec(&mut pod["spec"]);
    default(&mut pod["spec"], "enableServiceLinks", true);
    for field in ["/spec/initContainers", "/spec/containers"] {
        for container in list_mut(pod, field) {
            let Some(limits) = container
                .pointer("/resources/limits")
                .and_then(Value::as_object)
                .cloned()
            else {
                continue;
            };
            let resources = &mut container["resources"];
            default(resources, "requests", json!({}));
            for (name, limit) in limits {
                default(&mut resources["requests"], &name, limit);
            }
        }
    }
}

/// `Always` for an image without a tag or with `latest`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        _ if digest => "IfNotPresent",
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "/image"));
    default_zero(container, "imagePullPolicy", policy);
    default_zero(container, "terminationMessagePath", "/dev/termination-log");
    default_zero(container, "terminationMessagePolicy", "File");
    for port in list_mut(container, "/ports") {
        default_zero(port, "protocol", "TCP");
    }
    for env in list_mut(container, "/env") {
        if let Some(reference) = env.pointer_mut("/valueFrom/fieldRef") {
            default_zero(reference, "apiVersion", "v1");
        }
        if let Some(reference) = env.pointer_mut("/valueFrom/resourceFieldRef") {
            default(reference, "divisor", "0");
        }
        if let Some(reference) = env.pointer_mut("/valueFrom/fileKeyRef") {
            default(reference, "optional", false);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            default_zero(probe, "timeoutSeconds", 1);
            default_zero(probe, "periodSeconds", 10);
            default_zero(probe, "successThreshold", 1);
            default_zero(probe, "failureThreshold", 3);
            handler(probe);
            if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object()) {
                default(grpc, "service", "");
            }
        }
    }
    for pointer in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(hook) = container.pointer_mut(pointer) {
            handler(hook);
        }
    }
    if container.pointer("/securityContext").is_some_and(Value::is_object) {
        let security = &mut container["securityContext"];
        if security["procMount"] == "" {
            security["procMount"] = "Default".into();
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet").filter(|get| get.is_object()) {
        default_zero(get, "path", "/");
        default_zero(get, "scheme", "HTTP");
    }
}

fn volume_source(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |map| {
        map.iter()
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .count()
    });
    if sources == 0 {
        volume["emptyDir"] = json!({});
    }
    for field in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(field).filter(|source| source.is_object()) {
            default(source, "defaultMode", 420);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        default(path, "type", "");
    }
    for item in list_mut(volume, "/downwardAPI/items") {
        downward_item(item);
    }
    for source in list_mut(volume, "/projected/sources") {
        for item in list_mut(source, "/downwardAPI/items") {
            downward_item(item);
        }
        if let Some(token) = source.get_mut("serviceAccountToken").filter(|token| token.is_object()) {
            default(token, "expirationSeconds", 3600);
        }
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        default(claim, "volumeMode", "Filesystem");
    }
    if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
        let policy = pull_policy(text(image, "/reference"));
        default_zero(image, "pullPolicy", policy);
    }
}

fn downward_item(item: &mut Value) {
    if let Some(reference) = item.get_mut("fieldRef").filter(|reference| reference.is_object()) {
        default_zero(reference, "apiVersion", "v1");
    }
    if let Some(reference) = item
        .get_mut("resourceFieldRef")
        .filter(|reference| reference.is_object())
    {
        default(reference, "divisor", "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies_follow_tags() {
        let check = |image, expected| assert_eq!(pull_policy(image), expected, "{image}");
        check("x", "Always");
        check("x:latest", "Always");
        check("x:1", "IfNotPresent");
        check("x@sha256:aa", "IfNotPresent");
        check("host:5000/x", "Always");
    }
}
