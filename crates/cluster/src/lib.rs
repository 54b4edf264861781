//! Everything istiod does with a Kubernetes API: watches that become events, and the few objects it writes.
//!
//! Decisions are pure functions, here or in `revision`; what talks to the API retries with back-off and never ends the
//! process.
//!
//! | module | its one idea |
//! |---|---|
//! | [`client`] | a connection from `--kubeconfig`, `KUBECONFIG` or the pod's own account |
//! | [`kinds`] | the table of what is watched |
//! | [`feed`] | watches of all kinds as one stream of changes, and when all of them have been read once |
//! | [`config_map`] | one ConfigMap by name, as a value that changes |
//! | [`authority`] | the CA's secret: loaded or created, once for all revisions |
//! | [`budget`] | how often one writer may write one object |
//! | [`events`] | warnings to people, about an object |
//! | [`handover`] | which objects of other revisions gateways here still need |
//! | [`roots`] | `istio-ca-root-cert` in every namespace |
//! | [`election`] | who of several replicas and revisions may write |
//! | [`webhooks`] | `caBundle` and `failurePolicy`, and which revision is the default |
//! | [`tokens`] | whose token is this |
//! | [`access`] | may this account read secrets |

pub mod access;
pub mod authority;
pub mod budget;
pub mod client;
pub mod config_map;
pub mod election;
pub mod events;
pub mod feed;
pub mod handover;
pub mod kinds;
pub mod roots;
pub mod tokens;
pub mod webhooks;

mod backoff;
mod deadline;
#[cfg(test)]
mod fake;
mod watching;

pub use kube::Client;
