//! `istioctl tag remove`: who follows is named first, and what nobody does any more afterwards.

use std::collections::BTreeSet;

use api::names::DEFAULT_REVISION;
use api::names::label::{INJECTION_ENABLED, NAMESPACE_INJECTION};
use clap::Args;
use install::inventory;
use install::retag;
use install::tag::{self, Inventory};
use revision::decision::{Injector, decide};
use revision::selector::Labels;

use super::followers::{self, Followers, Leader, Question, Restart};
use super::report::{self, Report};
use super::{explained, following};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::confirm::{self, Silence};
use crate::failure::{Failure, USAGE};
use crate::out::{self, Format, put};

/// Flags of `remove`.
#[derive(Debug, Args)]
pub struct RemoveFlags {
    /// The tag.
    tag: String,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Say what would be removed and who follows; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Output format; json and yaml are for programs, and ask nothing: they need -y or --dry-run.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

pub(super) async fn run(global: &Global, flags: RemoveFlags) -> Result<(), Failure> {
    let is_text = flags.output == Format::Table;
    if !is_text && !flags.skip_confirmation && !flags.dry_run {
        return Err(Failure::with_code(
            "tag remove -o json|yaml asks nothing: pass -y as well",
            USAGE,
        ));
    }
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let before = inventory::read(&cluster.server, system).await?;
    let tag = &flags.tag;
    let objects = tag::removal(&before, tag)?;
    let question = Question {
        leader: Leader::Tag(tag),
        admits: before.target(tag).unwrap_or_default(),
        is_there: None,
    };
    let (found, unknown) = following(&cluster, system, question, &before.webhooks, &before.namespaces).await;
    let unknown = unknown.map(|error| format!("which workloads follow is not known: {error}"));
    if let Some(unknown) = unknown.as_ref().filter(|_| is_text) {
        anstream::eprintln!("❗ {unknown}");
    }
    let of_helm = tag::bereft(&before, &BTreeSet::from([tag.as_str()]));
    for line in of_helm.iter().filter(|_| is_text) {
        anstream::eprintln!("❗ {line}");
    }
    let mut warnings = orphaned(&before, tag);
    if flags.dry_run && is_text {
        put(&format!(
            "Dry run: revision tag {tag} would be removed. Nothing was changed.\n"
        ));
        for object in &objects {
            put(&format!("would be removed: {}\n", object.id().path()));
        }
        put(&caution(&before, tag, &found)
            .map(|caution| caution + "\n")
            .unwrap_or_default());
        return Ok(());
    }
    let goes_on = match caution(&before, tag, &found).filter(|_| is_text) {
        Some(caution) if flags.skip_confirmation => {
            anstream::eprintln!("{}", unasked(&caution));
            true
        }
        Some(caution) => confirm::ask(&format!("{caution}\nProceed with operation? [y/N]"), Silence::GoOn)?,
        None => true,
    };
    if !goes_on {
        put("Aborting operation.\n");
        return Ok(());
    }
    if !flags.dry_run {
        let removed = retag::remove(&cluster.server, tag, &before).await;
        removed.map_err(|error| explained(error, false))?;
    }
    if is_text {
        put(&format!("Revision tag {tag} removed\n"));
        return Ok(());
    }
    warnings.extend(unknown);
    warnings.extend(of_helm);
    let report = Report {
        tag: tag.clone(),
        revision: before.target(tag).filter(|_| flags.dry_run).map(str::to_owned),
        previous: before.target(tag).map(str::to_owned),
        dry_run: flags.dry_run,
        warnings,
        namespaces: report::namespaces(&found, Restart::Harms),
    };
    out::data(&report, flags.output)
}

/// What is said before a tag is removed: who follows it, by its label or otherwise, and what nobody does without it.
pub fn caution(before: &Inventory, tag: &str, followers: &Followers) -> Option<String> {
    let labelled = before.namespaces_of(tag).into_iter();
    let namespaces: BTreeSet<&str> = labelled.chain(followers.keys().map(String::as_str)).collect();
    let followed = (!namespaces.is_empty()).then(|| {
        format!(
            "Caution, found {} namespace(s) still injected by tag {tag:?}: {}",
            namespaces.len(),
            namespaces.into_iter().collect::<Vec<_>>().join(" ")
        )
    });
    let lines: Vec<String> = followed.into_iter().chain(orphaned(before, tag)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The same where nobody is asked: it is said nevertheless.
fn unasked(caution: &str) -> String {
    let said = caution.strip_prefix("Caution, ").unwrap_or(caution);
    format!("WARNING: {}", said.replace('\n', "\n         "))
}

/// What nobody does once the tag `default` is gone, and how somebody does it again.
fn orphaned(before: &Inventory, tag: &str) -> Vec<String> {
    if tag != DEFAULT_REVISION {
        return Vec::new();
    }
    let stays = before
        .webhooks
        .iter()
        .filter(|webhook| webhook.label(api::names::label::TAG) != tag);
    let injectors: Vec<Injector> = stays.filter_map(followers::injector).collect();
    let enabled = Labels::from([(NAMESPACE_INJECTION.to_owned(), INJECTION_ENABLED.to_owned())]);
    if !decide(&enabled, &Labels::new(), &injectors).matches.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        "Without the tag \"default\" nobody injects namespaces labelled istio-injection=enabled, or pods labelled \
         sidecar.istio.io/inject=true that name no revision: they start without a proxy. Configuration that names no \
         revision is not validated."
            .to_owned(),
    ];
    if let Some(off) = injectors.iter().find(|injector| injector.is_deactivated()) {
        lines.push(format!(
            "The injector of the unnamed revision ({}) was switched off when the tag was made, and stays off.",
            off.config
        ));
    }
    lines.push(format!(
        "To have it done, instead of removing the tag or afterwards: istioctl tag set default --revision {}",
        heir(before).unwrap_or("<REVISION>")
    ));
    lines
}

/// The revision that may be the default one: the unnamed one, else another than now, else the same.
fn heir(before: &Inventory) -> Option<&str> {
    let now = before.target(DEFAULT_REVISION);
    let mut ready: Vec<&str> = before.revisions();
    ready.retain(|revision| before.is_ready(revision));
    ready.sort_by_key(|revision| (*revision != DEFAULT_REVISION, Some(*revision) == now));
    ready.first().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::tag::fixture::configuration;
    use install::object::Object;
    use revision::name::{Revision, Tag};
    use revision::webhook::{Options, of_revision, of_tag};
    use serde_json::{Value, json};

    /// The tag `default` points at `canary`, beside the unnamed revision.
    fn cluster() -> Inventory {
        let revision = |name: &str| of_revision(&Revision::parse(name).unwrap(), Options::default());
        let ready = |revision: &str| -> Value {
            json!({"metadata": {"labels": {"istio.io/rev": revision}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let default = of_tag(&Tag::parse("default").unwrap(), Options::default());
        let unnamed = configuration("istio-sidecar-injector", "default", "", &revision("default"));
        Inventory {
            webhooks: vec![
                configuration("istio-sidecar-injector-canary", "canary", "", &revision("canary")),
                configuration("istio-revision-tag-default", "canary", "default", &default),
                tag::deactivated(&unnamed),
            ],
            pods: ["canary", "default"].map(ready).map(Object).to_vec(),
            ..Inventory::default()
        }
    }

    #[test]
    fn what_nobody_does_without_the_default_is_said_before_it_goes() {
        let before = cluster();
        insta::assert_snapshot!(caution(&before, "default", &Followers::new()).unwrap(), @r#"
        Without the tag "default" nobody injects namespaces labelled istio-injection=enabled, or pods labelled sidecar.istio.io/inject=true that name no revision: they start without a proxy. Configuration that names no revision is not validated.
        The injector of the unnamed revision (istio-sidecar-injector) was switched off when the tag was made, and stays off.
        To have it done, instead of removing the tag or afterwards: istioctl tag set default --revision default
        "#);
        assert_eq!(caution(&before, "prod", &Followers::new()), None);
        // Somebody else answers.
        let mut active = cluster();
        let unnamed = of_revision(&Revision::unnamed(), Options::default());
        active.webhooks[2] = configuration("istio-sidecar-injector", "default", "", &unnamed);
        assert_eq!(caution(&active, "default", &Followers::new()), None);
        // Nobody could: the tag stays where it is, or something is installed.
        let heirs = |revisions: &[&str]| {
            let mut before = cluster();
            before.pods.retain(|pod| revisions.contains(&pod.label("istio.io/rev")));
            heir(&before).map(str::to_owned)
        };
        assert_eq!(heirs(&["canary"]).as_deref(), Some("canary"));
        assert_eq!(heirs(&["canary", "default"]).as_deref(), Some("default"));
        assert_eq!(heirs(&[]), None);
    }

    #[test]
    fn whoever_follows_a_tag_is_named_before_it_goes() {
        let labels = json!({"istio.io/rev": "prod"});
        let before = Inventory {
            namespaces: vec![Object(json!({"metadata": {"name": "web", "labels": labels}}))],
            ..Inventory::default()
        };
        // By istio-injection, or by pods that choose for themselves.
        let found = Followers::from(["app", "web"].map(|name| (name.to_owned(), Default::default())));
        assert_eq!(caution(&Inventory::default(), "prod", &Followers::new()), None);
        insta::assert_snapshot!(caution(&before, "prod", &found).unwrap(), @r#"Caution, found 2 namespace(s) still injected by tag "prod": app web"#);
        insta::assert_snapshot!(unasked("Caution, found 1 namespace(s)\nWithout the tag"), @r"
        WARNING: found 1 namespace(s)
                 Without the tag
        ");
    }
}
