//! Which pods are this node's, and what is left of those that no longer are.

use super::Node;
use super::patience::Patience;
use crate::pod::{self, Message, Sandbox, key};
use crate::runtime::cgroup;
use crate::{mounts, volumes};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_api};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Addresses of pods that an earlier process left, before any new pod can get one.
pub(super) fn reserve_addresses(node: &Node) {
    for dir in folders(&node.config.pods_dir()) {
        if let Some(sandbox) = Sandbox::read(&dir).filter(|s| s.netns.is_some()) {
            node.addresses.reserve(sandbox.ip);
        }
    }
}

/// Follows the pods bound to this node; one worker each.
pub(super) async fn watch(node: Arc<Node>) {
    // A container's environment names the services there are: they are known before the first one starts.
    node.objects.network_known().await;
    let api: Api<Pod> = Api::all(node.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.config.name));
    let stream = watch_api(api, config).backoff(Patience::default());
    let mut stream = std::pin::pin!(stream);
    let (mut listed, mut first) = (BTreeSet::new(), true);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(key(&pod).2.to_string());
                accept(&node, pod);
            }
            Ok(Event::InitDone) => {
                drop_missing(&node, &listed);
                if std::mem::take(&mut first) {
                    remove_orphans(&node, &listed).await;
                }
            }
            Ok(Event::Apply(pod)) => accept(&node, pod),
            Ok(Event::Delete(pod)) => {
                let uid = key(&pod).2;
                match node.worker(uid) {
                    Some(handle) => drop(handle.pod.send_replace(None)),
                    None => drop(node.pods().done.remove(uid)),
                }
            }
            Err(error) => tracing::debug!(%error, "pod watch interrupted"),
        }
        node.objects.network.notify_one();
    }
}

fn accept(node: &Arc<Node>, pod: Pod) {
    let uid = key(&pod).2.to_string();
    let pod = Arc::new(pod);
    let mut pods = node.pods();
    match pods.workers.get(&uid) {
        Some(handle) => drop(handle.pod.send_replace(Some(pod))),
        None if pods.done.contains(&uid) => {}
        None => drop(pods.workers.insert(uid, Arc::new(pod::spawn(node.clone(), pod)))),
    }
}

/// Pods that were removed while the watch was away.
fn drop_missing(node: &Node, listed: &BTreeSet<String>) {
    let mut pods = node.pods();
    for (_, handle) in pods.workers.iter().filter(|(uid, _)| !listed.contains(*uid)) {
        handle.pod.send_replace(None);
    }
    pods.done.retain(|uid| listed.contains(uid));
}

/// An object changed: workers whose pods show it look again.
pub(super) fn refresh(node: &Node, namespace: &str, name: &str) {
    for handle in node.workers() {
        let shown = handle.pod.borrow().as_ref().is_some_and(|p| {
            key(p).0 == namespace && (volumes::config_maps(p).contains(name) || volumes::secrets(p).contains(name))
        });
        if shown {
            // A full queue means that the worker will look anyway.
            let _ = handle.messages.try_send(Message::Refresh);
        }
    }
}

fn folders(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect()
}

/// Takes apart pods on disk that the API server does not know, and containers that belong to no pod on disk.
async fn remove_orphans(node: &Arc<Node>, listed: &BTreeSet<String>) {
    for dir in folders(&node.config.pods_dir()) {
        let uid = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if listed.contains(&uid) {
            continue;
        }
        tracing::info!(uid, "removing what is left of a pod");
        for container in folders(&dir.join("containers")) {
            for run in folders(&container) {
                let name = container.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let attempt = run
                    .file_name()
                    .and_then(|n| n.to_str())
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0);
                let place = crate::runtime::Place::new(&dir, &node.config.run_dir(), &uid, &name, attempt);
                node.runtime.delete(&place.id).await;
                place.unmount();
            }
        }
        cgroup::remove(&format!("/{}/{uid}", node.config.bridge()));
        if let Some(sandbox) = Sandbox::read(&dir) {
            sandbox.remove(node, &dir).await;
        }
        if let Err(error) = mounts::remove(&dir) {
            tracing::warn!(uid, %error, "pod folder not removed");
        }
    }
}
