//! Columns of the cluster itself: nodes, events, who may do what, storage.

use super::{
    NAME,
    columns::{AGE_COLUMN, Spec},
};

pub(super) const NODES: &[Spec] = &[
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

pub(super) const EVENTS: &[Spec] = &[
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

pub(super) const BINDINGS: &[Spec] = &[
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

pub(super) const CLUSTER_BINDINGS: &[Spec] = &[
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

pub(super) const STORAGE_CLASSES: &[Spec] = &[
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

pub(super) const CLAIMS: &[Spec] = &[
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

pub(super) const VOLUMES: &[Spec] = &[
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
