//! Columns of the built-in kinds.

use serde_json::Value;

use super::{AGE, NAME, pods_cells, policy_cells, service_cells, workload_cells};
use crate::resource::Column;

/// Name, type, priority, description of a column.
type Spec = (&'static str, &'static str, i32, &'static str);

const SELECTOR: Spec = (
    "Selector",
    "string",
    1,
    "Label selector that decides which pods belong to the object, as text.",
);
const CONTAINERS: Spec = ("Containers", "string", 1, "Names of each container in the template.");
const IMAGES: Spec = (
    "Images",
    "string",
    1,
    "Images referenced by each container in the template.",
);
const AGE_COLUMN: Spec = ("Age", "string", 0, AGE);
const CREATED: Spec = ("Created At", "date", 0, AGE);

const PODS: &[Spec] = &[
    (
        "Ready",
        "string",
        0,
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    (
        "Status",
        "string",
        0,
        "The aggregate status of the containers in this pod.",
    ),
    (
        "Restarts",
        "string",
        0,
        "The number of times the containers in this pod have been restarted and when the last one was.",
    ),
    AGE_COLUMN,
    (
        "IP",
        "string",
        1,
        "Address allocated to the pod, reachable at least within the cluster.",
    ),
    (
        "Node",
        "string",
        1,
        "Name of the node onto which the pod has been scheduled.",
    ),
    (
        "Nominated Node",
        "string",
        1,
        "Node on which room is being made for the pod by preemption.",
    ),
    (
        "Readiness Gates",
        "string",
        1,
        "Additional conditions that must hold for the pod to be ready.",
    ),
];
const DEPLOYMENTS: &[Spec] = &[
    ("Ready", "string", 0, "Number of the pod with ready state"),
    (
        "Up-to-date",
        "string",
        0,
        "Number of pods that have the desired template spec.",
    ),
    (
        "Available",
        "string",
        0,
        "Number of pods that have been ready for at least minReadySeconds.",
    ),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const REPLICA_SETS: &[Spec] = &[
    (
        "Desired",
        "integer",
        0,
        "Number of replicas that are wanted by the specification.",
    ),
    ("Current", "integer", 0, "Number of replicas observed most recently."),
    (
        "Ready",
        "integer",
        0,
        "Number of pods of this set that have a Ready condition.",
    ),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const STATEFUL_SETS: &[Spec] = &[
    ("Ready", "string", 0, "Number of the pod with ready state"),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
];
const DAEMON_SETS: &[Spec] = &[
    (
        "Desired",
        "integer",
        0,
        "Number of nodes that should be running the daemon pod.",
    ),
    (
        "Current",
        "integer",
        0,
        "Number of nodes that run at least one daemon pod and should.",
    ),
    (
        "Ready",
        "integer",
        0,
        "Number of nodes that run a ready daemon pod and should.",
    ),
    (
        "Up-to-date",
        "integer",
        0,
        "Number of nodes that run the updated daemon pod.",
    ),
    (
        "Available",
        "integer",
        0,
        "Number of nodes with a daemon pod that has been ready long enough.",
    ),
    (
        "Node Selector",
        "string",
        0,
        "Labels a node must have for the daemon pod to be placed on it.",
    ),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const JOBS: &[Spec] = &[
    ("Status", "string", 0, "Status of the job."),
    (
        "Completions",
        "string",
        0,
        "Finished pods and how many of them are wanted.",
    ),
    ("Duration", "string", 0, "Time required to complete the job."),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const CRON_JOBS: &[Spec] = &[
    (
        "Schedule",
        "string",
        0,
        "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.",
    ),
    (
        "Timezone",
        "string",
        0,
        "Name of the time zone that the schedule is read in.",
    ),
    (
        "Suspend",
        "boolean",
        0,
        "Whether the controller should suspend subsequent executions.",
    ),
    ("Active", "integer", 0, "A list of pointers to currently running jobs."),
    (
        "Last Schedule",
        "string",
        0,
        "Time since the job was successfully scheduled last.",
    ),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const SERVICES: &[Spec] = &[
    (
        "Type",
        "string",
        0,
        "How the service is exposed: ClusterIP, NodePort, LoadBalancer, ExternalName.",
    ),
    (
        "Cluster-IP",
        "string",
        0,
        "Address of the service inside the cluster, if it has one.",
    ),
    (
        "External-IP",
        "string",
        0,
        "Addresses at which the service can be reached from outside.",
    ),
    (
        "Port(s)",
        "string",
        0,
        "The list of ports that are exposed by this service.",
    ),
    AGE_COLUMN,
    SELECTOR,
];
const NODES: &[Spec] = &[
    ("Status", "string", 0, "The status of the node"),
    ("Roles", "string", 0, "The roles of the node"),
    AGE_COLUMN,
    ("Version", "string", 0, "Kubelet Version reported by the node."),
    (
        "Internal-IP",
        "string",
        1,
        "First address of the node that is reachable inside the cluster.",
    ),
    (
        "External-IP",
        "string",
        1,
        "First address of the node that is reachable from outside.",
    ),
    (
        "OS-Image",
        "string",
        1,
        "Operating system image as the node reports it in its status.",
    ),
    (
        "Kernel-Version",
        "string",
        1,
        "Kernel version as the node reports it in its status.",
    ),
    (
        "Container-Runtime",
        "string",
        1,
        "Container runtime and version as the node reports them.",
    ),
];
const EVENTS: &[Spec] = &[
    (
        "Last Seen",
        "string",
        0,
        "The time at which the most recent occurrence was recorded.",
    ),
    (
        "Type",
        "string",
        0,
        "Type of this event (Normal, Warning), new types could be added.",
    ),
    (
        "Reason",
        "string",
        0,
        "A short, machine understandable reason for the event.",
    ),
    ("Object", "string", 0, "The object that this event is about."),
    (
        "Subobject",
        "string",
        1,
        "Part of the object that this event is about, a container for instance.",
    ),
    (
        "Source",
        "string",
        1,
        "The component reporting this event, and its host.",
    ),
    (
        "Message",
        "string",
        0,
        "A human-readable description of the status of this operation.",
    ),
    (
        "First Seen",
        "string",
        1,
        "The time at which the event was first recorded.",
    ),
    ("Count", "string", 1, "The number of times this event has occurred."),
    ("Name", "string", 1, NAME),
];
const HPAS: &[Spec] = &[
    (
        "Reference",
        "string",
        0,
        "The resource whose replicas are scaled, kind and name.",
    ),
    (
        "Targets",
        "string",
        0,
        "Current and wanted values of the metrics that decide.",
    ),
    (
        "MinPods",
        "string",
        0,
        "Lower limit for the number of replicas to scale down to.",
    ),
    (
        "MaxPods",
        "string",
        0,
        "Upper limit for the number of replicas to scale up to.",
    ),
    ("Replicas", "string", 0, "Number of replicas observed most recently."),
    AGE_COLUMN,
];
const PDBS: &[Spec] = &[
    (
        "Min Available",
        "string",
        0,
        "The minimum number of pods that must be available.",
    ),
    (
        "Max Unavailable",
        "string",
        0,
        "The maximum number of pods that may be unavailable.",
    ),
    (
        "Allowed Disruptions",
        "integer",
        0,
        "Calculated number of pods that may be disrupted at this time.",
    ),
    AGE_COLUMN,
];
const BINDINGS: &[Spec] = &[
    (
        "Role",
        "string",
        0,
        "The role that is granted, with its kind: Role or ClusterRole.",
    ),
    AGE_COLUMN,
    ("Users", "string", 1, "Users in the roleBinding"),
    ("Groups", "string", 1, "Groups in the roleBinding"),
    ("ServiceAccounts", "string", 1, "ServiceAccounts in the roleBinding"),
];
const CLUSTER_BINDINGS: &[Spec] = &[
    (
        "Role",
        "string",
        0,
        "The role that is granted, with its kind: ClusterRole.",
    ),
    AGE_COLUMN,
    ("Users", "string", 1, "Users in the clusterRoleBinding"),
    ("Groups", "string", 1, "Groups in the clusterRoleBinding"),
    (
        "ServiceAccounts",
        "string",
        1,
        "ServiceAccounts in the clusterRoleBinding",
    ),
];
const INGRESSES: &[Spec] = &[
    (
        "Class",
        "string",
        0,
        "The name of the IngressClass resource that should be used for additional configuration.",
    ),
    (
        "Hosts",
        "string",
        0,
        "Hosts that incoming requests are matched against before the ingress rule",
    ),
    (
        "Address",
        "string",
        0,
        "Address is a list containing ingress points for the load-balancer",
    ),
    ("Ports", "string", 0, "Ports of TLS configurations that open"),
    AGE_COLUMN,
];
const POLICIES: &[Spec] = &[
    (
        "Pod-Selector",
        "string",
        0,
        "Selects the pods to which this policy object applies.",
    ),
    AGE_COLUMN,
];
const ENDPOINT_SLICES: &[Spec] = &[
    (
        "AddressType",
        "string",
        0,
        "Type of address carried by this EndpointSlice, IPv4 for instance.",
    ),
    (
        "Ports",
        "string",
        0,
        "List of network ports exposed by each endpoint in this slice.",
    ),
    ("Endpoints", "string", 0, "List of unique endpoints in this slice."),
    AGE_COLUMN,
];
const STORAGE_CLASSES: &[Spec] = &[
    (
        "Provisioner",
        "string",
        0,
        "Provisioner indicates the type of the provisioner.",
    ),
    (
        "ReclaimPolicy",
        "string",
        0,
        "What happens to a volume when its claim is gone.",
    ),
    (
        "VolumeBindingMode",
        "string",
        0,
        "When volume binding and dynamic provisioning should occur.",
    ),
    (
        "AllowVolumeExpansion",
        "boolean",
        0,
        "Whether the storage class allows volumes to be expanded.",
    ),
    AGE_COLUMN,
];
const CLAIMS: &[Spec] = &[
    (
        "Status",
        "string",
        0,
        "Phase represents the current phase of the claim.",
    ),
    ("Volume", "string", 0, "Name of the volume that the claim is bound to."),
    (
        "Capacity",
        "string",
        0,
        "Actual resources of the volume that the claim is bound to.",
    ),
    ("Access Modes", "string", 0, "Ways in which the volume can be mounted."),
    (
        "StorageClass",
        "string",
        0,
        "StorageClass of the claim, if it names one.",
    ),
    (
        "VolumeAttributesClass",
        "string",
        0,
        "VolumeAttributesClass of the claim, if it names one.",
    ),
    AGE_COLUMN,
    (
        "VolumeMode",
        "string",
        1,
        "Whether the volume is a file system or a block device.",
    ),
];
const VOLUMES: &[Spec] = &[
    (
        "Capacity",
        "string",
        0,
        "Description of the volume's resources and capacity.",
    ),
    ("Access Modes", "string", 0, "Ways in which the volume can be mounted."),
    (
        "Reclaim Policy",
        "string",
        0,
        "What happens to a volume when its claim is gone.",
    ),
    (
        "Status",
        "string",
        0,
        "Phase of the volume: Available, Bound, Released.",
    ),
    (
        "Claim",
        "string",
        0,
        "The claim the volume is bound to, with its namespace.",
    ),
    (
        "StorageClass",
        "string",
        0,
        "StorageClass of the volume, if it names one.",
    ),
    (
        "VolumeAttributesClass",
        "string",
        0,
        "VolumeAttributesClass of the volume, if it names one.",
    ),
    ("Reason", "string", 0, "A brief string that describes any failure."),
    AGE_COLUMN,
    (
        "VolumeMode",
        "string",
        1,
        "Whether the volume is a file system or a block device.",
    ),
];

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
