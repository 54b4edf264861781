//! `istioctl install` and `istioctl upgrade`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use install::apply::{Foretold, InstallError, Installation};
use install::assets::Assets;
use install::component::{Component, Rendering, render};
use install::input::{Input, Operator, resolve};
use install::owner;
use revision::name::Revision;
use status::forward::Forward;
use status::gather;

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::command::tag::conflict;
use crate::command::{program_hub, program_version};
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::show::Show;

/// Oldest minor version of Kubernetes that is tested.
pub const OLDEST_KUBERNETES: u32 = 32;

/// The end of a dry run that found that it could not be.
const NOT_TRIED: &str = "✘ Dry run failed: this could not be installed; nothing was changed";
/// The end of an installation that did not begin.
const REFUSED: &str = "✘ Installation refused; nothing was changed";

/// What to install.
#[derive(Clone, Debug, Default, Args)]
pub struct Wanted {
    /// File with an IstioOperator (repeatable; later ones win; `-` is standard input, only as the last).
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    pub filename: Vec<String>,
    /// Setting, for example `--set profile=demo` or `--set values.pilot.env.NAME=value` (repeatable).
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Revision of the control plane.
    #[arg(short, long, value_name = "NAME")]
    pub revision: Option<String>,
    /// Folder with charts and profiles instead of those of this program.
    #[arg(short = 'd', long, alias = "charts", value_name = "FOLDER")]
    pub manifests: Option<PathBuf>,
    /// Go on in spite of mistakes in the settings.
    #[arg(long)]
    pub force: bool,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// What to install.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Do not ask.
    #[arg(short = 'y', long)]
    pub skip_confirmation: bool,
    /// How long each component may take to become ready.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub readiness_timeout: Duration,
    /// Ask the API server whether it would accept everything; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub verify: bool,
}

impl Wanted {
    /// Charts and profiles.
    pub fn assets(&self) -> Result<Assets, Failure> {
        let set = self
            .set
            .iter()
            .rev()
            .find_map(|s| s.strip_prefix("installPackagePath="));
        match (&self.manifests, set) {
            (Some(folder), _) => Ok(Assets::folder(folder)?),
            (None, Some(folder)) => Ok(Assets::folder(folder.as_ref())?),
            (None, None) => Ok(Assets::embedded()),
        }
    }

    /// The merged specification.
    pub fn resolve(&self, assets: &Assets) -> Result<Operator, Failure> {
        if let Some(name) = &self.revision
            && Revision::parse(name).is_err()
        {
            return Err(Failure::new(format!(
                "invalid revision specified: {name}: a revision is a DNS label: letters, digits and dashes, like 1-23-1"
            )));
        }
        let mut files = Vec::new();
        for (index, name) in self.filename.iter().enumerate() {
            if name == "-" && index + 1 != self.filename.len() {
                return Err(Failure::new("stdin is only allowed as the last filename"));
            }
            files.push((name.clone(), read(name)?));
        }
        let input = Input {
            files,
            settings: self.set.clone(),
            revision: self.revision.clone(),
            images: Some((program_hub(), program_version())),
            force: self.force,
        };
        let operator = resolve(&input, assets)?;
        for warning in &operator.warnings {
            anstream::eprintln!("❗ {warning}");
        }
        Ok(operator)
    }
}

/// Reads a file, or standard input for `-`, up to the size that is parsed.
pub fn read(name: &str) -> Result<String, Failure> {
    String::from_utf8(begin(name, install::yaml::LARGEST)?)
        .map_err(|_| Failure::new(format!("cannot read {name}: stream did not contain valid UTF-8")))
}

