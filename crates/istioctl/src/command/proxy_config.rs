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
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use status::forward::LARGEST_ANSWER;

use crate::cli::{Global, port_number};
use crate::cluster::Cluster;
use crate::command::install::whole;
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
    /// What Envoy was started with; with `-o short` its version.
    #[command(visible_alias = "b", mut_arg("output", |output| output.default_value("json")))]
    Bootstrap(SourceFlags),
    /// Extensions that were delivered by discovery.
    #[command(visible_alias = "ec")]
    Ecds(SourceFlags),
    /// Everything at once.
    #[command(visible_alias = "a")]
    All(AllFlags),
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
    pub(super) file: Option<String>,
    /// Output format.
    #[arg(short, long, default_value = "short")]
    output: Format,
    /// Port of Envoy's administration interface.
    #[arg(long, default_value_t = port::PROXY_ADMIN, value_parser = port_number)]
    proxy_admin_port: u16,
}

/// How much of listeners and routes is shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct DetailFlags {
    /// Names of listeners too; with `=false` just the type of each listener, and how many hosts each route configuration has.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    verbose: Option<bool>,
}

impl DetailFlags {
    fn columns(self) -> listener::Columns {
        listener::Columns {
            name: self.verbose == Some(true),
            kind: self.verbose == Some(false),
        }
    }

    fn routes(self, routes: &[Value]) -> (Vec<Vec<String>>, usize) {
        if self.verbose == Some(false) {
            route::counts(routes)
        } else {
            route::table(routes)
        }
    }
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
    /// Only this subset, or subsets that contain it.
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
    #[command(flatten)]
    detail: DetailFlags,
    /// Only listeners of this type: `HTTP`, `TCP`, `HTTP+TCP` or `UNKNOWN`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
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
    #[command(flatten)]
    detail: DetailFlags,
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

/// Flags of `all`.
#[derive(Debug, Args)]
pub struct AllFlags {
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    detail: DetailFlags,
    /// A title over each table.
    #[arg(long)]
    with_headers: bool,
    /// Only clusters of this host, or of hosts that contain it.
    #[arg(long)]
    fqdn: Option<String>,
    /// Only clusters, listeners and endpoints of this port.
    #[arg(long, value_parser = port_number)]
    port: Option<u16>,
    /// Only clusters of this subset, or of subsets that contain it.
    #[arg(long)]
    subset: Option<String>,
    /// Only clusters of this direction.
    #[arg(long, ignore_case = true, value_parser = cluster::DIRECTIONS)]
    direction: Option<String>,
    /// Only listeners and endpoints of this address.
    #[arg(long)]
    address: Option<String>,
    /// Only listeners of this type: `HTTP`, `TCP`, `HTTP+TCP` or `UNKNOWN`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only the route configuration of this name.
    #[arg(long)]
    name: Option<String>,
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
                kind: flags.kind,
            };
            let columns = flags.detail.columns();
            show(
                &flags.source,
                dump(global, &flags.source).await?,
                |dump| listener::select(dump, &filter),
                |items| listener::table(items, columns),
            )
        }
        Command::Route(flags) => {
            let name = flags.name;
            show(
                &flags.source,
                dump(global, &flags.source).await?,
                |dump| route::select(dump, name.as_deref()),
                |routes| flags.detail.routes(routes),
            )
        }
        Command::Secret(flags) => {
            let dump = dump(global, &flags).await?;
            match flags.output {
                Format::Short => secrets(&dump, ""),
                format => document(format, dump::canonical(dump::part(&dump, "SecretsConfigDump")?)),
            }
        }
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
            let dump = dump(global, &flags.source).await?;
            match flags.source.output {
                Format::Short => all(&dump, flags),
                format => document(format, dump),
            }
        }
        Command::Log(flags) => log::run(global, &flags).await,
        Command::Endpoint(flags) => {
            let (source, filter) = flags.parts();
            let live = fetch(global, &source, "/clusters?format=json").await?;
            // A file may be either.
            if source.file.is_some() && !endpoint::is_live(&live) {
                return endpoints(&source, live, &filter);
            }
            show(
                &source,
                live,
                |live| Ok(endpoint::select_live(live, &filter)),
                |clusters| endpoint::table_live(clusters, &filter),
            )
        }
        Command::Eds(flags) => {
            let (source, filter) = flags.parts();
            endpoints(&source, dump(global, &source).await?, &filter)
        }
    }
}

/// Endpoints as discovery delivered them.
fn endpoints(source: &SourceFlags, dump: Value, filter: &endpoint::Filter) -> Result<String, Failure> {
    show(source, dump, |dump| Ok(endpoint::select(dump, filter)), endpoint::table)
}

