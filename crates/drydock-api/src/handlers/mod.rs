//! The verbs. [`Api::handle`] runs the pipeline for one request.

mod bind;
mod call;
mod create;
mod delete;
mod dispatch;
mod evict;
mod input;
mod list;
mod options;
mod patch;
mod read;
mod respond;
mod scale;
mod update;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use crate::{Core, hooks::Hooks};

pub use call::Call;
pub use respond::{
    Response, empty_response, encoded as encoded_response, error_response, full, json_response,
    partial as partial_object, plain_response, response as typed_response,
};

/// The server without its listener.
#[derive(Debug, Clone)]
pub struct Api {
    /// Shared state.
    pub core: Arc<Core>,
    /// Identity, permission, admission, ownership, streams.
    pub hooks: Hooks,
    /// Plain JSON documents by path.
    pub documents: BTreeMap<String, serde_json::Value>,
}
