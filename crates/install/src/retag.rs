//! Makes, moves and removes tags in a cluster; [`crate::tag`] says of what they consist. Somebody else's write meanwhile is
//! not overwritten: what was there has the version that was read, what was not is still not there.
//!
//! The webhook configuration is one object, so a move is one write: every pod is asked for by the old revision or by the
//! new one. It is written last: whoever was cut off before moved nothing, and the same command again does all of it. Only
//! the first tag `default` beside an unnamed revision that is still active takes two, in different objects.
//! The tag is made before the other is switched off: between the two, a pod is sent to both, and ends with the proxy of
//! the one that is asked last; the other way round it would start without any.

use serde_json::Value;

use crate::api_server::{ApiServer, RequestError};
use crate::object::Object;
use crate::owner;
use crate::proof::{self, ProofError};
use crate::tag::{self, Inventory, Request, TagError, TagObjects, webhook_names};

/// How often an injector is switched off against another writer.
const ATTEMPTS: usize = 5;

/// Why a tag was not changed, or not completely.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It cannot be.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The new webhook does not answer.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A write failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Makes or moves a tag, if what was read is still there. The new webhook answers before the old one goes, unless the
/// request does without (`force`). `built` is what [`tag::build`] makes of the request and what was read.
pub async fn set(
    server: &ApiServer,
    request: &Request,
    built: &TagObjects,
    before: &Inventory,
) -> Result<(), ChangeError> {
    if let (Some(tagged), false) = (built.apply.first(), request.force) {
        proof::prove(
            server,
            tagged,
            request.revision.label(),
            &request.namespace,
            &before.pods,
        )
        .await?;
    }
    Ok(compare_and_set(server, built, before, tag::FIELD_MANAGER).await?)
}

/// Asks the API server whether it would accept everything that [`set`] writes; changes nothing, so that whether the new
/// webhook answers stays unproved.
pub async fn try_set(server: &ApiServer, built: &TagObjects, before: &Inventory) -> Result<(), ChangeError> {
    Ok(write(server, &versioned(built, before), before, tag::FIELD_MANAGER, true).await?)
}

/// Makes or moves a tag for the installer, whose objects it becomes, if what was read is still there.
pub(crate) async fn install(server: &ApiServer, built: &TagObjects, before: &Inventory) -> Result<(), RequestError> {
    compare_and_set(server, built, before, owner::FIELD_MANAGER).await
}

/// Removes a tag, if what was read is still there: its webhooks first, what they point at last.
pub async fn remove(server: &ApiServer, tag: &str, before: &Inventory) -> Result<(), ChangeError> {
    for object in tag::removal(before, tag)? {
        server.delete_read(object, says_where(object)).await?;
    }
    Ok(())
}

/// Writes everything. What was not there is created: server-side apply knows no condition that it still is not.
async fn write(
    server: &ApiServer,
    built: &TagObjects,
    before: &Inventory,
    manager: &str,
    dry_run: bool,
) -> Result<(), RequestError> {
    let mut objects: Vec<&Object> = built.apply.iter().collect();
    // Who is in conflict is told so before the validator leads elsewhere, which istiod writes to as well.
    objects.sort_by_key(|object| (is_injector(object), !says_where(object)));
    for object in objects {
        let live = live(before, object);
        if let Some(whole) = live.and_then(|live| whole(live, object)) {
            server.replace(&whole, manager, dry_run).await?;
        } else if live.is_none() && says_where(object) {
            server.create(object, manager, dry_run).await?;
        } else {
            server.apply(object, manager, dry_run).await?;
        }
    }
    match &built.deactivate {
        Some(object) => deactivate(server, object, manager, dry_run).await,
        None => Ok(()),
    }
}

/// Switches the unnamed revision's injector off. Its istiod may write to it at the same moment (`caBundle`): then what it
/// wrote is read, and switched off. The tag is there already, so giving up would leave two that answer.
async fn deactivate(server: &ApiServer, object: &Object, manager: &str, dry_run: bool) -> Result<(), RequestError> {
    let mut object = object.clone();
    for _ in 1..ATTEMPTS {
        match server.replace(&object, manager, dry_run).await {
            Err(error) if error.is_conflict() => {}
            outcome => return outcome,
        }
        match server.get(&object.id()).await? {
            Some(live) => object = tag::deactivated(&live),
            None => return Ok(()),
        }
    }
    server.replace(&object, manager, dry_run).await
}

