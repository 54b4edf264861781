//! Who is the default revision after an installation, and what is said of it (revisions.md §3.6).

use std::collections::BTreeMap;

use api::names::{DEFAULT_REVISION, label};
use revision::name::{Revision, Tag};
use serde_json::Value;

use super::{InstallError, Installation};
use crate::api_server::ApiServer;
use crate::component::Kind;
use crate::inventory;
use crate::object::Object;
use crate::owner::{self, NOT_PRUNED};
use crate::progress::{Event, Progress};
use crate::tag::{self, Inventory, Request};
use crate::{proof, retag, served};

impl Installation<'_> {
    /// Labels of the tag `default`, if this installation has to make or move it.
    pub(super) fn wants_default_tag(&self, before: &Inventory) -> Option<BTreeMap<String, String>> {
        let managed = self.operator.values().pointer("/global/operatorManageWebhooks") == Some(&Value::Bool(true));
        let pilot = self.components.iter().any(|component| component.kind == Kind::Pilot);
        // One that leads nowhere would go on refusing pods and configuration.
        let exists = before.webhooks.iter().any(|w| w.label(label::TAG) == DEFAULT_REVISION)
            && served::gone(DEFAULT_REVISION, self.operator.namespace(), before).is_none();
        if !self.whole || managed || !pilot || (exists && !self.operator.revision().is_empty()) {
            return None;
        }
        let mut labels = owner::labels(self.operator, self.version);
        labels.insert(NOT_PRUNED.to_owned(), "true".to_owned());
        labels.insert(label::OPERATOR_COMPONENT.to_owned(), Kind::Pilot.label().to_owned());
        Some(labels)
    }

    /// What is said before the tag `default` is made or moved, if it is and that is not what everybody expects.
    pub(super) fn new_default(&self, before: &Inventory) -> Option<String> {
        self.wants_default_tag(before)?;
        announced(self.operator.revision_label(), self.operator.namespace(), before)
    }

    /// Makes the tag `default`, or moves it.
    pub(super) async fn default_tag(
        &self,
        server: &ApiServer,
        namespace: &str,
        labels: BTreeMap<String, String>,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        let now = inventory::read(server, namespace).await?;
        let (Ok(tag), Ok(revision)) = (Tag::parse(DEFAULT_REVISION), Revision::parse(self.operator.revision())) else {
            return Ok(());
        };
        let webhook = self
            .operator
            .values()
            .pointer("/sidecarInjectorWebhook/enableNamespacesByDefault");
        let request = Request {
            tag,
            revision,
            namespace: namespace.to_owned(),
            overwrite: true,
            force: true,
            take_over: true,
            automatic: webhook == Some(&Value::Bool(true)),
            webhook_name: None,
            labels,
        };
        let built = match tag::build(&request, &now, false) {
            Ok(built) => built,
            Err(error) => {
                progress.event(Event::Note(format!("the default tag was not made: {error}")));
                return Ok(());
            }
        };
        let to = request.revision.label();
        let moves = built.previous.as_deref().is_some_and(|previous| previous != to);
        if let (true, Some(tagged)) = (moves, built.apply.first()) {
            proof::prove(server, tagged, to, namespace, &now.pods).await?;
        }
        let is_told = announced(to, namespace, &now).is_some();
        retag::install(server, &built, &now).await?;
        if let Some(of_helm) = &built.of_helm {
            progress.event(Event::Note(of_helm.told()));
        }
        if is_told {
            progress.event(Event::Note(format!("The tag \"default\" points at {to:?} now.")));
        }
        Ok(())
    }
}

/// Does a webhook configuration serve the default: the tag's, or the one that it switches off?
pub(super) fn serves(webhook: &Object) -> bool {
    let tag = webhook.label(label::TAG);
    tag == DEFAULT_REVISION || (tag.is_empty() && webhook.label(label::REVISION) == DEFAULT_REVISION)
}

