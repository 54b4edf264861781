//! What a tag risks that is set with `--force`, without a proof that anybody answers.

use api::names::object;
use install::object::Object;
use install::served;
use install::tag::{Inventory, Request, TagObjects};

/// What may become of new pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Risk {
    /// No istiod of the revision is ready: nobody answers for them.
    Absent {
        /// Neither a Service nor a pod of it is left; else its pods are not ready.
        gone: bool,
        /// Changes of configuration are refused as well.
        validates: bool,
    },
    /// An istiod is ready, but was not asked whether it injects.
    Unproved,
}

impl Risk {
    /// The risk of a tag's objects; none without `--force`, since then somebody answered.
    pub fn of(request: &Request, before: &Inventory, planned: &TagObjects) -> Option<Self> {
        let tagged = planned.apply.first().filter(|_| request.force)?;
        let service = tagged.text("/webhooks/0/clientConfig/service/name");
        // A control plane elsewhere is reached by a URL, and its pods are not ours to look at.
        if service.is_empty() || before.is_ready(request.revision.label()) {
            return Some(Self::Unproved);
        }
        let refuses = |live: &Object| {
            live.name() == object::DEFAULT_VALIDATOR && live.text("/webhooks/0/failurePolicy") == "Fail"
        };
        Some(Self::Absent {
            gone: served::is_gone(service, request.revision.label(), before),
            validates: request.tag.is_default() && before.validators.iter().any(refuses),
        })
    }

    /// In words.
    pub fn told(&self, request: &Request) -> String {
        let (tag, revision) = (request.tag.as_str(), request.revision.label());
        match self {
            Self::Absent { gone, validates } => {
                let what = if *gone {
                    "is gone: neither its Service nor a pod of it is there"
                } else {
                    "has no ready istiod"
                };
                let mut text = format!(
                    "revision {revision:?} {what}. Until it has a ready one, new pods that the tag {tag:?} selects are refused \
                     (failurePolicy Fail). Restart none of them. Look at it: kubectl get pods -n {} -l \
                     app=istiod,istio.io/rev={revision}",
                    request.namespace,
                );
                if *validates {
                    text.push_str(
                        ". Changes of configuration that names no revision are refused, too, until another istiod opens the \
                         validator",
                    );
                }
                text
            }
            Self::Unproved => format!(
                "--force: nobody asked revision {revision:?} whether it injects. If it does not, new pods that the tag {tag:?} \
                 selects are refused"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use revision::name::{Revision, Tag};
    use serde_json::{Value, json};

    fn check(tag: &str, force: bool, pods: &[Value], services: &[&str], expected: Option<&str>) {
        let request = Request {
            tag: Tag::parse(tag).unwrap(),
            revision: Revision::parse("new").unwrap(),
            namespace: "istio-system".to_owned(),
            overwrite: true,
            force,
            take_over: force,
            automatic: false,
            webhook_name: None,
            labels: Default::default(),
        };
        let service = |name: &&str| {
            Object(
                json!({"kind": "Service", "metadata": {"name": name, "labels": {"istio.io/rev": "new", "app": "istiod"}}}),
            )
        };
        let before = Inventory {
            webhooks: vec![Object(json!({"kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "istio-sidecar-injector-new", "labels": {"istio.io/rev": "new"}},
                "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io",
                    "clientConfig": {"service": {"namespace": "istio-system", "name": "istiod-new"}}}]}))],
            services: services.iter().map(service).collect(),
            validators: vec![Object(json!({"kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "istiod-default-validator"}, "webhooks": [{"failurePolicy": "Fail"}]}))],
            pods: pods.iter().cloned().map(Object).collect(),
            ..Inventory::default()
        };
        let planned = install::tag::build(&request, &before, false).unwrap();
        let told = Risk::of(&request, &before, &planned).map(|risk| risk.told(&request));
        assert_eq!(told.as_deref(), expected);
    }

    #[test]
    fn what_force_risks_is_said() {
        let ready = json!({"metadata": {"labels": {"istio.io/rev": "new"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        check("prod", false, std::slice::from_ref(&ready), &["istiod-new"], None);
        check(
            "prod",
            true,
            &[ready],
            &["istiod-new"],
            Some(
                "--force: nobody asked revision \"new\" whether it injects. If it does not, new pods that the tag \"prod\" \
                 selects are refused",
            ),
        );
        let look = "Look at it: kubectl get pods -n istio-system -l app=istiod,istio.io/rev=new";
        check(
            "prod",
            true,
            &[],
            &["istiod-new"],
            Some(&format!(
                "revision \"new\" has no ready istiod. Until it has a ready one, new pods that the tag \"prod\" selects are \
                 refused (failurePolicy Fail). Restart none of them. {look}"
            )),
        );
        check(
            "default",
            true,
            &[],
            &[],
            Some(&format!(
                "revision \"new\" is gone: neither its Service nor a pod of it is there. Until it has a ready one, new pods that \
                 the tag \"default\" selects are refused (failurePolicy Fail). Restart none of them. {look}. Changes of \
                 configuration that names no revision are refused, too, until another istiod opens the validator"
            )),
        );
    }
}
