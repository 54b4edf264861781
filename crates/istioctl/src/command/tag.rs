//! `istioctl tag`: stable names for revisions (revisions.md §3).

mod followers;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use install::api_server::kind;
use install::inventory;
use install::object::Object;
use install::proof::ProofError;
use install::retag::{self, ChangeError};
use install::tag::{self, Inventory, Request, TagError, TagObjects};
use install::yaml;
use revision::name::{Revision, Tag};

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::tag::followers::Followers;
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::out::{Format, put};
use crate::policies::Policies;
use crate::table::{columns, row};

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a tag or moves it to another revision.
    #[command(alias = "create")]
    Set(SetFlags),
    /// Prints the objects of a tag as YAML.
    Generate(SetFlags),
    /// Lists tags with their revisions and namespaces.
    #[command(visible_alias = "show")]
    List(ListFlags),
    /// Points a tag at the revision it pointed at before; a second undo takes the first one back.
    Undo(UndoFlags),
    /// Removes a tag.
    #[command(visible_alias = "delete")]
    Remove(RemoveFlags),
}

/// Flags of `set` and `generate`.
#[derive(Debug, Args)]
pub struct SetFlags {
    /// The tag.
    tag: String,
    /// The revision it points at.
    #[arg(short, long)]
    revision: String,
    /// Move the tag if it exists (`default` moves without).
    #[arg(long)]
    overwrite: bool,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Point the tag at a revision that has no ready istiod, or does not answer: until it does, no new pod of the tag's
    /// namespaces starts.
    #[arg(long)]
    force: bool,
    /// Ask whether the tag could be set, and say what would follow it; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Name of the webhook configuration instead of istio-revision-tag-<tag>.
    #[arg(long)]
    webhook_name: Option<String>,
    /// With the tag `default`: inject namespaces that say nothing, too.
    #[arg(long)]
    auto_inject_namespaces: bool,
    /// Accepted for Istio's sake: a tag's objects come from no chart.
    #[arg(short = 'd', long, hide = true)]
    manifests: Option<String>,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// Output format.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// Flags of `undo`.
#[derive(Debug, Args)]
pub struct UndoFlags {
    /// The tag.
    tag: String,
    /// Point the tag back even at a revision that has no ready istiod, or does not answer: until it does, no new pod of
    /// the tag's namespaces starts.
    #[arg(long)]
    force: bool,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub struct RemoveFlags {
    /// The tag.
    tag: String,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Set(flags) => set(global, flags).await,
        Command::Generate(flags) => generate(global, flags).await,
        Command::List(flags) => list(global, flags).await,
        Command::Undo(flags) => undo(global, flags).await,
        Command::Remove(flags) => remove(global, flags).await,
    }
}

fn request(global: &Global, flags: &SetFlags) -> Result<Request, Failure> {
    Ok(Request {
        tag: Tag::parse(&flags.tag)?,
        revision: Revision::parse(&flags.revision)?,
        namespace: global.istio_namespace.clone(),
        overwrite: flags.overwrite,
        force: flags.force,
        automatic: flags.auto_inject_namespaces,
        webhook_name: flags.webhook_name.clone(),
        labels: Default::default(),
    })
}

async fn undo(global: &Global, flags: UndoFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let Some(revision) = before.previous(&flags.tag) else {
        return Err(TagError::NotMoved(flags.tag).into());
    };
    let request = Request {
        tag: Tag::parse(&flags.tag)?,
        revision: Revision::parse(revision)?,
        namespace: global.istio_namespace.clone(),
        overwrite: true,
        force: flags.force,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    };
    write(&cluster, &request, &before).await
}

async fn set(global: &Global, flags: SetFlags) -> Result<(), Failure> {
    let request = request(global, &flags)?;
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    if flags.dry_run {
        put(&tried(&cluster, &request, &before).await?);
        return Ok(());
    }
    write(&cluster, &request, &before).await
}

/// What a tag would become.
async fn tried(cluster: &Cluster, request: &Request, before: &Inventory) -> Result<String, Failure> {
    let built = retag::try_set(&cluster.server, request, before)
        .await
        .map_err(explained)?;
    let (tag, revision) = (request.tag.as_str(), request.revision.label());
    let mut text = format!("Dry run: revision tag {tag:?} would reference control plane revision {revision:?}.");
    match &built.previous {
        Some(previous) if previous == revision => text.push_str(" It does so already."),
        Some(previous) => text.push_str(&format!(" It references {previous:?} now.")),
        None => text.push_str(" There is no such tag yet."),
    }
    text.push_str("\nNothing was changed; whether the revision answers is asked when the tag is set.\n");
    text.push_str(&match following_then(cluster, request, before, &built).await {
        (found, None) => followers::foretold(revision, &found),
        (found, Some(error)) => followers::without_pods(&found, &error),
    });
    Ok(text)
}

/// Writes a tag's objects if nobody else changed them since they were read, and tells what follows from it.
async fn write(cluster: &Cluster, request: &Request, before: &Inventory) -> Result<(), Failure> {
    let (tag, revision) = (request.tag.as_str(), request.revision.label());
    let planned = tag::build(request, before, false)?;
    let told = match planned.previous.as_deref().filter(|previous| *previous != revision) {
        Some(previous) => match following_then(cluster, request, before, &planned).await {
            (found, None) => followers::told(previous, revision, &found),
            (found, Some(error)) => {
                let found = followers::without_pods(&found, &error);
                format!("It pointed at {previous:?} before. {found}")
            }
        },
        None => String::new(),
    };
    retag::set(&cluster.server, request, before).await.map_err(explained)?;
    put(&format!(
        "Revision tag {tag:?} created, referencing control plane revision {revision:?}. To enable injection using this\n\
         revision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev={tag}'\n"
    ));
    put(&told);
    Ok(())
}

/// Who follows a tag once it is what `built` says.
async fn following_then(
    cluster: &Cluster,
    request: &Request,
    before: &Inventory,
    built: &TagObjects,
) -> (Followers, Option<String>) {
    let (tag, revision) = (request.tag.as_str(), request.revision.label());
    let webhooks = followers::webhooks(&before.webhooks, built);
    following(
        cluster,
        &request.namespace,
        tag,
        revision,
        &webhooks,
        &before.namespaces,
    )
    .await
}

/// Who follows a tag to `target` (or, without one, at all), as these webhook configurations select; where pods may not be
/// listed, the namespaces, and why.
async fn following(
    cluster: &Cluster,
    system: &str,
    tag: &str,
    target: &str,
    webhooks: &[Object],
    namespaces: &[Object],
) -> (Followers, Option<String>) {
    let (pods, error) = match cluster.server.list(&kind("", "v1", "Pod"), "").await {
        Ok(pods) => (pods, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let policies = Policies::read(cluster, system).await;
    let found = followers::of(tag, target, &policies, webhooks, namespaces, &pods);
    (found, error)
}

/// What a person can do about it.
fn explained(error: ChangeError) -> Failure {
    match error {
        ChangeError::Request(error) if error.is_conflict() => Failure::new(format!(
            "{error}; somebody else changed the tag meanwhile: look at it with `istioctl tag list` and run the command again"
        )),
        ChangeError::Proof(error @ (ProofError::NoAnswer { .. } | ProofError::Refused { .. })) => {
            Failure::new(format!(
                "cannot modify tag: {error}. With --force the tag moves nevertheless: no new pod of its namespaces starts \
             until the revision injects"
            ))
        }
        other => Failure::new(other.to_string()),
    }
}

async fn generate(global: &Global, flags: SetFlags) -> Result<(), Failure> {
    let request = request(global, &flags)?;
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let built = tag::build(&request, &before, true)?;
    let documents: Vec<String> = built.apply.iter().map(|object| yaml::to_sorted(&object.0)).collect();
    put(&format!("{}\n", documents.join("\n---\n")));
    Ok(())
}

async fn list(global: &Global, flags: ListFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let rows = tag::list(&inventory::read(&cluster.server, &global.istio_namespace).await?);
    if rows.is_empty() {
        put("No Istio revision tags found.\n");
        return Ok(());
    }
    match flags.output {
        Format::Table => {
            let mut lines = vec![row(["TAG", "REVISION", "NAMESPACES"])];
            lines.extend(rows.iter().map(|r| row([&r.tag, &r.revision, &r.namespaces.join(",")])));
            put(&columns(&lines, 1));
        }
        Format::Json => {
            let mut text = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            serde::Serialize::serialize(&rows, &mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
            put(&format!("{}\n", String::from_utf8_lossy(&text)));
        }
        Format::Yaml => put(&format!("{}\n", yaml::to_sorted(&serde_json::to_value(&rows)?))),
    }
    Ok(())
}

async fn remove(global: &Global, flags: RemoveFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let tag = &flags.tag;
    tag::removal(&before, tag)?;
    if !flags.skip_confirmation {
        let system = &global.istio_namespace;
        let (found, _) = following(&cluster, system, tag, "", &before.webhooks, &before.namespaces).await;
        if let Some(question) = caution(&before, tag, &found)
            && !confirm::ask(&question, Silence::GoOn)?
        {
            put("Aborting operation.\n");
            return Ok(());
        }
    }
    retag::remove(&cluster.server, tag, &before).await.map_err(explained)?;
    put(&format!("Revision tag {tag} removed\n"));
    Ok(())
}

/// What is asked before a tag is removed that namespaces follow, by its label or otherwise.
pub fn caution(before: &Inventory, tag: &str, followers: &Followers) -> Option<String> {
    let labelled = before.namespaces_of(tag).into_iter();
    let namespaces: BTreeSet<&str> = labelled.chain(followers.keys().map(String::as_str)).collect();
    let namespaces: Vec<&str> = namespaces.into_iter().collect();
    (!namespaces.is_empty()).then(|| {
        format!(
            "Caution, found {} namespace(s) still injected by tag {tag:?}: {}\nProceed with operation? [y/N]",
            namespaces.len(),
            namespaces.join(" ")
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use inject::{Config, Injector, Outcome};
    use install::assets::Assets;
    use install::component::{Rendering, render};
    use install::input::{Input, resolve};

    /// The pod by which a revision proves that it answers is one that the charts' own templates inject.
    #[test]
    fn the_tried_pod_is_injected_as_installed() {
        let assets = Assets::embedded();
        let input = Input {
            // Even where nobody is injected who does not ask for it.
            settings: ["revision=canary", "values.global.proxy.autoInject=disabled"]
                .map(str::to_owned)
                .to_vec(),
            ..Input::default()
        };
        let components = render(&resolve(&input, &assets).unwrap(), &assets, &Rendering::default()).unwrap();
        let mut objects = components.iter().flat_map(|component| &component.objects);
        let map = objects.find(|o| o.name() == "istio-sidecar-injector-canary" && o.kind() == "ConfigMap");
        let map = map.unwrap();
        let injector = Injector {
            config: Config::parse(map.text("/data/config"), map.text("/data/values")).unwrap(),
            mesh: serde_json::json!({}),
            revision: "canary".to_owned(),
            native_sidecars: true,
            compliance_policy: String::new(),
        };
        assert_eq!(injector.config.policy.policy, "disabled");
        let pod = install::proof::pod("prod", "istio-system", None);
        let request = inject::Request {
            pod: &pod.0,
            namespace: "istio-system",
            namespace_annotations: None,
            environment: &Default::default(),
            workload: None,
        };
        let Ok(Outcome::Injected(injected)) = injector.inject(request) else {
            panic!("not injected")
        };
        let injected = install::object::Object(injected);
        assert_eq!(install::proof::injected_by(&injected).as_deref(), Some("canary"));
    }

    #[test]
    fn whoever_follows_a_tag_is_named_before_it_goes() {
        let labels = serde_json::json!({"istio.io/rev": "prod"});
        let before = Inventory {
            namespaces: vec![Object(
                serde_json::json!({"metadata": {"name": "web", "labels": labels}}),
            )],
            ..Inventory::default()
        };
        // By istio-injection, or by pods that choose for themselves.
        let found = Followers::from(["app", "web"].map(|name| (name.to_owned(), Default::default())));
        assert_eq!(caution(&Inventory::default(), "default", &Followers::new()), None);
        insta::assert_snapshot!(caution(&before, "prod", &found).unwrap(), @r#"
        Caution, found 2 namespace(s) still injected by tag "prod": app web
        Proceed with operation? [y/N]
        "#);
    }

    #[test]
    fn a_revision_that_does_not_answer_is_explained() {
        let failure = explained(ChangeError::Proof(ProofError::NoAnswer {
            revision: "canary".into(),
            namespace: "istio-system".into(),
            answer: "no proxy".into(),
        }));
        insta::assert_snapshot!(failure.message(), @r#"cannot modify tag: revision "canary" does not inject: a pod that was tried in a dry run got no proxy; nothing was changed. Look at its control plane: kubectl logs -n istio-system -l app=istiod,istio.io/rev=canary. With --force the tag moves nevertheless: no new pod of its namespaces starts until the revision injects"#);
    }
}
