//! Defaults of the built-in kinds.

use serde_json::{Value, json};

use super::{default, default_zero, list_mut, pod_defaults, services, text};

/// Fills the defaults of an object of a kind.
pub fn apply(group: &str, version: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Pod") => pod_defaults::pod(object),
        ("", "PodTemplate") => pod_defaults::pod_spec(&mut object["template"]["spec"]),
        ("", "Service") => services::defaults(object),
        ("", "ReplicationController") => replication_controller(object),
        ("", "Secret") => {
            // Part of decoding in the real server, so the client owns the keys of `data`.
            super::config::merge_string_data(object);
            default_zero(object, "type", "Opaque");
        }
        ("", "Namespace") => namespace(object),
        ("", "PersistentVolumeClaim") => default(&mut object["spec"], "volumeMode", "Filesystem"),
        ("", "PersistentVolume") => {
            default(&mut object["spec"], "volumeMode", "Filesystem");
            default_zero(&mut object["spec"], "persistentVolumeReclaimPolicy", "Retain");
        }
        ("", "Endpoints") => {
            for subset in list_mut(object, "/subsets") {
                for port in list_mut(subset, "/ports") {
                    default_zero(port, "protocol", "TCP");
                }
            }
        }
        ("", "Node") => node(object),
        ("", "LimitRange") => limit_range(object),
        ("apps", "Deployment") => deployment(object),
        ("apps", "ReplicaSet") => {
            default(&mut object["spec"], "replicas", 1);
            pod_defaults::pod_spec(&mut object["spec"]["template"]["spec"]);
        }
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("batch", "Job") => job(&mut object["spec"]),
        ("batch", "CronJob") => cron_job(object),
        ("discovery.k8s.io", _) => endpoint_slice(object),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(object),
        ("networking.k8s.io", "IngressClass") if object.pointer("/spec/parameters").is_some_and(Value::is_object) => {
            default(&mut object["spec"]["parameters"], "scope", "Cluster");
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => role_binding(object),
        // An empty list comes back from the real store as none.
        ("rbac.authorization.k8s.io", _) if object["rules"].as_array().is_some_and(Vec::is_empty) => {
            object["rules"] = Value::Null;
        }
        ("scheduling.k8s.io", _) => default(object, "preemptionPolicy", "PreemptLowerPriority"),
        ("storage.k8s.io", "StorageClass") => {
            default(object, "reclaimPolicy", "Delete");
            default(object, "volumeBindingMode", "Immediate");
        }
        ("storage.k8s.io", "CSIDriver") => csi_driver(object),
        ("autoscaling", _) => autoscaler(version, object),
        ("admissionregistration.k8s.io", _) => admission(kind, object),
        ("apiextensions.k8s.io", _) => crate::crd::default_definition(object),
        _ => {}
    }
}

fn namespace(object: &mut Value) {
    let name = crate::meta::name(object).to_owned();
    if !name.is_empty() {
        let meta = crate::meta::of(object);
        let labels = meta.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".into(), name.into());
        }
    }
    if object["status"]["phase"].as_str().is_none_or(str::is_empty) {
        object["status"]["phase"] = "Active".into();
    }
}

fn replication_controller(object: &mut Value) {
    let labels = object
        .pointer("/spec/template/metadata/labels")
        .cloned()
        .unwrap_or(Value::Null);
    if labels.is_object() {
        if object
            .pointer("/spec/selector")
            .is_none_or(|selector| selector.as_object().is_none_or(serde_json::Map::is_empty))
        {
            object["spec"]["selector"] = labels.clone();
        }
        if object.pointer("/metadata/labels").is_none_or(Value::is_null) {
            crate::meta::set(object, "labels", labels);
        }
    }
    default(&mut object["spec"], "replicas", 1);
    if object.pointer("/spec/template").is_some_and(Value::is_object) {
        pod_defaults::pod_spec(&mut object["spec"]["template"]["spec"]);
    }
}

fn node(object: &mut Value) {
    let cidr = text(object, "/spec/podCIDR").to_owned();
    if !cidr.is_empty() {
        default(&mut object["spec"], "podCIDRs", json!([cidr]));
    }
    let capacity = object.pointer("/status/capacity").cloned().unwrap_or(Value::Null);
    for (name, amount) in capacity.as_object().into_iter().flatten() {
        default(&mut object["status"], "allocatable", json!({}));
        default(&mut object["status"]["allocatable"], name, amount.clone());
    }
}

fn limit_range(object: &mut Value) {
    for limit in list_mut(object, "/spec/limits") {
        if limit["type"] != "Container" {
            continue;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let Some(source) = limit.get(from).and_then(Value::as_object).cloned() else {
                continue;
            };
            default(limit, to, json!({}));
            for (name, value) in source {
                default(&mut limit[to], &name, value);
            }
        }
    }
}

fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "replicas", 1);
    default(spec, "strategy", json!({}));
    default_zero(&mut spec["strategy"], "type", "RollingUpdate");
    if spec["strategy"]["type"] == "RollingUpdate" {
        default(&mut spec["strategy"], "rollingUpdate", json!({}));
        default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
        default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    pod_defaults::pod_spec(&mut spec["template"]["spec"]);
}

