#![allow(clippy::unwrap_used)]
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::object::plural;
use crate::tag::Inventory;
use crate::uninstall::{Scope, plan};

const SYSTEM: &str = "istio-system";

/// What the cluster holds; an object whose name is in `refused` may not be deleted, and of one in `silent` nothing is heard.
#[derive(Default)]
struct Held {
    objects: Vec<Object>,
    refused: Vec<&'static str>,
    silent: Vec<&'static str>,
}

/// The address of all objects of a kind.
fn collection(object: &Object) -> String {
    let id = object.id();
    let group = match id.group.as_str() {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/{}", id.version),
    };
    let namespace = match object.namespace() {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    format!("{group}{namespace}/{}", plural(object.kind()))
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message});
    (code, status)
}

fn answer(held: &mut Held, method: &Method, path: &str, body: &Value) -> (u16, Value) {
    let found = held
        .objects
        .iter()
        .position(|object| format!("{}/{}", collection(object), object.name()) == path);
    let Some(index) = found else {
        let (last, all) = (path.rsplit('/').next().unwrap_or_default(), &held.objects);
        if ![
            "pods",
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
        ]
        .contains(&last)
        {
            return refusal(404, "not found");
        }
        let items: Vec<&Value> = all.iter().filter(|o| collection(o) == path).map(|o| &o.0).collect();
        return (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
        );
    };
    let object = held.objects[index].clone();
    if method == Method::GET {
        return (200, object.0);
    }
    if method == Method::PUT {
        held.objects[index] = Object(body.clone());
        return (200, body.clone());
    }
    if held.refused.contains(&object.name()) {
        return refusal(403, "you may not delete it");
    }
    for field in ["uid", "resourceVersion"] {
        let wanted = &body["preconditions"][field];
        if !wanted.is_null() && *wanted != object.0["metadata"][field] {
            return refusal(409, "the precondition does not match");
        }
    }
    held.objects.remove(index);
    (200, object.0)
}

/// As istiod does while it lives: validators that are its own are closed.
fn watch(held: &mut Held) {
    if held.objects.iter().any(|object| object.kind() == "Deployment") {
        let validators = held
            .objects
            .iter_mut()
            .filter(|o| o.kind() == "ValidatingWebhookConfiguration");
        for validator in validators.filter(|validator| validator.label(label::REVISION) == "old") {
            validator.0["webhooks"][0]["failurePolicy"] = "Fail".into();
        }
    }
}

fn server(held: &Arc<Mutex<Held>>) -> ApiServer {
    let held = held.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let held = held.clone();
        async move {
            let (parts, body) = request.into_parts();
            let name = parts.uri.path().rsplit('/').next().unwrap_or_default();
            let is_silent = held.lock().unwrap().silent.contains(&name);
            if is_silent {
                return std::future::pending().await;
            }
            let body = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (code, value) = {
                let mut held = held.lock().unwrap();
                let answer = answer(&mut held, &parts.method, parts.uri.path(), &body);
                watch(&mut held);
                answer
            };
            let response = Response::builder().status(code);
            Ok::<_, Infallible>(response.body(Body::from(value.to_string().into_bytes())).unwrap())
        }
    });
    ApiServer::new(Client::new(service, "default"))
}

fn object(kind: &str, name: &str, revision: &str, tag: &str) -> Object {
    let (api_version, namespace) = match kind {
        "Deployment" => ("apps/v1", SYSTEM),
        "Service" => ("v1", SYSTEM),
        _ => ("admissionregistration.k8s.io/v1", ""),
    };
    let mut object = Object(json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "uid": format!("uid of {name}"), "resourceVersion": "1"}}));
    if !namespace.is_empty() {
        object.0["metadata"]["namespace"] = namespace.into();
    }
    object.set_label(label::REVISION, revision);
    object.set_label(label::OPERATOR_COMPONENT, "Pilot");
    object.set_label(label::OWNING_RESOURCE_NAMESPACE, SYSTEM);
    if !tag.is_empty() {
        object.set_label(label::TAG, tag);
    }
    if kind == "MutatingWebhookConfiguration" {
        let service = json!({"name": format!("istiod-{revision}"), "namespace": SYSTEM});
        object.0["webhooks"] =
            json!([{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {"service": service}}]);
    }
    object
}

