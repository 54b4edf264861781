//! `proxy-config log`: log levels of a running Envoy.

use std::collections::BTreeMap;

use install::api_server::kind;
use serde_json::{Value, json};

use super::target::{self, Pod};
use super::{Format, LogFlags, document};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;

/// Levels that Envoy knows.
const LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];
/// Level that proxies start with.
const USUAL: &str = "warning";

/// Shows or sets levels; the answer is the list of loggers of each pod.
pub async fn run(global: &Global, flags: &LogFlags) -> Result<String, Failure> {
    if flags.reset && flags.level.is_some() {
        return Err(Failure::new("--level cannot be combined with --reset"));
    }
    let changes = changes(flags);
    let cluster = Cluster::connect(global).await?;
    let mut text = String::new();
    let mut shown = serde_json::Map::new();
    for pod in pods(&cluster, global, flags).await? {
        let to = pod.port(flags.source.proxy_admin_port);
        let ask = async |path: &str| cluster.reach.request(&to, "POST", path).await;
        let mut answer = String::from_utf8_lossy(&ask("/logging").await?).into_owned();
        check(&changes, &answer)?;
        for (logger, level) in &changes {
            let key = if logger.is_empty() { "level" } else { logger };
            answer = String::from_utf8_lossy(&ask(&format!("/logging?{key}={level}")).await?).into_owned();
        }
        let id = format!("{}.{}", pod.name, pod.namespace);
        text.push_str(&format!("{id}:\n{answer}\n"));
        shown.insert(id, json!(loggers(&answer)));
    }
    match flags.source.output {
        Format::Short => Ok(text),
        format => document(format, Value::Object(shown)),
    }
}

/// Pods by name, or by their labels.
async fn pods(cluster: &Cluster, global: &Global, flags: &LogFlags) -> Result<Vec<Pod>, Failure> {
    let namespace = cluster.namespace(global);
    match (&flags.source.proxy, &flags.selector) {
        (Some(name), None) => target::pods(cluster, name, namespace).await,
        (None, Some(selector)) => {
            let mut id = kind("", "v1", "Pod");
            namespace.clone_into(&mut id.namespace);
            let found = cluster.server.list(&id, selector).await?;
            if found.is_empty() {
                return Err(Failure::new(format!("no pods found for selector {selector}")));
            }
            Ok(found.iter().map(Pod::of).collect())
        }
        (Some(_), Some(_)) => Err(Failure::new("name a pod or give --selector, not both")),
        (None, None) => Err(Failure::new(
            "name a pod, for example sleep-5984f48bc7-kmj6x.test-ns or deployment/sleep, or give --selector",
        )),
    }
}

/// `(logger, level)`; no logger is all of them.
fn changes(flags: &LogFlags) -> Vec<(String, String)> {
    let reset = flags.reset.then_some(USUAL);
    let parts = flags.level.iter().flat_map(|level| level.split(',')).chain(reset);
    parts
        .map(|part| part.split_once([':', '=']).unwrap_or(("", part)))
        .map(|(logger, level)| (logger.to_owned(), level.to_owned()))
        .collect()
}

/// Refuses everything before anything is changed.
fn check(changes: &[(String, String)], answer: &str) -> Result<(), Failure> {
    let known = loggers(answer);
    for (logger, level) in changes {
        if !logger.is_empty() && !known.contains_key(logger.as_str()) {
            return Err(Failure::new(format!("unrecognized logger name: {logger}")));
        }
        if !LEVELS.contains(&level.as_str()) {
            return Err(Failure::new(format!(
                "unrecognized logging level: {level} (levels are {})",
                LEVELS.join(", ")
            )));
        }
    }
    Ok(())
}

/// Loggers that Envoy lists (`  http: warning`) with their levels.
fn loggers(answer: &str) -> BTreeMap<&str, &str> {
    answer.lines().filter_map(|line| line.trim().split_once(": ")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(level: &str) -> String {
        let answer = "active loggers:\n  admin: warning\n  http: info\n";
        let changes = [level.split_once(':').unwrap_or(("", level))].map(|(a, b)| (a.to_owned(), b.to_owned()));
        check(&changes, answer).map_or_else(|failure| failure.message().to_owned(), |()| String::new())
    }

    #[test]
    fn loggers_and_levels_are_checked_before_anything_is_changed() {
        assert_eq!(refusal("http:debug"), "");
        assert_eq!(refusal("debug"), "");
        assert_eq!(refusal("nope:debug"), "unrecognized logger name: nope");
        assert!(refusal("http:loud").starts_with("unrecognized logging level: loud"));
    }
}
