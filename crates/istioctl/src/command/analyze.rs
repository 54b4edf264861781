//! `istioctl analyze`: what is wrong with the configuration of a cluster or of files.

use analyze::message::{Level, Message};
use analyze::objects::Objects;
use clap::{ArgAction, Args, ValueEnum};
use install::api_server::kind;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::install::read;
use crate::failure::{DATA, FINDINGS, Failure};

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
    #[arg(short, long, default_value = "log")]
    output: Format,
    /// Messages not to show, for example `IST0102=Namespace default` (`*` for any name; repeatable).
    #[arg(short = 'S', long, value_name = "CODE=KIND NAME")]
    suppress: Vec<String>,
    /// List the checks.
    #[arg(short = 'L', long)]
    list_analyzers: bool,
    /// Skip what cannot be read instead of failing.
    #[arg(long)]
    ignore_unknown: bool,
}

/// Kinds that are read from a cluster beside the mesh's own; one that the cluster does not have is left out.
const KINDS: [(&str, &str, &str); 13] = [
    ("", "v1", "Namespace"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Node"),
    ("", "v1", "Secret"),
    ("apps", "v1", "Deployment"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("gateway.networking.k8s.io", "v1", "Gateway"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
];

/// Analyzes.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    if flags.list_analyzers {
        for analyzer in analyze::analyzers::ALL {
            anstream::println!("* {}:\n{}", analyzer.name, analyzer.about);
        }
        return Ok(());
    }
    let mut objects = Objects::default();
    for name in &flags.files {
        for file in expand(name)? {
            let parsed = read(&file).and_then(|text| {
                install::yaml::documents(&text).map_err(|error| Failure::new(format!("{file}: {error}")))
            });
            match parsed {
                Ok(documents) => documents
                    .into_iter()
                    .for_each(|document| objects.add_from(document, &file)),
                Err(_) if flags.ignore_unknown => {}
                Err(_) => {
                    return Err(Failure::with_code(
                        format!("{file}: cannot be read as YAML of Kubernetes objects"),
                        DATA,
                    ));
                }
            }
        }
    }
    let namespace = if flags.use_kube {
        // What the cluster has counts; files alone get what every installation has.
        from_cluster(global, &flags, &mut objects).await?
    } else {
        objects.add_defaults();
        global.namespace.clone()
    };
    let scope = if flags.all_namespaces { None } else { namespace };
    let mut messages = analyze::analyzers::run(&objects, scope.as_deref());
    messages.retain(|message| !flags.suppress.iter().any(|rule| message.is_suppressed_by(rule)));
    let shown: Vec<&Message> = messages
        .iter()
        .filter(|message| message.level >= flags.output_threshold)
        .collect();
    if shown.is_empty() && flags.output == Format::Log {
        let what = match (&flags.files[..], &scope) {
            ([], Some(namespace)) => format!("namespace: {namespace}"),
            ([], None) => "all namespaces".to_owned(),
            (files, _) => files.join(", "),
        };
        anstream::eprintln!("\n✔ No validation issues found when analyzing {what}.");
    } else {
        print(&shown, flags.output)?;
    }
    if flags.output == Format::Log && messages.iter().any(|message| message.level >= flags.failure_threshold) {
        return Err(Failure::with_code("Analyzers found issues.", FINDINGS));
    }
    Ok(())
}

/// Prints messages.
pub fn print(messages: &[&Message], format: Format) -> Result<(), Failure> {
    match format {
        Format::Log => messages.iter().for_each(|message| anstream::println!("{message}")),
        Format::Json => anstream::println!("{}", serde_json::to_string_pretty(&messages)?),
        Format::Yaml => anstream::println!("{}", install::yaml::to_sorted(&serde_json::to_value(messages)?)),
    }
    Ok(())
}

/// Files of a folder, sorted; a file stands for itself.
fn expand(name: &str) -> Result<Vec<String>, Failure> {
    let path = std::path::Path::new(name);
    if !path.is_dir() {
        return Ok(vec![name.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
        {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    Ok(files)
}

async fn from_cluster(global: &Global, flags: &Flags, objects: &mut Objects) -> Result<Option<String>, Failure> {
    let cluster = Cluster::connect(global).await?;
    let server = &cluster.server;
    let own = api::kind::KINDS
        .iter()
        .map(|own| kind(own.group, own.version(), own.kind));
    let ids = KINDS.map(|(group, version, name)| kind(group, version, name));
    let lists = ids
        .into_iter()
        .chain(own)
        .map(|id| async move { server.list(&id, "").await });
    for list in futures::future::try_join_all(lists).await? {
        list.into_iter().for_each(|object| objects.add(object.0));
    }
    let namespace = global.namespace.clone().unwrap_or(cluster.default_namespace);
    if !flags.all_namespaces && !objects.namespaces().any(|(name, _)| name == namespace) {
        return Err(Failure::new(format!("namespace {namespace:?} not found")));
    }
    Ok(Some(namespace))
}
