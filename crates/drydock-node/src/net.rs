//! Addresses and wires: one network namespace per pod, each with its own veth pair to the host.
//!
//! Pods are routed, not bridged: a pod has a `/32` address and sends everything to the node, and the node has one route
//! per pod. Traffic between pods therefore always passes the host's IP layer, so that Service translation works in both
//! directions without `br_netfilter`. The bridge has no ports: it carries the node's own address and the route for the
//! service range (a `dummy` interface would do the same, but not every kernel has one).

mod addresses;
mod forwarding;
mod link;
mod namespace;

pub(crate) use addresses::Addresses;
pub(crate) use forwarding::{allow, forget};
pub(crate) use link::{attach, detach, host_down, host_up};
pub(crate) use namespace::{create, enter, remove};
