//! postStart and preStop.

use super::site::Site;
use crate::probe;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

/// Longest a hook may take where nothing else bounds it.
const LONGEST: Duration = Duration::from_secs(600);

/// Runs one hook to its end.
///
/// # Errors
/// With what went wrong, as the event shows it.
pub(crate) async fn run(
    site: &Site,
    container: &Container,
    attempt: u32,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        return probe::exec(site, &container.name, attempt, &command, LONGEST).await;
    }
    if let Some(get) = &hook.http_get {
        return probe::http_get(site, container, get, LONGEST).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
