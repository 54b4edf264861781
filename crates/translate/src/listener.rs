//! Listeners (LDS): what a proxy accepts, and which filters traffic passes.

mod chain;
pub(crate) mod filters;
mod gateway;
mod hcm;
mod inbound;
mod outbound;
mod tcp;
mod virtual_outbound;

pub(crate) use gateway::{Served, merged_servers};

use std::sync::Arc;

use mesh::Input;
use xds::envoy::config::listener::v3::{Listener, listener};
use xds::resource::Resource;

use crate::authz;
use crate::client::Client;
use crate::graph::Cx;
use crate::proxy::{ProxyClass, Role};
use crate::scope::Scope;
use crate::telemetry::{self, Telemetry};

/// Direction of traffic, seen from the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Inbound,
    Outbound,
    Gateway,
}

/// What all listeners of a class have in common.
pub(crate) struct Common<'a> {
    pub(crate) class: &'a ProxyClass,
    pub(crate) mesh: &'a api::mesh_config::MeshConfig,
    pub(crate) telemetry: &'a Telemetry,
    /// What it sees.
    pub(crate) scope: &'a Scope,
    /// Authorisation of inbound or gateway traffic.
    pub(crate) authz: &'a authz::Filters,
}

pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Arc<Resource>> {
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let telemetry = telemetry::of_class(cx, class);
    let authz = authz::of_class(cx, class);
    let client = Client::scoped(cx, class);
    let scope = cx.scope_of(client.scope());
    let common = Common {
        class,
        mesh: &mesh,
        telemetry: &telemetry,
        scope: &scope,
        authz: &authz,
    };
    let listeners: Vec<Listener> = match class.role {
        Role::Sidecar => {
            let mut listeners = outbound::listeners(cx, &common);
            listeners.extend(virtual_outbound::http_proxy(&common));
            listeners.extend(virtual_outbound::listener(&common));
            listeners.extend(inbound::listeners(cx, &common));
            listeners
        }
        Role::Router => gateway::listeners(cx, &common),
    };
    listeners
        .iter()
        .map(|l| Arc::new(Resource::encode(l.name.as_str(), l)))
        .collect()
}

/// Spreads connections evenly over threads.
fn exact_balance() -> listener::ConnectionBalanceConfig {
    listener::ConnectionBalanceConfig {
        balance_type: Some(listener::connection_balance_config::BalanceType::ExactBalance(
            listener::connection_balance_config::ExactBalance {},
        )),
    }
}
