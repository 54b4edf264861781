//! Warnings to people, as Kubernetes Events about the object concerned.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};

/// An event is worth no longer wait.
const DEADLINE: Duration = Duration::from_secs(5);
/// What the API accepts of a note, in bytes.
const NOTE: usize = 1024;

/// Writes events in the name of this process.
#[derive(Clone)]
pub struct Events(Recorder);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Over a client that may create and patch events; `pod` is this process.
    pub fn new(client: Client, pod: &str) -> Self {
        let reporter = Reporter {
            controller: "istiod".to_owned(),
            instance: Some(pod.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// A warning about `object`. Repeated ones are counted by the API, not added.
    pub async fn warn(&self, object: &ObjectReference, reason: &str, action: &str, mut note: String) {
        note.truncate(note.floor_char_boundary(NOTE));
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, self.0.publish(&event, object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(reason, %error, "event not written"),
            Err(_) => tracing::warn!(reason, "event not written in time"),
        }
    }
}

/// A reference to an object.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        uid: object.uid(),
        ..named::<K>(object.namespace().as_deref(), &object.name_any())
    }
}

/// A reference to an object of which only the name is known.
pub fn named<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: namespace.map(str::to_owned),
        name: Some(name.to_owned()),
        ..Default::default()
    }
}
