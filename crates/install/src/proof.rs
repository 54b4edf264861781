//! Does the webhook that a tag is about to have really answer? A pod is tried, and never made.
//!
//! A webhook configuration of its own, which selects nothing but that pod, calls what the tag will call: the same
//! address, trusted by the same certificate authority. The pod is created in a dry run; a proxy of the right revision in
//! the answer is the proof. Every proof has a name of its own, so that two at once do not take each other's configuration
//! away. One that stays behind after a crash selects nothing, and a later proof removes it once it is old enough to be
//! nobody's any more.

use std::time::Duration;

use api::names::{annotation, label};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::object::{Id, Object};
use crate::ready::is_pod_ready;
use crate::tag::FIELD_MANAGER;

/// Label by which only the tried pod is selected, and by which leftovers are found; its value is the proof's own.
const PROBE_KEY: &str = "trysail.dev/probe";
/// Name of the webhook, by which errors name it.
const WEBHOOK: &str = "probe.trysail.dev";
/// How long the API server may take to heed a new configuration, and istiod to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is tried.
const POLL: Duration = Duration::from_millis(100);
/// A configuration that is this much older than a new one belongs to a proof that never ended: far more than patience
/// and every repeated request together take.
const ABANDONED: SignedDuration = SignedDuration::from_mins(10);

/// Why a webhook is not taken to answer. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It does not.
    #[error(
        "revision {revision:?} does not inject: a pod that was tried in a dry run got {answer}; nothing was changed. \
         Look at its control plane: kubectl logs -n {namespace} -l app=istiod,istio.io/rev={revision}"
    )]
    NoAnswer {
        /// The revision.
        revision: String,
        /// Its namespace.
        namespace: String,
        /// What was answered instead.
        answer: String,
    },
    /// Somebody else refuses the tried pod, so that nothing is known.
    #[error(
        "cannot prove that revision {revision:?} injects: the pod that was tried in a dry run in namespace \
         {namespace:?} was refused: {answer}; nothing was changed"
    )]
    Refused {
        /// The revision.
        revision: String,
        /// Namespace of the pod.
        namespace: String,
        /// Who refuses, and why.
        answer: String,
    },
    /// The API server.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Tries a pod against what the webhook configuration `tagged` calls, expecting a proxy of `revision`. `pods` are those of
/// control planes.
pub async fn prove(
    server: &ApiServer,
    tagged: &Object,
    revision: &str,
    namespace: &str,
    pods: &[Object],
) -> Result<(), ProofError> {
    let Some(client) = tagged.0.pointer("/webhooks/0/clientConfig") else {
        return Ok(());
    };
    let tag = tagged.label(label::TAG);
    let own = own_name();
    let configuration = configuration(tag, &own, client, namespace);
    let made = server.apply(&configuration, FIELD_MANAGER, false).await?;
    let outcome = ask(
        server,
        &pod(&own, namespace, ready(revision, pods)),
        revision,
        namespace,
    )
    .await;
    // One that stays selects nothing, so that a failure here says nothing of the outcome.
    server.delete(&configuration.id()).await.ok();
    if outcome.is_ok() {
        clean_up(server, &made).await;
    }
    outcome
}

/// What no other proof is called, whoever else tries the same tag.
fn own_name() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(12);
    name
}

