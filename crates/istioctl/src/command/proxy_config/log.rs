//! `proxy-config log`: log levels of a running Envoy.

use serde_json::Value;

use super::{LogFlags, target};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;

/// Levels that Envoy knows.
const LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];
/// Level that proxies start with.
const USUAL: &str = "warning";

/// Shows or sets levels; the answer is the list of loggers.
pub async fn run(global: &Global, flags: &LogFlags) -> Result<String, Failure> {
    let changes = changes(flags)?;
    let Some(name) = &flags.source.proxy else {
        return Err(Failure::new(
            "name a pod, for example sleep-5984f48bc7-kmj6x.test-ns or deployment/sleep",
        ));
    };
    let cluster = Cluster::connect(global).await?;
    let namespace = global.namespace.as_deref().unwrap_or(&cluster.default_namespace);
    let mut text = String::new();
    for pod in target::pods(&cluster, name, namespace).await? {
        let to = pod.port(flags.source.proxy_admin_port);
        let ask = async |path: &str| cluster.reach.request(&to, "POST", path).await;
        let mut answer = String::from_utf8_lossy(&ask("/logging").await?).into_owned();
        for (logger, level) in &changes {
            if !logger.is_empty() && !knows(&answer, logger) {
                return Err(Failure::new(format!("unrecognized logger name: {logger}")));
            }
            let key = if logger.is_empty() { "level" } else { logger };
            answer = String::from_utf8_lossy(&ask(&format!("/logging?{key}={level}")).await?).into_owned();
        }
        text.push_str(&format!("{}.{}:\n{answer}\n", pod.name, pod.namespace));
    }
    Ok(text)
}

/// `(logger, level)`; no logger is all of them.
fn changes(flags: &LogFlags) -> Result<Vec<(String, String)>, Failure> {
    let mut changes = Vec::new();
    if flags.reset {
        changes.push((String::new(), USUAL.to_owned()));
    }
    for part in flags.level.iter().flat_map(|level| level.split(',')) {
        let (logger, level) = part.split_once([':', '=']).unwrap_or(("", part));
        if !LEVELS.contains(&level) {
            return Err(Failure::new(format!("unrecognized logging level: {level}")));
        }
        if !logger.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Failure::new(format!("unrecognized logger name: {logger}")));
        }
        changes.push((logger.to_owned(), level.to_owned()));
    }
    Ok(changes)
}

/// Is a logger among those that Envoy lists (`  http: warning`)?
fn knows(answer: &str, logger: &str) -> bool {
    answer.lines().any(|line| line.trim().split(':').next() == Some(logger))
        || serde_json::from_str::<Value>(answer).is_ok()
}
