//! Which VirtualServices are for a gateway, and with which routes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use super::made::{self, Made, Place};
use super::virtual_services::Ready;
use crate::client::Client;
use crate::graph::Cx;
use crate::scope::ScopeKey;

/// VirtualServices by the gateways that they name, older first.
pub(crate) type ByGateway = HashMap<Arc<str>, Arc<Vec<Ready>>>;

/// The answer to [`crate::query::Query::ByGateway`].
pub(crate) fn by_gateway(cx: &mut Cx<'_>, key: &ScopeKey) -> ByGateway {
    let scope = cx.scope_of(key.clone());
    let mut all: HashMap<&str, Vec<Ready>> = HashMap::new();
    for routes in scope.virtual_services.iter() {
        for gateway in routes.gateways().filter(|gateway| *gateway != "mesh") {
            let bound = all.entry(gateway).or_default();
            // A gateway may be named twice.
            if bound.last() != Some(routes) {
                bound.push(routes.clone());
            }
        }
    }
    let shared = |(gateway, bound): (&str, Vec<Ready>)| (gateway.into(), Arc::new(bound));
    all.into_iter().map(shared).collect()
}

/// The answer to [`crate::query::Query::Bound`].
pub(crate) fn of_gateway(cx: &mut Cx<'_>, key: &ScopeKey, gateway: &Arc<str>) -> Arc<Vec<Ready>> {
    cx.by_gateway(key).get(gateway).cloned().unwrap_or_default()
}

/// A VirtualService and its routes; those that are not the same at every place are not there.
pub(crate) type Served = (Ready, Option<Arc<Made>>);

/// Whose routes, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(super) gateway: Arc<str>,
    pub(super) scope: ScopeKey,
    pub(super) client: Arc<Client>,
}

/// Which it is of two questions is nearly always told by these.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gateway.hash(state);
        self.scope.hash(state);
    }
}

impl Question {
    /// The question for the routes of one of its VirtualServices.
    pub(super) fn routes(&self, config: &Ready, place: Option<Place>) -> made::Question {
        made::Question {
            config: config.clone(),
            gateway: self.gateway.clone(),
            place,
            scope: self.scope.clone(),
            client: self.client.clone(),
        }
    }
}

/// The answer to [`crate::query::Query::BoundRoutes`]: what VirtualServices say for a gateway.
pub(crate) fn routes(cx: &mut Cx<'_>, question: &Question) -> Vec<Served> {
    let bound = cx.bound(&question.scope, &question.gateway);
    let of_config = |config: &Ready| {
        let routes = cx.routes(question.routes(config, None));
        (config.clone(), (!routes.is_of_place).then_some(routes))
    };
    bound.iter().map(of_config).collect()
}