/// Reads a file, or standard input for `-`, that is no longer than a limit.
pub fn whole(name: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let bytes = begin(name, limit)?;
    if bytes.len() > limit {
        return Err(Failure::new(format!("{name} is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// What a file begins with: one byte more than a limit, if there is more.
fn begin(name: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| match error.kind() {
        // In Go's words: scripts look for them.
        std::io::ErrorKind::NotFound => Failure::new(format!("open {name}: no such file or directory")),
        _ => Failure::new(format!("cannot read {name}: {error}")),
    };
    let limit = limit as u64 + 1;
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(name)
            .map_err(failed)?
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    Ok(bytes)
}

/// Installs.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let assets = flags.wanted.assets()?;
    let operator = flags.wanted.resolve(&assets)?;
    let version = program_version();
    let how = Rendering {
        version: Some(&version),
        is_upgrade: false,
    };
    let components = render(&operator, &assets, &how)?;
    let cluster = Cluster::connect(global).await?;
    warn_of_old_kubernetes(&cluster, &version);
    warn_of_overwriting(&cluster, &operator, &version).await;
    warn_of_helm(&cluster, &components).await;
    let installation = Installation {
        operator: &operator,
        components,
        version: &version,
        timeout: flags.readiness_timeout,
        dry_run: flags.dry_run,
        force: flags.wanted.force,
        whole: true,
    };
    let foretold = match installation.foretell(&cluster.server).await {
        Ok(foretold) => foretold,
        Err(error) => return Err(refused(&Show::default(), &error, flags.dry_run)),
    };
    refuse_conflict(&foretold, &flags)?;
    for note in &foretold.notes {
        anstream::eprintln!("❗ {note}");
    }
    if !flags.skip_confirmation && !flags.dry_run {
        let question = format!(
            "This will install the Istio {} profile {:?} into the cluster. Proceed? (y/N)",
            operator.tag(),
            operator.profile
        );
        let from_file = flags.wanted.filename.last().is_some_and(|name| name == "-");
        if !from_file && !confirm::ask(&question, Silence::GoOn)? {
            return Err(Failure::cancelled());
        }
    }
    let show = Show::default();
    match installation.run(&cluster.server, &show).await {
        Ok(()) => {
            show.finish(if flags.dry_run {
                "✔ Dry run complete: nothing was changed"
            } else {
                "✔ Installation complete"
            });
            Ok(())
        }
        Err(error) => Err(refused(&show, &error, flags.dry_run)),
    }
}

/// Refuses webhooks of which others would answer for the same pods, unless that is what is wanted.
fn refuse_conflict(foretold: &Foretold, flags: &Flags) -> Result<(), Failure> {
    let own: Vec<&str> = foretold.own.iter().map(String::as_str).collect();
    let Some(found) = conflict::among(&foretold.webhooks, &own) else {
        return Ok(());
    };
    let conflict = format!("creating default tag would conflict:\n{found}");
    if flags.wanted.force {
        anstream::eprintln!("❗ invalid webhook configs; continuing because of --force: {conflict}");
        return Ok(());
    }
    Show::default().finish(if flags.dry_run { NOT_TRIED } else { REFUSED });
    Err(Failure::new(format!(
        "failed to install manifests: {conflict}\nGive this control plane another revision (--revision), or pass --force."
    )))
}

/// Says what became of an installation that did not come to its end.
fn refused(show: &Show, error: &InstallError, dry_run: bool) -> Failure {
    show.finish(if dry_run {
        NOT_TRIED
    } else if error.wrote_nothing() {
        REFUSED
    } else {
        "✘ Installation failed; what was applied stays, and running the command again goes on from there"
    });
    Failure::new(format!("failed to install manifests: {error}"))
}

fn warn_of_old_kubernetes(cluster: &Cluster, version: &str) {
    let minor = cluster.version.minor.trim_end_matches('+').parse().unwrap_or(u32::MAX);
    if minor < OLDEST_KUBERNETES {
        let server = &cluster.version.git_version;
        anstream::eprintln!(
            "\nThe Kubernetes version {server} is not supported by Istio {version}. The minimum supported Kubernetes \
             version is 1.{OLDEST_KUBERNETES}.\nProceeding with the installation, but you might experience problems. \
             See https://istio.io/latest/docs/setup/platform-setup/ for a list of supported versions.\n"
        );
    }
}

/// An installation over another version of the same revision is an upgrade in place: worth a word.
async fn warn_of_overwriting(cluster: &Cluster, operator: &Operator, version: &str) {
    let namespace = operator.namespace();
    let revision = operator.revision_label();
    let Ok(instances) = cluster.istiods(namespace, Some(revision)).await else {
        return;
    };
    let ask = Forward::new(cluster.reach.clone(), namespace);
    let answers = gather::versions(&ask, &instances, Duration::from_secs(3)).await;
    let Some(old) = answers
        .into_iter()
        .find_map(|answer| answer.result.ok())
        .map(|build| build.version)
    else {
        return;
    };
    if old.is_empty() || old == version {
        return;
    }
    let verb = if older(&old, version) { "upgraded" } else { "downgraded" };
    anstream::eprintln!("WARNING: Istio is being {verb} from {old} to {version}.");
    if revision == api::names::DEFAULT_REVISION {
        anstream::eprintln!(
            "         Running this command will overwrite it; use revisions to upgrade alongside the existing version."
        );
    }
    anstream::eprintln!(
        "         Before upgrading, you may wish to use 'istioctl x precheck' to check for upgrade warnings."
    );
}

/// Two tools that each take the other's objects over undo what the other does.
async fn warn_of_helm(cluster: &Cluster, components: &[Component]) {
    let workloads = components
        .iter()
        .flat_map(|component| &component.objects)
        .filter(|object| object.kind() == "Deployment");
    let mut releases = BTreeMap::new();
    for workload in workloads {
        if let Ok(Some(live)) = cluster.server.get(&workload.id()).await
            && let Some(release) = owner::release(&live)
        {
            releases.insert(release, live.id().path());
        }
    }
    for (release, object) in releases {
        anstream::eprintln!("{}", of_helm(&release, &object));
    }
}

fn of_helm(release: &str, object: &str) -> String {
    format!(
        "WARNING: {object} belongs to the Helm release {release}; this takes it over, and the next `helm upgrade` or `helm \
         uninstall` of the release changes or removes what is installed now. Upgrade with Helm, or install another revision \
         beside it (--revision)."
    )
}

/// Compares versions number by number.
fn older(a: &str, b: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        version
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(a) < numbers(b)
}
