//! `pilot-agent`: arguments, logging, dispatch.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pilot_agent::agent::{self, Arguments};
use pilot_agent::commands::{iptables, request, wait};
use pilot_agent::node::Role;
use tracing_subscriber::EnvFilter;

/// Runs in the sidecar or gateway container and starts Envoy.
#[derive(Debug, Parser)]
#[command(name = "pilot-agent")]
struct Cli {
    #[command(flatten)]
    logging: Logging,
    #[command(subcommand)]
    command: Command,
}

/// Logging flags, named as Istio names them.
#[derive(Debug, Clone, Args)]
struct Logging {
    /// Levels by scope, for example default:info or default:info,relay:debug.
    #[arg(long = "log_output_level", default_value = "default:info", global = true)]
    output_level: String,
    /// Log lines as JSON.
    #[arg(long = "log_as_json", global = true, num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    as_json: bool,
    /// Accepted for compatibility.
    #[arg(long = "log_caller", global = true, hide = true, default_value = "")]
    caller: String,
    /// Accepted for compatibility.
    #[arg(long = "log_stacktrace_level", global = true, hide = true, default_value = "")]
    stacktrace_level: String,
    /// Accepted for compatibility.
    #[arg(long = "log_target", global = true, hide = true, default_value = "")]
    target: Vec<String>,
    /// Accepted for compatibility.
    #[arg(long = "vklog", global = true, hide = true, default_value_t = 0)]
    vklog: u32,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy agent and Envoy.
    Proxy(Box<Proxy>),
    /// Set up traffic capture in this network namespace.
    #[command(name = "istio-iptables")]
    Iptables(Box<iptables::Flags>),
    /// Remove traffic capture from this network namespace.
    #[command(name = "istio-clean-iptables")]
    CleanIptables(Box<iptables::Flags>),
    /// Make a request to Envoy's administration interface, or to the agent.
    Request {
        /// HTTP method.
        method: String,
        /// Path, with or without a leading slash.
        path: String,
        /// Body.
        #[arg(default_value = "")]
        body: String,
        /// Port of localhost to ask.
        #[arg(long = "debug-port", default_value_t = 15000)]
        debug_port: u16,
    },
    /// Wait until the proxy is ready.
    Wait {
        /// Give up after so many seconds.
        #[arg(long = "timeoutSeconds", default_value_t = 60)]
        timeout: u64,
        /// Milliseconds that a request may take.
        #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
        request_timeout: u64,
        /// Milliseconds between requests.
        #[arg(long = "periodMillis", default_value_t = 500)]
        period: u64,
        /// URL to ask.
        #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
        url: String,
    },
    /// Print the version.
    Version {
        /// Only the number.
        #[arg(short, long)]
        short: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct Proxy {
    /// sidecar, router or waypoint.
    #[arg(default_value = "sidecar")]
    role: Role,
    /// DNS domain suffix; by default that of the namespace.
    #[arg(long, default_value = "")]
    domain: String,
    /// Mesh configuration file.
    #[arg(long = "meshConfig", default_value = "./etc/istio/config/mesh")]
    mesh_config: PathBuf,
    /// Log level of Envoy, also by component: info,misc:error.
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    log_level: String,
    /// Log level of Envoy's components.
    #[arg(long = "proxyComponentLogLevel", default_value = "")]
    component_log_level: String,
    /// Worker threads of Envoy; prefer ProxyConfig.
    #[arg(long, default_value_t = 0)]
    concurrency: u32,
    /// A bootstrap file to use instead of the generated one.
    #[arg(long = "templateFile")]
    template_file: Option<PathBuf>,
    /// Where outlier detection logs to.
    #[arg(long = "outlierLogPath", default_value = "")]
    outlier_log_path: String,
    /// Accepted for compatibility; there is no token exchange server.
    #[arg(long = "stsPort", default_value_t = 0, hide = true)]
    sts_port: u16,
    /// Accepted for compatibility.
    #[arg(long = "tokenManagerPlugin", default_value = "", hide = true)]
    token_manager_plugin: String,
    /// Accepted for compatibility; prefer ProxyConfig.
    #[arg(long = "serviceCluster", default_value = "istio-proxy", hide = true)]
    service_cluster: String,
    /// Accepted for compatibility.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", default_value = "true")]
    profiling: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.logging, matches!(cli.command, Command::Proxy(_)));
    listen::open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli));
    // A blocking lookup that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Proxy(proxy) => {
            let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
            agent::run(arguments(&proxy, cli.logging.as_json), env.collect()).await?;
        }
        Command::Iptables(flags) => {
            flags.run().await?;
            if flags.validates() && !flags.in_force()? {
                eprintln!("Error: traffic is not captured; the pod is not ready for the mesh");
                return Ok(u8::try_from(iptables::NOT_CAPTURED).map_or(ExitCode::FAILURE, ExitCode::from));
            }
        }
        Command::CleanIptables(flags) => flags.clean()?,
        Command::Request {
            method,
            path,
            body,
            debug_port,
        } => {
            let answer = request::run(&method, &path, &body, debug_port).await?;
            put(&answer)?;
        }
        Command::Wait {
            timeout,
            request_timeout,
            period,
            url,
        } => {
            let millis = Duration::from_millis;
            let (request_timeout, period) = (millis(request_timeout), millis(period));
            wait::run(&wait::Wait {
                timeout: Duration::from_secs(timeout),
                request_timeout,
                period,
                url,
            })
            .await?;
        }
        Command::Version { short: true } => put(format!("{}\n", pilot_agent::version()).as_bytes())?,
        Command::Version { short: false } => put(format!("version: {}\n", pilot_agent::version()).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output, which whoever reads it may have closed.
fn put(text: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the output"),
    }
}

