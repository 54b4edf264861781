//! Columns of the network: services, their endpoints, ways in, rules.

use super::columns::{AGE_COLUMN, SELECTOR, Spec};

pub(super) const SERVICES: &[Spec] = &[
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

pub(super) const INGRESSES: &[Spec] = &[
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

pub(super) const POLICIES: &[Spec] = &[
    (
        "Pod-Selector",
        "string",
        0,
        "Selects the pods to which this policy object applies.",
    ),
    AGE_COLUMN,
];

pub(super) const ENDPOINT_SLICES: &[Spec] = &[
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
