//! Patches of listeners, their chains and filters.

use std::sync::Arc;

use prost::{Message, Name};
use xds::envoy::config::core::v3::{TrafficDirection, address, socket_address};
use xds::envoy::config::listener::v3::{Filter, FilterChain, Listener, ListenerFilter, filter, listener_filter};
use xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use xds::google::protobuf::Any;
use xds::resource::Resource;

use super::place::{adds, place};
use super::routes::{self, GatewayPorts};
use super::{Operation, Patch, Patches, Side, merge};
use crate::proto;
use crate::proxy::ProxyClass;

/// What patches of listeners apply to; inbound routes are part of them.
pub(super) const KINDS: &[&str] = &[
    "LISTENER",
    "LISTENER_FILTER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
];

/// Listeners that take what is redirected: the ports stand in their chains.
const VIRTUAL: [&str; 2] = ["virtualInbound", "virtualOutbound"];

pub(super) fn apply(patches: &Patches, class: &ProxyClass, resources: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
    let mut list = Vec::new();
    for resource in resources {
        let any = Any::decode(resource.body.to_bytes()).ok();
        let Some(mut message) = any.and_then(|any| Listener::decode(any.value).ok()) else {
            list.push(resource);
            continue;
        };
        let side = if !class.is_sidecar() {
            Side::Gateway
        } else if message.traffic_direction == TrafficDirection::Inbound as i32 {
            Side::Inbound
        } else {
            Side::Outbound
        };
        if listener(patches, side, &mut message) {
            list.push(Arc::new(Resource::encode(message.name.as_str(), &message)));
        }
    }
    let sides: &[Side] = if class.is_sidecar() {
        &[Side::Outbound, Side::Inbound]
    } else {
        &[Side::Gateway]
    };
    for patch in sides.iter().flat_map(|side| patches.of("LISTENER", *side)) {
        if patch.operation == Operation::Add
            && let Ok(message) = xds::json::from_json::<Listener>(&patch.value)
        {
            list.push(Arc::new(Resource::encode(message.name.as_str(), &message)));
        }
    }
    list
}

/// Patches one listener; false if a patch removes it.
fn listener(patches: &Patches, side: Side, message: &mut Listener) -> bool {
    for patch in patches.of("LISTENER", side) {
        match patch.operation {
            Operation::Remove if is_for_listener(patch, message) => return false,
            Operation::Merge if is_for_listener(patch, message) => drop(merge::into(message, &patch.value)),
            _ => {}
        }
    }
    for patch in patches.of("LISTENER_FILTER", side) {
        if is_for_listener(patch, message) {
            listener_filter(patch, &mut message.listener_filters);
        }
    }
    let at = Place {
        name: message.name.clone(),
        port: port(message),
    };
    let mut chains: Vec<FilterChain> = Vec::new();
    for mut chain in std::mem::take(&mut message.filter_chains) {
        if filter_chain(patches, side, &at, &mut chain) {
            chains.push(chain);
        }
    }
    for patch in patches.of("FILTER_CHAIN", side) {
        if patch.operation == Operation::Add && at.is_for(patch) {
            chains.extend(xds::json::from_json::<FilterChain>(&patch.value));
        }
    }
    message.filter_chains = chains;
    if let Some(mut chain) = message.default_filter_chain.take()
        && filter_chain(patches, side, &at, &mut chain)
    {
        message.default_filter_chain = Some(chain);
    }
    true
}

/// A listener, as conditions of its parts see it.
struct Place {
    name: String,
    port: Option<u32>,
}

impl Place {
    fn is_virtual(&self) -> bool {
        VIRTUAL.contains(&self.name.as_str())
    }

    fn is_for(&self, patch: &Patch) -> bool {
        patch.text("/listener/name").is_none_or(|n| n == self.name)
            && (self.is_virtual()
                || patch
                    .number("/listener/portNumber")
                    .is_none_or(|p| self.port == Some(p)))
    }

    fn is_for_chain(&self, patch: &Patch, chain: &FilterChain) -> bool {
        if !self.is_for(patch) {
            return false;
        }
        let condition = chain.filter_chain_match.as_ref();
        let port = condition.and_then(|c| c.destination_port.as_ref()).map(|p| p.value);
        let listener_port = patch.number("/listener/portNumber").filter(|_| self.is_virtual());
        let wanted_port = patch.number("/listener/filterChain/destinationPort");
        if [listener_port, wanted_port]
            .into_iter()
            .flatten()
            .any(|p| port != Some(p))
        {
            return false;
        }
        let names = condition.map(|c| c.server_names.as_slice()).unwrap_or_default();
        let protocols = condition
            .map(|c| c.application_protocols.as_slice())
            .unwrap_or_default();
        let transport = condition.map_or("", |c| c.transport_protocol.as_str());
        patch.text("/listener/filterChain/name").is_none_or(|n| n == chain.name)
            && patch
                .text("/listener/filterChain/sni")
                .is_none_or(|sni| names.iter().any(|n| n == sni))
            && patch
                .text("/listener/filterChain/transportProtocol")
                .is_none_or(|t| t == transport)
            && patch
                .text("/listener/filterChain/applicationProtocols")
                .is_none_or(|list| list.split(',').all(|p| protocols.iter().any(|own| own == p.trim())))
    }
}

