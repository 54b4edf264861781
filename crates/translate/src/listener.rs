//! Listeners (LDS): what a proxy accepts, and which filters traffic passes.

pub(crate) mod chain;
pub(crate) mod filters;
pub(crate) mod gateway;
pub(crate) mod hcm;
mod inbound;
pub(crate) mod outbound;
mod tcp;
mod virtual_outbound;

pub(crate) use gateway::{Merged, Served, merged_servers, passes_through};

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::networking::sidecar::OutboundTrafficPolicy;
use xds::envoy::config::listener::v3::{Listener, listener};
use xds::resource::Resource;

use self::chain::Finished;
use crate::authz;
use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::{ProxyClass, Role};
use crate::query::Query;
use crate::scope::{self, ScopeKey};
use crate::telemetry::{self, Telemetry};

/// Direction of traffic, seen from the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Traffic {
    Inbound,
    Outbound,
    Gateway,
}

/// What all listeners of a class have in common.
#[derive(Debug, PartialEq)]
pub(crate) struct Common {
    pub(crate) id: ClassId,
    pub(crate) class: Arc<ProxyClass>,
    pub(crate) mesh: Arc<MeshConfig>,
    pub(crate) telemetry: Telemetry,
    /// Authorisation of inbound or gateway traffic.
    pub(crate) authz: authz::Filters,
    /// What happens to traffic whose destination is unknown.
    pub(crate) unknown: OutboundTrafficPolicy,
    /// What it sees.
    pub(crate) scope: ScopeKey,
}

/// The answer to [`Query::Common`].
pub(crate) fn common(cx: &mut Cx<'_>, class: Arc<ProxyClass>, id: ClassId) -> Common {
    let scope = Client::scoped(cx, &class).scope();
    let sidecar = scope::sidecar(cx, &scope);
    Common {
        id,
        mesh: cx.mesh().clone(),
        telemetry: telemetry::of_class(cx, &class),
        authz: authz::of_class(cx, &class),
        unknown: scope::unknown(cx, sidecar.as_deref()),
        scope,
        class,
    }
}

pub(crate) fn of_class(cx: &mut Cx<'_>, id: ClassId) -> Vec<Arc<Resource>> {
    let Some(common) = cx.common(id) else {
        return Vec::new();
    };
    match common.class.role {
        Role::Sidecar => {
            let mut listeners = outbound::listeners(cx, &common);
            let own = virtual_outbound::http_proxy(cx, &common).into_iter();
            listeners.extend(own.chain(virtual_outbound::listener(&common)).map(encode));
            listeners.extend(cx.resources(&Query::Inbound(id)).iter().cloned());
            listeners
        }
        Role::Router => gateway::listeners(cx, &common),
    }
}

/// The answer to [`Query::Inbound`].
pub(crate) fn inbound(cx: &mut Cx<'_>, id: ClassId) -> Vec<Arc<Resource>> {
    match cx.common(id) {
        Some(common) => inbound::listeners(cx, &common).into_iter().map(encode).collect(),
        None => Vec::new(),
    }
}

fn encode(listener: Listener) -> Arc<Resource> {
    Arc::new(Resource::encode(listener.name.as_str(), &listener))
}

/// A listener that is put together from chains that are made elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    class: ClassId,
    /// Address or socket.
    bind: String,
    port: u16,
    /// Whether traffic is not redirected to it.
    binds_ports: bool,
    /// Chains, each with another match.
    chains: Vec<Arc<Finished>>,
}

/// Which it is of two questions is nearly always told by these.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.class, self.port, self.chains.len()).hash(state);
        self.bind.hash(state);
    }
}

/// The answer to [`Query::Listener`].
pub(crate) fn put_together(cx: &mut Cx<'_>, question: &Question) -> Option<Arc<Resource>> {
    let common = cx.common(question.class)?;
    let (listener, chains, default) = match common.class.role {
        Role::Sidecar => outbound::frame(&common, question),
        Role::Router => (gateway::frame(&common, question), question.chains.clone(), None),
    };
    Some(Arc::new(chain::assemble(listener, &chains, default.as_deref())))
}

/// Spreads connections evenly over threads.
fn exact_balance() -> listener::ConnectionBalanceConfig {
    listener::ConnectionBalanceConfig {
        balance_type: Some(listener::connection_balance_config::BalanceType::ExactBalance(
            listener::connection_balance_config::ExactBalance {},
        )),
    }
}
