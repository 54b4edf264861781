//! What is measured: the injector as the charts configure it, and admission reviews of pods of any size.

use inject::{Config, Injector};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../../../manifests/charts/istiod/files/injection-template.yaml");
const VALUES: &str = include_str!("../../../manifests/charts/istiod/values.yaml");

/// The injector of a named revision.
pub fn injector() -> Injector {
    let config = json!({"policy": "enabled", "defaultTemplates": ["sidecar"], "templates": {"sidecar": TEMPLATE}});
    Injector {
        config: Config::parse(&config.to_string(), VALUES).expect("the charts' own template"),
        mesh: json!({"defaultConfig": {"discoveryAddress": "istiod-canary.istio-system.svc:15012"}, "enablePrometheusMerge": true}),
        revision: "canary".to_owned(),
        native_sidecars: true.into(),
        compliance_policy: String::new(),
    }
}

/// A review of a pod of about this many bytes. Up to some KiB, that is a usual pod of two containers with probes, ports
/// and volumes; what is asked for beyond is environment, the part of a pod that grows.
pub fn review(bytes: usize) -> Vec<u8> {
    let container = |name: &str, port: u16, variables: Vec<Value>| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1.2.3"),
            "ports": [{"name": "http", "containerPort": port}, {"name": "metrics", "containerPort": port + 1}],
            "env": variables,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"httpGet": {"path": "/live", "port": port}, "periodSeconds": 10},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
        })
    };
    let variable = |index: usize| json!({"name": format!("SETTING_{index:05}"), "value": format!("value-{index:05}-{}", "x".repeat(40))});
    let pod = |variables: usize| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "generateName": "web-7cdd8dccb9-", "namespace": "shop",
                "labels": {"app": "web", "version": "v1", "pod-template-hash": "7cdd8dccb9", "istio.io/rev": "canary"},
                "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8081"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7cdd8dccb9", "controller": true, "uid": "1"}],
            },
            "spec": {
                "serviceAccountName": "web",
                "containers": [container("web", 8080, (0..variables).map(variable).collect()), container("cache", 6379, (0..5).map(variable).collect())],
                "volumes": [{"name": "config", "configMap": {"name": "web"}}, {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            },
        })
    };
    let size = |variables: usize| pod(variables).to_string().len();
    let each = variable(0).to_string().len() + 1;
    let variables = bytes.saturating_sub(size(0)) / each;
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "0c4a", "operation": "CREATE", "namespace": "shop", "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod(variables)},
    })
    .to_string()
    .into_bytes()
}
