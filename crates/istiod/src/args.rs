//! The command line of `pilot-discovery` (revisions.md §11.2).
//!
//! Unknown flags are ignored, as there, so that arguments of charts and of other versions do no harm; but not one that is
//! only spelled wrongly: `--configdir x` would otherwise serve the cluster instead of the files.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Istio's control plane.
#[derive(Debug, Parser)]
#[command(
    name = "istiod",
    about = "The control plane of the mesh",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve discovery, certificates and webhooks.
    Discovery(Box<Discovery>),
    /// Print the version.
    Version,
}

/// Options of `discovery`.
#[derive(Debug, Clone, clap::Args)]
#[command(rename_all = "camelCase", after_help = crate::variables::help())]
pub struct Discovery {
    /// Where services come from: `Kubernetes`, or nothing (then --configDir)
    #[arg(long, default_value = "Kubernetes")]
    pub registries: String,
    /// Directory of YAML files to read instead of, or besides, a cluster; changes are followed
    #[arg(long)]
    pub config_dir: Option<PathBuf>,
    /// Kubeconfig file, for running outside of a cluster
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// File with the mesh configuration, used if there is no ConfigMap
    #[arg(long, default_value = "./etc/istio/config/mesh")]
    pub mesh_config: PathBuf,
    /// Namespace that istiod runs in
    #[arg(long, short, env = "POD_NAMESPACE", default_value = api::names::ROOT_NAMESPACE)]
    pub namespace: String,
    /// DNS suffix of services
    #[arg(long, default_value = api::names::CLUSTER_DOMAIN)]
    pub domain: String,
    /// Name of the cluster
    #[arg(long = "clusterID", env = "CLUSTER_ID", default_value = api::names::CLUSTER_ID)]
    pub cluster_id: String,
    /// How long open streams may take to end
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub shutdown_duration: std::time::Duration,
    /// Address of readiness and debug pages
    #[arg(long, default_value = ":8080", value_parser = address)]
    pub http_addr: Address,
    /// Address of webhooks; empty turns them off
    #[arg(long, default_value = ":15017", value_parser = address)]
    pub https_addr: Address,
    /// Address of discovery without TLS; empty turns it off
    #[arg(long, default_value = ":15010", value_parser = address)]
    pub grpc_addr: Address,
    /// Address of discovery and certificates with TLS; empty turns it off
    #[arg(long = "secureGRPCAddr", default_value = ":15012", value_parser = address)]
    pub secure_grpc_addr: Address,
    /// Address of metrics and version
    #[arg(long, default_value = ":15014", value_parser = address)]
    pub monitoring_addr: Address,
    /// Age at which connections are asked to move to another replica
    #[arg(long = "keepaliveMaxServerConnectionAge", value_parser = duration)]
    pub max_connection_age: Option<std::time::Duration>,
    /// Log level: `debug`, or `scope:level` pairs
    #[arg(long = "log_output_level", default_value = "info")]
    pub log_output_level: String,
    /// Log lines as JSON
    #[arg(long = "log_as_json", default_value_t = false)]
    pub log_as_json: bool,
}

/// Where to listen; `None` is nowhere.
pub type Address = Option<SocketAddr>;

// The type is spelled out for clap: an alias of Option would make the argument optional instead.
fn address(text: &str) -> Result<std::option::Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.replace("localhost:", "127.0.0.1:")
    };
    full.parse()
        .map(Some)
        .map_err(|_| format!("{text:?} is not HOST:PORT or :PORT"))
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::settings::duration(text).ok_or_else(|| format!("{text:?} is not a duration such as 30m or 10s"))
}

/// The command, and the flags that were ignored.
///
/// # Errors
/// A known flag with a wrong value or in the wrong case, or no command.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<(Command, Vec<String>), clap::Error> {
    let (known, ignored) = without_unknown(args.into_iter().collect())?;
    let cli = Cli::command()
        .try_get_matches_from(known)
        .and_then(|matches| Cli::from_arg_matches(&matches))?;
    Ok((cli.command, ignored))
}

