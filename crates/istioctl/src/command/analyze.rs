//! `istioctl analyze`: what is wrong with the configuration of a cluster or of files.

pub mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use analyze::analyzers::{self, Scope};
use analyze::message::{Code, Level, Message};
use analyze::objects::Objects;
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize as _;

use crate::cli::{Global, duration};
use crate::cluster::{Cluster, within};
use crate::failure::{DATA, FINDINGS, Failure, USAGE};
use crate::out;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for each message.
    Log,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Files or folders (`-` is standard input).
    files: Vec<String>,
    /// Look at the cluster too.
    #[arg(short = 'k', long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    use_kube: bool,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Level from which on the command fails.
    #[arg(long, default_value_t = Level::Error)]
    failure_threshold: Level,
    /// Least severe level that is shown.
    #[arg(long, default_value_t = Level::Info)]
    output_threshold: Level,
    /// Output format.
    #[arg(short, long, default_value = "log", ignore_case = true)]
    output: Format,
    /// Messages not to show, for example `IST0102=Namespace default` (`*` for any name; repeatable).
    #[arg(short = 'S', long, value_name = "CODE=KIND NAME", value_parser = suppression)]
    suppress: Vec<String>,
    /// Run only this check (repeatable).
    #[arg(long, value_name = "NAME", value_parser = known_analyzer)]
    analyzer: Vec<String>,
    /// List the checks.
    #[arg(short = 'L', long)]
    list_analyzers: bool,
    /// Print what a message means, with an example and the remedy.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
    /// A mesh configuration instead of the cluster's.
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<String>,
    /// Revision or tag whose configuration is looked at.
    #[arg(short, long)]
    revision: Option<String>,
    /// Contexts of other clusters of the mesh, whose Services are compared (repeatable).
    #[arg(long, value_name = "NAME")]
    remote_contexts: Vec<String>,
    /// How long reading the cluster may take.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Folders are always read with all that is below them.
    #[arg(short = 'R', long, hide = true)]
    recursive: bool,
    /// Skip what cannot be read instead of failing.
    #[arg(long)]
    ignore_unknown: bool,
    /// Say which checks ran, and which did not.
    #[arg(short, long)]
    verbose: bool,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    color: Option<bool>,
}

fn suppression(rule: &str) -> Result<String, String> {
    match rule.split('=').collect::<Vec<_>>()[..] {
        [_, _] => Ok(rule.to_owned()),
        _ => Err(format!(
            "{rule} is not a valid suppression value, for example \"IST0102=Namespace default\""
        )),
    }
}

fn known_analyzer(name: &str) -> Result<String, String> {
    if analyzers::is_known(name) {
        Ok(name.to_owned())
    } else {
        Err(format!("there is no check {name:?}; --list-analyzers shows them"))
    }
}

/// What is printed, and how the command ends.
#[derive(Debug, Default)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// For standard error, a line each.
    pub notes: Vec<String>,
    /// How it fails.
    pub failure: Option<Failure>,
}

