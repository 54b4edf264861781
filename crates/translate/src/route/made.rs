//! Routes of a VirtualService as they are sent: made once for all virtual hosts that have them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::networking::virtual_service::{Destination, HttpRoute};
use bytes::{Bytes, BytesMut};
use mesh::Config;

use super::http::{self, Audience};
use super::virtual_services::Ready;
use super::{condition, encoded};
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
}

impl Made {
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
    /// What routes are made of beside it; none if they are the same at every place.
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
        place: question.place.unwrap_or_default(),
        gateway: &question.gateway,
    };
    let (mut some, mut all) = (BytesMut::new(), BytesMut::new());
    for draft in http::routes(cx, &to, &question.config) {
        let is_last = draft.route.r#match.as_ref().is_some_and(condition::is_everything);
        encoded::write(draft, if is_last { &mut all } else { &mut some });
    }
    Made {
        some: some.freeze(),
        all: all.freeze(),
    }
}

/// Whether a gateway's routes are the same wherever requests arrive: no route asks for the port or leads to it, and
/// none is named after it.
pub(super) fn is_same_everywhere(
    cx: &mut Cx<'_>,
    scope: &ScopeKey,
    config: &Config<api::networking::VirtualService>,
) -> bool {
    let mut has_port = |destination: &Destination| {
        destination.port.is_some()
            || cx
                .known(scope, &destination.host)
                .is_some_and(|service| service.ports.len() == 1)
    };
    let mut is_same = |http: &HttpRoute| {
        let mirrors = http.mirrors.iter().filter_map(|m| m.destination.as_ref());
        let only = match http.route.as_slice() {
            [only] => only.destination.as_ref().filter(|d| !d.host.is_empty()),
            _ => None,
        };
        http.redirect.is_none()
            && http.direct_response.is_none()
            && http.matches.iter().all(|m| m.port.is_none_or(|port| port.0 == 0))
            && only.is_some_and(&mut has_port)
            && http.mirror.iter().chain(mirrors).all(&mut has_port)
    };
    config.spec.http.iter().all(&mut is_same)
}