/// What is said if the revision `to` becomes the default one; nothing where it is so already, or the first revision is
/// the one without a name.
fn announced(to: &str, namespace: &str, before: &Inventory) -> Option<String> {
    match before.target(DEFAULT_REVISION) {
        Some(previous) if previous == to => None,
        None if to == DEFAULT_REVISION => None,
        Some(_) => Some(match served::gone(DEFAULT_REVISION, namespace, before) {
            Some(gone) => format!(
                "The tag \"default\" points at revision {gone:?}, which is gone: it goes to {to:?}. What is left of {gone:?} \
                 goes with: istioctl uninstall --revision {gone} -y"
            ),
            None => {
                "This installation will make default injection and validation pointing to the default revision, and \
                     originally it was pointing to the revisioned one."
                    .to_owned()
            }
        }),
        None => Some(taken(to, before)),
    }
}

/// What is said if a named revision takes a default that nobody has by a tag.
fn taken(to: &str, before: &Inventory) -> String {
    let mut text = format!(
        "There is no tag \"default\": it is made for revision {to:?}, which from then on injects istio-injection=enabled and \
         validates configuration that names no revision."
    );
    let namespaces = before.injected_namespaces();
    if !namespaces.is_empty() {
        text += &format!(" Namespaces that follow it: {}.", namespaces.join(", "));
    }
    if let Some(active) = tag::unnamed(before).filter(|webhook| !tag::is_deactivated(webhook)) {
        text += &format!(
            " The injector of the unnamed revision ({}), which does so now, is switched off.",
            active.name()
        );
    }
    let others = before.revisions();
    let mut others = others.iter().filter(|other| **other != to && before.is_ready(other));
    if let Some(other) = others.next() {
        text += &format!(" To have {other:?} do it, before or afterwards: istioctl tag set default --revision {other}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::input::Operator;

    fn service(name: &&str) -> Object {
        Object(json!({"kind": "Service", "metadata": {"name": name}}))
    }

    /// The tag `default` at revision `old`, or nothing at all.
    fn cluster(exists: bool, services: &[&str]) -> Inventory {
        let tag = Object(
            json!({"metadata": {"labels": {"istio.io/tag": "default", "istio.io/rev": "old"}}, "webhooks": [
                {"name": "rev.namespace.sidecar-injector.istio.io",
                    "clientConfig": {"service": {"namespace": "istio-system", "name": "istiod-old"}}}]}),
        );
        Inventory {
            webhooks: exists.then_some(tag).into_iter().collect(),
            services: services.iter().map(service).collect(),
            ..Inventory::default()
        }
    }

    /// The table of revisions.md §3.6: `revision` is installed where the tag `default` is there or not; it points at
    /// revision `old`, which has these Services.
    fn check(revision: &str, values: Value, exists: bool, services: &[&str], expected: bool) {
        let operator = Operator {
            document: json!({"spec": {"values": {"revision": revision, "global": values}}}),
            profile: "default".to_owned(),
            warnings: Vec::new(),
        };
        let installation = |kind, whole| Installation {
            operator: &operator,
            components: vec![Component {
                kind,
                objects: Vec::new(),
            }],
            version: "1.0.0",
            timeout: Duration::ZERO,
            dry_run: false,
            force: false,
            whole,
        };
        let before = cluster(exists, services);
        let wants = |kind, whole| installation(kind, whole).wants_default_tag(&before);
        let labels = wants(Kind::Pilot, true);
        assert_eq!(
            labels.is_some(),
            expected,
            "{revision:?}, {values}, default tag there: {exists}"
        );
        assert!(wants(Kind::Base, true).is_none(), "no control plane, no default");
        assert!(wants(Kind::Pilot, false).is_none(), "a part of an installation");
        if let Some(labels) = labels {
            assert_eq!(labels.get(NOT_PRUNED).map(String::as_str), Some("true"));
        }
    }

    #[test]
    fn who_makes_the_default_tag() {
        check("1-22-1", json!({}), false, &[], true);
        check("", json!({}), false, &[], true);
        check("canary", json!({}), true, &["istiod-old"], false);
        check("", json!({}), true, &["istiod-old"], true);
        check("canary", json!({"operatorManageWebhooks": true}), false, &[], false);
        // A tag that leads nowhere is as good as none.
        check("canary", json!({}), true, &["istiod-other"], true);
        check("old", json!({}), true, &[], true);
        check(
            "",
            json!({"operatorManageWebhooks": true}),
            true,
            &["istiod-old"],
            false,
        );
    }

    #[test]
    fn the_default_does_not_move_without_a_word() {
        let told = |to: &str, before: &Inventory| announced(to, "istio-system", before).unwrap_or_default();
        assert_eq!(told("old", &cluster(true, &["istiod-old"])), "");
        assert_eq!(told("default", &cluster(false, &[])), "");
        insta::assert_snapshot!(told("canary", &cluster(true, &["istiod-canary"])), @r#"The tag "default" points at revision "old", which is gone: it goes to "canary". What is left of "old" goes with: istioctl uninstall --revision old -y"#);
        insta::assert_snapshot!(told("default", &cluster(true, &["istiod-old", "istiod"])), @"This installation will make default injection and validation pointing to the default revision, and originally it was pointing to the revisioned one.");
    }

    /// The webhook configurations that are held against each other when `revision` is installed beside these.
    fn compared(revision: &str, live: &[(&str, &str, &str)], expected: &[&str]) {
        let webhook = |name: &str, revision: &str, tag: &str| {
            let mut object = Object(json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name}}));
            object.set_label(label::REVISION, revision);
            object.set_label(label::TAG, tag);
            object
        };
        let operator = Operator {
            document: json!({"spec": {"values": {"revision": revision}}}),
            profile: "default".to_owned(),
            warnings: Vec::new(),
        };
        let rendered = Revision::parse(revision).map(|revision| {
            let name = revision.injector_webhook("istio-system");
            webhook(&name, revision.label(), "")
        });
        let installation = Installation {
            operator: &operator,
            components: vec![Component {
                kind: Kind::Pilot,
                objects: rendered.into_iter().collect(),
            }],
            version: "1.0.0",
            timeout: Duration::ZERO,
            dry_run: false,
            force: false,
            whole: true,
        };
        let live = live.iter().map(|(name, revision, tag)| webhook(name, revision, tag));
        let (webhooks, strangers) = live.partition(|webhook| !webhook.label(label::REVISION).is_empty());
        let before = Inventory {
            webhooks,
            strangers,
            ..Inventory::default()
        };
        let found = installation.webhooks(&before);
        assert_eq!(
            found.iter().map(Object::name).collect::<Vec<_>>(),
            expected,
            "{revision}"
        );
    }

    #[test]
    fn what_serves_the_default_is_left_out_where_it_changes_hands() {
        let (unnamed, elsewhere) = (
            ("istio-sidecar-injector", "default", ""),
            ("of-another-mesh", "new", ""),
        );
        let (tag, old) = (("tag", "default", "default"), ("istio-sidecar-injector-new", "new", ""));
        let own = "istio-sidecar-injector-new";
        compared("new", &[elsewhere, old, unnamed], &["of-another-mesh", own]);
        compared("new", &[("of-nobody", "", "")], &["of-nobody", own]);
        compared("new", &[unnamed, tag], &["istio-sidecar-injector", "tag", own]);
        compared("", &[elsewhere, unnamed, tag], &["of-another-mesh"]);
    }

    #[test]
    fn who_takes_the_default_is_said() {
        let mut before = cluster(false, &[]);
        insta::assert_snapshot!(taken("canary", &before), @r#"There is no tag "default": it is made for revision "canary", which from then on injects istio-injection=enabled and validates configuration that names no revision."#);
        before.webhooks = vec![Object(
            json!({"metadata": {"name": "istio-sidecar-injector", "labels": {"istio.io/rev": "default"}},
                "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io"}]}),
        )];
        before.pods = vec![Object(json!({"metadata": {"labels": {"istio.io/rev": "default"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))];
        before.namespaces = vec![Object(
            json!({"metadata": {"name": "app", "labels": {"istio-injection": "enabled"}}}),
        )];
        insta::assert_snapshot!(taken("canary", &before), @r#"There is no tag "default": it is made for revision "canary", which from then on injects istio-injection=enabled and validates configuration that names no revision. Namespaces that follow it: app. The injector of the unnamed revision (istio-sidecar-injector), which does so now, is switched off. To have "default" do it, before or afterwards: istioctl tag set default --revision default"#);
        before.webhooks[0] = tag::deactivated(&before.webhooks[0]);
        assert!(!taken("canary", &before).contains("switched off"));
    }
}
