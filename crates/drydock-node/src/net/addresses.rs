//! Which pod has which address.

use crate::config::nth;
use crate::error::{Error, Result};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// Addresses of one pod range. They are handed out in turn, so that a freed address rests before it is used again.
#[derive(Debug)]
pub(crate) struct Addresses {
    net: Ipv4Net,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: BTreeSet<Ipv4Addr>,
    last: u32,
}

impl Addresses {
    /// Everything in `net` but its base, the node's own address and broadcast.
    pub(crate) fn new(net: Ipv4Net) -> Self {
        Self {
            net,
            state: Mutex::new(State {
                used: BTreeSet::new(),
                last: 1,
            }),
        }
    }

    /// A free address.
    pub(crate) fn take(&self) -> Result<Ipv4Addr> {
        let size = self.net.broadcast().to_bits() - self.net.network().to_bits();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 2..size {
            state.last = if state.last + 1 >= size { 2 } else { state.last + 1 };
            let ip = nth(self.net, state.last);
            if state.used.insert(ip) {
                return Ok(ip);
            }
        }
        Err(Error::Network(format!(
            "no free address in {}: {} pods have one",
            self.net,
            state.used.len()
        )))
    }

    /// Marks the address of a pod that is already there.
    pub(crate) fn reserve(&self, ip: Ipv4Addr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used.insert(ip);
        let offset = ip.to_bits().saturating_sub(self.net.network().to_bits());
        state.last = state.last.max(offset);
    }

    /// Gives an address back.
    pub(crate) fn release(&self, ip: Ipv4Addr) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .used
            .remove(&ip);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hands_out_in_turn_and_ends() {
        let pool = Addresses::new("10.1.0.0/29".parse().unwrap());
        pool.reserve("10.1.0.2".parse().unwrap());
        let all: Vec<String> = (0..4).map(|_| pool.take().unwrap().to_string()).collect();
        assert_eq!(all, ["10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
        assert!(pool.take().is_err());
        pool.release("10.1.0.4".parse().unwrap());
        assert_eq!(pool.take().unwrap().to_string(), "10.1.0.4");
    }
}