fn injector(revision: &str) -> Object {
    let name = format!("istio-sidecar-injector-{revision}");
    object("MutatingWebhookConfiguration", &name, revision, "")
}

fn tag(name: &str, revision: &str) -> Object {
    let name_of_object = format!("istio-revision-tag-{name}");
    object("MutatingWebhookConfiguration", &name_of_object, revision, name)
}

/// Revision `old` with the tag `prod` is to go; `meanwhile` happens between the plan and its execution.
async fn check(meanwhile: impl FnOnce(&mut Held)) -> String {
    let all = vec![
        injector("old"),
        injector("new"),
        tag("prod", "old"),
        object("Deployment", "istiod-old", "old", ""),
        object("Service", "istiod-old", "old", ""),
    ];
    let is_webhook = |object: &&Object| object.kind() == "MutatingWebhookConfiguration";
    let inventory = Inventory {
        webhooks: all.iter().filter(is_webhook).cloned().collect(),
        ..Inventory::default()
    };
    let plan = plan(&Scope::Revision("old".to_owned()), SYSTEM, &all, &inventory);
    let held = Arc::new(Mutex::new(Held {
        objects: all,
        ..Held::default()
    }));
    meanwhile(&mut held.lock().unwrap());
    let mut told = Vec::new();
    let mut report = |removed| {
        told.push(match removed {
            Removed::Object(id) => format!("removed {}", id.path()),
            Removed::Failed(_, error) => error,
            Removed::Stopped(stop, left) => {
                let left: Vec<String> = left.iter().map(Id::path).collect();
                format!("{stop}\nleft: {}", left.join(", "))
            }
            other => format!("{other:?}"),
        });
    };
    let ended = execute(&server(&held), &plan, SYSTEM, &mut report).await;
    told.extend(ended.err().map(|error| error.to_string()));
    told.join("\n")
}

/// As somebody writes to an object.
fn written<'a>(held: &'a mut Held, name: &str) -> &'a mut Object {
    let object = held.objects.iter_mut().find(|object| object.name() == name).unwrap();
    object.0["metadata"]["resourceVersion"] = "2".into();
    object
}

