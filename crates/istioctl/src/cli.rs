//! Commands and flags.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cluster::Cluster;
use crate::command::{
    analyze, authz, bug_report, check_inject, completion, describe, explain, gateway, injector, install, kube_inject,
    manifest, precheck, profile, proxy_config, proxy_status, remote_clusters, revisions, tag, uninstall, version,
    waypoint, workload,
};

/// Istio configuration command line utility for service operators to debug and diagnose their mesh.
#[derive(Debug, Parser)]
#[command(
    name = "istioctl",
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    // Of a flag that is given twice the last counts: wrappers and aliases append theirs.
    args_override_self = true
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Kubernetes configuration file.
    #[arg(short = 'c', long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the Kubernetes configuration file.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of what is looked at.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Namespace of the control plane.
    #[arg(
        short,
        long = "istioNamespace",
        global = true,
        value_name = "NAME",
        default_value = "istio-system",
        env = "ISTIOCTL_ISTIONAMESPACE"
    )]
    pub istio_namespace: String,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to act as (repeatable).
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_group: Vec<String>,
    /// How long each request waits for the API server, its repeats included. What webhooks decide on, as each write, is
    /// given 40s at least: the API server itself needs up to 34s to say what became of it.
    #[arg(long, global = true, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub kubeclient_timeout: std::time::Duration,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, global = true, hide = true)]
    pub vklog: Option<String>,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long = "log_output_level", global = true, hide = true)]
    pub log_output_level: Option<String>,
    /// A cluster instead of that of the Kubernetes configuration: tests bring their own.
    #[arg(skip)]
    pub cluster: Option<Cluster>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Installs or reconfigures a control plane.
    #[command(visible_alias = "apply")]
    Install(install::Flags),
    /// Upgrades a control plane: the same as install.
    Upgrade(install::Flags),
    /// Removes a control plane.
    Uninstall(uninstall::Flags),
    /// Renders manifests and compares them.
    #[command(subcommand)]
    Manifest(manifest::Command),
    /// Lists, shows and compares installation profiles.
    #[command(subcommand)]
    Profile(profile::Command),
    /// Retrieves the synchronization status of each proxy of the mesh.
    #[command(visible_alias = "ps", alias = "proxystatus")]
    ProxyStatus(proxy_status::Flags),
    /// A group of commands used to retrieve information about proxy configuration from the Envoy config dump.
    #[command(visible_alias = "pc", alias = "proxyconfig", subcommand)]
    ProxyConfig(proxy_config::Command),
    /// Creates, moves, lists and removes revision tags.
    #[command(subcommand)]
    Tag(tag::Command),
    /// Gateways that are upgraded in place.
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// Analyzes configuration and prints what is wrong with it.
    Analyze(analyze::Flags),
    /// Prints versions of client, control planes and proxies.
    Version(version::Flags),
    /// Generates shell completion.
    Completion(completion::Flags),
    /// Injects the sidecar into workloads of a file.
    KubeInject(kube_inject::Flags),
    /// Explains decisions of the control plane.
    #[command(subcommand)]
    Explain(explain::Command),
    /// Collects what is needed to look into a problem, in one archive without secrets.
    BugReport(bug_report::Flags),
    /// Lists the clusters that each istiod is connected to.
    RemoteClusters(remote_clusters::Flags),
    /// Waypoint gateways.
    #[command(subcommand)]
    Waypoint(waypoint::Command),
    /// Commands that may still change.
    #[command(visible_aliases = ["x", "exp"], subcommand)]
    Experimental(Experimental),
}

/// Commands that may still change.
#[derive(Debug, Subcommand)]
pub enum Experimental {
    /// Checks whether a mesh can be installed or upgraded safely.
    Precheck(precheck::Flags),
    /// The same as `istioctl proxy-status`.
    #[command(visible_alias = "ps")]
    ProxyStatus(proxy_status::Flags),
    /// The same as `istioctl version`.
    Version(version::Flags),
    /// Checks which injector a pod or a workload is injected by.
    CheckInject(check_inject::Flags),
    /// What the mesh does for a pod or a Service.
    #[command(visible_alias = "des", subcommand)]
    Describe(describe::Command),
    /// Workloads outside of Kubernetes.
    #[command(subcommand)]
    Workload(workload::Command),
    /// AuthorizationPolicies at work.
    #[command(subcommand)]
    Authz(authz::Command),
    /// Injectors, what they inject, and pods that need a restart.
    #[command(subcommand)]
    Injector(injector::Command),
    /// Revisions, what points at them, and pods on their right and wrong side.
    #[command(visible_aliases = ["revisions", "rev"], subcommand)]
    Revision(revisions::Command),
}

/// Reads a command line, and whether it leaves the system namespace to the default.
pub fn read(
    arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> Result<(Cli, bool), clap::Error> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    let is_default = matches.value_source("istio_namespace") == Some(ValueSource::DefaultValue);
    Ok((Cli::from_arg_matches(&matches)?, is_default))
}

/// A port.
pub fn port_number(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is no port; write a number from 1 to {}", u16::MAX))
}

/// A Go duration: `90s`, `5m`, `1m30s`, `500ms`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is no duration like 90s, 5m or 1m30s");
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        let factor = match &rest[digits..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * factor;
        rest = &rest[unit_end..];
    }
    if text.is_empty() || !(0.0..=1e9).contains(&total) {
        return Err(wrong());
    }
    Ok(std::time::Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_upgrade_page_parses() {
        for line in [
            "x precheck",
            "install --set revision=canary",
            "install --revision=1-22-1 --set profile=minimal --skip-confirmation",
            "proxy-status",
            "ps",
            "tag set prod-stable --revision 1-22-1",
            "tag set prod-stable --revision 1-23-1 --overwrite",
            "tag set default --revision 1-23-1",
            "tag list",
            "uninstall --revision 1-22-1 -y",
            "uninstall -f manifests/profiles/default.yaml -y",
            "uninstall --revision=canary -y",
            "tag remove prod-stable",
            "manifest diff -r a b --select Deployment:istio-system:* --ignore Service --rename a:b:c->d:e:f -v",
            "profile dump -p components.pilot -o flags --charts manifests",
            "profile diff default demo -d manifests",
            "--vklog 5 -i istio-system version",
        ] {
            let arguments = std::iter::once("istioctl").chain(line.split(' '));
            Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_system_namespace_that_is_given_is_no_default() {
        let check = |line: &str, expected: (&str, bool)| {
            let (cli, is_default) = read(line.split(' ')).unwrap();
            assert_eq!((cli.global.istio_namespace.as_str(), is_default), expected, "{line}");
        };
        check("istioctl version", ("istio-system", true));
        check("istioctl version -i mesh", ("mesh", false));
        check("istioctl -i istio-system x revision list", ("istio-system", false));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s").unwrap().as_secs(), 90);
        assert_eq!(duration("500ms").unwrap().as_millis(), 500);
        assert!(duration("5").is_err() && duration("").is_err() && duration("5y").is_err());
    }
}
