//! The store as its users see it.
#![allow(clippy::unwrap_used)]

use drydock_store::{Change, Error, Expect, Store};
use proptest::prelude::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

fn directory(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("drydock-store-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn object(text: &str) -> serde_json::Value {
    json!({ "metadata": { "name": "a" }, "data": text })
}

#[tokio::test]
async fn a_write_is_there_after_reopening() {
    let path = directory("reopen");
    let revision = {
        let store = Store::open(&path).unwrap();
        let mode = std::fs::metadata(path.join("store.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "Secrets are in it");
        store.put("x/a", Expect::Absent, object("1")).await.unwrap().revision
    };
    // The writer thread lets go of the file shortly after the last clone is gone.
    let store = loop {
        match Store::open(&path) {
            Ok(store) => break store,
            Err(_) => std::thread::yield_now(),
        }
    };
    let stored = store.get("x/a").unwrap();
    assert_eq!(stored.revision, revision);
    assert_eq!(stored.value["metadata"]["resourceVersion"], revision.to_string());
    assert_eq!(store.revision(), revision);
    assert!(matches!(store.watch("x/", Some(1)), Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn expectations_are_checked() {
    let store = Store::open(&directory("expect")).unwrap();
    let first = store.put("x/a", Expect::Absent, object("1")).await.unwrap();
    assert!(matches!(
        store.put("x/a", Expect::Absent, object("2")).await,
        Err(Error::Conflict { .. })
    ));
    let second = store
        .put("x/a", Expect::Revision(first.revision), object("2"))
        .await
        .unwrap();
    assert!(matches!(
        store.remove("x/a", Expect::Revision(first.revision)).await,
        Err(Error::Conflict { current: Some(current), .. }) if current.revision == second.revision
    ));
    store.remove("x/a", Expect::Revision(second.revision)).await.unwrap();
    assert!(store.get("x/a").is_none());
}

/// Two who make the same object at the same time are often in one batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_sees_what_is_there() {
    let store = Store::open(&directory("refused")).unwrap();
    for round in 0..50 {
        let key = format!("x/{round}");
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (store, key) = (store.clone(), key.clone());
            writers.spawn(async move {
                match store.put(&key, Expect::Absent, object("1")).await {
                    Ok(_) => 1,
                    Err(Error::Conflict { .. }) => {
                        assert!(store.get(&key).is_some(), "{key} is there and cannot be seen");
                        0
                    }
                    Err(error) => panic!("{error}"),
                }
            });
        }
        assert_eq!(writers.join_all().await.into_iter().sum::<i32>(), 1);
    }
}

#[tokio::test]
async fn a_watch_resumes_and_goes_on() {
    let store = Store::open(&directory("watch")).unwrap();
    let first = store.put("x/a", Expect::Absent, object("1")).await.unwrap();
    store.put("y/b", Expect::Absent, object("other")).await.unwrap();
    let second = store
        .put("x/a", Expect::Revision(first.revision), object("2"))
        .await
        .unwrap();
    let mut watch = store.watch("x/", Some(first.revision)).unwrap();
    store.remove("x/a", Expect::Revision(second.revision)).await.unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!(
        (event.change, event.value["data"].as_str()),
        (Change::Modified, Some("2"))
    );
    let event = watch.next().await.unwrap();
    assert_eq!(
        (event.change, event.value["data"].as_str()),
        (Change::Deleted, Some("2"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_past_list_can_be_had(steps in prop::collection::vec((0u8..4, any::<bool>()), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&directory(&format!("past-{:?}", std::thread::current().id()))).unwrap();
            let mut seen = vec![(store.revision(), Vec::new())];
            for (number, remove) in steps {
                let key = format!("x/{number}");
                let expect = store.get(&key).map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
                let _ = if remove {
                    store.remove(&key, expect).await
                } else {
                    store.put(&key, expect, object(&key)).await
                };
                let listing = store.list("x/");
                let items: Vec<_> = listing.items.into_iter().map(|one| (one.key, one.revision)).collect();
                seen.push((listing.revision, items));
            }
            for (revision, expected) in seen {
                let listing = store.list_at("x/", revision).unwrap();
                let items: Vec<_> = listing.items.into_iter().map(|one| (one.key, one.revision)).collect();
                assert_eq!(items, expected, "at {revision}");
            }
        });
    }
}
