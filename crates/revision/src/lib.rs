//! Pure rules of Istio's revisions and tags: who injects, who is the default, who leads.
//!
//! | module | its one question |
//! |---|---|
//! | [`name`] | what is a revision or tag called, and what are its objects called? |
//! | [`selector`] | does a label selector match these labels? |
//! | [`webhook`] | which webhooks does a revision or tag have, with which selectors? |
//! | [`decision`] | which revision injects this pod, by which rule, and why not the others? |
//! | [`verdict`] | what does one webhook configuration say of a pod, in words? |
//! | [`ownership`] | which objects belong to this revision, through its tags? |
//! | [`leadership`] | may this replica take the lock from its holder? |
//!
//! Nothing here does IO, reads a clock or knows Envoy. The precedence of labels lives in [`webhook`] alone: the
//! selectors that the API server evaluates and the decision that the CLI explains come from the same table.

pub mod decision;
pub mod leadership;
pub mod name;
pub mod ownership;
pub mod selector;
pub mod verdict;
pub mod webhook;