impl From<String> for Report {
    fn from(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

/// Analyzes and prints.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let report = report(global, &flags).await?;
    out::put(&report.text);
    for note in report.notes {
        anstream::eprintln!("{note}");
    }
    report.failure.map_or(Ok(()), Err)
}

/// Analyzes.
pub async fn report(global: &Global, flags: &Flags) -> Result<Report, Failure> {
    if flags.list_analyzers {
        return Ok(list().into());
    }
    if let Some(code) = &flags.explain {
        return Ok(explain(code)?.into());
    }
    if flags.recursive {
        let text = "The recursive flag has been removed and is hardcoded to true without explicitly specifying it.\n";
        return Ok(text.to_owned().into());
    }
    if !flags.use_kube && flags.files.is_empty() {
        return Err(Failure::with_code(
            "there is nothing to analyze: no file was given, and --use-kube=false leaves the cluster out",
            USAGE,
        ));
    }
    let mut report = Report::default();
    for rule in &flags.suppress {
        let code = rule.split('=').next().unwrap_or_default();
        if Code::find(code).is_none() {
            report.notes.push(format!(
                "Warning: Supplied message code '{code}' is an unknown message code and will not have any effect."
            ));
        }
    }
    let mut objects = Objects::default();
    objects.set_now(SystemTime::now());
    objects.set_system(&global.istio_namespace);
    let mut namespace = global.namespace.clone();
    if flags.use_kube {
        let cluster = Cluster::connect(global).await?;
        let own = namespace
            .get_or_insert_with(|| cluster.default_namespace.clone())
            .clone();
        let reading = async {
            let revision = flags.revision.as_deref();
            let (named, notes) = read::cluster(&cluster, &global.istio_namespace, revision, &mut objects).await?;
            named.present()?;
            read::remote(global, &flags.remote_contexts, &mut objects).await?;
            Ok::<_, Failure>(notes)
        };
        let notes = within(flags.timeout, reading).await?;
        report.notes.extend(notes);
        let is_there = objects.lacks("Namespace") || objects.namespaces().any(|(name, _)| name == own);
        if !flags.all_namespaces && !is_there {
            report.notes.push(format!("namespace {own:?} not found"));
            return Ok(report);
        }
    }
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let mut files = read::files(&flags.files, &namespace, &mut objects)?;
    report.notes.append(&mut files.notes);
    if !flags.use_kube {
        // What the cluster has counts; files alone get what every installation has.
        objects.add_defaults();
    }
    if let Some(file) = &flags.mesh_config_file {
        objects.set_mesh_config(read::document(file)?);
    }
    let target = if flags.all_namespaces {
        "all namespaces".to_owned()
    } else {
        format!("namespace: {namespace}")
    };
    let scope = Scope {
        namespace: (!flags.all_namespaces).then_some(namespace.as_str()),
        only: &flags.analyzer,
    };
    let mut outcome = analyzers::run(&objects, scope);
    if flags.verbose {
        report.notes.push(format!("Analyzed resources in {target}"));
        for (title, names) in [("Skipped", &outcome.skipped), ("Executed", &outcome.executed)] {
            if !names.is_empty() {
                report
                    .notes
                    .push(format!("{title} analyzers:\n\t{}", names.join("\n\t")));
            }
        }
    }
    outcome
        .messages
        .retain(|message| !flags.suppress.iter().any(|rule| message.is_suppressed_by(rule)));
    let given = Given {
        target: &target,
        given: &flags.files,
        has_cluster: flags.use_kube,
        files: &files,
        elsewhere: files
            .namespaces
            .iter()
            .filter(|(name, _)| !flags.all_namespaces && **name != namespace)
            .map(|(name, count)| (name.as_str(), *count))
            .collect(),
        is_partial: objects.is_partial(),
    };
    conclude(&mut report, &outcome.messages, flags, &given)?;
    Ok(report)
}

/// What was analysed.
struct Given<'a> {
    target: &'a str,
    /// Files and folders as they were given.
    given: &'a [String],
    has_cluster: bool,
    files: &'a read::Files,
    /// Objects in the files that are not, by namespace.
    elsewhere: BTreeMap<&'a str, usize>,
    /// Some kinds of objects could not be read.
    is_partial: bool,
}

