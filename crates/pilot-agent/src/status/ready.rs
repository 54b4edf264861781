//! When the proxy may get traffic: Envoy has its first configuration, is live, and its workers run. Once ready it stays
//! ready: a proxy goes on with what it has while istiod is away.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::envoy::Admin;
use crate::relay::Health;

/// Envoy's statistics that decide, as a percent-encoded regular expression.
const FILTER: &str = "%5E(server%5C.state%7Clistener_manager%5C.(workers_started%7Clds%5C.update_(success%7Crejected))\
                      %7Ccluster_manager%5C.cds%5C.update_(success%7Crejected))%24";

/// The proxy's readiness.
#[derive(Debug)]
pub struct Readiness {
    admin: Admin,
    istiod: watch::Receiver<Health>,
    was_ready: AtomicBool,
    ending: watch::Receiver<bool>,
}

/// The statistics that decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CDS updates accepted.
    pub cds: u64,
    /// CDS updates rejected.
    pub cds_rejected: u64,
    /// LDS updates accepted.
    pub lds: u64,
    /// LDS updates rejected.
    pub lds_rejected: u64,
    /// `server.state`; 0 is live.
    pub state: Option<u64>,
    /// Workers run.
    pub workers: bool,
}

impl Stats {
    /// From lines `name: value`.
    pub fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        for (name, value) in text.lines().filter_map(|l| l.split_once(": ")) {
            let Ok(value) = value.trim().parse::<u64>() else {
                continue;
            };
            match name {
                "cluster_manager.cds.update_success" => stats.cds = value,
                "cluster_manager.cds.update_rejected" => stats.cds_rejected = value,
                "listener_manager.lds.update_success" => stats.lds = value,
                "listener_manager.lds.update_rejected" => stats.lds_rejected = value,
                "server.state" => stats.state = Some(value),
                "listener_manager.workers_started" => stats.workers = value == 1,
                _ => {}
            }
        }
        stats
    }

    /// Why the proxy is not ready, if it is not; `istiod` adds what is known of the connection.
    pub fn problem(&self, istiod: &Health) -> Option<String> {
        let updates = || {
            let connection = if istiod.problem.is_empty() {
                String::new()
            } else {
                format!("; istiod: {}", istiod.problem)
            };
            format!(
                "cds updates: {} successful, {} rejected; lds updates: {} successful, {} rejected{connection}",
                self.cds, self.cds_rejected, self.lds, self.lds_rejected
            )
        };
        if self.cds == 0 || self.lds == 0 {
            let what = if self.cds_rejected > 0 || self.lds_rejected > 0 {
                "config received from XDS server, but was rejected"
            } else if self.cds == 0 && self.lds == 0 {
                "config not received from XDS server (is Istiod running?)"
            } else {
                "config not fully received from XDS server"
            };
            return Some(format!("{what}: {}", updates()));
        }
        match self.state {
            Some(0) if self.workers => None,
            Some(0) => Some("workers have not yet started".to_owned()),
            state => {
                let name = match state {
                    Some(1) => "DRAINING",
                    Some(2) => "PRE_INITIALIZING",
                    Some(3) => "INITIALIZING",
                    _ => "UNKNOWN",
                };
                Some(format!("server is not live, current state is: {name}"))
            }
        }
    }
}

impl Readiness {
    /// Asks `admin`; `ending` becomes true when the agent ends.
    pub fn new(admin: Admin, istiod: watch::Receiver<Health>, ending: watch::Receiver<bool>) -> Self {
        Self {
            admin,
            istiod,
            was_ready: AtomicBool::new(false),
            ending,
        }
    }

    /// Whether the proxy is ready.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn check(&self) -> Result<(), String> {
        if *self.ending.borrow() {
            return Err("server is terminated: the agent is ending".to_owned());
        }
        if self.was_ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stats = self
            .admin
            .stats(FILTER)
            .await
            .map_err(|e| format!("failed to get readiness stats: {e}"))?;
        if let Some(problem) = Stats::parse(&stats).problem(&self.istiod.borrow()) {
            return Err(problem);
        }
        self.was_ready.store(true, Ordering::Relaxed);
        tracing::info!("Envoy proxy is ready");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, problem: &str, expected: Option<&str>) {
        let istiod = Health {
            problem: problem.to_owned(),
            ..Health::default()
        };
        let said = Stats::parse(text).problem(&istiod);
        match expected {
            None => assert_eq!(said, None),
            Some(part) => assert!(said.as_deref().unwrap_or_default().contains(part), "{said:?}"),
        }
    }

    #[test]
    fn ready_needs_configuration_a_live_server_and_workers() {
        let updates = "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\n";
        check("", "connection refused", Some("is Istiod running?"));
        check("", "connection refused", Some("istiod: connection refused"));
        check(
            "cluster_manager.cds.update_success: 1\n",
            "",
            Some("not fully received"),
        );
        check(
            "listener_manager.lds.update_rejected: 1\n",
            "",
            Some("but was rejected"),
        );
        check(&format!("{updates}server.state: 3\n"), "", Some("INITIALIZING"));
        check(
            &format!("{updates}server.state: 0\nlistener_manager.workers_started: 0\n"),
            "",
            Some("workers"),
        );
        check(
            &format!("{updates}server.state: 0\nlistener_manager.workers_started: 1\n"),
            "",
            None,
        );
    }
}