/// Removes what earlier proofs left behind. They do no harm, so that nothing depends on it.
async fn clean_up(server: &ApiServer, made: &Object) {
    let configurations = kind("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
    for id in abandoned(made, &server.list(&configurations, PROBE_KEY).await.unwrap_or_default()) {
        server.delete(&id).await.ok();
    }
}

/// Configurations of proofs that never ended. Age is told by the API server's clock alone: it wrote both times.
fn abandoned(made: &Object, found: &[Object]) -> Vec<Id> {
    let created = |object: &Object| object.text("/metadata/creationTimestamp").parse::<Timestamp>().ok();
    let is_old = |object: &&Object| {
        let times = created(made).zip(created(object));
        times.is_some_and(|(now, then)| now.duration_since(then) > ABANDONED)
    };
    found.iter().filter(is_old).map(Object::id).collect()
}

async fn ask(server: &ApiServer, pod: &Object, revision: &str, namespace: &str) -> Result<(), ProofError> {
    let deadline = Instant::now() + PATIENCE;
    let (revision, namespace) = (revision.to_owned(), namespace.to_owned());
    loop {
        let answer = match server.try_create(pod).await {
            Ok(answered) => match injected_by(&answered) {
                Some(by) if by == revision => return Ok(()),
                Some(by) => format!("a proxy of revision {by:?}"),
                // A new configuration needs a moment until every API server heeds it.
                None => "no proxy".to_owned(),
            },
            Err(RequestError::Refused { message, code, .. }) if code < 500 && code != 429 => {
                return Err(if message.contains(WEBHOOK) {
                    ProofError::NoAnswer {
                        revision,
                        namespace,
                        answer: format!("the answer: {message}"),
                    }
                } else {
                    ProofError::Refused {
                        revision,
                        namespace,
                        answer: message,
                    }
                });
            }
            Err(RequestError::Refused { message, .. }) => format!("the answer: {message}"),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() > deadline {
            return Err(ProofError::NoAnswer {
                revision,
                namespace,
                answer,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A pod of the revision that the cluster's policies let pass.
fn ready<'a>(revision: &str, pods: &'a [Object]) -> Option<&'a Object> {
    let mut pods = pods.iter().filter(|pod| pod.label(label::REVISION) == revision);
    pods.find(|pod| is_pod_ready(pod))
}

/// The revision whose proxy a pod has.
pub fn injected_by(pod: &Object) -> Option<String> {
    let status = pod
        .0
        .pointer("/metadata/annotations")?
        .get(annotation::STATUS)?
        .as_str()?;
    let status: Value = serde_json::from_str(status).ok()?;
    status["revision"].as_str().map(str::to_owned)
}

fn configuration(tag: &str, own: &str, client: &Value, namespace: &str) -> Object {
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        // Called last, by its name: what it adds is what is seen.
        "metadata": {"name": format!("trysail-probe-{tag}-{own}"), "labels": {PROBE_KEY: own}},
        "webhooks": [{
            "name": WEBHOOK,
            "clientConfig": client,
            "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "timeoutSeconds": 3,
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": {PROBE_KEY: own}},
        }],
    }))
}

/// A pod that asks to be injected, that no other injector selects by its own labels, and that the strictest policies for
/// pods let pass. Its image and resources are those of an istiod, if there is one: registries and sizes are limited by
/// policies that nobody can foresee. `own` is the proof's own name.
pub fn pod(own: &str, namespace: &str, istiod: Option<&Object>) -> Object {
    let (image, resources) = istiod.and_then(running).unwrap_or_else(|| {
        let size = json!({"cpu": "1m", "memory": "1Mi"});
        ("probe".into(), json!({"requests": size, "limits": size}))
    });
    Object(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("trysail-probe-{own}"),
            "namespace": namespace,
            "labels": {PROBE_KEY: own, label::REVISION: "trysail-probe", label::SIDECAR_INJECT: "true"},
            "annotations": {"sidecar.istio.io/interceptionMode": "NONE"},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe",
                "image": image,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": resources,
            }],
        },
    }))
}

/// Image and resources of an istiod.
fn running(istiod: &Object) -> Option<(Value, Value)> {
    let containers = istiod.0.pointer("/spec/containers")?.as_array()?;
    let discovery = containers.iter().find(|container| container["name"] == "discovery")?;
    let mut resources = discovery.get("resources").cloned().unwrap_or_else(|| json!({}));
    // Claims are of things that only the istiod's own pod names.
    resources.as_object_mut()?.shift_remove("claims");
    Some((discovery.get("image")?.clone(), resources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_waits_for_any_more_is_cleaned_up() {
        let probe = |name: &str, created: &str| {
            Object(
                json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": name, "creationTimestamp": created}}),
            )
        };
        let found = [
            probe("of-last-week", "2026-11-19T12:00:00Z"),
            probe("at-the-same-time", "2026-11-26T11:59:58Z"),
            probe("of-an-hour-ago", "2026-11-26T11:00:00Z"),
            probe("later", "2026-11-26T12:00:01Z"),
            probe("unknown", ""),
        ];
        let ids = abandoned(&probe("own", "2026-11-26T12:00:00Z"), &found);
        let names: Vec<&str> = ids.iter().map(|id| id.name.as_str()).collect();
        assert_eq!(names, ["of-last-week", "of-an-hour-ago"]);
    }

    #[test]
    fn the_tried_pod_looks_like_an_istiod_that_runs() {
        let istiod = |revision: &str, ready: &str| {
            Object(json!({
                "metadata": {"labels": {"istio.io/rev": revision}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
                "spec": {"containers": [
                    {"name": "other", "image": "other"},
                    {"name": "discovery", "image": format!("registry/{revision}"), "resources": {"requests": {"cpu": "500m"}, "claims": [{"name": "device"}]}},
                ]},
            }))
        };
        let small = json!({"cpu": "1m", "memory": "1Mi"});
        let small = json!({"requests": small, "limits": small});
        let check = |revision: &str, image: &str, resources: &Value| {
            let pods = [istiod("old", "True"), istiod("new", "False"), istiod("new", "True")];
            let pod = pod("own", "istio-system", ready(revision, &pods));
            assert_eq!(pod.text("/spec/containers/0/image"), image);
            assert_eq!(pod.0.pointer("/spec/containers/0/resources"), Some(resources));
        };
        check("new", "registry/new", &json!({"requests": {"cpu": "500m"}}));
        // The control plane is elsewhere.
        check("remote", "probe", &small);
    }
}