impl Given<'_> {
    /// What the files hold of other namespaces than the one that is looked at.
    fn elsewhere(&self) -> Option<String> {
        let counts: Vec<String> = self
            .elsewhere
            .iter()
            .map(|(namespace, count)| format!("{namespace}: {count}"))
            .collect();
        (!counts.is_empty()).then(|| {
            format!(
                "❗ Objects of other namespaces were not analyzed ({}): -A analyzes all, -n NAMESPACE those of one.",
                counts.join(", ")
            )
        })
    }

    /// What is said of files without an object.
    fn empty(&self) -> Option<String> {
        let is_empty = !self.given.is_empty() && self.files.objects == 0 && self.files.unreadable == 0;
        is_empty.then(|| {
            let given = self.given.join(", ");
            format!("❗ There is no object in {given}: nothing of it was analyzed.")
        })
    }

    /// Nothing was found in it.
    fn is_fine(&self) -> String {
        let Self { target, files, .. } = self;
        let found = "No validation issues found when analyzing";
        match (&files.names[..], files.unreadable) {
            (_, 1..) => format!(
                "{found} {target} (but {} {} could not be parsed).",
                files.unreadable,
                if files.unreadable == 1 { "file" } else { "files" }
            ),
            ([_, ..], 0) if files.objects > 0 && self.elsewhere.values().sum::<usize>() == files.objects => {
                format!("No object of {} is in {target}.", files.names.join(", "))
            }
            _ if self.is_partial => format!("{found} {target}, as far as it could be read."),
            (_, 0) if files.objects == 0 => format!("✔ {found} {target}."),
            ([one], 0) => format!("✔ {found} {one}."),
            (several, 0) => format!("✔ {found}:\n  - {}", several.join("\n  - ")),
        }
    }
}

fn conclude(report: &mut Report, messages: &[Message], flags: &Flags, given: &Given<'_>) -> Result<(), Failure> {
    let shown: Vec<&Message> = messages
        .iter()
        .filter(|message| message.level >= flags.output_threshold)
        .collect();
    report.text = text(&shown, flags.output)?;
    report.notes.extend(given.elsewhere());
    let empty = given.empty();
    // Where nothing at all was looked at nothing is fine.
    let is_looked_at = given.has_cluster || empty.is_none();
    report.notes.extend(empty);
    if shown.is_empty() && is_looked_at {
        report.notes.push(given.is_fine());
    }
    if flags.output != Format::Log {
        // Programs go by what they read: a report that could be made is a success (revisions.md §7.2).
        return Ok(());
    }
    if messages.iter().any(|message| message.level >= flags.failure_threshold) {
        report.failure = Some(Failure::with_code(
            format!(
                "Analyzers found issues when analyzing {}.\n{}",
                given.target,
                pages(&shown)
            ),
            FINDINGS,
        ));
    } else if given.files.unreadable > 0 && !flags.ignore_unknown {
        report.failure = Some(Failure::with_code("Some files couldn't be parsed.", DATA));
    }
    Ok(())
}

/// Where the codes of messages are explained.
pub fn pages(messages: &[&Message]) -> String {
    /// More would be no help.
    const MOST: usize = 5;
    let codes: BTreeSet<&str> = messages.iter().map(|message| message.code.code).collect();
    let pages: Vec<String> = messages
        .iter()
        .map(|message| message.code.page())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(MOST)
        .collect();
    let one = codes.first().copied().unwrap_or("CODE");
    let pages = match pages.len() {
        0 => "docs/messages".to_owned(),
        _ if codes.len() > MOST => format!("{} …", pages.join(", ")),
        _ => pages.join(", "),
    };
    format!("See {pages} or 'istioctl analyze --explain {one}' for more information about causes and resolutions.")
}

fn list() -> String {
    let lines = analyzers::ALL
        .iter()
        .map(|analyzer| format!("* {}:\n    {}\n", analyzer.name, analyzer.about));
    lines.collect()
}

fn explain(code: &str) -> Result<String, Failure> {
    let known = Code::find(code)
        .ok_or_else(|| Failure::with_code(format!("there is no message {code:?}, for example IST0101"), USAGE))?;
    Ok(analyze::pages::page(known).unwrap_or_default().to_owned())
}

/// Messages in a format.
pub fn text(messages: &[&Message], format: Format) -> Result<String, Failure> {
    let mut text = match format {
        Format::Log => messages.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        // Indented as Istio does.
        Format::Json => {
            let mut text = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
            messages.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
            String::from_utf8_lossy(&text).into_owned()
        }
        Format::Yaml => install::yaml::to_sorted(&serde_json::to_value(messages)?),
    };
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests;
