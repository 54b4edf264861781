//! Events about pods, with repetition counted instead of repeated.

use crate::pod::key;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events waiting to be written; more are dropped rather than held.
const QUEUE: usize = 1024;
/// Distinct events whose count is remembered.
const REMEMBERED: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(5);

/// The node's way to say what happened. Never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Event>,
    node: String,
}

impl Events {
    /// The recorder, and the task that writes.
    pub(super) fn new(client: kube::Client, node: String) -> (Self, impl Future<Output = ()>) {
        let (queue, entries) = mpsc::channel(QUEUE);
        (Self { queue, node }, write(client, entries))
    }

    /// An event about a pod or one of its containers.
    pub(crate) fn pod(&self, pod: &Pod, container: Option<&str>, kind: &str, reason: &str, message: String) {
        let (namespace, name, uid) = key(pod);
        let now = Some(Time(Timestamp::now()));
        let list = |name: &str| {
            let spec = pod.spec.as_ref();
            let init = spec.is_some_and(|s| s.init_containers.iter().flatten().any(|c| c.name == name));
            let main = spec.is_some_and(|s| s.containers.iter().any(|c| c.name == name));
            match (init, main) {
                (true, _) => "initContainers",
                (_, true) => "containers",
                _ => "ephemeralContainers",
            }
        };
        let event = Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                uid: Some(uid.into()),
                field_path: container.map(|c| format!("spec.{}{{{c}}}", list(c))),
                resource_version: pod.metadata.resource_version.clone(),
            },
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            message: Some(message.chars().take(1024).collect()),
            first_timestamp: now.clone(),
            last_timestamp: now,
            count: Some(1),
            source: Some(EventSource {
                component: Some("kubelet".into()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

type Known = BTreeMap<(String, String, String), (String, i32)>;

async fn write(client: kube::Client, mut entries: mpsc::Receiver<Event>) {
    let mut known = Known::new();
    while let Some(event) = entries.recv().await {
        if tokio::time::timeout(PATIENCE, one(&client, &mut known, event))
            .await
            .is_err()
        {
            tracing::debug!("event not written in time");
        }
        if known.len() > REMEMBERED {
            known.clear();
        }
    }
}

async fn one(client: &kube::Client, known: &mut Known, mut event: Event) {
    let object = &event.involved_object;
    let namespace = object.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let identity = (
        format!("{:?}{:?}", object.uid, object.field_path),
        event.reason.clone().unwrap_or_default(),
        event.message.clone().unwrap_or_default(),
    );
    if let Some((name, count)) = known.get_mut(&identity) {
        *count += 1;
        let patch = Patch::Merge(json!({"count": *count, "lastTimestamp": event.last_timestamp}));
        if api.patch(name, &PatchParams::default(), &patch).await.is_ok() {
            return;
        }
    }
    let nanos = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default();
    let name = format!("{}.{nanos:x}", object.name.as_deref().unwrap_or_default());
    event.metadata.name = Some(name.clone());
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => {
            known.insert(identity, (name, 1));
        }
        // A namespace that is being deleted takes no events.
        Err(error) => tracing::debug!(%error, "event not written"),
    }
}
