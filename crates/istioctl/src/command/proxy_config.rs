//! `istioctl proxy-config` (`pc`): what a proxy's Envoy really has, from its administration interface or a file.

mod bootstrap;
mod cluster;
pub mod dump;
mod endpoint;
mod listener;
mod log;
mod route;
mod secret;
pub mod target;

use api::names::port;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::cli::{Global, port_number};
use crate::cluster::Cluster;
use crate::command::install::read;
use crate::failure::Failure;
use crate::out;
use crate::table::columns;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clusters: where traffic can go.
    #[command(visible_aliases = ["clusters", "c"])]
    Cluster(ClusterFlags),
    /// Listeners: where traffic comes in.
    #[command(visible_aliases = ["listeners", "l"])]
    Listener(ListenerFlags),
    /// Routes: which request goes where.
    #[command(visible_aliases = ["routes", "r"])]
    Route(RouteFlags),
    /// Endpoints: the addresses behind clusters.
    #[command(visible_aliases = ["endpoints", "ep"])]
    Endpoint(EndpointFlags),
    /// Endpoints as discovery delivered them, with their locality.
    #[command(hide = true)]
    Eds(EndpointFlags),
    /// Certificates.
    #[command(visible_aliases = ["secrets", "s"])]
    Secret(SourceFlags),
    /// Whether two pods trust the same root, without which they cannot talk to each other.
    #[command(visible_alias = "rc")]
    RootcaCompare(CompareFlags),
    /// What Envoy was started with, and its version.
    #[command(visible_alias = "b")]
    Bootstrap(SourceFlags),
    /// Extensions that were delivered by discovery.
    #[command(visible_alias = "ec")]
    Ecds(SourceFlags),
    /// Everything at once.
    #[command(visible_alias = "a")]
    All(SourceFlags),
    /// Log levels: shows them, or sets them for as long as the proxy runs.
    #[command(visible_alias = "o")]
    Log(LogFlags),
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    Short,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Which proxy, and how it is shown.
#[derive(Debug, Args)]
pub struct SourceFlags {
    /// The proxy: `<pod>[.<namespace>]` or `<type>/<name>[.<namespace>]`.
    proxy: Option<String>,
    /// A configuration dump of Envoy instead of a live proxy (`-` is standard input).
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Output format.
    #[arg(short, long, default_value = "short")]
    output: Format,
    /// Port of Envoy's administration interface.
    #[arg(long, default_value_t = port::PROXY_ADMIN, value_parser = port_number)]
    proxy_admin_port: u16,
    /// More columns.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    verbose: bool,
}

/// Flags of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// Only this host, or hosts that contain it.
    #[arg(long)]
    fqdn: Option<String>,
    /// Only this port.
    #[arg(long, value_parser = port_number)]
    port: Option<u16>,
    /// Only this subset.
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction.
    #[arg(long, ignore_case = true, value_parser = cluster::DIRECTIONS)]
    direction: Option<String>,
}

/// Flags of `listener`.
#[derive(Debug, Args)]
pub struct ListenerFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// Only this address.
    #[arg(long)]
    address: Option<String>,
    /// Only this port.
    #[arg(long, value_parser = port_number)]
    port: Option<u16>,
}

/// Flags of `route`.
#[derive(Debug, Args)]
pub struct RouteFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// Only the route configuration of this name.
    #[arg(long)]
    name: Option<String>,
}

/// Flags of `endpoint`.
#[derive(Debug, Args)]
pub struct EndpointFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// Only this address.
    #[arg(long)]
    address: Option<String>,
    /// Only this port.
    #[arg(long, value_parser = port_number)]
    port: Option<u16>,
    /// Only this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only endpoints in this state.
    #[arg(long, ignore_case = true, value_parser = endpoint::STATES)]
    status: Option<String>,
}

