//! `istioctl tag`: stable names for revisions (revisions.md §3).

pub(super) mod conflict;
pub(super) mod followers;
mod list;
mod remove;
mod report;
mod risk;
mod undo;

pub use remove::caution;

use clap::{Args, Subcommand};
use install::api_server::{Effect, RequestError, kind};
use install::inventory;
use install::object::Object;
use install::proof::ProofError;
use install::retag::{self, ChangeError};
use install::tag::{self, Inventory, OfHelm, Request};
use install::yaml;
use revision::name::{Revision, Tag};

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::tag::followers::{Decided, Followers, Leader, Restart};
use crate::command::tag::report::Report;
use crate::command::tag::risk::Risk;
use crate::failure::Failure;
use crate::out::{self, Format, put};
use crate::policies::Policies;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a tag or moves it to another revision.
    #[command(alias = "create")]
    Set(SetFlags),
    /// Prints the objects of a tag as YAML.
    Generate(Wanted),
    /// Lists tags with their revisions and namespaces.
    #[command(visible_alias = "show")]
    List(list::ListFlags),
    /// Points a tag at the revision it pointed at before; a second undo takes the first one back.
    Undo(undo::UndoFlags),
    /// Removes a tag.
    #[command(visible_alias = "delete")]
    Remove(remove::RemoveFlags),
}

/// What a tag shall be.
#[derive(Debug, Args)]
pub struct Wanted {
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
    /// Point the tag at a revision that has no ready istiod, or does not answer: until it does, new pods of the tag's
    /// namespaces are refused. One that Helm made is taken over, for a revision that answers.
    #[arg(long)]
    force: bool,
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

/// Flags of `set`.
#[derive(Debug, Args)]
pub struct SetFlags {
    #[command(flatten)]
    wanted: Wanted,
    /// Ask whether the tag could be set, and say what would follow it; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Output format; json and yaml are for programs.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Set(flags) => set(global, flags).await,
        Command::Generate(flags) => generate(global, flags).await,
        Command::List(flags) => list::run(global, flags).await,
        Command::Undo(flags) => undo::run(global, flags).await,
        Command::Remove(flags) => remove::run(global, flags).await,
    }
}

fn request(global: &Global, flags: &Wanted, before: &Inventory) -> Result<Request, Failure> {
    let tag = Tag::parse(&flags.tag)?;
    Ok(Request {
        revision: Revision::parse(&flags.revision)?,
        namespace: global.istio_namespace.clone(),
        overwrite: flags.overwrite,
        automatic: flags.auto_inject_namespaces,
        webhook_name: flags.webhook_name.clone(),
        labels: Default::default(),
        force: is_forced(flags.force, tag.as_str(), before),
        take_over: flags.force,
        tag,
    })
}

/// Of a tag that Helm made `--force` takes it over, and no more: that it goes to who answers is proved.
fn is_forced(force: bool, tag: &str, before: &Inventory) -> bool {
    force && before.release(tag).is_none()
}

async fn set(global: &Global, flags: SetFlags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let request = request(global, &flags.wanted, &before)?;
    let how = How {
        dry_run: flags.dry_run,
        skip_confirmation: flags.wanted.skip_confirmation,
        output: flags.output,
        is_undo: false,
    };
    change(&cluster, &request, &before, how).await
}

/// How a tag is changed.
struct How {
    /// Not at all: it is only tried.
    dry_run: bool,
    /// Without a question.
    skip_confirmation: bool,
    /// For whom what happened is printed.
    output: Format,
    /// The same command again would take it back.
    is_undo: bool,
}

/// Writes a tag's objects if nobody else changed them since they were read; who follows is told before. In a dry run only
/// what would happen.
async fn change(cluster: &Cluster, request: &Request, before: &Inventory, how: How) -> Result<(), Failure> {
    let planned = tag::build(request, before, false)?;
    let (tag, revision) = (request.tag.as_str(), request.revision.label());
    let webhooks = followers::webhooks(&before.webhooks, &planned);
    let conflict = if how.skip_confirmation {
        None
    } else {
        conflict::of_tag(before, &planned)
    };
    let question = followers::Question {
        leader: Leader::Tag(tag),
        admits: revision,
        is_there: Some(revision),
    };
    let (found, unknown) = following(cluster, &request.namespace, question, &webhooks, &before.namespaces).await;
    let mut change = Change {
        request,
        previous: planned.previous.as_deref(),
        found,
        unknown,
        risk: Risk::of(request, before, &planned),
        of_helm: planned.of_helm.as_ref().map(OfHelm::told),
        not_validated: planned.not_validated(),
        conflict: None,
    };
    let is_text = how.output == Format::Table;
    if how.dry_run {
        change.conflict = conflict;
        retag::try_set(&cluster.server, &planned, before).await
    } else {
        if is_text {
            put(&change.preview());
        }
        if !conflict::goes_on(&conflict, how.output)? {
            return Ok(());
        }
        retag::set(&cluster.server, request, &planned, before).await
    }
    .map_err(|error| match error {
        ChangeError::Request(RequestError::TimedOut { verb, object, timeout })
            if how.is_undo && timeout.effect == Effect::Writes =>
        {
            Failure::new(undo::unknown(verb, &object, timeout.after, tag, revision))
        }
        error => explained(error, request.take_over),
    })?;
    if !is_text {
        return out::data(&change.report(how.dry_run), how.output);
    }
    put(&if how.dry_run { change.foretold() } else { change.told() });
    for warning in change.warnings() {
        anstream::eprintln!("WARNING: {warning}");
    }
    Ok(())
}

