//! Columns of the built-in kinds.

use serde_json::Value;

use super::cluster_columns::{BINDINGS, CLAIMS, CLUSTER_BINDINGS, EVENTS, NODES, STORAGE_CLASSES, VOLUMES};
use super::service_columns::{ENDPOINT_SLICES, INGRESSES, POLICIES, SERVICES};
use super::workload_columns::{
    CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, HPAS, JOBS, PDBS, PODS, QUOTAS, REPLICA_SETS, STATEFUL_SETS,
};
use super::{AGE, NAME, pods_cells, policy_cells, service_cells, workload_cells};
use crate::resource::Column;

/// Name, type, priority, description of a column.
pub(super) type Spec = (&'static str, &'static str, i32, &'static str);

pub(super) const SELECTOR: Spec = (
    "Selector",
    "string",
    1,
    "Label selector that decides which pods belong to the object, as text.",
);
pub(super) const CONTAINERS: Spec = ("Containers", "string", 1, "Names of each container in the template.");
pub(super) const IMAGES: Spec = (
    "Images",
    "string",
    1,
    "Images referenced by each container in the template.",
);
pub(super) const AGE_COLUMN: Spec = ("Age", "string", 0, AGE);
pub(super) const CREATED: Spec = ("Created At", "date", 0, AGE);

fn specs(group: &str, kind: &str) -> Vec<Spec> {
    let one = |name, kind, description| vec![(name, kind, 0, description), AGE_COLUMN];
    match (group, kind) {
        ("", "Pod") => PODS.to_vec(),
        ("apps", "Deployment") => DEPLOYMENTS.to_vec(),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => REPLICA_SETS.to_vec(),
        ("apps", "StatefulSet") => STATEFUL_SETS.to_vec(),
        ("apps", "DaemonSet") => DAEMON_SETS.to_vec(),
        ("batch", "Job") => JOBS.to_vec(),
        ("batch", "CronJob") => CRON_JOBS.to_vec(),
        ("", "Service") => SERVICES.to_vec(),
        ("", "Node") => NODES.to_vec(),
        ("" | "events.k8s.io", "Event") => EVENTS.to_vec(),
        ("autoscaling", _) => HPAS.to_vec(),
        ("", "ResourceQuota") => QUOTAS.to_vec(),
        ("policy", "PodDisruptionBudget") => PDBS.to_vec(),
        (_, "RoleBinding") => BINDINGS.to_vec(),
        (_, "ClusterRoleBinding") => CLUSTER_BINDINGS.to_vec(),
        ("networking.k8s.io", "Ingress") => INGRESSES.to_vec(),
        ("networking.k8s.io", "NetworkPolicy") => POLICIES.to_vec(),
        ("networking.k8s.io", "IngressClass") => vec![
            (
                "Controller",
                "string",
                0,
                "Name of the controller that should handle this class.",
            ),
            (
                "Parameters",
                "string",
                0,
                "A link to a custom resource with additional configuration.",
            ),
            AGE_COLUMN,
        ],
        (_, "EndpointSlice") => ENDPOINT_SLICES.to_vec(),
        (_, "StorageClass") => STORAGE_CLASSES.to_vec(),
        ("", "PersistentVolumeClaim") => CLAIMS.to_vec(),
        ("", "PersistentVolume") => VOLUMES.to_vec(),
        ("", "ConfigMap") => one(
            "Data",
            "string",
            "Data contains the configuration data, this is its number of keys.",
        ),
        ("", "Secret") => vec![
            (
                "Type",
                "string",
                0,
                "Used to facilitate programmatic handling of secret data.",
            ),
            (
                "Data",
                "string",
                0,
                "Data contains the secret data, this is its number of keys.",
            ),
            AGE_COLUMN,
        ],
        ("", "ServiceAccount") => vec![AGE_COLUMN],
        ("", "Namespace") => one("Status", "string", "The status of the namespace"),
        ("", "Endpoints") => one(
            "Endpoints",
            "string",
            "The set of all endpoints is the union of all subsets.",
        ),
        ("coordination.k8s.io", "Lease") => one("Holder", "string", "Holder of the lease, empty if nobody holds it."),
        (_, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => one(
            "Webhooks",
            "integer",
            "Webhooks indicates the number of webhooks registered in this configuration",
        ),
        (_, "PriorityClass") => vec![
            ("Value", "integer", 0, "The priority that pods of this class receive."),
            (
                "Global-Default",
                "boolean",
                0,
                "Whether pods without a class belong to this one.",
            ),
            AGE_COLUMN,
            (
                "PreemptionPolicy",
                "string",
                1,
                "Whether pods of this class preempt pods of lower priority.",
            ),
        ],
        ("node.k8s.io", "RuntimeClass") => one(
            "Handler",
            "string",
            "Handler specifies the runtime that runs the pods of this class.",
        ),
        ("apps", "ControllerRevision") => vec![
            (
                "Controller",
                "string",
                0,
                "Controller of the object, with its kind and group.",
            ),
            (
                "Revision",
                "string",
                0,
                "Revision indicates the revision of the state represented by Data.",
            ),
            AGE_COLUMN,
        ],
        ("apiregistration.k8s.io", _) => vec![
            (
                "Service",
                "string",
                0,
                "The reference to the service that hosts this API endpoint.",
            ),
            ("Available", "string", 0, "Whether this service is available."),
            ("Age", "date", 0, AGE),
        ],
        (_, "ValidatingAdmissionPolicy") => vec![
            (
                "Validations",
                "integer",
                0,
                "Validations indicates the number of validation rules defined in this policy",
            ),
            (
                "ParamKind",
                "string",
                0,
                "ParamKind specifies the kind of resources used to parameterize this policy",
            ),
            AGE_COLUMN,
        ],
        (_, "ValidatingAdmissionPolicyBinding") => vec![
            (
                "PolicyName",
                "string",
                0,
                "Name of the policy that this binding puts into force.",
            ),
            (
                "ParamRef",
                "string",
                0,
                "The parameter resource used to configure the admission control policy",
            ),
            AGE_COLUMN,
        ],
        ("certificates.k8s.io", _) => vec![
            AGE_COLUMN,
            (
                "SignerName",
                "string",
                0,
                "Name of the signer that the request is meant for.",
            ),
            ("Requestor", "string", 0, "Information about the requesting user."),
            (
                "RequestedDuration",
                "string",
                0,
                "Validity that the requester asks for.",
            ),
            ("Condition", "string", 0, "Conditions that are set on the request."),
        ],
        _ => vec![CREATED],
    }
}

/// Columns of a built-in kind.
pub fn builtin_columns(group: &str, kind: &str) -> Vec<Column> {
    let name = ("Name", "string", 0, NAME);
    let own = specs(group, kind);
    let all = if kind == "Event" {
        own
    } else {
        std::iter::once(name).chain(own).collect()
    };
    all.into_iter()
        .map(|(name, kind, priority, description)| Column {
            name: name.into(),
            kind: kind.into(),
            format: if name == "Name" { "name".into() } else { String::new() },
            description: description.into(),
            priority,
        })
        .collect()
}

/// Cells of a built-in object, one for each of [`builtin_columns`].
pub fn builtin_cells(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    match (group, kind) {
        ("", "Pod") => pods_cells::pod(object),
        ("", "Node") => pods_cells::node(object),
        ("" | "events.k8s.io", "Event") => pods_cells::event(object),
        ("apps" | "batch", _) | ("", "ReplicationController") => workload_cells::cells(kind, object),
        ("", "Service" | "Endpoints") | ("networking.k8s.io", _) | ("discovery.k8s.io", _) => {
            service_cells::cells(kind, object)
        }
        _ => policy_cells::cells(group, kind, object),
    }
}