fn live<'a>(before: &'a Inventory, object: &Object) -> Option<&'a Object> {
    let all = before.webhooks.iter().chain(&before.validators).chain(&before.services);
    let mut same = all.filter(|live| live.kind() == object.kind() && live.name() == object.name());
    same.next()
}

/// Writes a tag if nobody else did since it was read. Who lost a race is told so before the first write, which need not be
/// the one that carries a version.
async fn compare_and_set(
    server: &ApiServer,
    built: &TagObjects,
    before: &Inventory,
    manager: &str,
) -> Result<(), RequestError> {
    let built = versioned(built, before);
    for dry_run in [true, false] {
        write(server, &built, before, manager, dry_run).await?;
    }
    Ok(())
}

/// A tag that was moved since it was read is not overwritten: the write carries the version that was read.
fn versioned(built: &TagObjects, before: &Inventory) -> TagObjects {
    let mut built = built.clone();
    for object in &mut built.apply {
        let version = live(before, object)
            .filter(|live| says_where(live))
            .and_then(|live| live.0.pointer("/metadata/resourceVersion"));
        if let Some(version) = version {
            object.0["metadata"]["resourceVersion"] = version.clone();
        }
    }
    built
}

/// Does nobody but who moves a tag write this object? Istiod writes to the validator, too; the other two say where the
/// tag points.
fn says_where(object: &Object) -> bool {
    is_injector(object) || object.kind() == "Service"
}

fn is_injector(object: &Object) -> bool {
    object.kind() == "MutatingWebhookConfiguration"
}