/// A tag that is set, and who follows it.
struct Change<'a> {
    request: &'a Request,
    previous: Option<&'a str>,
    found: Followers,
    /// Why it is not known which pods follow, if it is not.
    unknown: Option<String>,
    risk: Option<Risk>,
    /// What has to follow if the tag is taken over from Helm.
    of_helm: Option<String>,
    /// Who validates configuration nevertheless.
    not_validated: Option<String>,
    /// Who else would answer for the tag's pods, where nobody was asked about it.
    conflict: Option<String>,
}

impl Change<'_> {
    fn restart(&self) -> Restart {
        match self.risk {
            Some(Risk::Absent { .. }) => Restart::Harms,
            Some(Risk::Unproved) | None => Restart::Moves,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let risk = self.risk.as_ref().map(|risk| risk.told(self.request));
        let rest = [&self.of_helm, &self.not_validated, &self.conflict];
        risk.into_iter().chain(rest.into_iter().flatten().cloned()).collect()
    }

    fn told(&self) -> String {
        let (tag, revision) = (self.request.tag.as_str(), self.request.revision.label());
        format!(
            "Revision tag {tag:?} created, referencing control plane revision {revision:?}. To enable injection using this\n\
             revision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev={tag}'\n"
        )
    }

    /// What is told before the tag is set; of a new one that nobody is known to follow there is nothing to tell.
    fn preview(&self) -> String {
        let (tag, revision) = (self.request.tag.as_str(), self.request.revision.label());
        match self.previous {
            Some(previous) if previous == revision => String::new(),
            Some(previous) => format!("Tag {tag:?} points at {previous:?} now. {}", self.followers("will")),
            None if self.found.is_empty() => String::new(),
            None => self.followers("will"),
        }
    }

    fn followers(&self, verb: &str) -> String {
        match &self.unknown {
            None => followers::foretold(self.request.revision.label(), &self.found, self.restart(), verb),
            Some(error) => followers::without_pods(&self.found, error),
        }
    }

    fn foretold(&self) -> String {
        let (tag, revision) = (self.request.tag.as_str(), self.request.revision.label());
        let mut text = format!("Dry run: revision tag {tag:?} would reference control plane revision {revision:?}.");
        match self.previous {
            Some(previous) if previous == revision => text.push_str(" It does so already."),
            Some(previous) => text.push_str(&format!(" It references {previous:?} now.")),
            None => text.push_str(" There is no such tag yet."),
        }
        text.push_str(if self.request.force {
            "\nNothing was changed.\n"
        } else {
            "\nNothing was changed; whether the revision answers is asked when the tag is set.\n"
        });
        text + &self.followers("would")
    }

    fn report(&self, dry_run: bool) -> Report {
        let mut warnings = self.warnings();
        warnings.extend(
            self.unknown
                .as_ref()
                .map(|error| format!("which workloads follow is not known: {error}")),
        );
        Report {
            tag: self.request.tag.as_str().to_owned(),
            revision: Some(self.request.revision.label().to_owned()),
            previous: self.previous.map(str::to_owned),
            dry_run,
            warnings,
            namespaces: report::namespaces(&self.found, self.restart()),
        }
    }
}

