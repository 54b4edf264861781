//! Routes of a VirtualService as they are sent: made once for all virtual hosts that have them.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::http::{self, Audience};
use super::virtual_services::Ready;
use crate::client::Client;
use crate::graph::Cx;
use crate::scope::ScopeKey;

/// Routes, encoded as fields of a virtual host.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Made {
    /// Those that take some of the requests.
    pub(super) some: Bytes,
    /// The one that takes all that come to it; nothing follows it.
    pub(super) all: Bytes,
    /// Whether they may be others where requests arrive elsewhere.
    pub(super) is_of_place: bool,
}

impl Made {
    pub(super) fn new(some: BytesMut, all: BytesMut, is_of_place: bool) -> Self {
        Self {
            some: some.freeze(),
            all: all.freeze(),
            is_of_place,
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.some.is_empty() && self.all.is_empty()
    }
}

/// Whose routes, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The VirtualService.
    pub(super) config: Ready,
    /// The gateway, or `mesh` for sidecars.
    pub(super) gateway: Arc<str>,
    /// Where requests arrive; absent to find out whether that matters.
    pub(super) place: Option<Place>,
    /// What is seen of the destinations.
    pub(super) scope: ScopeKey,
    pub(super) client: Arc<Client>,
}

/// Which it is of two questions is nearly always told by these.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.config.hash(state);
        self.gateway.hash(state);
        self.place.hash(state);
        self.scope.hash(state);
    }
}

/// Where requests arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

/// The part of a client that routes of any VirtualService depend on.
pub(super) fn view(client: &Client) -> Client {
    Client {
        locality: None,
        node: None,
        sidecar: None,
        preserve_case: false,
        attempt_count: true,
        ..client.clone()
    }
}

/// The answer to [`crate::query::Query::Routes`].
pub(crate) fn routes(cx: &mut Cx<'_>, question: &Question) -> Made {
    let to = Audience {
        client: &question.client,
        scope: &question.scope,
        place: question.place,
        asks_for_place: Cell::new(false),
        gateway: &question.gateway,
    };
    http::routes(cx, &to, &question.config)
}