#[tokio::test]
async fn what_serves_goes_when_nothing_calls_it() {
    insta::assert_snapshot!(check(|_| {}).await, @"
    removed MutatingWebhookConfiguration/istio-revision-tag-prod
    removed MutatingWebhookConfiguration/istio-sidecar-injector-old
    removed Deployment/istio-system/istiod-old
    removed Service/istio-system/istiod-old
    ");
}

#[tokio::test]
async fn a_webhook_that_cannot_be_removed_keeps_who_answers_it() {
    let told = check(|held| held.refused = vec!["istio-revision-tag-prod"]).await;
    insta::assert_snapshot!(told, @"
    cannot delete MutatingWebhookConfiguration/istio-revision-tag-prod: you may not delete it
    removed MutatingWebhookConfiguration/istio-sidecar-injector-old
    MutatingWebhookConfiguration/istio-revision-tag-prod still calls the control plane, which stays, because nothing that it selects could be created without; once that is gone, run the command again
    left: Deployment/istio-system/istiod-old, Service/istio-system/istiod-old
    ");
    // One that is switched off calls nobody.
    let told = check(|held| {
        held.refused = vec!["istio-sidecar-injector-old"];
        let injector = written(held, "istio-sidecar-injector-old");
        *injector = tag::deactivated(injector);
    })
    .await;
    assert!(told.ends_with("removed Service/istio-system/istiod-old"), "{told}");
}

#[tokio::test]
async fn a_tag_that_was_moved_meanwhile_stays() {
    let told = check(|held| written(held, "istio-revision-tag-prod").set_label(label::REVISION, "new")).await;
    insta::assert_snapshot!(told, @"
    MutatingWebhookConfiguration/istio-revision-tag-prod was changed since it was read, so that nothing more was removed; run the command again to see what would go now
    left: MutatingWebhookConfiguration/istio-revision-tag-prod, MutatingWebhookConfiguration/istio-sidecar-injector-old, Deployment/istio-system/istiod-old, Service/istio-system/istiod-old
    ");
}

#[tokio::test]
async fn a_tag_that_came_meanwhile_keeps_who_answers_it() {
    let told = check(|held| held.objects.push(tag("stage", "old"))).await;
    assert!(
        told.contains("istio-revision-tag-stage still calls the control plane"),
        "{told}"
    );
    assert!(!told.contains("removed Deployment"), "{told}");
}

#[tokio::test]
async fn what_others_keep_in_an_object_does_not_hold_it() {
    let told = check(|held| {
        for name in ["istio-revision-tag-prod", "istiod-old"] {
            written(held, name);
        }
    })
    .await;
    assert_eq!(told, check(|_| {}).await);
}

#[tokio::test]
async fn another_object_of_the_same_name_stays() {
    let told = check(|held| written(held, "istiod-old").0["metadata"]["uid"] = "another".into()).await;
    assert!(
        told.contains("Deployment/istio-system/istiod-old was changed"),
        "{told}"
    );
    let told = check(|held| held.objects.retain(|object| object.name() != "istiod-old")).await;
    assert!(told.contains("Absent"), "{told}");
}

#[tokio::test]
async fn a_validator_that_stays_is_opened_although_istiod_closes_its_own() {
    let mut validator = object("ValidatingWebhookConfiguration", "istiod-default-validator", "old", "");
    validator.set_label(label::OPERATOR_COMPONENT, "Base");
    let service = json!({"name": "istiod-old", "namespace": SYSTEM});
    validator.0["webhooks"] =
        json!([{"name": "validation.istio.io", "failurePolicy": "Fail", "clientConfig": {"service": service}}]);
    let all = vec![object("Deployment", "istiod-old", "old", ""), validator.clone()];
    let inventory = Inventory {
        validators: vec![validator],
        ..Inventory::default()
    };
    let plan = plan(&Scope::Revision("old".to_owned()), SYSTEM, &all, &inventory);
    let held = Arc::new(Mutex::new(Held {
        objects: all,
        ..Held::default()
    }));
    execute(&server(&held), &plan, SYSTEM, &mut |_| {}).await.unwrap();
    let held = held.lock().unwrap();
    let [left] = held.objects.as_slice() else {
        panic!("{:?}", held.objects)
    };
    assert_eq!(left.text("/webhooks/0/failurePolicy"), "Ignore");
    assert_eq!(
        left.label(label::REVISION),
        "old",
        "who installs it again finds its validator"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_waited_for_once() {
    let begin = Instant::now();
    let told = check(|held| held.silent = vec!["istio-sidecar-injector-old", "istiod-old"]).await;
    insta::assert_snapshot!(told, @"
    removed MutatingWebhookConfiguration/istio-revision-tag-prod
    cannot delete MutatingWebhookConfiguration/istio-sidecar-injector-old: the API server did not answer within 40s; whether it was done is not known: run the same command again, it converges
    ");
    assert_eq!(begin.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_gone() {
    let held = Arc::new(Mutex::new(Held::default()));
    let deployment = object("Deployment", "istiod-old", "old", "").id();
    assert!(gone(&server(&held), &deployment).await);
    held.lock().unwrap().silent.push("istiod-old");
    assert!(!gone(&server(&held), &deployment).await);
}
