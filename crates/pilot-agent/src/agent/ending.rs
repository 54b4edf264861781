//! How Envoy and the agent end (control-plane.md §4.8).

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::Prepared;
use crate::envoy::Envoy;
use crate::status::Order;

/// Pause between looks at open connections while draining.
const CONNECTION_CHECK: Duration = Duration::from_secs(1);
/// Looks that may fail before the end is not waited for any longer.
const MAX_FAILED_CHECKS: u32 = 5;

/// Envoy runs; what is left is how it ends.
pub(super) struct Running<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) envoy: Envoy,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) ending: watch::Sender<bool>,
    pub(super) signals: Signals,
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Running<'_> {
    pub(super) async fn until_end(mut self) -> anyhow::Result<()> {
        let mut drained = false;
        loop {
            tokio::select! {
                // An order that was answered before the signal came counts.
                biased;
                status = self.envoy.ended() => {
                    let status = status.context("cannot wait for Envoy")?;
                    self.ending.send_replace(true);
                    if status.success() {
                        tracing::info!("Envoy ended");
                        return Ok(());
                    }
                    anyhow::bail!("Envoy ended by itself: {status}; its log above says why");
                }
                order = self.orders.recv() => match order {
                    Some(Order::Drain) => {
                        self.drain(true).await;
                        drained = true;
                    }
                    _ => return self.end("told to quit").await,
                },
                () = self.signals.next() => break,
            }
        }
        if drained {
            return self.end("drained before").await;
        }
        tracing::info!("told to end; draining");
        self.ending.send_replace(true);
        self.drain(false).await;
        if self.prepared.settings.exit_on_zero_connections {
            self.wait_for_connections().await;
        } else {
            let wait = self
                .prepared
                .config
                .duration("terminationDrainDuration")?
                .unwrap_or(Duration::from_secs(5));
            self.pause(wait).await;
        }
        self.end("drained").await
    }

    async fn drain(&self, stay: bool) {
        if let Err(error) = self.prepared.admin.drain(stay).await {
            tracing::warn!(%error, "Envoy cannot be told to drain");
        }
    }

    async fn end(mut self, why: &str) -> anyhow::Result<()> {
        tracing::info!(why, "ending Envoy");
        self.ending.send_replace(true);
        self.envoy.end().await;
        Ok(())
    }

    /// Waits, but not longer than Envoy lives, nor after an order to quit or a second signal.
    async fn pause(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            _ = self.envoy.ended() => false,
            () = self.signals.next() => false,
            () = quit(&mut self.orders) => false,
        }
    }

    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`: at least the minimum drain, then until no client is connected. Kubernetes'
    /// grace period bounds it.
    async fn wait_for_connections(&mut self) {
        let settings = &self.prepared.settings;
        let own = [
            settings.envoy_status_port,
            settings.envoy_prometheus_port,
            settings.secure_metrics_port,
            settings.secure_merged_metrics_port,
        ];
        if !self.pause(settings.minimum_drain).await {
            return;
        }
        let mut failed = 0;
        loop {
            match self.prepared.admin.active_connections(&own).await {
                Ok(None | Some(0)) => return,
                Ok(Some(open)) => {
                    failed = 0;
                    tracing::info!(open, "there are still active connections");
                }
                Err(error) => {
                    failed += 1;
                    tracing::warn!(%error, "cannot see active connections");
                    if failed >= MAX_FAILED_CHECKS {
                        return;
                    }
                }
            }
            if !self.pause(CONNECTION_CHECK).await {
                return;
            }
        }
    }
}

/// Resolves when the order to quit arrives; others are too late to matter.
async fn quit(orders: &mut mpsc::Receiver<Order>) {
    loop {
        match orders.recv().await {
            Some(Order::Quit) => return,
            Some(Order::Drain) => {}
            None => std::future::pending().await,
        }
    }
}
