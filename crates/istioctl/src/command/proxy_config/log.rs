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
    let pods = pods(&cluster, cluster.namespace(global), whose).await?;
    let answers = set(&cluster, &pods, flags.source.proxy_admin_port, &changes).await?;
    for (pod, answer) in pods.iter().zip(answers) {
        let id = format!("{}.{}", pod.name, pod.namespace);
        text.push_str(&format!("{id}:\n{answer}"));
        shown.insert(id, json!(loggers(&answer)));
    }
    match flags.source.output {
        Format::Short => Ok(text),
        format => document(format, Value::Object(shown)),
    }
}

/// Sets levels, of no pod before those of all were found to be right; the answers are the loggers of each pod.
async fn set(cluster: &Cluster, pods: &[Pod], port: u16, changes: &[(String, String)]) -> Result<Vec<String>, Failure> {
    let ask = async |pod: &Pod, path: &str| {
        let answer = cluster.reach.request(&pod.port(port), "POST", path).await?;
        Ok::<_, Failure>(String::from_utf8_lossy(&answer).into_owned())
    };
    let mut answers = Vec::new();
    for pod in pods {
        let answer = ask(pod, "/logging").await?;
        check(changes, &answer)?;
        answers.push(answer);
    }
    for (pod, answer) in pods.iter().zip(&mut answers) {
        for (logger, level) in changes {
            let key = if logger.is_empty() { "level" } else { logger };
            *answer = ask(pod, &format!("/logging?{key}={level}")).await?;
        }
    }
    Ok(answers)
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
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use status::forward::{ForwardError, PodPort, Reach};

    use super::*;

    /// Two pods; the Envoy of the second has no logger `http`.
    #[derive(Debug, Default)]
    struct Two(Mutex<Vec<String>>);

    #[async_trait::async_trait]
    impl Reach for Two {
        async fn request(&self, to: &PodPort<'_>, _: &str, path: &str) -> Result<Bytes, ForwardError> {
            self.0.lock().unwrap().push(format!("{} {path}", to.pod));
            Ok(if to.pod == "a" {
                "  http: info\n"
            } else {
                "  admin: info\n"
            }
            .into())
        }
    }

    #[tokio::test]
    async fn nothing_is_set_where_one_of_several_pods_would_refuse() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let two = Arc::new(Two::default());
        let cluster = Cluster::with(kube::Client::new(nobody, "app"), two.clone(), "app");
        let pods = ["a", "b"].map(|name| Pod {
            name: name.to_owned(),
            namespace: "app".to_owned(),
        });
        let failure = set(&cluster, &pods, 15000, &[change("http:debug")]).await.unwrap_err();
        assert_eq!(failure.message(), "unrecognized logger name: http");
        assert_eq!(*two.0.lock().unwrap(), ["a /logging", "b /logging"]);
    }

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
