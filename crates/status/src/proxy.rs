//! Proxies as an istiod sees them: `/debug/syncz` (revisions.md §6.4, §6.6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most proxies read from one answer.
const MOST_PROXIES: usize = 200_000;

/// The types of the status table, in its order, with their type URLs.
pub const TYPES: [(&str, &str, &str); 5] = [
    ("CDS", "cluster", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    (
        "LDS",
        "listener",
        "type.googleapis.com/envoy.config.listener.v3.Listener",
    ),
    (
        "EDS",
        "endpoint",
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    ),
    (
        "RDS",
        "route",
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    ),
    (
        "ECDS",
        "extensionconfig",
        "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    ),
];

/// State of one configuration type at one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Sync {
    /// The proxy has acknowledged the last that was sent.
    Synced,
    /// Sent, and not acknowledged yet.
    Stale,
    /// Nothing was sent, because the proxy did not ask or there was nothing.
    NotSent,
    /// The proxy refused the last that was sent; it runs on with what it had.
    Error(String),
}

impl Sync {
    /// As the status table shows it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::Stale => "STALE",
            Self::NotSent => "NOT SENT",
            Self::Error(_) => "ERROR",
        }
    }
}

/// A proxy that is connected to an istiod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// `<pod>.<namespace>`.
    pub id: String,
    /// Namespace of its pod.
    pub namespace: String,
    /// Cluster the proxy is in.
    pub cluster: String,
    /// Version of the proxy, empty if it does not say.
    pub version: String,
    /// State by type that the proxy asked for: by short name those of [`TYPES`], by type URL others.
    pub types: BTreeMap<String, Sync>,
}

impl Proxy {
    /// State of a type by its short name; what was never asked for was not sent.
    pub fn state(&self, short: &str) -> &Sync {
        self.types.get(short).unwrap_or(&Sync::NotSent)
    }
}

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the answer is no list of proxies: {0}")]
pub struct AnswerError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    cluster_id: String,
    #[serde(default)]
    proxy: String,
    #[serde(default)]
    istio_version: String,
    #[serde(default)]
    resources: BTreeMap<String, Resource>,
    #[serde(flatten)]
    nonces: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    sent: String,
    acked: String,
    last_error: String,
}

/// Reads an answer.
///
/// # Errors
/// If it is no JSON of the expected shape.
pub fn parse(answer: &[u8]) -> Result<Vec<Proxy>, AnswerError> {
    let entries: Option<Vec<Entry>> = serde_json::from_slice(answer)?;
    Ok(entries
        .unwrap_or_default()
        .into_iter()
        .take(MOST_PROXIES)
        .map(proxy)
        .collect())
}

fn proxy(entry: Entry) -> Proxy {
    let mut types = BTreeMap::new();
    for (short, prefix, url) in TYPES {
        let nonce = |suffix: &str| {
            entry
                .nonces
                .get(&format!("{prefix}_{suffix}"))
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let state = match (entry.resources.get(url), nonce("sent"), nonce("acked")) {
            (Some(resource), ..) => state(&resource.sent, &resource.acked, &resource.last_error),
            // It did not ask.
            (None, "", "") => continue,
            (None, sent, acked) => state(sent, acked, ""),
        };
        types.insert(short.to_owned(), state);
    }
    for (url, resource) in &entry.resources {
        if TYPES.iter().all(|(_, _, known)| known != url) {
            types.insert(
                url.clone(),
                state(&resource.sent, &resource.acked, &resource.last_error),
            );
        }
    }
    // The name of a pod may have dots, that of a namespace has none.
    let namespace = entry.proxy.rsplit_once('.').map_or("", |(_, namespace)| namespace);
    Proxy {
        namespace: namespace.to_owned(),
        id: entry.proxy,
        cluster: entry.cluster_id,
        version: entry.istio_version,
        types,
    }
}

/// The first that applies: refused, nothing sent, acknowledged, under way.
fn state(sent: &str, acked: &str, error: &str) -> Sync {
    if !error.is_empty() {
        Sync::Error(error.to_owned())
    } else if sent.is_empty() {
        Sync::NotSent
    } else if sent == acked {
        Sync::Synced
    } else {
        Sync::Stale
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(entry: serde_json::Value, expected: [&str; 5]) {
        let proxies = parse(serde_json::json!([entry]).to_string().as_bytes()).unwrap();
        assert_eq!(TYPES.map(|(short, _, _)| proxies[0].state(short).word()), expected);
    }

    #[test]
    fn a_type_is_in_the_first_state_that_applies() {
        check(
            serde_json::json!({"proxy": "sleep-1.app", "cluster_sent": "a", "cluster_acked": "a", "listener_sent": "b",
                "listener_acked": "a", "endpoint_sent": "c"}),
            ["SYNCED", "STALE", "STALE", "NOT SENT", "NOT SENT"],
        );
        check(
            serde_json::json!({"proxy": "sleep-1.app", "resources": {
                "type.googleapis.com/envoy.config.listener.v3.Listener": {"sent": "a", "acked": "a", "lastError": "bad"},
                "type.googleapis.com/envoy.config.cluster.v3.Cluster": {"sent": "a", "acked": "a"}}}),
            ["SYNCED", "ERROR", "NOT SENT", "NOT SENT", "NOT SENT"],
        );
    }

    #[test]
    fn a_namespace_follows_the_last_dot() {
        let namespace = |id: &str| {
            let answer = serde_json::json!([{ "proxy": id }]).to_string();
            parse(answer.as_bytes()).unwrap().remove(0).namespace
        };
        assert_eq!(namespace("web-v1.2-0.app"), "app");
        assert_eq!(namespace("web"), "");
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        assert!(parse(b"not json").is_err());
        assert_eq!(parse(b"null").unwrap(), []);
    }
}
