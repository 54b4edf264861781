//! Installation: what the user asked for becomes objects, and objects become a running control plane.
//!
//! Pure, from the request to the plan:
//!
//! | module | its one idea |
//! |---|---|
//! | [`assets`] | charts and profiles, embedded or from a folder |
//! | [`input`] | profile + files + flags → one specification |
//! | [`validate`] | mistakes in it, with path and suggestion |
//! | [`schema`] | what values may look like, for `istioctl` and for Helm |
//! | `origin` | where the user wrote a value |
//! | [`component`] | specification → objects per component |
//! | [`chart`] | one Helm chart → objects |
//! | [`manifest`] | objects → text, and their order |
//! | [`record`] | what an installation remembers of its gateways |
//! | [`difference`] | what differs between two manifests or profiles |
//! | [`owner`] | labels by which an installation knows its objects |
//! | [`tag`] | the objects of a revision tag |
//! | [`namesake`] | a revision is not called like a tag |
//! | [`precedence`] | do all revisions agree whose label wins? |
//! | [`uninstall`] | what goes with a revision, what stays, who still uses it |
//! | [`stays`] | what stays when a control plane goes |
//! | [`ready`] | is it ready, and if not, why |
//! | [`served`] | is anybody behind an injector? |
//! | [`values`], [`yaml`], [`object`] | trees, text, Kubernetes objects as data |
//!
//! Thin, against a cluster: [`api_server`] (requests), [`inventory`] (reads), [`apply`] (installs), `prune`, [`retag`]
//! (moves tags, after a [`proof`] that the new webhook answers), and [`uninstall::execute`]; [`progress`] is how they tell
//! what they do.

pub mod api_server;
pub mod apply;
pub mod assets;
pub mod chart;
pub mod component;
pub mod difference;
pub mod input;
pub mod inventory;
pub mod manifest;
pub mod namesake;
pub mod object;
mod origin;
mod overlay;
pub mod owner;
pub mod precedence;
pub mod progress;
pub mod proof;
mod prune;
pub mod ready;
pub mod record;
pub mod rendered_tags;
pub mod retag;
pub mod schema;
pub mod served;
mod settings;
pub mod stays;
pub mod tag;
pub mod uninstall;
pub mod validate;
pub mod values;
pub mod yaml;
