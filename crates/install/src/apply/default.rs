//! Who is the default revision after an installation, and what is said of it (revisions.md §3.6).

use std::collections::{BTreeMap, BTreeSet};

use api::names::{DEFAULT_REVISION, label, object};
use revision::decision::{Injector, decide};
use revision::name::{Revision, Tag};
use revision::selector::Labels;
use revision::webhook::{IGNORED_NAMESPACES, Options, Precedence, of_tag};
use serde_json::Value;

use super::{InstallError, Installation};
use crate::api_server::{ApiServer, kind};
use crate::component::Kind;
use crate::inventory;
use crate::object::Object;
use crate::owner::{self, NOT_PRUNED};
use crate::progress::{Event, Progress};
use crate::tag::{self, Inventory, OfHelm, Request};
use crate::{proof, retag, served};

/// How often the tag `default` is tried against others who write to it.
const ATTEMPTS: usize = 5;

impl Installation<'_> {
    /// Labels of the tag `default`, if this installation has to make or move it.
    pub(super) fn wants_default_tag(&self, before: &Inventory) -> Option<BTreeMap<String, String>> {
        let managed = self.operator.values().pointer("/global/operatorManageWebhooks") == Some(&Value::Bool(true));
        let pilot = self.components.iter().any(|component| component.kind == Kind::Pilot);
        if !self.whole || managed || !pilot || self.leaves_default(before) {
            return None;
        }
        let mut labels = owner::labels(self.operator, self.version);
        labels.insert(NOT_PRUNED.to_owned(), "true".to_owned());
        labels.insert(label::OPERATOR_COMPONENT.to_owned(), Kind::Pilot.label().to_owned());
        Some(labels)
    }

    /// Does the tag `default` stay with whom it has? Only the unnamed revision takes it from another.
    fn leaves_default(&self, before: &Inventory) -> bool {
        let has = |webhooks: &[Object]| webhooks.iter().any(|w| w.label(label::TAG) == DEFAULT_REVISION);
        // One that leads nowhere would go on refusing pods and configuration; one of another mesh serves the whole cluster.
        let exists = has(&before.strangers)
            || (has(&before.webhooks) && served::gone(DEFAULT_REVISION, self.operator.namespace(), before).is_none());
        // An own one beside which the unnamed revision still injects was not brought to its end.
        let is_half_made = before.target(DEFAULT_REVISION) == Some(self.operator.revision_label())
            && tag::unnamed(before).is_some_and(|other| !tag::is_deactivated(other));
        exists && !is_half_made && !self.operator.revision().is_empty()
    }

    /// What is said before the tag `default` is made or moved, if it is and that is not what everybody expects.
    pub(super) async fn new_default(&self, server: &ApiServer, before: &Inventory) -> Option<String> {
        self.wants_default_tag(before)?;
        let (to, namespace) = (self.operator.revision_label(), self.operator.namespace());
        announced(to, namespace, before, &[])?;
        // Where pods may not be listed, those are named whose namespace follows as a whole.
        let pods = server.list(&kind("", "v1", "Pod"), "").await.unwrap_or_default();
        let text = announced(to, namespace, before, &self.followers(before, &pods))?;
        Some(match before.release(DEFAULT_REVISION) {
            Some(release) => format!(
                "{text} It is of Helm release {release}, which would move it back at its next upgrade: take \"default\" out of \
                 its value revisionTags afterwards."
            ),
            None => text,
        })
    }

    /// Namespaces that follow the tag `default`: as a whole, or with pods that choose for themselves.
    fn followers(&self, before: &Inventory, pods: &[Object]) -> Vec<String> {
        let names = self.injectors().flat_map(tag::webhook_names);
        let options = Options {
            automatic: self.is_automatic(),
            precedence: Precedence::of_webhooks(names),
        };
        let injector = Tag::parse(DEFAULT_REVISION).map(|tag| Injector {
            config: String::new(),
            revision: self.operator.revision_label().to_owned(),
            tag: Some(DEFAULT_REVISION.to_owned()),
            webhooks: of_tag(&tag, options),
        });
        let injectors: Vec<Injector> = injector.into_iter().collect();
        let known = before
            .namespaces
            .iter()
            .filter(|it| !IGNORED_NAMESPACES.contains(&it.name()));
        let known: BTreeMap<&str, Labels> = known.map(|namespace| (namespace.name(), namespace.labels())).collect();
        let follows = |namespace: &Labels, pod: &Labels| !decide(namespace, pod, &injectors).matches.is_empty();
        let whole = known.iter().filter(|(_, namespace)| follows(namespace, &Labels::new()));
        let with_pods = pods.iter().filter_map(|pod| {
            let (name, namespace) = known.get_key_value(pod.namespace())?;
            follows(namespace, &pod.labels()).then_some(*name)
        });
        let names: BTreeSet<&str> = whole.map(|(name, _)| *name).chain(with_pods).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Does the tag inject namespaces that say nothing?
    fn is_automatic(&self) -> bool {
        let webhook = self
            .operator
            .values()
            .pointer("/sidecarInjectorWebhook/enableNamespacesByDefault");
        webhook == Some(&Value::Bool(true))
    }

    /// The tag `default` as this installation makes it.
    fn default_request(&self, labels: BTreeMap<String, String>) -> Option<Request> {
        Some(Request {
            tag: Tag::parse(DEFAULT_REVISION).ok()?,
            revision: Revision::parse(self.operator.revision()).ok()?,
            namespace: self.operator.namespace().to_owned(),
            overwrite: true,
            force: true,
            take_over: true,
            automatic: self.is_automatic(),
            webhook_name: None,
            labels,
        })
    }

    /// Puts the webhooks of the tag `default` in the place of those that served the default; their name, if they can be
    /// made.
    pub(super) fn with_default_tag(&self, after: &mut Inventory, labels: BTreeMap<String, String>) -> Option<String> {
        let request = self.default_request(labels)?;
        let built = tag::build(&request, after, false).ok()?;
        let made: Vec<&Object> = built.apply.first().into_iter().chain(&built.deactivate).collect();
        after
            .webhooks
            .retain(|live| !made.iter().any(|made| made.name() == live.name()));
        after.webhooks.extend(made.into_iter().cloned());
        Some(built.apply.first()?.name().to_owned())
    }

    /// Makes the tag `default`, or moves it.
    pub(super) async fn default_tag(
        &self,
        server: &ApiServer,
        namespace: &str,
        labels: BTreeMap<String, String>,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        let Some(request) = self.default_request(labels) else {
            return Ok(());
        };
        let mut attempt = 1;
        loop {
            match self.try_default_tag(server, namespace, &request, progress).await {
                Err(InstallError::Request(error)) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Makes or moves it, if nobody changes what was read meanwhile: another installation does, and istiod, which writes
    /// `caBundle`.
    async fn try_default_tag(
        &self,
        server: &ApiServer,
        namespace: &str,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<(), InstallError> {
        let now = inventory::read(server, namespace).await?;
        // Somebody may have made it while the control plane came up: whom they chose stays.
        if self.leaves_default(&now) {
            return Ok(());
        }
        let built = match tag::build(request, &now, false) {
            Ok(built) => built,
            Err(error) => {
                progress.event(Event::Note(format!("the default tag was not made: {error}")));
                return Ok(());
            }
        };
        let to = request.revision.label();
        let moves = built.previous.as_deref().is_some_and(|previous| previous != to);
        let replaces = moves || built.deactivate.is_some();
        if let (true, Some(tagged)) = (replaces, built.apply.first()) {
            proof::prove(server, tagged, to, namespace, &now.pods).await?;
        }
        let is_told = announced(to, namespace, &now, &[]).is_some();
        retag::install(server, &built, &now).await?;
        let also = built
            .of_helm
            .as_ref()
            .map(OfHelm::told)
            .into_iter()
            .chain(built.not_validated());
        for note in also {
            progress.event(Event::Note(note));
        }
        if is_told {
            progress.event(Event::Note(format!("The tag \"default\" points at {to:?} now.")));
        }
        Ok(())
    }
}

/// What is said if the revision `to` becomes the default one; nothing where it is so already, or the first revision is
/// the one without a name.
fn announced(to: &str, namespace: &str, before: &Inventory, followers: &[String]) -> Option<String> {
    let followers = match followers {
        [] => String::new(),
        names => format!(" Namespaces that follow it: {}.", names.join(", ")),
    };
    // One of which there is only the Service injects nobody yet.
    let target = before.target(DEFAULT_REVISION);
    match target.filter(|_| before.injects_for(DEFAULT_REVISION)) {
        Some(previous) if previous == to => None,
        None if to == DEFAULT_REVISION => None,
        Some(previous) => Some(match served::gone(DEFAULT_REVISION, namespace, before) {
            Some(gone) => format!(
                "The tag \"default\" points at revision {gone:?}, which is gone: it goes to {to:?}.{followers} What is left of \
                 {gone:?} goes with: istioctl uninstall --revision {gone} -y"
            ),
            None => format!(
                "This installation will make default injection and validation pointing to the default revision, and \
                 originally it was pointing to the revisioned one: the tag \"default\" points at {previous:?} now, and goes to \
                 {to:?}.{followers} To have {previous:?} do it again afterwards: istioctl tag set default --revision {previous}"
            ),
        }),
        None => Some(taken(to, before, &followers)),
    }
}

/// What is said if a named revision takes a default that nobody has by a tag.
fn taken(to: &str, before: &Inventory, followers: &str) -> String {
    let mut text = format!(
        "There is no tag \"default\": it is made for revision {to:?}, which from then on injects istio-injection=enabled and \
         validates configuration that names no revision.{followers}"
    );
    let active = tag::unnamed(before).filter(|webhook| !tag::is_deactivated(webhook));
    if let Some(active) = active {
        text += &format!(
            " The injector of the unnamed revision ({}), which does so now, is switched off.",
            active.name()
        );
    }
    let mut others = before.revisions();
    others.retain(|other| *other != to && before.is_ready(other));
    // Whoever does it now, if somebody does; else it is not for us to choose among several.
    let validator = before
        .validators
        .iter()
        .find(|live| live.name() == object::DEFAULT_VALIDATOR);
    let now = match (active, validator) {
        (Some(active), _) => active.label(label::REVISION),
        (None, Some(validator)) => validator.label(label::REVISION),
        (None, None) => "",
    };
    match others.as_slice() {
        [] => {}
        [other] => text += &kept(&format!("{other:?}"), other),
        others if others.contains(&now) => text += &kept(&format!("{now:?}"), now),
        others => text += &kept(&format!("another ({})", others.join(", ")), "REVISION"),
    }
    text
}

fn kept(whom: &str, revision: &str) -> String {
    format!(" To have {whom} do it, before or afterwards: istioctl tag set default --revision {revision}")
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
        let told = |to: &str, before: &Inventory| {
            announced(to, "istio-system", before, &["app".to_owned()]).unwrap_or_default()
        };
        assert_eq!(told("old", &cluster(true, &["istiod-old"])), "");
        assert_eq!(told("default", &cluster(false, &[])), "");
        insta::assert_snapshot!(told("canary", &cluster(true, &["istiod-canary"])), @r#"The tag "default" points at revision "old", which is gone: it goes to "canary". Namespaces that follow it: app. What is left of "old" goes with: istioctl uninstall --revision old -y"#);
        insta::assert_snapshot!(told("default", &cluster(true, &["istiod-old", "istiod"])), @r#"This installation will make default injection and validation pointing to the default revision, and originally it was pointing to the revisioned one: the tag "default" points at "old" now, and goes to "default". Namespaces that follow it: app. To have "old" do it again afterwards: istioctl tag set default --revision old"#);
    }

    /// An installation of nothing but the injector of a revision.
    fn of_injector<R>(revision: &str, then: impl FnOnce(&Installation<'_>) -> R) -> R {
        let operator = Operator {
            document: json!({"spec": {"values": {"revision": revision}}}),
            profile: "default".to_owned(),
            warnings: Vec::new(),
        };
        let rendered = Revision::parse(revision).map(|revision| {
            let name = revision.injector_webhook("istio-system");
            injector(&name, revision.label(), "")
        });
        then(&Installation {
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
        })
    }

    fn injector(name: &str, revision: &str, tag: &str) -> Object {
        let mut object = Object(
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name},
            "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io"}]}),
        );
        object.set_label(label::REVISION, revision);
        object.set_label(label::TAG, tag);
        object
    }

    /// The webhook configurations that are held against each other when `revision` is installed beside these and those of
    /// others: what is written has a `*`, what is switched off is in brackets.
    fn compared(revision: &str, live: &[(&str, &str, &str)], others: &[(&str, &str, &str)], expected: &[&str]) {
        let all = |live: &[(&str, &str, &str)]| live.iter().map(|(name, of, tag)| injector(name, of, tag)).collect();
        let before = Inventory {
            webhooks: all(live),
            strangers: all(others),
            ..Inventory::default()
        };
        let (found, own) = of_injector(revision, |installation| installation.webhooks(&before));
        let shown = |object: &Object| {
            let own = if own.iter().any(|own| own == object.name()) {
                "*"
            } else {
                ""
            };
            match tag::is_deactivated(object) {
                true => format!("({}{own})", object.name()),
                false => format!("{}{own}", object.name()),
            }
        };
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected, "{revision}");
    }

    #[test]
    fn the_default_is_held_against_others_too_where_it_changes_hands() {
        let (unnamed, elsewhere) = (
            ("istio-sidecar-injector", "default", ""),
            ("of-another-mesh", "new", ""),
        );
        let (tag, old) = (("tag", "default", "default"), ("istio-sidecar-injector-new", "new", ""));
        let (own, made) = ("istio-sidecar-injector-new*", "istio-revision-tag-default*");
        compared(
            "new",
            &[old, unnamed],
            &[elsewhere],
            &[own, made, "(istio-sidecar-injector)", "of-another-mesh"],
        );
        compared("new", &[], &[("of-nobody", "", "")], &[own, made, "of-nobody"]);
        compared("new", &[unnamed, tag], &[], &["istio-sidecar-injector", "tag", own]);
        compared(
            "",
            &[unnamed, tag],
            &[elsewhere],
            &["tag*", "(istio-sidecar-injector*)", "of-another-mesh"],
        );
        // The default of another mesh stays where it is.
        compared("new", &[], &[tag], &[own, "tag"]);
        // A tag that nobody can make is compared with nobody.
        compared(
            "new",
            &[],
            &[("istio-revision-tag-default", "", "")],
            &[own, "istio-revision-tag-default"],
        );
    }

    #[test]
    fn whoever_follows_the_default_is_named_also_by_pods_alone() {
        let object = |namespace: &str, name: &str, labels: Value| {
            Object(json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}}))
        };
        let before = Inventory {
            namespaces: vec![
                object("", "by-injection", json!({"istio-injection": "enabled"})),
                object("", "by-name", json!({"istio.io/rev": "default"})),
                object("", "by-pod", json!({})),
                object("", "other", json!({"istio.io/rev": "old"})),
                object("", "plain", json!({})),
            ],
            ..Inventory::default()
        };
        let pods = [
            object("by-pod", "a", json!({"sidecar.istio.io/inject": "true"})),
            object("other", "a", json!({"sidecar.istio.io/inject": "true"})),
            object("plain", "a", json!({})),
        ];
        let found = of_injector("new", |installation| installation.followers(&before, &pods));
        assert_eq!(found, ["by-injection", "by-name", "by-pod"]);
    }

    #[test]
    fn who_takes_the_default_is_said() {
        let taken = |before: &Inventory| taken("canary", before, "");
        let mut before = cluster(false, &[]);
        insta::assert_snapshot!(taken(&before), @r#"There is no tag "default": it is made for revision "canary", which from then on injects istio-injection=enabled and validates configuration that names no revision."#);
        let ready = |revision: &str| {
            Object(json!({"metadata": {"labels": {"istio.io/rev": revision}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
        };
        before.webhooks = vec![injector("istio-sidecar-injector", "default", "")];
        before.pods = vec![ready("default")];
        insta::assert_snapshot!(taken(&before), @r#"There is no tag "default": it is made for revision "canary", which from then on injects istio-injection=enabled and validates configuration that names no revision. The injector of the unnamed revision (istio-sidecar-injector), which does so now, is switched off. To have "default" do it, before or afterwards: istioctl tag set default --revision default"#);
        // Not another that is there as well.
        before
            .webhooks
            .push(injector("istio-sidecar-injector-another", "another", ""));
        before.pods.push(ready("another"));
        assert!(
            taken(&before).ends_with(
                "To have \"default\" do it, before or afterwards: istioctl tag set default --revision default"
            )
        );
        before.webhooks[0] = tag::deactivated(&before.webhooks[0]);
        let told = taken(&before);
        assert!(!told.contains("switched off"));
        assert!(told.ends_with("To have another (another, default) do it, before or afterwards: istioctl tag set default --revision REVISION"), "{told}");
        // The validator of the chart `base` tells.
        let mut validator = Object(json!({"metadata": {"name": object::DEFAULT_VALIDATOR}}));
        validator.set_label(label::REVISION, "another");
        before.validators.push(validator);
        assert!(taken(&before).ends_with("--revision another"));
    }
}
