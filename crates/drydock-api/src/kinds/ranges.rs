//! Cluster addresses and node ports: who has which.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::list;
use crate::meta;

/// First and last node port.
pub const NODE_PORTS: (u16, u16) = (30000, 32767);

/// Allocated addresses and ports with the uid of their Service.
#[derive(Debug)]
pub struct Ranges {
    cidr: Ipv4Net,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: BTreeMap<Ipv4Addr, String>,
    ports: BTreeMap<u16, String>,
    next: u32,
}

impl Ranges {
    /// An empty allocator over the service addresses.
    pub fn new(cidr: Ipv4Net) -> Self {
        Self {
            cidr,
            state: Mutex::new(State::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service addresses.
    pub fn cidr(&self) -> Ipv4Net {
        self.cidr
    }

    /// Takes over what a stored Service has.
    pub fn adopt(&self, service: &Value) {
        let uid = meta::text(service, "uid").to_owned();
        let mut state = self.state();
        for address in list(service, "/spec/clusterIPs").iter().filter_map(Value::as_str) {
            if let Ok(address) = address.parse() {
                state.addresses.insert(address, uid.clone());
            }
        }
        for port in ports(service) {
            state.ports.insert(port, uid.clone());
        }
    }

    /// Gives back what a removed Service had.
    pub fn release(&self, service: &Value) {
        self.release_uid(meta::text(service, "uid"));
    }

    /// Gives back everything of one owner.
    pub fn release_uid(&self, uid: &str) {
        let mut state = self.state();
        state.addresses.retain(|_, owner| owner != uid);
        state.ports.retain(|_, owner| owner != uid);
    }

    /// Takes one address for `uid`; `false` if somebody else has it or it is not ours.
    pub fn claim_address(&self, address: Ipv4Addr, uid: &str) -> Result<(), &'static str> {
        if !self.cidr.contains(&address) || address == self.cidr.network() || address == self.cidr.broadcast() {
            return Err("provided IP is not in the valid range");
        }
        let mut state = self.state();
        match state.addresses.get(&address) {
            Some(owner) if owner != uid => Err("provided IP is already allocated"),
            _ => {
                state.addresses.insert(address, uid.to_owned());
                Ok(())
            }
        }
    }

    /// Takes any free address. The lowest 16 are left for well-known ones (`kubernetes`, DNS).
    pub fn take_address(&self, uid: &str) -> Option<Ipv4Addr> {
        let size = 1u32.checked_shl(u32::from(32 - self.cidr.prefix_len()))?;
        let base = u32::from(self.cidr.network());
        let reserved = 16.min(size / 4);
        let usable = size.checked_sub(reserved + 1)?;
        let mut state = self.state();
        for _ in 0..usable {
            let address = Ipv4Addr::from(base + reserved + state.next % usable);
            state.next = state.next.wrapping_add(1);
            if let Entry::Vacant(free) = state.addresses.entry(address) {
                free.insert(uid.to_owned());
                return Some(address);
            }
        }
        None
    }

    /// Gives one address back.
    pub fn release_address(&self, address: &str) {
        if let Ok(address) = address.parse() {
            self.state().addresses.remove(&address);
        }
    }

    /// Takes one port.
    pub fn claim_port(&self, port: u16, uid: &str) -> Result<(), &'static str> {
        if !(NODE_PORTS.0..=NODE_PORTS.1).contains(&port) {
            return Err("provided port is not in the valid range. The range of valid ports is 30000-32767");
        }
        let mut state = self.state();
        match state.ports.get(&port) {
            Some(owner) if owner != uid => Err("provided port is already allocated"),
            _ => {
                state.ports.insert(port, uid.to_owned());
                Ok(())
            }
        }
    }

    /// Takes any free port.
    pub fn take_port(&self, uid: &str) -> Option<u16> {
        let mut state = self.state();
        let count = u32::from(NODE_PORTS.1 - NODE_PORTS.0) + 1;
        let start = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().ok()?) % count;
        for offset in 0..count {
            let port = NODE_PORTS.0 + u16::try_from((start + offset) % count).ok()?;
            if let Entry::Vacant(free) = state.ports.entry(port) {
                free.insert(uid.to_owned());
                return Some(port);
            }
        }
        None
    }

    /// Gives one port back.
    pub fn release_port(&self, port: u16) {
        self.state().ports.remove(&port);
    }
}

/// Node ports of a Service, the health check's included.
pub fn ports(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = list(service, "/spec/ports")
        .iter()
        .filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok())
        .filter(|port| *port > 0)
        .collect();
    let health = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64);
    ports.extend(
        health
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0),
    );
    ports
}
