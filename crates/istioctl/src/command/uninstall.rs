//! `istioctl uninstall`: exactly one revision, or everything with `--purge`.

mod purge;
mod revision;
mod users;

use std::collections::BTreeSet;
use std::path::PathBuf;

use api::names::label;
use clap::Args;
use install::inventory;
use install::object::Object;
use install::served;
use install::stays;
use install::tag::Inventory;
use install::uninstall::{self, Removed, Scope, Stays};

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::install::Wanted;
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::names::present;
use crate::out::put;
use users::Use;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The revision to remove (`default` is the unnamed one).
    #[arg(short, long, value_name = "NAME")]
    revision: Option<String>,
    /// File with the IstioOperator it was installed with: the revision that the file resolves to is removed.
    #[arg(short, long, value_name = "FILE")]
    filename: Option<String>,
    /// Settings it was installed with, for example `--set revision=canary`.
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Remove everything of Istio, custom resource definitions included.
    #[arg(long)]
    purge: bool,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Stop if anything still uses the control plane.
    #[arg(long)]
    if_unused: bool,
    /// Folder with charts and profiles instead of those of this program.
    #[arg(short = 'd', long, value_name = "FOLDER")]
    manifests: Option<PathBuf>,
    /// Go on in spite of mistakes in the settings.
    #[arg(long)]
    force: bool,
    /// Name every object that is going to be removed.
    #[arg(short, long)]
    verbose: bool,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Removes.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let (scope, namespace) = scope(global, &flags)?;
    let cluster = Cluster::connect(global).await?;
    if flags.purge && (flags.revision.is_some() || flags.filename.is_some() || sets_revision(&flags.set)) {
        put("Purge uninstall will remove all Istio resources, ignoring the specified revision or operator file\n");
    }
    let mut before = inventory::read(&cluster.server, &namespace).await?;
    if flags.purge {
        before.add_other_meshes();
    }
    let mut owned = uninstall::owned(&cluster.server, flags.purge).await?;
    uninstall::disown(&cluster.server, &mut owned, &mut before).await;
    let mut plan = uninstall::plan(&scope, &namespace, &owned, &before);
    if let (Scope::Revision(revision), [first, ..]) = (&scope, plan.releases.as_slice()) {
        return Err(Failure::new(format!(
            "revision {revision:?} was installed by Helm, which keeps a record of it: helm uninstall {first}"
        )));
    }
    let is_nothing = plan.remove.is_empty() && plan.validator.is_none();
    if let (Scope::Revision(revision), true, true) = (&scope, is_nothing, flags.revision.is_some()) {
        return Err(Failure::new(not_found(revision, &namespace, &before)));
    }
    let (message, used) = match &scope {
        Scope::Purge => {
            let users = users::read(&cluster, &namespace, None, &before, &mut plan.namespaces).await;
            purge::describe(&users, &plan, &before.revisions())
        }
        Scope::Revision(revision) => {
            let users = users::read(&cluster, &namespace, Some(revision), &before, &mut plan.namespaces).await;
            let gateways = uninstall::gateways(&cluster.server).await;
            let other = plan.successor(&before).unwrap_or("<REVISION>");
            revision::describe(&users, gateways, revision, &plan, other, flags.verbose)
        }
    };
    put(&message);
    if is_nothing {
        put("Nothing was there to uninstall.\n");
        return Ok(());
    }
    if let Some(refusal) = used.refusal().filter(|_| flags.if_unused) {
        return Err(Failure::new(refusal));
    }
    if flags.dry_run {
        for id in plan.ids() {
            put(&format!("Not pruning object {id} because of dry run.\n"));
        }
        return Ok(());
    }
    let is_asked = used != Use::No || flags.purge || !plan.applied_by.is_empty();
    if is_asked && !flags.skip_confirmation && !confirm::ask("Proceed? (y/N)", Silence::Stop)? {
        return Err(Failure::cancelled());
    }
    let mut failed = Vec::new();
    let mut report = |removed: Removed| match removed {
        Removed::DefaultMoved(revision) => put(&format!(
            "  The default revision is now {revision:?}: it injects istio-injection=enabled and validates.\n"
        )),
        Removed::ValidatorStays(Stays::With(other)) => put(&format!("  The validator asks {other:?} now.\n")),
        Removed::ValidatorStays(Stays::Open) => put("  The validator lets pass everything now.\n"),
        Removed::Object(id) => put(&format!("  Removed {id}.\n")),
        Removed::Absent(id) => put(&format!(
            "object: {id} is not being deleted because it no longer exists\n"
        )),
        Removed::Failed(id, error) => {
            put(&format!("  Not removed: {id}\n"));
            failed.push(error);
        }
        Removed::Stopped(stop, left) => {
            for id in left {
                put(&format!("  Not removed: {id}\n"));
            }
            failed.push(stop.to_string());
        }
    };
    uninstall::execute(&cluster.server, &plan, &namespace, &mut report).await?;
    if !failed.is_empty() {
        return Err(Failure::new(format!(
            "failed to delete control plane resources by revision: {}",
            failed.join("; ")
        )));
    }
    let stays = stays::read(&cluster.server, &namespace).await?;
    let stays = stays.told(&scope, &plan.others, &namespace);
    if !stays.is_empty() {
        put(&format!("{stays}\n"));
    }
    if let Ok(after) = inventory::read(&cluster.server, &namespace).await {
        put(&astray(&namespace, &after));
    }
    put("✔ Uninstall complete\n");
    Ok(())
}