impl EndpointFlags {
    fn parts(self) -> (SourceFlags, endpoint::Filter) {
        let filter = endpoint::Filter {
            address: self.address,
            port: self.port,
            cluster: self.cluster,
            status: self.status,
        };
        (self.source, filter)
    }
}

/// Flags of `rootca-compare`.
#[derive(Debug, Args)]
pub struct CompareFlags {
    /// The two pods: `<pod>[.<namespace>]` or `<type>/<name>[.<namespace>]`.
    pods: Vec<String>,
    /// Port of Envoy's administration interface.
    #[arg(long, default_value_t = port::PROXY_ADMIN, value_parser = port_number)]
    proxy_admin_port: u16,
}

/// Flags of `log`.
#[derive(Debug, Args)]
pub struct LogFlags {
    #[command(flatten)]
    source: SourceFlags,
    /// `debug` for all loggers, or `http:debug,router:trace`.
    #[arg(long)]
    level: Option<String>,
    /// Set all loggers back to `warning`.
    #[arg(short, long)]
    reset: bool,
    /// Pods with these labels, instead of one by name.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    selector: Option<String>,
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    out::put(&text(global, command).await?);
    Ok(())
}

/// What a sub-command prints.
pub async fn text(global: &Global, command: Command) -> Result<String, Failure> {
    match command {
        Command::Cluster(flags) => {
            let filter = cluster::Filter {
                fqdn: flags.fqdn,
                port: flags.port,
                subset: flags.subset,
                direction: flags.direction,
            };
            show(
                &flags.source,
                dump(global, &flags.source).await?,
                |dump| cluster::select(dump, &filter),
                cluster::table,
            )
        }
        Command::Listener(flags) => {
            let filter = listener::Filter {
                address: flags.address,
                port: flags.port,
            };
            let verbose = flags.source.verbose;
            show(
                &flags.source,
                dump(global, &flags.source).await?,
                |dump| listener::select(dump, &filter),
                |items| listener::table(items, verbose),
            )
        }
        Command::Route(flags) => {
            let name = flags.name;
            show(
                &flags.source,
                dump(global, &flags.source).await?,
                |dump| route::select(dump, name.as_deref()),
                route::table,
            )
        }
        Command::Secret(flags) => show(&flags, dump(global, &flags).await?, secret::select, |items| {
            secret::table(items, jiff::Timestamp::now())
        }),
        Command::RootcaCompare(flags) => compare_roots(global, &flags).await,
        Command::Bootstrap(flags) => {
            let dump = dump(global, &flags).await?;
            match flags.output {
                Format::Short => bootstrap::versions(&dump),
                format => document(format, dump::canonical(dump::part(&dump, "BootstrapConfigDump")?)),
            }
        }
        Command::Ecds(flags) => {
            let dump = dump(global, &flags).await?;
            match flags.output {
                Format::Short => {
                    let (rows, padding) = bootstrap::extensions(&dump)?;
                    Ok(columns(&rows, padding))
                }
                format => document(format, dump::canonical(&dump::extensions(&dump)?)),
            }
        }
        Command::All(flags) => {
            let dump = dump(global, &flags).await?;
            if flags.output == Format::Short {
                all(&dump)
            } else {
                document(flags.output, dump)
            }
        }
        Command::Log(flags) => log::run(global, &flags).await,
        Command::Endpoint(flags) if flags.source.file.is_none() => {
            let (source, filter) = flags.parts();
            let live = fetch(global, &source, "/clusters?format=json").await?;
            show(
                &source,
                live,
                |live| endpoint::select_live(live, &filter),
                endpoint::table_live,
            )
        }
        Command::Endpoint(flags) | Command::Eds(flags) => {
            let (source, filter) = flags.parts();
            show(
                &source,
                dump(global, &source).await?,
                |dump| endpoint::select(dump, &filter),
                |items| endpoint::table(items, &filter),
            )
        }
    }
}

