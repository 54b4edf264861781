//! A write that was acknowledged is there after `kill -9`.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use drydock_store::{Expect, Store};
use serde_json::json;

/// Names the directory to the child.
const CHILD: &str = "DRYDOCK_STORE_CRASH_CHILD";
/// Acknowledged writes after which the child is killed.
const ENOUGH: usize = 300;

/// The child: writes until it is killed, and says each time what has been acknowledged.
#[tokio::test]
async fn child() {
    let Some(directory) = env::var_os(CHILD) else { return };
    let store = Store::open(&PathBuf::from(directory)).unwrap();
    for round in 0.. {
        let writes = (0..8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = format!("x/{round}-{number}");
                let written = store
                    .put(&key, Expect::Absent, json!({ "metadata": {} }))
                    .await
                    .unwrap();
                println!("acknowledged {key} {}", written.revision);
            })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap();
        }
    }
}

#[test]
fn acknowledged_writes_survive_a_kill() {
    let directory = env::temp_dir().join(format!("drydock-store-crash-{}", std::process::id()));
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, &directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut words = line.split_whitespace();
        if words.next() == Some("acknowledged") {
            let key = words.next().unwrap().to_owned();
            acknowledged.push((key, words.next().unwrap().parse::<u64>().unwrap()));
        }
        if acknowledged.len() == ENOUGH {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&directory).unwrap();
    for (key, revision) in &acknowledged {
        assert_eq!(store.get(key).map(|stored| stored.revision), Some(*revision), "{key}");
    }
    assert!(store.revision() >= acknowledged.iter().map(|(_, revision)| *revision).max().unwrap());
    drop(store);
    std::fs::remove_dir_all(&directory).unwrap();
}