/// Takes unknown long flags out, with their value if that is the next word.
fn without_unknown(args: Vec<String>) -> Result<(Vec<String>, Vec<String>), clap::Error> {
    let mut command = Cli::command();
    let discovery = command.find_subcommand("discovery");
    let mut flags: Vec<String> = discovery
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect();
    flags.push("help".to_owned());
    let is_known = |name: &str| flags.iter().any(|flag| flag == name);
    let (mut known, mut ignored) = (Vec::new(), Vec::new());
    let mut words = args.into_iter().peekable();
    while let Some(word) = words.next() {
        let name = word
            .strip_prefix("--")
            .filter(|rest| !rest.is_empty())
            .map(|rest| rest.split('=').next().unwrap_or(rest));
        match name {
            Some(name) if !is_known(name) => {
                if let Some(meant) = flags.iter().find(|flag| flag.eq_ignore_ascii_case(name)) {
                    let text = format!("there is no flag --{name}; write --{meant}\n");
                    return Err(command.error(ErrorKind::UnknownArgument, text));
                }
                if !word.contains('=') && words.peek().is_some_and(|next| !next.starts_with('-')) {
                    words.next();
                }
                ignored.push(word);
            }
            _ => known.push(word),
        }
    }
    Ok((known, ignored))
}

/// A tracing filter from Istio's `--log_output_level` (`all:debug`, `ads:debug,default:info`, `debug`).
pub fn log_filter(levels: &str) -> String {
    let level = |name: &str| match name {
        "none" => "off",
        "fatal" | "error" => "error",
        "warn" => "warn",
        "debug" => "debug",
        _ => "info",
    };
    let mut base = "info";
    let mut scopes = Vec::new();
    for part in levels.split(',') {
        match part.split_once(':') {
            None | Some(("all" | "default", _)) => base = level(part.rsplit(':').next().unwrap_or_default()),
            Some((scope, name)) if scope.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                scopes.push(format!("{scope}={}", level(name)));
            }
            Some(_) => {}
        }
    }
    // The libraries below say at debug what each byte does.
    let mut filter = format!(
        "{base},h2=info,hyper=info,tower=info,rustls=info,kube=info,kube_client::client::builder=off,hyper_util=info"
    );
    scopes.iter().for_each(|scope| filter += &format!(",{scope}"));
    filter
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(line: &str) -> (Discovery, Vec<String>) {
        let (command, ignored) = parse(line.split_whitespace().map(str::to_owned)).unwrap();
        match command {
            Command::Discovery(options) => (*options, ignored),
            Command::Version => panic!("not discovery"),
        }
    }

    #[test]
    fn arguments_of_the_charts_are_understood() {
        let (options, ignored) = check(
            "istiod discovery --monitoringAddr=:15014 --log_output_level=default:info --domain cluster.local \
             --keepaliveMaxServerConnectionAge 30m --ctrlz_port 9876 --profile=false",
        );
        assert_eq!(options.monitoring_addr.unwrap().port(), 15014);
        assert_eq!(options.max_connection_age, Some(std::time::Duration::from_secs(1800)));
        assert_eq!(ignored, ["--ctrlz_port", "--profile=false"]);
    }

    #[test]
    fn a_flag_in_the_wrong_case_is_not_ignored() {
        for word in ["--configdir", "--ConfigDir=x", "--securegrpcaddr"] {
            let error = parse(["istiod", "discovery", word, "x"].map(str::to_owned)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{word}");
        }
        let error = parse(["istiod", "discovery", "--configdir", "x"].map(str::to_owned)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("error: there is no flag --configdir; write --configDir\n"),
            "{text}"
        );
    }

    #[test]
    fn addresses_may_be_empty() {
        let (options, _) = check("istiod discovery --registries= --configDir x --httpsAddr= --grpcAddr=127.0.0.1:1");
        assert_eq!(options.registries, "");
        assert_eq!(options.https_addr, None);
        assert_eq!(options.grpc_addr.unwrap().to_string(), "127.0.0.1:1");
    }

    #[test]
    fn help_tells_flags_and_environment() {
        let error = parse(["istiod", "discovery", "--help"].map(str::to_owned)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp);
        for part in [
            "--secureGRPCAddr",
            "[env: CLUSTER_ID",
            "\n  REVISION ",
            "[default: 100000]",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn log_levels_become_a_filter() {
        assert!(log_filter("ads:debug,all:warn").starts_with("warn,"));
        assert!(log_filter("ads:debug").ends_with(",ads=debug"));
    }
}
