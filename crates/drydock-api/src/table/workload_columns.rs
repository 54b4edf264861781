//! Columns of what runs: pods and the kinds that make them.

use super::columns::{AGE_COLUMN, CONTAINERS, IMAGES, SELECTOR, Spec};

pub(super) const PODS: &[Spec] = &[
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

pub(super) const DEPLOYMENTS: &[Spec] = &[
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

pub(super) const REPLICA_SETS: &[Spec] = &[
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

pub(super) const STATEFUL_SETS: &[Spec] = &[
    ("Ready", "string", 0, "Number of the pod with ready state"),
    AGE_COLUMN,
    CONTAINERS,
    IMAGES,
];

pub(super) const DAEMON_SETS: &[Spec] = &[
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

pub(super) const JOBS: &[Spec] = &[
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

pub(super) const CRON_JOBS: &[Spec] = &[
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

pub(super) const HPAS: &[Spec] = &[
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

pub(super) const QUOTAS: &[Spec] = &[
    (
        "Request",
        "string",
        0,
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    (
        "Limit",
        "string",
        0,
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
    ),
    AGE_COLUMN,
];
pub(super) const PDBS: &[Spec] = &[
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
