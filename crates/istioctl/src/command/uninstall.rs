//! `istioctl uninstall`: exactly one revision, or everything with `--purge`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use install::inventory;
use install::uninstall::{self, Plan, Removed, Scope};
use status::forward::Forward;
use status::gather;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::install::Wanted;
use crate::confirm::{self, Silence};
use crate::failure::Failure;

/// Most proxies named one by one.
const NAMED: usize = 30;

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
    if flags.purge && (flags.revision.is_some() || flags.filename.is_some()) {
        anstream::println!(
            "Purge uninstall will remove all Istio resources, ignoring the specified revision or operator file"
        );
    }
    let before = inventory::read(&cluster.server, &namespace).await?;
    let owned = uninstall::owned(&cluster.server, flags.purge).await?;
    let plan = uninstall::plan(&scope, &namespace, &owned, &before);
    if let (Scope::Revision(revision), true, true) = (&scope, plan.remove.is_empty(), flags.revision.is_some()) {
        let known = before.revisions().join(", ");
        return Err(Failure::new(format!(
            "could not find target revision {revision:?}; known revisions: {}",
            if known.is_empty() { "none" } else { &known }
        )));
    }
    let (message, used) = match &scope {
        Scope::Purge => ("All Istio resources will be pruned from the cluster\n".to_owned(), true),
        Scope::Revision(revision) => describe(&cluster, &namespace, revision, &plan, flags.verbose).await,
    };
    anstream::print!("{message}");
    if used && flags.if_unused {
        return Err(Failure::new(
            "the control plane is still used, and --if-unused was given: nothing was removed",
        ));
    }
    if flags.dry_run {
        for id in &plan.remove {
            anstream::println!("Not pruning object {id} because of dry run.");
        }
        return Ok(());
    }
    if used && !flags.skip_confirmation && !confirm::ask("Proceed? (y/N)", Silence::Stop)? {
        return Err(Failure::cancelled());
    }
    let mut failed = Vec::new();
    let mut report = |removed: Removed| match removed {
        Removed::DefaultMoved(revision) => {
            anstream::println!(
                "  The default revision is now {revision:?}: it injects istio-injection=enabled and validates."
            );
        }
        Removed::Object(id) => anstream::println!("  Removed {id}."),
        Removed::Absent(id) => anstream::println!("object: {id} is not being deleted because it no longer exists"),
        Removed::Failed(id, error) => {
            anstream::println!("  Not removed: {id}");
            failed.push(error);
        }
    };
    uninstall::execute(&cluster.server, &plan, &namespace, &mut report).await?;
    if !failed.is_empty() {
        return Err(Failure::new(format!(
            "failed to delete control plane resources by revision: {}",
            failed.join("; ")
        )));
    }
    anstream::println!("✔ Uninstall complete");
    Ok(())
}

/// What to remove, and the namespace it is in.
fn scope(global: &Global, flags: &Flags) -> Result<(Scope, String), Failure> {
    let by_set = flags
        .set
        .iter()
        .any(|s| s.starts_with("revision=") || s.starts_with("values.revision="));
    if flags.revision.is_none() && flags.filename.is_none() && !flags.purge && !by_set {
        return Err(Failure::new(
            "at least one of the --revision (or --set revision=<revision>), --filename or --purge flags must be set",
        ));
    }
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
    let operator = wanted.resolve(&wanted.assets()?)?;
    let scope = if flags.purge {
        Scope::Purge
    } else {
        Scope::Revision(operator.revision_label().to_owned())
    };
    Ok((scope, operator.namespace().to_owned()))
}

/// What is said before anything happens, and whether somebody still uses the control plane.
async fn describe(cluster: &Cluster, namespace: &str, revision: &str, plan: &Plan, verbose: bool) -> (String, bool) {
    let mut text = String::new();
    let mut used = false;
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if plan.remove.is_empty() {
        say("No resources will be pruned from the cluster. Please double check the input configs");
        return (text, false);
    }
    if verbose {
        say("The following resources will be pruned from the cluster:");
        for id in &plan.remove {
            say(&format!("  {}", id.path()));
        }
    }
    match proxies(cluster, namespace, revision).await {
        Some(ids) if ids.is_empty() => {}
        Some(ids) => {
            used = true;
            say(&format!(
                "There are still {} proxies pointing to the control plane revision {revision}",
                ids.len()
            ));
            if ids.len() <= NAMED {
                ids.iter().for_each(|id| say(id));
            }
            say(
                "If you proceed with the uninstall, these proxies will become detached from any control plane and will not function correctly.",
            );
        }
        None => {
            used = true;
            say(&format!(
                "Unable to find any proxies pointing to the {revision} control plane. This may be because the control \
                 plane cannot be connected or there is no {revision} control plane."
            ));
        }
    }
    for gateway in &plan.gateways {
        used = true;
        let other = plan
            .others
            .iter()
            .find(|other| other.as_str() != revision)
            .map(String::as_str)
            .unwrap_or_default();
        say(&format!(
            "The gateway {}.{} runs on revision {revision} and stays. Put it on another one with: istioctl gateway revert --revision {other}",
            gateway.name, gateway.namespace
        ));
    }
    if !plan.tags.is_empty() {
        used = true;
        say(&format!(
            "Tags that point at {revision} and go with it: {}",
            plan.tags.join(", ")
        ));
    }
    if let Some(target) = &plan.default_moves_to {
        used = true;
        say(&format!(
            "The default revision moves to {target}, the only one that remains and is ready."
        ));
    }
    if !plan.namespaces.is_empty() {
        used = true;
        say(&format!(
            "Namespaces whose new pods {revision} injects: {}",
            plan.namespaces.join(", ")
        ));
    }
    (text, used)
}

/// Proxies connected to the revision; `None` if none of its istiods answers.
async fn proxies(cluster: &Cluster, namespace: &str, revision: &str) -> Option<Vec<String>> {
    let instances = cluster.istiods(namespace, Some(revision)).await.ok()?;
    let ask = Forward::new(cluster.reach.clone(), namespace);
    let answers = gather::proxies(&ask, &instances, Duration::from_secs(5)).await;
    let heard: Vec<_> = answers.into_iter().filter_map(|answer| answer.result.ok()).collect();
    if heard.is_empty() {
        return None;
    }
    let mut ids: Vec<String> = heard.into_iter().flatten().map(|proxy| proxy.id).collect();
    ids.sort();
    ids.dedup();
    Some(ids)
}