/// Tags that lead to nobody: of what stays, the only thing that refuses pods.
fn astray(namespace: &str, after: &Inventory) -> String {
    let tags: BTreeSet<&str> = after.webhooks.iter().map(|webhook| webhook.label(label::TAG)).collect();
    let told = tags.into_iter().filter(|tag| !tag.is_empty()).filter_map(|tag| {
        let gone = served::gone(tag, namespace, after)?;
        Some(format!(
            "❗ The tag {tag:?} points at revision {gone:?}, which is gone: new pods of the namespaces that follow it are \
             refused. Move it (istioctl tag set {tag} --revision <REVISION> --overwrite) or remove it: istioctl tag remove {tag}\n"
        ))
    });
    told.collect()
}

/// Do settings say which revision is meant?
fn sets_revision(set: &[String]) -> bool {
    set.iter()
        .any(|s| s.starts_with("revision=") || s.starts_with("values.revision="))
}

/// What to remove, and the namespace it is in.
fn scope(global: &Global, flags: &Flags) -> Result<(Scope, String), Failure> {
    // --istioNamespace is weaker than what the settings say.
    let mut set = vec![format!("values.global.istioNamespace={}", global.istio_namespace)];
    set.extend(flags.set.clone());
    let wanted = Wanted {
        filename: flags.filename.iter().cloned().collect(),
        set,
        revision: flags.revision.clone(),
        manifests: flags.manifests.clone(),
        force: flags.force,
    };
    // A mistake in a setting is told as such, also where it leaves nothing to say what is to go.
    let operator = wanted.resolve(&wanted.assets()?)?;
    if flags.revision.is_none() && flags.filename.is_none() && !flags.purge && !sets_revision(&flags.set) {
        return Err(Failure::new(
            "at least one of the --revision (or --set revision=<revision>), --filename or --purge flags must be set",
        ));
    }
    let scope = if flags.purge {
        Scope::Purge
    } else {
        Scope::Revision(operator.revision_label().to_owned())
    };
    Ok((scope, operator.namespace().to_owned()))
}