/// What server-side apply cannot do is a replacement of the whole, in one write as well: it leaves in place webhooks that
/// another writer made and this one does not name, and the other way of calling, a Service or a URL, both of which would
/// go on calling the revision before; and the marks by which Helm knows its own, for as long as which every later move
/// would be refused.
fn whole(live: &Object, object: &Object) -> Option<Object> {
    let left = |name: &str| !webhook_names(object).any(|own| own == name);
    let by_url = |object: &Object| object.0.pointer("/webhooks/0/clientConfig/url").is_some();
    let leftovers = is_injector(object) && (webhook_names(live).any(left) || by_url(live) != by_url(object));
    let helms = says_where(object) && owner::release(live).is_some();
    if !leftovers && !helms {
        return None;
    }
    let mut whole = live.clone();
    if helms {
        owner::take_from_helm(&mut whole);
    }
    for map in ["labels", "annotations"] {
        for (key, value) in object.0["metadata"][map].as_object().into_iter().flatten() {
            if !whole.0["metadata"][map].is_object() {
                whole.0["metadata"][map] = Value::Object(Default::default());
            }
            whole.0["metadata"][map][key] = value.clone();
        }
    }
    if is_injector(object) {
        whole.0["webhooks"] = object.0["webhooks"].clone();
    } else {
        for field in ["ports", "selector"] {
            whole.0["spec"][field] = object.0["spec"][field].clone();
        }
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::Response;
    use kube::Client;
    use kube::client::Body;
    use revision::name::{Revision, Tag};
    use serde_json::json;

    use super::*;

    fn configuration(version: Option<&str>, webhooks: &[&str]) -> Object {
        let webhooks: Vec<Value> = webhooks.iter().map(|name| json!({"name": name})).collect();
        let mut object = Object(
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "istio-revision-tag-a", "labels": {"istio.io/rev": "old"}}, "webhooks": webhooks}),
        );
        if let Some(version) = version {
            object.0["metadata"]["resourceVersion"] = version.into();
        }
        object
    }

    #[test]
    fn a_write_carries_the_version_that_was_read() {
        let before = Inventory {
            webhooks: vec![configuration(Some("7"), &["a"])],
            ..Inventory::default()
        };
        let built = TagObjects {
            apply: vec![configuration(None, &["a"])],
            deactivate: None,
            previous: None,
            of_helm: None,
            validated_by: None,
        };
        let built = versioned(&built, &before);
        assert_eq!(built.apply[0].text("/metadata/resourceVersion"), "7");
    }

    fn injector(name: &str, revision: &str) -> Object {
        let mut object = configuration(Some("7"), &["rev.namespace.sidecar-injector.istio.io"]);
        object.0["metadata"]["name"] = name.into();
        object.0["webhooks"][0]["clientConfig"] =
            json!({"service": {"namespace": "istio-system", "name": format!("istiod-{revision}")}});
        object.set_label("istio.io/rev", revision);
        object
    }

    /// An API server that takes everything, and what it was asked.
    fn server() -> (ApiServer, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let seen = seen.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let what = format!("{} {}", parts.method, parts.uri);
                let told = format!("{what} {}", body["preconditions"]);
                seen.lock().unwrap().push(told.trim_end_matches(" null").to_owned());
                let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
                Ok::<_, Infallible>(Response::new(Body::from(object.to_string().into_bytes())))
            }
        });
        (ApiServer::new(Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn a_move_that_is_tried_tries_everything_and_writes_nothing() {
        let mut tagged = injector("istio-revision-tag-default", "old");
        tagged.set_label("istio.io/tag", "default");
        // Another writer's: only a replacement takes it away.
        tagged.0["webhooks"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more.sidecar-injector.istio.io"}));
        let before = Inventory {
            webhooks: vec![
                injector("istio-sidecar-injector", "default"),
                injector("istio-sidecar-injector-new", "new"),
                tagged,
            ],
            pods: vec![Object(json!({"metadata": {"labels": {"istio.io/rev": "new"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))],
            ..Inventory::default()
        };
        let request = Request {
            tag: Tag::parse("default").unwrap(),
            revision: Revision::parse("new").unwrap(),
            namespace: "istio-system".to_owned(),
            overwrite: false,
            force: false,
            take_over: false,
            automatic: false,
            webhook_name: None,
            labels: Default::default(),
        };
        let (server, asked) = server();
        let built = tag::build(&request, &before, false).unwrap();
        try_set(&server, &built, &before).await.unwrap();
        insta::assert_snapshot!(asked.lock().unwrap().join("\n"), @r#"
        POST /api/v1/namespaces/istio-system/services?&dryRun=All&fieldManager=istio-ci
        PATCH /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istiod-default-validator?&dryRun=All&force=true&fieldManager=istio-ci
        PUT /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-revision-tag-default?&dryRun=All&fieldManager=istio-ci
        PUT /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-sidecar-injector?&dryRun=All&fieldManager=istio-ci
        "#);
    }

    #[tokio::test]
    async fn what_was_read_is_removed_and_nothing_else() {
        let mut tagged = injector("istio-revision-tag-prod", "old");
        tagged.set_label("istio.io/tag", "prod");
        tagged.0["metadata"]["uid"] = "one".into();
        let (server, asked) = server();
        let before = Inventory {
            webhooks: vec![tagged],
            ..Inventory::default()
        };
        remove(&server, "prod", &before).await.unwrap();
        insta::assert_snapshot!(asked.lock().unwrap().join("\n"), @r#"DELETE /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/istio-revision-tag-prod? {"resourceVersion":"7","uid":"one"}"#);
    }

    #[test]
    fn what_is_taken_over_is_not_helms_any_more() {
        let mut live = injector("istio-revision-tag-prod", "old");
        live.0["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "istio-tags",
            "meta.helm.sh/release-namespace": "istio-system", "own": "stays"});
        for (key, value) in [
            ("app.kubernetes.io/managed-by", "Helm"),
            ("helm.sh/chart", "revisiontags-0.2.0"),
        ] {
            live.set_label(key, value);
        }
        let taken = whole(&live, &injector("istio-revision-tag-prod", "new")).unwrap();
        insta::assert_snapshot!(taken.0["metadata"], @r#"{"name":"istio-revision-tag-prod","labels":{"istio.io/rev":"new"},"resourceVersion":"7","annotations":{"own":"stays","helm.sh/resource-policy":"keep"}}"#);
        assert_eq!(taken.text("/webhooks/0/clientConfig/service/name"), "istiod-new");
    }

    #[test]
    fn a_webhook_that_nobody_names_any_more_goes_with_the_move() {
        let live = configuration(Some("7"), &["a", "b"]);
        let mut fresh = configuration(None, &["a"]);
        fresh.set_label("istio.io/rev", "new");
        let replaced = whole(&live, &fresh).unwrap();
        assert_eq!(webhook_names(&replaced).collect::<Vec<_>>(), ["a"]);
        assert_eq!(replaced.label("istio.io/rev"), "new");
        assert_eq!(replaced.text("/metadata/resourceVersion"), "7");
        assert_eq!(whole(&configuration(None, &["a"]), &fresh), None);
        let mut by_url = fresh.clone();
        by_url.0["webhooks"][0]["clientConfig"] = json!({"url": "https://example.com/inject"});
        let replaced = whole(&injector("istio-revision-tag-a", "old"), &by_url).unwrap();
        assert_eq!(replaced.0["webhooks"], by_url.0["webhooks"]);
    }
}
