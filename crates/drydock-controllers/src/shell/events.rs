//! Events as `kubectl describe` shows them: core/v1, the same message counted instead of repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;

/// The same event within this time is counted.
const SAME_WITHIN: Duration = Duration::from_secs(600);
/// At most this many distinct events are remembered.
const REMEMBERED: usize = 4096;
/// Events are dropped when this many wait: they are a convenience, never a reason to stop.
const WAITING: usize = 1024;

#[derive(Debug)]
struct Entry {
    about: ObjectReference,
    component: &'static str,
    warning: bool,
    reason: &'static str,
    message: String,
}

/// Writes the events of one component. Cheap to clone; writing happens in the background.
#[derive(Debug, Clone)]
pub struct Recorder {
    component: &'static str,
    queue: mpsc::Sender<Entry>,
}

impl Recorder {
    /// A recorder, and the task that writes what it is told.
    pub fn new(client: Client) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, entries) = mpsc::channel(WAITING);
        (
            Recorder {
                component: "drydock",
                queue,
            },
            write(client, entries),
        )
    }

    /// The same recorder speaking for another component, e.g. `deployment-controller`.
    #[must_use]
    pub fn of(&self, component: &'static str) -> Self {
        Recorder {
            component,
            queue: self.queue.clone(),
        }
    }

    /// Something ordinary happened to `object`.
    pub fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.send(object, false, reason, message.into());
    }

    /// Something went wrong with `object`.
    pub fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: impl Into<String>) {
        self.send(object, true, reason, message.into());
    }

    fn send<K: Resource<DynamicType = ()>>(&self, object: &K, warning: bool, reason: &'static str, message: String) {
        let mut message = message;
        if message.len() > 1024 {
            let end = message
                .char_indices()
                .map(|(i, _)| i)
                .take_while(|i| *i <= 1021)
                .last()
                .unwrap_or(0);
            message.truncate(end);
            message.push_str("...");
        }
        let mut about = object.object_ref(&());
        about.resource_version = object.meta().resource_version.clone();
        let entry = Entry {
            about,
            component: self.component,
            warning,
            reason,
            message,
        };
        if self.queue.try_send(entry).is_err() {
            tracing::debug!(reason, "too many events wait; one is dropped");
        }
    }
}

/// What makes two events the same.
type Identity = (Option<String>, &'static str, &'static str, String);

struct Known {
    name: String,
    count: i32,
    last: Timestamp,
}

async fn write(client: Client, mut entries: mpsc::Receiver<Entry>) {
    let mut known: BTreeMap<Identity, Known> = BTreeMap::new();
    while let Some(entry) = entries.recv().await {
        let now = Timestamp::now();
        let identity = (
            entry.about.uid.clone(),
            entry.component,
            entry.reason,
            entry.message.clone(),
        );
        let api: Api<Event> = Api::namespaced(client.clone(), entry.about.namespace.as_deref().unwrap_or("default"));
        if let Some(same) = known.get_mut(&identity)
            && now.duration_since(same.last).unsigned_abs() < SAME_WITHIN
        {
            let again = json!({ "count": same.count + 1, "lastTimestamp": Time(now) });
            if api
                .patch(&same.name, &PatchParams::default(), &Patch::Merge(&again))
                .await
                .is_ok()
            {
                same.count += 1;
                same.last = now;
                continue;
            }
        }
        let event = event(&entry, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if known.len() >= REMEMBERED
                    && let Some(oldest) = known.iter().min_by_key(|(_, k)| k.last).map(|(i, _)| i.clone())
                {
                    known.remove(&oldest);
                }
                known.insert(
                    identity,
                    Known {
                        name,
                        count: 1,
                        last: now,
                    },
                );
            }
            Err(error) => tracing::debug!(%error, reason = entry.reason, "event not written"),
        }
    }
}

fn event(entry: &Entry, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            // As client-go names them: the object and the time in hexadecimal.
            name: Some(format!(
                "{}.{:x}",
                entry.about.name.as_deref().unwrap_or_default(),
                now.as_nanosecond()
            )),
            namespace: Some(entry.about.namespace.clone().unwrap_or_else(|| "default".into())),
            ..Default::default()
        },
        involved_object: entry.about.clone(),
        type_: Some(if entry.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(entry.reason.into()),
        message: Some(entry.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(entry.component.into()),
            host: None,
        }),
        reporting_component: Some(entry.component.into()),
        ..Default::default()
    }
}
