//! What the receiver learns while the API ends watches, forgets, lacks kinds and tells nonsense.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::fake;

const GATEWAYS: &str = "/apis/networking.istio.io/v1/gateways";

/// A feed of gateways, which an API may lack.
struct Gateways {
    api: fake::Api,
    changes: mpsc::Receiver<Change>,
}

impl Gateways {
    fn start(api: fake::Api) -> Self {
        let kinds: Vec<_> = crate::kinds::watched()
            .into_iter()
            .filter(|k| k.resource.kind == "Gateway")
            .collect();
        assert_eq!(kinds.len(), 1);
        let changes = start(&api.client(), kinds);
        Self { api, changes }
    }

    /// The next changes, in words: `+name` and `-name` for objects, `synced`.
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(600), self.changes.recv()).await;
            told.push(match next.expect("a change in time").unwrap() {
                Change::Apply(object) => format!("+{}", object["metadata"]["name"].as_str().unwrap()),
                Change::Delete {
                    kind, namespace, name, ..
                } => {
                    assert_eq!((&*kind, &*namespace), ("Gateway", "a"));
                    format!("-{name}")
                }
                Change::Synced => "synced".to_owned(),
            });
        }
        told
    }

    /// Nothing more is told for minutes.
    async fn is_quiet(&mut self) {
        let next = tokio::time::timeout(Duration::from_secs(200), self.changes.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

fn path(name: &str) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/a/gateways/{name}")
}

fn put(api: &fake::Api, name: &str) {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": { "name": name, "namespace": "a", "managedFields": [{ "manager": "kubectl" }] }, "spec": {},
    });
    api.put(&path(name), object);
}

#[tokio::test(start_paused = true)]
async fn everything_is_told_once_and_then_changes() {
    let api = fake::Api::default();
    put(&api, "x");
    let mut feed = Gateways::start(api);
    assert_eq!(feed.next(2).await, ["+x", "synced"]);
    put(&feed.api, "y");
    feed.api.delete(&path("x"));
    assert_eq!(feed.next(2).await, ["+y", "-x"]);
    feed.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let api = fake::Api::default();
    put(&api, "x");
    let mut feed = Gateways::start(api);
    feed.next(2).await;
    feed.api.cut_watches(false);
    put(&feed.api, "y");
    assert_eq!(feed.next(1).await, ["+y"], "x is not told again");
    feed.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_version_is_a_new_list_and_what_it_lacks_is_gone() {
    let api = fake::Api::default();
    put(&api, "x");
    put(&api, "y");
    let mut feed = Gateways::start(api);
    assert_eq!(feed.next(3).await, ["+x", "+y", "synced"]);
    // 410 Gone: the deletion of y is in nobody's memory.
    feed.api.delete(&path("y"));
    feed.api.cut_watches(true);
    let mut told = feed.next(2).await;
    // Told by the watch before it ended, or by the list after it; the list tells x again.
    told.sort();
    assert_eq!(told, ["+x", "-y"]);
    put(&feed.api, "z");
    assert_eq!(feed.next(1).await, ["+z"]);
    feed.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_may_come_late_and_go() {
    let api = fake::Api::default();
    api.serves(GATEWAYS, false);
    let mut feed = Gateways::start(api);
    assert_eq!(
        feed.next(1).await,
        ["synced"],
        "nothing waits for a kind that is not there"
    );
    put(&feed.api, "x");
    feed.api.serves(GATEWAYS, true);
    assert_eq!(feed.next(1).await, ["+x"]);
    feed.api.serves(GATEWAYS, false);
    feed.api.cut_watches(true);
    assert_eq!(feed.next(1).await, ["-x"], "without its kind an object is gone");
    feed.is_quiet().await;
}

/// A proxy on the way, or an API server that is about to know its kinds.
#[tokio::test(start_paused = true)]
async fn an_answer_not_found_takes_nothing_away_while_the_kind_is_served() {
    let api = fake::Api::default();
    put(&api, "x");
    // Not at the start either: without the kind's policies nothing may be called read.
    api.loses(GATEWAYS, true);
    let mut feed = Gateways::start(api);
    feed.is_quiet().await;
    feed.api.loses(GATEWAYS, false);
    assert_eq!(feed.next(2).await, ["+x", "synced"]);
    // Nor where discovery is not found itself.
    for hidden in [false, true] {
        feed.api.loses(GATEWAYS, true);
        feed.api.hides_discovery(hidden);
        feed.api.cut_watches(true);
        feed.is_quiet().await;
        feed.api.loses(GATEWAYS, false);
        assert_eq!(feed.next(1).await, ["+x"], "it is listed again");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_kind_of_a_group_takes_the_group_away() {
    let api = fake::Api::default();
    put(&api, "x");
    let mut feed = Gateways::start(api);
    feed.next(2).await;
    for kind in crate::kinds::watched().into_iter().map(|watched| watched.resource) {
        if kind.group == "networking.istio.io" {
            feed.api
                .serves(&format!("/apis/{}/{}", kind.api_version, kind.plural), false);
        }
    }
    feed.api.cut_watches(true);
    assert_eq!(feed.next(1).await, ["-x"]);
    feed.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_nonsense_stops_nobody() {
    let api = fake::Api::default();
    put(&api, "x");
    let mut feed = Gateways::start(api);
    feed.next(2).await;
    feed.api
        .put(&path("bad"), json!({ "metadata": { "name": 7, "labels": "none" } }));
    put(&feed.api, "y");
    // It is left out, and so is that somebody takes it away.
    feed.api.delete(&path("bad"));
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "+y") {
        told.extend(feed.next(1).await);
    }
    assert!(
        told.iter().all(|change| change.starts_with('+')),
        "nothing is taken away: {told:?}"
    );
}