/// Who follows, as these webhook configurations select; where pods may not be listed, the namespaces, and why.
async fn following(
    cluster: &Cluster,
    system: &str,
    question: followers::Question<'_>,
    webhooks: &[Object],
    namespaces: &[Object],
) -> (Followers, Option<String>) {
    let everywhere = kind("", "v1", "Pod");
    let (pods, policies) = futures::join!(cluster.server.list(&everywhere, ""), Policies::read(cluster, system));
    let (pods, error) = match pods {
        Ok(pods) => (pods, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let found = Decided::new(webhooks, namespaces, &pods).followers(question, &policies);
    (found, error)
}

/// What a person can do about it, who may have passed `--force` already.
fn explained(error: ChangeError, force: bool) -> Failure {
    match error {
        ChangeError::Request(error) if error.is_conflict() => Failure::new(format!(
            "{error}; somebody else changed the tag meanwhile: look at it with `istioctl tag list` and run the command again"
        )),
        ChangeError::Proof(error @ (ProofError::NoAnswer { .. } | ProofError::Refused { .. })) => {
            let way = if force {
                "A tag of Helm's is taken over only for a revision that injects"
            } else {
                "With --force the tag moves nevertheless: no new pod of its namespaces starts until the revision injects"
            };
            Failure::new(format!("cannot modify tag: {error}. {way}"))
        }
        other => Failure::new(other.to_string()),
    }
}

async fn generate(global: &Global, wanted: Wanted) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let before = inventory::read(&cluster.server, &global.istio_namespace).await?;
    let request = request(global, &wanted, &before)?;
    let built = tag::build(&request, &before, true)?;
    let conflict = conflict::of_tag(&before, &built);
    if let Some(conflict) = conflict.filter(|_| !wanted.skip_confirmation) {
        anstream::eprintln!("{conflict}");
    }
    let documents: Vec<String> = built.apply.iter().map(|object| yaml::to_sorted(&object.0)).collect();
    put(&format!("{}\n", documents.join("\n---\n")));
    Ok(())
}

/// Webhook configurations for tests.
#[cfg(test)]
pub(super) mod fixture {
    use install::object::Object;
    use revision::webhook::Webhook;
    use serde_json::{Value, json};

    /// One with these webhooks, of a revision or, unless it is empty, of a tag that points at the revision.
    pub fn configuration(name: &str, revision: &str, tag: &str, webhooks: &[Webhook]) -> Object {
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|w| {
                json!({"name": w.name, "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                    "namespaceSelector": w.namespaces.to_label_selector(), "objectSelector": w.objects.to_label_selector()})
            })
            .collect();
        let mut labels = json!({"istio.io/rev": revision});
        if !tag.is_empty() {
            labels["istio.io/tag"] = tag.into();
        }
        Object(
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels},
            "webhooks": webhooks}),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use inject::{Config, Injector, Outcome};
    use install::assets::Assets;
    use install::component::{Rendering, render};
    use install::input::{Input, resolve};

    #[test]
    fn who_follows_is_told_before_the_tag_is_set() {
        let request = Request {
            tag: Tag::parse("prod").unwrap(),
            revision: Revision::parse("new").unwrap(),
            namespace: "istio-system".to_owned(),
            overwrite: true,
            force: false,
            take_over: false,
            automatic: false,
            webhook_name: None,
            labels: Default::default(),
        };
        let preview = |previous: Option<&'static str>, found: &[&str], unknown: Option<&str>| {
            let change = Change {
                request: &request,
                previous,
                found: found
                    .iter()
                    .map(|name| ((*name).to_owned(), Default::default()))
                    .collect(),
                unknown: unknown.map(str::to_owned),
                risk: None,
                of_helm: None,
                not_validated: None,
                conflict: None,
            };
            change.preview()
        };
        insta::assert_snapshot!(preview(Some("old"), &["app"], None), @r#"
        Tag "prod" points at "old" now. New pods of these namespaces will go to "new"; running ones when they restart:
          app: nothing has to restart
        "#);
        insta::assert_snapshot!(preview(Some("old"), &[], None), @r#"Tag "prod" points at "old" now. No namespace follows it."#);
        insta::assert_snapshot!(preview(Some("old"), &["app"], Some("forbidden")), @r#"Tag "prod" points at "old" now. Namespaces that follow it: app. Which workloads do is not known: forbidden"#);
        assert!(preview(None, &["app"], None).starts_with("New pods of these namespaces will go to \"new\""));
        assert_eq!(preview(None, &[], Some("forbidden")), "");
        assert_eq!(preview(Some("new"), &["app"], None), "");
    }

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
            native_sidecars: true.into(),
            compliance_policy: String::new(),
        };
        assert_eq!(injector.config.policy.policy, "disabled");
        let pod = install::proof::pod("own", "istio-system", None);
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
    fn a_revision_that_does_not_answer_is_explained() {
        let failure = |force| {
            let error = ProofError::NoAnswer {
                revision: "canary".into(),
                namespace: "istio-system".into(),
                answer: "no proxy".into(),
            };
            explained(ChangeError::Proof(error), force)
        };
        assert!(
            failure(true)
                .message()
                .ends_with("A tag of Helm's is taken over only for a revision that injects")
        );
        let failure = failure(false);
        insta::assert_snapshot!(failure.message(), @r#"cannot modify tag: revision "canary" does not inject: a pod that was tried in a dry run got no proxy; nothing was changed. Look at its control plane: kubectl logs -n istio-system -l app=istiod,istio.io/rev=canary. With --force the tag moves nevertheless: no new pod of its namespaces starts until the revision injects"#);
    }
}
