//! `istioctl x precheck`: can a mesh be installed or upgraded here (revisions.md §7.1)?

use std::time::SystemTime;

use analyze::message::{Level, Message};
use analyze::objects::Objects;
use analyze::precheck::{self, Facts, Permission, Upgrade};
use clap::Args;
use futures::stream::{self, StreamExt as _};
use install::api_server::{Effect, root};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::analyze::{Format, Report, pages, read, text};
use crate::command::install::OLDEST_KUBERNETES;
use crate::command::program_version;
use crate::failure::Failure;
use crate::names::Named;
use crate::out;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Skip what concerns the control plane.
    #[arg(long)]
    skip_controlplane: bool,
    /// Least severe level that is shown.
    #[arg(long, default_value_t = Level::Warning)]
    output_threshold: Level,
    /// Output format.
    #[arg(short, long, default_value = "log")]
    output: Format,
    /// Version to upgrade from, for example 1.28.
    #[arg(short, long, value_name = "VERSION")]
    from_version: Option<String>,
    /// Revision or tag that is to be upgraded in place: its proxies must be able to follow.
    #[arg(short, long)]
    revision: Option<String>,
}

/// Checks and prints.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let report = report(global, &flags).await?;
    out::put(&report.text);
    for note in report.notes {
        anstream::eprintln!("❗ {note}");
    }
    report.failure.map_or(Ok(()), Err)
}

/// Checks.
pub async fn report(global: &Global, flags: &Flags) -> Result<Report, Failure> {
    let from = flags.from_version.as_deref().map(from_version).transpose()?;
    let cluster = Cluster::connect(global).await?;
    let mut report = Report::default();
    let (named, mut facts) = facts(&cluster, global, flags, &mut report.notes).await?;
    facts.from = from;
    if flags.revision.is_some() {
        match named.absent {
            None => {
                facts.upgrade = Some(Upgrade {
                    revision: named.revision.label().to_owned(),
                    version: program_version(),
                });
            }
            Some(absent) => {
                let absent = format!("{absent}; without -r, precheck says whether a new one may be installed");
                // With --from-version it may be one that is still to come, as in Istio.
                if from.is_none() {
                    return Err(Failure::new(absent));
                }
                report.notes.push(absent);
            }
        }
    }
    let messages = precheck::check(&facts);
    let shown: Vec<&Message> = messages
        .iter()
        .filter(|message| message.level >= flags.output_threshold)
        .collect();
    report.text = if shown.is_empty() && flags.output == Format::Log && facts.objects.is_partial() {
        "No issues found in what could be read; what could not is listed. Check again with an account that may read it.\n"
            .to_owned()
    } else if shown.is_empty() && flags.output == Format::Log {
        "✔ No issues found when checking the cluster. Istio is safe to install or upgrade!\n  \
         To get started, check out https://istio.io/latest/docs/setup/getting-started/\n"
            .to_owned()
    } else {
        text(&shown, flags.output)?
    };
    if messages.iter().any(|message| message.level >= Level::Warning) {
        report.failure = Some(Failure::new(format!(
            "Issues found when checking the cluster. Istio may not be safe to install or upgrade.\n{}",
            pages(&shown)
        )));
    }
    Ok(report)
}

/// The words after the flag are Istio's.
fn from_version(text: &str) -> Result<u32, Failure> {
    let way = "write major and minor version, for example 1.22";
    precheck::minor_version(text).map_err(|why| Failure::new(format!("--from-version {text}: {why}; {way}")))
}

async fn facts(
    cluster: &Cluster,
    global: &Global,
    flags: &Flags,
    notes: &mut Vec<String>,
) -> Result<(Named, Facts), Failure> {
    let mut objects = Objects::default();
    objects.set_now(SystemTime::now());
    let (system, revision) = (&global.istio_namespace, flags.revision.as_deref());
    let (named, missing) = read::cluster(cluster, system, revision, &mut objects).await?;
    notes.extend(missing);
    let denied = if flags.skip_controlplane {
        Vec::new()
    } else {
        denied(cluster, &global.istio_namespace).await
    };
    let facts = Facts {
        kubernetes: cluster.version.git_version.clone(),
        minor: cluster.version.minor.trim_end_matches('+').parse().ok(),
        oldest_minor: OLDEST_KUBERNETES,
        denied,
        objects,
        check_control_plane: !flags.skip_controlplane,
        from: None,
        upgrade: None,
        namespace: global.namespace.clone(),
    };
    Ok((named, facts))
}

/// What the user may not create.
async fn denied(cluster: &Cluster, namespace: &str) -> Vec<Permission> {
    let asked = precheck::NEEDED.iter().map(|needed| async move {
        let attributes = ResourceAttributes {
            verb: Some("create".to_owned()),
            group: Some(needed.group.to_owned()),
            version: Some(needed.version.to_owned()),
            resource: Some(needed.resource.to_owned()),
            namespace: needed.namespaced.then(|| namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..Default::default()
        };
        let review = SelfSubjectAccessReview {
            spec,
            ..Default::default()
        };
        let ask = async |client| {
            let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
            reviews.create(&PostParams::default(), &review).await
        };
        let reason = match cluster.server.ask(Effect::Reads, ask).await {
            Ok(answer) => {
                let status = answer.status.unwrap_or_default();
                if status.allowed {
                    return None;
                }
                status.reason.filter(|reason| !reason.is_empty())
            }
            Err(error) => Some(root(&error)),
        };
        Some(Permission {
            resource: needed.resource.to_owned(),
            reason: reason.unwrap_or_else(|| "permission denied".to_owned()),
        })
    });
    stream::iter(asked)
        .buffered(8)
        .filter_map(|denied| async { denied })
        .collect()
        .await
}