/// The table of certificates, with what it lists before each name.
fn secrets(dump: &Value, kind: &str) -> Result<String, Failure> {
    let found = secret::select(dump)?;
    if found.is_empty() {
        return Ok(secret::NONE.to_owned());
    }
    Ok(listed(kind, secret::table(&found, jiff::Timestamp::now())))
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
        // The empty line is Istio's: both print the same bytes.
        Format::Yaml => install::yaml::to_sorted(&value) + "\n\n",
        Format::Json | Format::Short => serde_json::to_string_pretty(&value)? + "\n",
    })
}

/// The configuration dump that flags name.
pub async fn dump(global: &Global, flags: &SourceFlags) -> Result<Value, Failure> {
    fetch(global, flags, "/config_dump?include_eds").await
}

async fn fetch(global: &Global, flags: &SourceFlags, path: &str) -> Result<Value, Failure> {
    if let Some(file) = &flags.file {
        return serde_json::from_slice(&whole(file, LARGEST_ANSWER)?)
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
    let roots = async |pod: &String| {
        let source = SourceFlags {
            proxy: Some(pod.clone()),
            file: None,
            output: Format::Short,
            proxy_admin_port: flags.proxy_admin_port,
        };
        secret::roots(&dump(global, &source).await?).ok_or_else(|| Failure::new(format!("{pod} has no ROOTCA")))
    };
    let (ours, theirs) = (roots(first).await?, roots(second).await?);
    // While a root is replaced a proxy trusts two of them, and one in common is enough.
    if ours.iter().any(|root| theirs.contains(root)) {
        return Ok(format!(
            "Both [{first}] and [{second}] have the identical ROOTCA, theoretically the connectivity between them is available\n"
        ));
    }
    Err(Failure::new(format!(
        "Both [{first}] and [{second}] have the non identical ROOTCA, theoretically the connectivity between them is unavailable"
    )))
}

/// Every table, with what it lists before each name.
fn all(dump: &Value, flags: AllFlags) -> Result<String, Failure> {
    let clusters = cluster::Filter {
        fqdn: flags.fqdn,
        port: flags.port,
        subset: flags.subset,
        direction: flags.direction,
    };
    let endpoints = endpoint::Filter {
        address: flags.address.clone(),
        port: flags.port,
        ..endpoint::Filter::default()
    };
    let listeners = listener::Filter {
        address: flags.address,
        port: flags.port,
        kind: flags.kind,
    };
    let columns = listener::Columns {
        name: true,
        ..flags.detail.columns()
    };
    let routes = route::select(dump, flags.name.as_deref())?;
    let tables = [
        ("BOOTSTRAP", bootstrap::versions(dump)?),
        (
            "CLUSTER",
            listed("cluster/", cluster::table_all(&cluster::select(dump, &clusters)?)),
        ),
        (
            "LISTENER",
            listed(
                "listener/",
                listener::table(&listener::select(dump, &listeners)?, columns),
            ),
        ),
        ("ROUTE", listed("route/", flags.detail.routes(&routes))),
        ("SECRET", secrets(dump, "secret/")?),
        (
            "ENDPOINTS",
            listed("endpoint/", endpoint::table(&endpoint::select(dump, &endpoints))),
        ),
    ];
    let titled = tables.map(|(title, table)| {
        if flags.with_headers {
            format!("------ {title} INFO ------\n\n{table}")
        } else {
            table
        }
    });
    Ok(titled.join("\n"))
}

/// A table with what it lists before each name.
fn listed(kind: &str, (mut rows, padding): (Vec<Vec<String>>, usize)) -> String {
    for cell in rows.iter_mut().skip(1).filter_map(|row| row.first_mut()) {
        cell.insert_str(0, kind);
    }
    columns(&rows, padding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as Any};

    #[tokio::test]
    async fn a_dump_may_be_longer_than_a_file_of_yaml() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(install::yaml::LARGEST);
        let dump = serde_json::json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": {"node": {"id": long}}}]});
        std::fs::write(file.path(), dump.to_string()).unwrap();
        let cli =
            Cli::try_parse_from(["istioctl", "pc", "bootstrap", "--file", file.path().to_str().unwrap()]).unwrap();
        let Any::ProxyConfig(command) = cli.command else {
            panic!("another command");
        };
        assert!(text(&cli.global, command).await.unwrap().contains(&long));
    }

    #[test]
    fn a_file_that_is_too_long_is_said_to_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abcd").unwrap();
        let name = file.path().to_str().unwrap();
        assert_eq!(whole(name, 4).unwrap(), b"abcd");
        let failure = whole(name, 3).unwrap_err();
        assert_eq!(failure.message(), format!("{name} is longer than 3 bytes"));
    }
}