fn arguments(proxy: &Proxy, log_as_json: bool) -> Arguments {
    Arguments {
        role: proxy.role,
        domain: proxy.domain.clone(),
        mesh_config: proxy.mesh_config.clone(),
        log_level: proxy.log_level.clone(),
        component_log_level: proxy.component_log_level.clone(),
        concurrency: proxy.concurrency,
        outlier_log_path: proxy.outlier_log_path.clone(),
        log_as_json,
        template_file: proxy.template_file.clone(),
    }
}

/// Logs of the proxy go to standard output, as Istio's do; those of the other commands to standard error, because their
/// output is read by programs.
fn start_logging(logging: &Logging, to_stdout: bool) {
    let filter = EnvFilter::try_new(directives(&logging.output_level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A second subscriber cannot be set; there is none before this one.
    let _ = match (to_stdout, logging.as_json) {
        (true, true) => builder.json().try_init(),
        (true, false) => builder.try_init(),
        (false, true) => builder.json().with_writer(std::io::stderr).try_init(),
        (false, false) => builder.with_writer(std::io::stderr).try_init(),
    };
}

/// Istio's `scope:level` list as `tracing` writes it. Scopes are modules of this program; `default` is all.
fn directives(levels: &str) -> String {
    let one = |item: &str| {
        let (scope, level) = item.split_once(':').unwrap_or(("default", item));
        let level = match level {
            "none" => "off",
            "fatal" => "error",
            other => other,
        };
        match scope {
            "default" | "all" => level.to_owned(),
            "xdsproxy" => format!("pilot_agent::relay={level}"),
            other => format!("pilot_agent::{other}={level}"),
        }
    };
    levels
        .split(',')
        .filter(|l| !l.is_empty())
        .map(one)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_injector_passes_is_accepted() {
        let check = |line: &str| {
            let parsed = Cli::try_parse_from(line.split_whitespace().map(|w| if w == "\"\"" { "" } else { w }));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        };
        check(
            "pilot-agent proxy sidecar --domain a.svc.cluster.local --proxyLogLevel=warning \
             --proxyComponentLogLevel=misc:error --log_output_level=default:info --concurrency 2",
        );
        check("pilot-agent proxy router --domain a.svc --outlierLogPath /dev/stdout --log_as_json");
        check(
            "pilot-agent istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x \"\" -b * \
             -d 15090,15021,15020 --log_output_level=default:info",
        );
        check(
            "pilot-agent istio-iptables -q 80 -o 443 -k eth1 -c eth2 --redirect-dns=true --run-validation --skip-rule-apply",
        );
        check("pilot-agent istio-iptables --iptables-probe-port 15002 --probe-timeout 5s --reconcile --force-apply");
        check("pilot-agent istio-clean-iptables -u 1337");
        check("pilot-agent request GET config_dump");
        check("pilot-agent request --debug-port=15020 POST drain");
        check("pilot-agent wait --timeoutSeconds=5");
        check("pilot-agent version --short");
    }

    #[test]
    fn levels() {
        assert_eq!(directives("default:info"), "info");
        assert_eq!(
            directives("default:debug,xdsproxy:none,sds:error"),
            "debug,pilot_agent::relay=off,pilot_agent::sds=error"
        );
    }
}