fn port(message: &Listener) -> Option<u32> {
    match message.address.as_ref()?.address.as_ref()? {
        address::Address::SocketAddress(socket) => match socket.port_specifier.as_ref()? {
            socket_address::PortSpecifier::PortValue(port) => Some(*port),
            socket_address::PortSpecifier::NamedPort(_) => None,
        },
        _ => None,
    }
}

fn is_for_listener(patch: &Patch, message: &Listener) -> bool {
    patch.text("/listener/name").is_none_or(|n| n == message.name)
        && patch
            .number("/listener/portNumber")
            .is_none_or(|p| port(message) == Some(p))
}

fn listener_filter(patch: &Patch, list: &mut Vec<ListenerFilter>) {
    let wanted = patch.text("/listener/listenerFilter");
    let matches = |filter: &ListenerFilter| wanted.is_none_or(|n| n == filter.name);
    match patch.operation {
        Operation::Remove => list.retain(|f| !matches(f)),
        Operation::Merge => {
            for own in list.iter_mut().filter(|f| matches(f)) {
                if let Some(listener_filter::ConfigType::TypedConfig(config)) = &mut own.config_type {
                    merge_config(config, patch);
                }
            }
        }
        _ => {
            if let Ok(new) = xds::json::from_json::<ListenerFilter>(&patch.value) {
                place(list, patch, &new, wanted.is_some(), matches);
            }
        }
    }
}

/// Merges the settings of a patch into those of a filter.
fn merge_config(config: &mut Any, patch: &Patch) {
    if let Some(written) = patch
        .value
        .get("typed_config")
        .or_else(|| patch.value.get("typedConfig"))
    {
        merge::into(config, written);
    }
}

/// Patches one chain; false if a patch removes it.
fn filter_chain(patches: &Patches, side: Side, at: &Place, chain: &mut FilterChain) -> bool {
    for patch in patches.of("FILTER_CHAIN", side) {
        if !at.is_for_chain(patch, chain) {
            continue;
        }
        match patch.operation {
            Operation::Remove => return false,
            Operation::Merge => drop(merge::into(chain, &patch.value)),
            _ => {}
        }
    }
    for patch in patches.of("NETWORK_FILTER", side) {
        if at.is_for_chain(patch, chain) {
            network_filter(patch, &mut chain.filters);
        }
    }
    for index in 0..chain.filters.len() {
        let name = chain.filters[index].name.clone();
        let Some(mut manager) = manager(&chain.filters[index]) else {
            continue;
        };
        for patch in patches.of("HTTP_FILTER", side) {
            let wanted = patch.text("/listener/filterChain/filter/name");
            if at.is_for_chain(patch, chain) && wanted.is_none_or(|n| n == name) {
                http_filter(patch, &mut manager.http_filters);
            }
        }
        if let Some(RouteSpecifier::RouteConfig(own)) = &mut manager.route_specifier {
            routes::configuration(patches, side, &GatewayPorts::new(), own);
        }
        chain.filters[index].config_type = Some(filter::ConfigType::TypedConfig(proto::any(&manager)));
    }
    true
}

fn manager(own: &Filter) -> Option<HttpConnectionManager> {
    match own.config_type.as_ref()? {
        filter::ConfigType::TypedConfig(any) if any.type_url == HttpConnectionManager::type_url() => {
            HttpConnectionManager::decode(any.value.as_ref()).ok()
        }
        _ => None,
    }
}

fn network_filter(patch: &Patch, list: &mut Vec<Filter>) {
    let wanted = patch.text("/listener/filterChain/filter/name");
    let matches = |own: &Filter| wanted.is_none_or(|n| n == own.name);
    match patch.operation {
        Operation::Remove => list.retain(|f| !matches(f)),
        Operation::Merge => {
            for own in list.iter_mut().filter(|f| matches(f)) {
                if let Some(filter::ConfigType::TypedConfig(config)) = &mut own.config_type {
                    merge_config(config, patch);
                }
            }
        }
        operation if adds(operation) => {
            if let Ok(new) = xds::json::from_json::<Filter>(&patch.value) {
                place(list, patch, &new, wanted.is_some(), matches);
            }
        }
        _ => {}
    }
}

fn http_filter(patch: &Patch, list: &mut Vec<HttpFilter>) {
    let wanted = patch.text("/listener/filterChain/filter/subFilter/name");
    let matches = |own: &HttpFilter| wanted.is_none_or(|n| n == own.name);
    match patch.operation {
        Operation::Remove => list.retain(|f| !matches(f)),
        Operation::Merge => {
            for own in list.iter_mut().filter(|f| matches(f)) {
                if let Some(http_filter::ConfigType::TypedConfig(config)) = &mut own.config_type {
                    merge_config(config, patch);
                }
            }
        }
        operation if adds(operation) => {
            if let Ok(new) = xds::json::from_json::<HttpFilter>(&patch.value) {
                place(list, patch, &new, wanted.is_some(), matches);
            }
        }
        _ => {}
    }
}
