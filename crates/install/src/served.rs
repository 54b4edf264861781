//! Is anybody behind an injector? Its webhooks fail closed: where nobody is, no pod that they select can start. Pure.

use std::collections::BTreeMap;

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
    (of == namespace && is_gone(service, revision, inventory)).then_some(revision)
}

/// Neither the Service nor a pod of a revision's control plane is there.
pub fn is_gone(service: &str, revision: &str, inventory: &Inventory) -> bool {
    !inventory.services.iter().any(|live| live.name() == service)
        && !inventory.pods.iter().any(|pod| pod.label(label::REVISION) == revision)
}

/// What it means that nobody is behind the injectors of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Neither a Service nor a pod of the control plane is left; else its pods are not ready.
    pub gone: bool,
    /// New pods are refused meanwhile (`failurePolicy` `Fail`); else they start without a proxy.
    pub refuses: bool,
}

impl Absence {
    /// What becomes of new pods.
    pub fn effect(self) -> &'static str {
        if self.refuses {
            "are refused"
        } else {
            "start without a proxy"
        }
    }

    /// What is the matter with a revision, and what a person can do.
    pub fn told(self, revision: &str) -> String {
        let effect = self.effect();
        if self.gone {
            format!(
                "Revision {revision} is gone, but its injector is not: new pods that it selects {effect}. Restart none of \
                 them before the revision is installed again, or its rest removed: istioctl uninstall --revision {revision}"
            )
        } else {
            format!(
                "No istiod of revision {revision} is ready: until one is, new pods that it injects {effect}. Restart none of \
                 them."
            )
        }
    }
}

/// Does one of a configuration's injectors refuse pods when nobody answers? The API server's own default does.
fn refuses(configuration: &Object) -> bool {
    let webhooks = configuration.0.get("webhooks").and_then(Value::as_array);
    let mut webhooks = webhooks.into_iter().flatten();
    webhooks.any(|webhook| webhook["failurePolicy"] != "Ignore")
}

/// Revisions with an injector that calls the namespace, where no istiod of theirs is ready.
pub fn unserved(namespace: &str, inventory: &Inventory) -> BTreeMap<String, Absence> {
    let mut found: BTreeMap<String, Absence> = BTreeMap::new();
    for webhook in &inventory.webhooks {
        let revision = webhook.label(label::REVISION);
        let Some((of, service)) = calls(webhook) else { continue };
        if of != namespace || revision.is_empty() || inventory.is_ready(revision) {
            continue;
        }
        let absence = found.entry(revision.to_owned()).or_default();
        absence.gone = is_gone(service, revision, inventory);
        absence.refuses |= refuses(webhook);
    }
    found
}

/// Revisions beside one, but for those of which only the webhooks are left.
pub(crate) fn others(revision: &str, namespace: &str, inventory: &Inventory) -> Vec<String> {
    let absent = unserved(namespace, inventory);
    let is_gone = |other: &str| absent.get(other).is_some_and(|absence| absence.gone);
    inventory
        .revisions()
        .into_iter()
        .filter(|other| *other != revision && !is_gone(other))
        .map(str::to_owned)
        .collect()
}

/// Who of these may get a gateway: the default revision if it can serve, else any that can.
pub(crate) fn preferred<'a>(among: &'a [String], default: Option<&str>, inventory: &Inventory) -> Option<&'a str> {
    among
        .iter()
        .map(String::as_str)
        .min_by_key(|other| (!inventory.is_ready(other), Some(*other) != default))
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
        let found = unserved("istio-system", &inventory);
        assert_eq!(found.keys().collect::<Vec<_>>(), without_istiod);
        assert!(
            found
                .values()
                .all(|absence| absence.gone == expected.is_some() && absence.refuses)
        );
        assert!(unserved("another", &inventory).is_empty());
    }

    #[test]
    fn pods_are_refused_or_start_without_a_proxy() {
        let told = |gone, refuses| Absence { gone, refuses }.told("old");
        assert_eq!(
            told(false, true),
            "No istiod of revision old is ready: until one is, new pods that it injects are refused. Restart none of them."
        );
        assert!(told(false, false).contains("new pods that it injects start without a proxy."));
        assert!(told(true, true).contains("its rest removed: istioctl uninstall --revision old"));
        let mut webhook = injector("old", "old", "", called("istiod-old"));
        assert!(refuses(&webhook));
        webhook.0["webhooks"][0]["failurePolicy"] = "Ignore".into();
        assert!(!refuses(&webhook));
    }

    #[test]
    fn a_revision_is_gone_asleep_or_awake() {
        check(&["istiod-old"], &[istiod("old", "True")], None, &[]);
        check(&["istiod-old"], &[istiod("old", "False")], None, &["old"]);
        check(&["istiod-old"], &[], None, &["old"]);
        check(&["istiod-new"], &[istiod("new", "True")], Some("old"), &["old"]);
    }
}
