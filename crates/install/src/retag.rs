//! Makes, moves and removes tags in a cluster; [`crate::tag`] says of what they consist.
//!
//! The webhook configuration is one object, so a move is one write: every pod is asked for by the old revision or by the
//! new one. It is written last: whoever was cut off before moved nothing, and the same command again does all of it. Only the first tag `default` beside an unnamed revision that is still active takes two, in different objects.
//! The tag is made before the other is switched off: between the two, a pod is sent to both, and ends with the proxy of
//! the one that is asked last; the other way round it would start without any.

use serde_json::Value;

use crate::api_server::{ApiServer, RequestError};
use crate::object::Object;
use crate::owner;
use crate::proof::{self, ProofError};
use crate::tag::{self, Inventory, Request, TagError, TagObjects, webhook_names};

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

/// Makes or moves a tag, if what was read is still there. The new webhook answers before the old one goes.
pub async fn set(server: &ApiServer, request: &Request, before: &Inventory) -> Result<TagObjects, ChangeError> {
    let mut built = tag::build(request, before, false)?;
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
    compare_and_set(&mut built, before);
    write(server, &built, before, tag::FIELD_MANAGER).await?;
    Ok(built)
}

/// Asks whether [`set`] would be allowed, and the API server whether it would accept; changes nothing, so that whether
/// the new webhook answers stays unproved.
pub async fn try_set(server: &ApiServer, request: &Request, before: &Inventory) -> Result<TagObjects, ChangeError> {
    let mut built = tag::build(request, before, false)?;
    compare_and_set(&mut built, before);
    for object in &built.apply {
        server.apply(object, tag::FIELD_MANAGER, true).await?;
    }
    Ok(built)
}

/// Makes or moves a tag for the installer, whose objects it becomes; what others changed meanwhile is taken over.
pub(crate) async fn install(server: &ApiServer, built: &TagObjects, before: &Inventory) -> Result<(), RequestError> {
    write(server, built, before, owner::FIELD_MANAGER).await
}

/// Removes a tag: its webhooks first, what they point at last.
pub async fn remove(server: &ApiServer, tag: &str, before: &Inventory) -> Result<(), ChangeError> {
    for id in tag::removal(before, tag)? {
        server.delete(&id).await?;
    }
    Ok(())
}

async fn write(server: &ApiServer, built: &TagObjects, before: &Inventory, manager: &str) -> Result<(), RequestError> {
    let (moves, rest): (Vec<_>, Vec<_>) = built.apply.iter().partition(|object| is_injector(object));
    for object in rest.into_iter().chain(moves) {
        match live(before, object).and_then(|live| without_leftovers(live, object)) {
            Some(whole) => server.replace(&whole, manager).await?,
            None => {
                server.apply(object, manager, false).await?;
            }
        }
    }
    if let Some(object) = &built.deactivate {
        server.replace(object, manager).await?;
    }
    Ok(())
}

fn live<'a>(before: &'a Inventory, object: &Object) -> Option<&'a Object> {
    let all = before.webhooks.iter().chain(&before.validators).chain(&before.services);
    let mut same = all.filter(|live| live.kind() == object.kind() && live.name() == object.name());
    same.next()
}

/// A tag that was moved since it was read is not overwritten: the write carries the version that was read.
fn compare_and_set(built: &mut TagObjects, before: &Inventory) {
    for object in &mut built.apply {
        // Istiod writes to the validator, too; the other two say where the tag points.
        let version = live(before, object)
            .filter(|live| is_injector(live) || live.kind() == "Service")
            .and_then(|live| live.0.pointer("/metadata/resourceVersion"));
        if let Some(version) = version {
            object.0["metadata"]["resourceVersion"] = version.clone();
        }
    }
}

fn is_injector(object: &Object) -> bool {
    object.kind() == "MutatingWebhookConfiguration"
}

/// Server-side apply leaves webhooks in place that another writer made and this one does not name; they would go on
/// calling the revision before. Then the configuration is replaced as a whole, in one write as well.
fn without_leftovers(live: &Object, object: &Object) -> Option<Object> {
    let left = |name: &str| !webhook_names(object).any(|own| own == name);
    if !is_injector(object) || !webhook_names(live).any(left) {
        return None;
    }
    let mut whole = live.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in object.0["metadata"][map].as_object().into_iter().flatten() {
            if !whole.0["metadata"][map].is_object() {
                whole.0["metadata"][map] = Value::Object(Default::default());
            }
            whole.0["metadata"][map][key] = value.clone();
        }
    }
    whole.0["webhooks"] = object.0["webhooks"].clone();
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
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": "istio-revision-tag-a", "labels": {"istio.io/rev": "old"}}, "webhooks": webhooks}),
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
        let mut built = TagObjects {
            apply: vec![configuration(None, &["a"])],
            deactivate: None,
            previous: None,
        };
        compare_and_set(&mut built, &before);
        assert_eq!(built.apply[0].text("/metadata/resourceVersion"), "7");
    }

    #[tokio::test]
    async fn a_move_that_is_tried_writes_nothing() {
        let mut canonical = configuration(None, &["rev.namespace.sidecar-injector.istio.io"]);
        canonical.0["webhooks"][0]["clientConfig"] =
            json!({"service": {"namespace": "istio-system", "name": "istiod-new"}});
        canonical.set_label("istio.io/rev", "new");
        let before = Inventory {
            webhooks: vec![canonical],
            pods: vec![Object(json!({"metadata": {"labels": {"istio.io/rev": "new"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))],
            ..Inventory::default()
        };
        let request = Request {
            tag: Tag::parse("prod").unwrap(),
            revision: Revision::parse("new").unwrap(),
            namespace: "istio-system".to_owned(),
            overwrite: false,
            force: false,
            automatic: false,
            webhook_name: None,
            labels: Default::default(),
        };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            seen.lock().unwrap().push(request.uri().to_string());
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}});
            async move { Ok::<_, Infallible>(Response::new(Body::from(object.to_string().into_bytes()))) }
        });
        let server = ApiServer::new(Client::new(service, "default"));
        let built = try_set(&server, &request, &before).await.unwrap();
        assert_eq!((built.apply.len(), built.previous), (2, None));
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 2);
        assert!(asked.iter().all(|uri| uri.contains("dryRun=All")), "{asked:?}");
    }

    #[test]
    fn a_webhook_that_nobody_names_any_more_goes_with_the_move() {
        let live = configuration(Some("7"), &["a", "b"]);
        let mut fresh = configuration(None, &["a"]);
        fresh.set_label("istio.io/rev", "new");
        let whole = without_leftovers(&live, &fresh).unwrap();
        assert_eq!(webhook_names(&whole).collect::<Vec<_>>(), ["a"]);
        assert_eq!(whole.label("istio.io/rev"), "new");
        assert_eq!(whole.text("/metadata/resourceVersion"), "7");
        assert_eq!(without_leftovers(&configuration(None, &["a"]), &fresh), None);
    }
}
