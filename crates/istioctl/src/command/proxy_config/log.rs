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
    let (whose, changes) = (whose(flags)?, changes(flags));
    let cluster = Cluster::connect(global).await?;
    let mut text = String::new();
    let mut shown = serde_json::Map::new();
    for pod in pods(&cluster, cluster.namespace(global), whose).await? {
        let to = pod.port(flags.source.proxy_admin_port);
        let ask = async |path: &str| cluster.reach.request(&to, "POST", path).await;
        let mut answer = String::from_utf8_lossy(&ask("/logging").await?).into_owned();
        check(&changes, &answer)?;
        for (logger, level) in &changes {
            let key = if logger.is_empty() { "level" } else { logger };
            answer = String::from_utf8_lossy(&ask(&format!("/logging?{key}={level}")).await?).into_owned();
        }
        let id = format!("{}.{}", pod.name, pod.namespace);
        text.push_str(&format!("{id}:\n{answer}"));
        shown.insert(id, json!(loggers(&answer)));
    }
    match flags.source.output {
        Format::Short => Ok(text),
        format => document(format, Value::Object(shown)),
    }
}

/// Whose levels.
enum Whose<'a> {
    Named(&'a str),
    Labelled(&'a str),
}

fn whose(flags: &LogFlags) -> Result<Whose<'_>, Failure> {
    match (&flags.source.proxy, &flags.selector) {
        (Some(name), None) => Ok(Whose::Named(name)),
        (None, Some(selector)) => Ok(Whose::Labelled(selector)),
        (Some(_), Some(_)) => Err(Failure::new("name a pod or give --selector, not both")),
        (None, None) => Err(Failure::new(
            "log requires pod name or --selector, for example sleep-5984f48bc7-kmj6x.test-ns, deployment/sleep or -l app=sleep",
        )),
    }
}

async fn pods(cluster: &Cluster, namespace: &str, whose: Whose<'_>) -> Result<Vec<Pod>, Failure> {
    let selector = match whose {
        Whose::Named(name) => return target::pods(cluster, name, namespace).await,
        Whose::Labelled(selector) => selector,
    };
    let mut id = kind("", "v1", "Pod");
    namespace.clone_into(&mut id.namespace);
    let found = cluster.server.list(&id, selector).await?;
    if found.is_empty() {
        return Err(Failure::new(format!("no pods found for selector {selector}")));
    }
    Ok(found.iter().map(Pod::of).collect())
}

/// `(logger, level)`; no logger is all of them.
fn changes(flags: &LogFlags) -> Vec<(String, String)> {
    let reset = flags.reset.then_some(USUAL);
    let parts = flags.level.iter().flat_map(|level| level.split(',')).chain(reset);
    parts.map(change).collect()
}

/// `debug`, `http:debug`, `http=debug` or, as Istio's own programs write it, `envoy::http:debug`.
fn change(part: &str) -> (String, String) {
    let part = part.rsplit("::").next().unwrap_or(part);
    let (logger, level) = part.split_once([':', '=']).unwrap_or(("", part));
    // Envoy's own word for all of them.
    let logger = if logger == "level" { "" } else { logger };
    let level = if level == "warn" { USUAL } else { level };
    (logger.to_owned(), level.to_owned())
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
        check(&[change(level)], answer).map_or_else(|failure| failure.message().to_owned(), |()| String::new())
    }

    #[test]
    fn loggers_and_levels_are_checked_before_anything_is_changed() {
        assert_eq!(refusal("http:debug"), "");
        assert_eq!(refusal("debug"), "");
        assert_eq!(refusal("level:warn"), "");
        assert_eq!(refusal("envoy::http=trace"), "");
        assert_eq!(refusal("nope:debug"), "unrecognized logger name: nope");
        assert!(refusal("http:loud").starts_with("unrecognized logging level: loud"));
    }
}
