//! Ending a container: preStop, the polite signal, the grace period, the impolite one.

use super::hooks;
use super::site::Site;
use crate::runtime::shim::wait_exit;
use k8s_openapi::api::core::v1::Container;
use nix::sys::signal::Signal;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long a killed container may take to disappear before the kill is repeated.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// What is left for SIGTERM after a preStop hook that used up the grace period (kubelet's minimum).
const LEAST: Duration = Duration::from_secs(2);

/// Ends a running container; returns when it is gone. Its exit reaches the worker as any other does.
pub(crate) async fn stop(site: Site, container: Container, attempt: u32, grace: Duration, signal: String) {
    let place = site.place(&container.name, attempt);
    let begun = Instant::now();
    let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
        match tokio::time::timeout(grace, hooks::run(&site, &container, attempt, hook)).await {
            Ok(Ok(())) => {}
            Ok(Err(message)) => site.warn(
                Some(&container.name),
                "FailedPreStopHook",
                format!("PreStopHook failed: {message}"),
            ),
            Err(_) => site.warn(
                Some(&container.name),
                "FailedPreStopHook",
                "PreStopHook did not complete within the grace period".into(),
            ),
        }
    }
    let runtime = &site.node.runtime;
    if !grace.is_zero() {
        let number = signal.parse::<i32>().ok().and_then(|n| Signal::try_from(n).ok());
        let name = if signal.starts_with("SIG") {
            signal.clone()
        } else {
            format!("SIG{signal}")
        };
        let polite = number
            .or_else(|| Signal::from_str(&name).ok())
            .unwrap_or(Signal::SIGTERM);
        if let Err(error) = runtime.kill(&place.id, polite).await {
            tracing::debug!(%error, "container has gone already");
        }
        let rest = grace
            .saturating_sub(begun.elapsed())
            .max(if hook.is_some() { LEAST } else { Duration::ZERO });
        if tokio::time::timeout(rest, wait_exit(&place)).await.is_ok() {
            return;
        }
    }
    for _ in 0..3 {
        let _ = runtime.kill(&place.id, Signal::SIGKILL).await;
        if tokio::time::timeout(AFTER_KILL, wait_exit(&place)).await.is_ok() {
            return;
        }
    }
    runtime.delete(&place.id).await;
}
