//! Where the endpoints of services without an address of their own are: a proxy that is one needs no listener for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::service::{Address, Endpoints, Registry, Resolution, Service};

/// Addresses of a Kubernetes service's endpoints, if it has no address of its own.
pub(crate) fn addresses(service: Option<&Arc<Service>>, endpoints: Option<&Arc<Endpoints>>) -> BTreeSet<IpAddr> {
    let is_headless = |s: &&Arc<Service>| s.resolution == Resolution::Passthrough && s.registry == Registry::Kubernetes;
    let endpoints = service.filter(is_headless).and(endpoints);
    let addresses = endpoints.into_iter().flat_map(|endpoints| &endpoints.list);
    addresses
        .filter_map(|endpoint| match endpoint.address {
            Address::Ip(ip) => Some(ip),
            _ => None,
        })
        .collect()
}

/// One holder less for each of the old, one more for each of the new.
pub(crate) fn count(holders: &mut BTreeMap<IpAddr, usize>, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
    for address in new.difference(old) {
        *holders.entry(*address).or_default() += 1;
    }
    for address in old.difference(new) {
        let Some(left) = holders.get_mut(address) else { continue };
        *left -= 1;
        if *left == 0 {
            holders.remove(address);
        }
    }
}