fn stateful_set(object: &mut Value) {
    let spec = &mut object["spec"];
    default_zero(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "updateStrategy", json!({}));
    default_zero(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
    }
    default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    default_zero(
        &mut spec["persistentVolumeClaimRetentionPolicy"],
        "whenDeleted",
        "Retain",
    );
    default_zero(
        &mut spec["persistentVolumeClaimRetentionPolicy"],
        "whenScaled",
        "Retain",
    );
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    pod_defaults::pod_spec(&mut spec["template"]["spec"]);
    for claim in list_mut(spec, "/volumeClaimTemplates") {
        default_zero(claim, "kind", "PersistentVolumeClaim");
        default_zero(claim, "apiVersion", "v1");
        default(claim, "spec", json!({}));
        default(&mut claim["spec"], "volumeMode", "Filesystem");
        default(claim, "status", json!({}));
        default_zero(&mut claim["status"], "phase", "Pending");
    }
}

fn daemon_set(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "updateStrategy", json!({}));
    default_zero(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", 1);
        default(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", 0);
    }
    default(spec, "revisionHistoryLimit", 10);
    pod_defaults::pod_spec(&mut spec["template"]["spec"]);
}

fn job(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    let unset = |spec: &Value, field: &str| spec.get(field).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let indexed_limit = !unset(spec, "backoffLimitPerIndex");
    default(
        spec,
        "backoffLimit",
        if indexed_limit { i64::from(i32::MAX) } else { 6 },
    );
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let policy = if unset(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    default(spec, "podReplacementPolicy", policy);
    for rule in list_mut(spec, "/podFailurePolicy/rules") {
        for pattern in list_mut(rule, "/onPodConditions") {
            default_zero(pattern, "status", "True");
        }
    }
    pod_defaults::pod_spec(&mut spec["template"]["spec"]);
}

fn cron_job(object: &mut Value) {
    let spec = &mut object["spec"];
    default_zero(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    // Only the pod template of the job template is defaulted here; the job itself is when it is made.
    pod_defaults::pod_spec(&mut spec["jobTemplate"]["spec"]["template"]["spec"]);
}

fn endpoint_slice(object: &mut Value) {
    for port in list_mut(object, "/ports") {
        default(port, "name", "");
        default(port, "protocol", "TCP");
    }
}

fn network_policy(object: &mut Value) {
    for field in ["/spec/ingress", "/spec/egress"] {
        for rule in list_mut(object, field) {
            for port in list_mut(rule, "/ports") {
                default(port, "protocol", "TCP");
            }
        }
    }
    if super::list(object, "/spec/policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !super::list(object, "/spec/egress").is_empty() {
            types.push("Egress");
        }
        object["spec"]["policyTypes"] = json!(types);
    }
}

fn role_binding(object: &mut Value) {
    if object["roleRef"].is_object() {
        default_zero(&mut object["roleRef"], "apiGroup", "rbac.authorization.k8s.io");
    }
    for subject in list_mut(object, "/subjects") {
        match text(subject, "/kind") {
            "User" | "Group" => default_zero(subject, "apiGroup", "rbac.authorization.k8s.io"),
            _ => {}
        }
    }
}

fn csi_driver(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "attachRequired", true);
    default(spec, "podInfoOnMount", false);
    default(spec, "storageCapacity", false);
    default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    default(spec, "requiresRepublish", false);
    default(spec, "seLinuxMount", false);
}

fn autoscaler(version: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "minReplicas", 1);
    if version == "v1" {
        default(spec, "targetCPUUtilizationPercentage", 80);
        return;
    }
    if super::list(spec, "/metrics").is_empty() {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
        }]);
    }
    if spec["behavior"].is_object() {
        scaling_rules(
            &mut spec["behavior"],
            "scaleUp",
            json!([
                { "type": "Pods", "value": 4, "periodSeconds": 15 },
                { "type": "Percent", "value": 100, "periodSeconds": 15 },
            ]),
            Some(0),
        );
        scaling_rules(
            &mut spec["behavior"],
            "scaleDown",
            json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]),
            None,
        );
    }
}

fn scaling_rules(behavior: &mut Value, field: &str, policies: Value, window: Option<i64>) {
    default(behavior, field, json!({}));
    let rules = &mut behavior[field];
    if let Some(window) = window {
        default(rules, "stabilizationWindowSeconds", window);
    }
    default(rules, "selectPolicy", "Max");
    if rules["policies"].as_array().is_none_or(Vec::is_empty) {
        rules["policies"] = policies;
    }
}

fn admission(kind: &str, object: &mut Value) {
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            for webhook in list_mut(object, "/webhooks") {
                default(webhook, "failurePolicy", "Fail");
                default(webhook, "matchPolicy", "Equivalent");
                default(webhook, "namespaceSelector", json!({}));
                default(webhook, "objectSelector", json!({}));
                default(webhook, "timeoutSeconds", 10);
                if kind.starts_with("Mutating") {
                    default(webhook, "reinvocationPolicy", "Never");
                }
                if let Some(service) = webhook
                    .pointer_mut("/clientConfig/service")
                    .filter(|service| service.is_object())
                {
                    default(service, "port", 443);
                }
                for rule in list_mut(webhook, "/rules") {
                    default(rule, "scope", "*");
                }
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let spec = &mut object["spec"];
            default(spec, "failurePolicy", "Fail");
            match_resources(spec, "matchConstraints");
        }
        _ => {
            if object.pointer("/spec/matchResources").is_some_and(Value::is_object) {
                match_resources(&mut object["spec"], "matchResources");
            }
        }
    }
}

fn match_resources(spec: &mut Value, field: &str) {
    if !spec[field].is_object() {
        return;
    }
    let resources = &mut spec[field];
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", json!({}));
    default(resources, "objectSelector", json!({}));
    for rules in ["/resourceRules", "/excludeResourceRules"] {
        for rule in list_mut(resources, rules) {
            default(rule, "scope", "*");
        }
    }
}
