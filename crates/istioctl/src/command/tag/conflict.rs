//! Would somebody else answer for the same pods, too (revisions.md §3.7)?

use analyze::analyzers;
use analyze::message::Level;
use analyze::objects::Objects;
use install::object::Object;
use install::tag::{Inventory, TagObjects};

use crate::command::tag::followers;
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::out::Format;

/// What is wrong with webhook configurations of these names among all that there will be.
pub fn among(webhooks: &[Object], names: &[&str]) -> Option<String> {
    let mut objects = Objects::default();
    webhooks.iter().for_each(|webhook| objects.add(webhook.0.clone()));
    let messages = analyzers::run_one("webhook.Analyzer", &objects)?;
    let named = messages.iter().filter(|message| {
        let origin = message.origin.as_ref();
        message.level == Level::Error && origin.is_some_and(|origin| names.contains(&origin.name.as_str()))
    });
    let mut lines: Vec<String> = named.map(ToString::to_string).collect();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What is wrong with the webhooks of a tag, once they are there.
pub fn of_tag(before: &Inventory, built: &TagObjects) -> Option<String> {
    // A pod does not ask what labels they carry that inject it.
    let live = [before.webhooks.as_slice(), &before.strangers].concat();
    let found = among(&followers::webhooks(&live, built), &[built.apply.first()?.name()])?;
    Some(format!(
        "creating tag would conflict, pass --skip-confirmation to proceed:\n{found}"
    ))
}

/// Tells of a conflict and asks whether to go on nevertheless; a program is not asked.
pub fn goes_on(conflict: &Option<String>, output: Format) -> Result<bool, Failure> {
    match conflict {
        None => Ok(true),
        Some(conflict) if output == Format::Table => {
            anstream::eprintln!("{conflict}");
            confirm::ask("Apply anyways? [y/N]", Silence::Stop)
        }
        Some(conflict) => Err(Failure::new(conflict.clone())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::tag::fixture::configuration;
    use install::tag;
    use revision::name::{Revision, Tag};
    use revision::webhook::{self, Options, of_revision};

    /// What is said of a tag that is made beside the revisions `default` and `new`, and another configuration.
    fn check(tag: &str, other: Option<Object>) -> Option<String> {
        let revision = |name: &str| Revision::parse(name).unwrap();
        let of = |name: &str| {
            let webhooks = of_revision(&revision(name), Options::default());
            configuration(&revision(name).injector_webhook("istio-system"), name, "", &webhooks)
        };
        let request = tag::Request {
            tag: Tag::parse(tag).unwrap(),
            revision: revision("new"),
            namespace: "istio-system".to_owned(),
            overwrite: true,
            force: true,
            take_over: false,
            automatic: false,
            webhook_name: None,
            labels: Default::default(),
        };
        let mut before = tag::Inventory {
            webhooks: vec![of("default"), of("new")],
            ..Default::default()
        };
        if let Some(other) = other {
            let is_labelled = !other.label("istio.io/rev").is_empty();
            if is_labelled {
                &mut before.webhooks
            } else {
                &mut before.strangers
            }
            .push(other);
        }
        let built = tag::build(&request, &before, false).unwrap();
        of_tag(&before, &built)
    }

    #[test]
    fn whoever_else_would_answer_is_named() {
        let tagged = |name: &str, tag: &str| {
            let webhooks = webhook::of_tag(&Tag::parse(tag).unwrap(), Options::default());
            configuration(name, "old", tag, &webhooks)
        };
        assert_eq!(check("prod", None), None);
        // The unnamed revision is switched off with it.
        assert_eq!(check("default", None), None);
        assert_eq!(check("prod", Some(tagged("istio-revision-tag-stable", "stable"))), None);
        // The same one moves, whatever else is wrong in the cluster.
        assert_eq!(check("prod", Some(tagged("istio-revision-tag-prod", "prod"))), None);
        let mut stranger = tagged("theirs", "prod");
        stranger.0["metadata"]["labels"] = serde_json::json!({"istio.io/rev": "elsewhere"});
        let said = check("prod", Some(stranger.clone())).unwrap();
        // Nor does it matter whether they say whose they are.
        stranger.0["metadata"]["labels"] = serde_json::json!({});
        assert_eq!(check("prod", Some(stranger)).as_ref(), Some(&said));
        insta::assert_snapshot!(said, @r#"
        creating tag would conflict, pass --skip-confirmation to proceed:
        Error [IST0139] (MutatingWebhookConfiguration istio-revision-tag-prod) Webhook overlaps with others: [theirs/rev.namespace.sidecar-injector.istio.io]. This may cause injection to occur twice.
        Error [IST0139] (MutatingWebhookConfiguration istio-revision-tag-prod) Webhook overlaps with others: [theirs/rev.object.sidecar-injector.istio.io]. This may cause injection to occur twice.
        "#);
    }
}
