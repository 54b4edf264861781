//! JSON of containers as Kubernetes' own programs write it: fields in the order of their types.
//!
//! Annotations that hold containers are compared as text by people and tools, so the text is the same whoever wrote it.

use serde_json::{Value, json};

/// Fields of a container and of what it contains, in the order of Kubernetes' types. No two types disagree on the
/// order of names that they share.
const FIELDS: [&str; 66] = [
    "name",
    "image",
    "command",
    "exec",
    "httpGet",
    "tcpSocket",
    "grpc",
    "path",
    "host",
    "scheme",
    "httpHeaders",
    "args",
    "workingDir",
    "ports",
    "hostPort",
    "containerPort",
    "protocol",
    "hostIP",
    "envFrom",
    "env",
    "prefix",
    "value",
    "valueFrom",
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "resources",
    "limits",
    "requests",
    "claims",
    "resizePolicy",
    "restartPolicy",
    "volumeMounts",
    "readOnly",
    "mountPath",
    "subPath",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "port",
    "service",
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "lifecycle",
    "postStart",
    "preStop",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "capabilities",
    "add",
    "drop",
    "privileged",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "stdin",
    "tty",
];

/// A container with its fields in order; `resources` is always written.
pub(crate) fn container(container: &Value) -> Value {
    let mut container = container.clone();
    if let Value::Object(fields) = &mut container {
        fields.entry("resources").or_insert_with(|| json!({}));
    }
    ordered(&container)
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let place = |name: &str| FIELDS.iter().position(|field| *field == name).unwrap_or(FIELDS.len());
            let mut entries: Vec<(&String, &Value)> = fields.iter().collect();
            entries.sort_by(|left, right| (place(left.0), left.0).cmp(&(place(right.0), right.0)));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(name, value)| (name.clone(), ordered(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        scalar => scalar.clone(),
    }
}

/// Fields of the proxy configuration in the order of their numbers, which is how protobuf's JSON has them.
const PROXY_CONFIG: [&str; 38] = [
    "configPath",
    "binaryPath",
    "serviceCluster",
    "tracingServiceName",
    "drainDuration",
    "discoveryAddress",
    "statsdUdpAddress",
    "proxyAdminPort",
    "controlPlaneAuthPolicy",
    "customConfigFile",
    "statNameLength",
    "concurrency",
    "proxyBootstrapTemplatePath",
    "interceptionMode",
    "tracing",
    "sds",
    "envoyAccessLogService",
    "envoyMetricsService",
    "proxyMetadata",
    "runtimeValues",
    "statusPort",
    "extraStatTags",
    "gatewayTopology",
    "terminationDrainDuration",
    "meshId",
    "readinessProbe",
    "proxyStatsMatcher",
    "holdApplicationUntilProxyStarts",
    "caCertificatesPem",
    "image",
    "privateKeyProvider",
    "proxyHeaders",
    "zipkinAddress",
    "availabilityZone",
    "parentShutdownDuration",
    "envoyMetricsServiceAddress",
    "configSources",
    "fileFlushInterval",
];

/// A proxy configuration with its fields in order and the keys of its maps sorted.
pub(crate) fn proxy_config(config: &Value) -> Value {
    let place = |name: &str| {
        PROXY_CONFIG
            .iter()
            .position(|field| *field == name)
            .unwrap_or(PROXY_CONFIG.len())
    };
    let mut entries: Vec<(&String, &Value)> = config.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(name, _)| (place(name), *name));
    Value::Object(
        entries
            .into_iter()
            .map(|(name, value)| (name.clone(), gotemplate::sorted(value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_the_order_of_their_types() {
        let text = container(
            &json!({"tty": true, "securityContext": {"runAsGroup": 1, "runAsUser": 2}, "args": ["a"], "name": "x"}),
        );
        let expected =
            r#"{"name":"x","args":["a"],"resources":{},"securityContext":{"runAsUser":2,"runAsGroup":1},"tty":true}"#;
        assert_eq!(text.to_string(), expected);
    }

    #[test]
    fn proxy_configuration_comes_in_field_order() {
        let config = json!({"concurrency": 0, "proxyMetadata": {"B": "1", "A": "2"}, "discoveryAddress": "x"});
        assert_eq!(
            proxy_config(&config).to_string(),
            r#"{"discoveryAddress":"x","concurrency":0,"proxyMetadata":{"A":"2","B":"1"}}"#
        );
    }
}