/// Why nothing can be removed of a revision by its name.
fn not_found(revision: &str, namespace: &str, before: &Inventory) -> String {
    let of_revision =
        |object: &&Object| object.label(label::REVISION) == revision && object.label(label::TAG).is_empty();
    let known = before.revisions();
    let elsewhere = before.strangers.iter().filter(of_revision).find_map(|webhook| {
        let of = webhook.called_namespace();
        (!of.is_empty() && of != namespace).then_some(of)
    });
    match elsewhere.filter(|_| !known.contains(&revision)) {
        Some(elsewhere) => {
            return format!(
                "revision {revision:?} is in namespace {elsewhere:?}: istioctl uninstall --revision {revision} -i {elsewhere}"
            );
        }
        None if !known.contains(&revision) => {
            let known = present(known.into_iter());
            return format!("could not find target revision {revision:?}; {known}");
        }
        None => {}
    }
    let found = before.webhooks.iter().chain(&before.services).filter(of_revision);
    let commands: Vec<String> = found
        .map(|object| {
            let within = match object.namespace() {
                "" => String::new(),
                namespace => format!(" -n {namespace}"),
            };
            format!(
                "kubectl delete {} {}{within}",
                object.kind().to_lowercase(),
                object.name()
            )
        })
        .collect();
    format!(
        "nothing of revision {revision:?} carries the labels of an installer (istio.io/rev and \
         operator.istio.io/component), so that only you know whose it is. What names it goes with: {}",
        commands.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tag_that_leads_to_nobody_does_not_stay_unmentioned() {
        let webhook = |tag: &str, revision: &str| {
            Object(json!({"kind": "MutatingWebhookConfiguration",
                "metadata": {"name": format!("istio-revision-tag-{tag}"),
                    "labels": {"istio.io/rev": revision, "istio.io/tag": tag}},
                "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig":
                    {"service": {"namespace": "istio-system", "name": format!("istiod-{revision}")}}}]}))
        };
        let after = Inventory {
            webhooks: vec![webhook("prod", "gone"), webhook("other", "here"), webhook("", "gone")],
            services: vec![Object(json!({"kind": "Service", "metadata": {"name": "istiod-here"}}))],
            ..Inventory::default()
        };
        insta::assert_snapshot!(astray("istio-system", &after), @r#"❗ The tag "prod" points at revision "gone", which is gone: new pods of the namespaces that follow it are refused. Move it (istioctl tag set prod --revision <REVISION> --overwrite) or remove it: istioctl tag remove prod"#);
    }

    #[test]
    fn a_revision_that_cannot_be_removed_by_its_name_is_explained() {
        let check = |revision: &str, namespace: &str, expected: &str| {
            let webhook = Object(json!({"kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "istio-sidecar-injector-old", "labels": {"istio.io/rev": "old"}},
                "webhooks": [{"clientConfig": {"service": {"namespace": "mesh", "name": "istiod-old"}}}]}));
            let service = Object(json!({"kind": "Service",
                "metadata": {"name": "istiod-old", "namespace": "mesh", "labels": {"istio.io/rev": "old", "app": "istiod"}}}));
            let before = match namespace {
                "mesh" => Inventory {
                    webhooks: vec![webhook],
                    services: vec![service],
                    ..Inventory::default()
                },
                _ => Inventory {
                    strangers: vec![webhook],
                    ..Inventory::default()
                },
            };
            assert_eq!(not_found(revision, namespace, &before), expected);
        };
        check(
            "new",
            "mesh",
            "could not find target revision \"new\"; revisions here: old",
        );
        check(
            "old",
            "istio-system",
            "revision \"old\" is in namespace \"mesh\": istioctl uninstall --revision old -i mesh",
        );
        check(
            "old",
            "mesh",
            "nothing of revision \"old\" carries the labels of an installer (istio.io/rev and \
             operator.istio.io/component), so that only you know whose it is. What names it goes with: kubectl delete \
             mutatingwebhookconfiguration istio-sidecar-injector-old; kubectl delete service istiod-old -n mesh",
        );
    }
}
