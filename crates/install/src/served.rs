//! Is anybody behind an injector? Its webhooks fail closed: where nobody is, no pod that they select can start. Pure.

use std::collections::BTreeSet;

use api::names::label;
use revision::webhook::WEBHOOK_SUFFIX;
use serde_json::Value;

use crate::object::Object;
use crate::tag::Inventory;

/// Namespace and name of the Service that an injector calls; a control plane elsewhere is called by a URL.
fn calls(configuration: &Object) -> Option<(&str, &str)> {
    let webhooks = configuration.0.get("webhooks")?.as_array()?;
    let is_injector = |webhook: &&Value| {
        let name = webhook["name"].as_str();
        name.is_some_and(|name| name.ends_with(WEBHOOK_SUFFIX))
    };
    let service = webhooks.iter().find(is_injector)?.pointer("/clientConfig/service")?;
    Some((service["namespace"].as_str()?, service["name"].as_str()?))
}

/// The revision that a tag points at and that is gone from the namespace: neither a Service nor a pod of it is there.
pub fn gone<'a>(tag: &str, namespace: &str, inventory: &'a Inventory) -> Option<&'a str> {
    let webhook = inventory
        .webhooks
        .iter()
        .find(|webhook| webhook.label(label::TAG) == tag)?;
    let (of, service) = calls(webhook)?;
    let revision = webhook.label(label::REVISION);
    let is_there = inventory.services.iter().any(|live| live.name() == service)
        || inventory.pods.iter().any(|pod| pod.label(label::REVISION) == revision);
    (of == namespace && !is_there).then_some(revision)
}

/// Revisions with an injector that calls the namespace, where no istiod of theirs is ready.
pub fn unserved(namespace: &str, inventory: &Inventory) -> BTreeSet<String> {
    let called = inventory
        .webhooks
        .iter()
        .filter(|webhook| calls(webhook).is_some_and(|(of, _)| of == namespace));
    called
        .map(|webhook| webhook.label(label::REVISION))
        .filter(|revision| !revision.is_empty() && !inventory.is_ready(revision))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn injector(name: &str, revision: &str, tag: &str, client: Value) -> Object {
        let mut labels = json!({"istio.io/rev": revision});
        if !tag.is_empty() {
            labels["istio.io/tag"] = tag.into();
        }
        Object(
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels},
            "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": client}]}),
        )
    }

    fn called(service: &str) -> Value {
        json!({"service": {"namespace": "istio-system", "name": service}})
    }

    fn istiod(revision: &str, ready: &str) -> Object {
        Object(
            json!({"metadata": {"name": "istiod", "labels": {"istio.io/rev": revision}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
        )
    }

    fn service(name: &str) -> Object {
        Object(json!({"kind": "Service", "metadata": {"name": name}}))
    }

    /// Revision `old`, to which the tag `default` points; `services` and `pods` are what is left of it.
    fn check(services: &[&str], pods: &[Object], expected: Option<&str>, without_istiod: &[&str]) {
        let inventory = Inventory {
            webhooks: vec![
                injector("default", "old", "default", called("istiod-old")),
                injector("elsewhere", "far", "", json!({"url": "https://example.com/inject"})),
            ],
            services: services.iter().map(|name| service(name)).collect(),
            pods: pods.to_vec(),
            ..Inventory::default()
        };
        assert_eq!(gone("default", "istio-system", &inventory), expected);
        assert_eq!(gone("prod", "istio-system", &inventory), None);
        assert_eq!(gone("default", "another", &inventory), None);
        let found: Vec<String> = unserved("istio-system", &inventory).into_iter().collect();
        assert_eq!(found, without_istiod);
        assert!(unserved("another", &inventory).is_empty());
    }

    #[test]
    fn a_revision_is_gone_asleep_or_awake() {
        check(&["istiod-old"], &[istiod("old", "True")], None, &[]);
        check(&["istiod-old"], &[istiod("old", "False")], None, &["old"]);
        check(&["istiod-old"], &[], None, &["old"]);
        check(&["istiod-new"], &[istiod("new", "True")], Some("old"), &["old"]);
    }
}