/// What was selected, as text.
fn show(
    flags: &SourceFlags,
    dump: Value,
    select: impl FnOnce(&Value) -> Result<Vec<Value>, Failure>,
    table: impl FnOnce(&[Value]) -> (Vec<Vec<String>>, usize),
) -> Result<String, Failure> {
    let items = select(&dump)?;
    if flags.output == Format::Short {
        let (rows, padding) = table(&items);
        return Ok(columns(&rows, padding));
    }
    document(flags.output, items.iter().map(dump::canonical).collect())
}

/// JSON or YAML.
fn document(format: Format, value: Value) -> Result<String, Failure> {
    Ok(match format {
        Format::Yaml => install::yaml::to_sorted(&value) + "\n",
        Format::Json | Format::Short => serde_json::to_string_pretty(&value)? + "\n",
    })
}

/// The configuration dump that flags name.
pub async fn dump(global: &Global, flags: &SourceFlags) -> Result<Value, Failure> {
    fetch(global, flags, "/config_dump?include_eds").await
}

async fn fetch(global: &Global, flags: &SourceFlags, path: &str) -> Result<Value, Failure> {
    if let Some(file) = &flags.file {
        return serde_json::from_str(&read(file)?)
            .map_err(|error| Failure::new(format!("{file}: no configuration dump: {error}")));
    }
    let Some(name) = &flags.proxy else {
        return Err(Failure::new(
            "name a pod, for example sleep-5984f48bc7-kmj6x.test-ns or deployment/sleep, or pass --file",
        ));
    };
    let cluster = Cluster::connect(global).await?;
    let namespace = global.namespace.as_deref().unwrap_or(&cluster.default_namespace);
    let pods = target::pods(&cluster, name, namespace).await?;
    let Some(pod) = pods.first() else {
        return Err(Failure::new(format!("no pod for {name}")));
    };
    let body = cluster
        .reach
        .request(&pod.port(flags.proxy_admin_port), "GET", path)
        .await?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::new(format!("the proxy's answer to {path} is no JSON: {error}")))
}

/// Compares the roots that two pods trust.
async fn compare_roots(global: &Global, flags: &CompareFlags) -> Result<String, Failure> {
    let [first, second] = flags.pods.as_slice() else {
        return Err(Failure::new("rootca-compare requires 2 pods as an argument"));
    };
    let root = async |pod: &String| {
        let source = SourceFlags {
            proxy: Some(pod.clone()),
            file: None,
            output: Format::Short,
            proxy_admin_port: flags.proxy_admin_port,
            verbose: false,
        };
        secret::root(&dump(global, &source).await?).ok_or_else(|| Failure::new(format!("{pod} has no ROOTCA")))
    };
    if root(first).await? == root(second).await? {
        return Ok(format!(
            "Both [{first}] and [{second}] have the identical ROOTCA, theoretically the connectivity between them is available\n"
        ));
    }
    Err(Failure::new(format!(
        "Both [{first}] and [{second}] have the non identical ROOTCA, theoretically the connectivity between them is unavailable"
    )))
}

/// Every table, with what it lists before each name.
fn all(dump: &Value) -> Result<String, Failure> {
    let mut text = bootstrap::versions(dump)?;
    let mut add = |(mut rows, padding): (Vec<Vec<String>>, usize), kind: &str| {
        for cell in rows.iter_mut().skip(1).filter_map(|row| row.first_mut()) {
            cell.insert_str(0, kind);
        }
        text.push('\n');
        text.push_str(&columns(&rows, padding));
    };
    add(
        cluster::table_all(&cluster::select(dump, &cluster::Filter::default())?),
        "cluster/",
    );
    add(
        listener::table(&listener::select(dump, &listener::Filter::default())?, true),
        "listener/",
    );
    add(route::table(&route::select(dump, None)?), "route/");
    add(secret::table(&secret::select(dump)?, jiff::Timestamp::now()), "secret/");
    let filter = endpoint::Filter::default();
    add(endpoint::table(&endpoint::select(dump, &filter)?, &filter), "endpoint/");
    Ok(text)
}
