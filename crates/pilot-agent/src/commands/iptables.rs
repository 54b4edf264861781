//! `pilot-agent istio-iptables`: sets up traffic capture in this network namespace.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command as Process, Stdio};

use anyhow::Context;
use capture::apply::{self, Command, Runner};
use capture::{Config, iptables, nftables, program};
use clap::Args;

use super::routes;

/// Flags of `istio-iptables` (conformance data, `iptables/defaults.yaml`).
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Port to which all outbound TCP traffic is redirected.
    #[arg(short = 'p', long, default_value = "15001", env = "ENVOY_PORT")]
    envoy_port: String,
    /// Port to which all inbound TCP traffic is redirected.
    #[arg(short = 'z', long, default_value = "15006", env = "INBOUND_CAPTURE_PORT")]
    inbound_capture_port: String,
    /// Port of the tunnel for inbound traffic.
    #[arg(short = 'e', long, default_value = "15008", env = "INBOUND_TUNNEL_PORT")]
    inbound_tunnel_port: String,
    /// Users whose traffic is not redirected; by default 1337.
    #[arg(short = 'u', long, default_value = "", env = "PROXY_UID")]
    proxy_uid: String,
    /// Groups whose traffic is not redirected; by default the same as --proxy-uid.
    #[arg(short = 'g', long, default_value = "", env = "PROXY_GID")]
    proxy_gid: String,
    /// How inbound connections are redirected: REDIRECT or TPROXY.
    #[arg(short = 'm', long, default_value = "", env = "ISTIO_INBOUND_INTERCEPTION_MODE")]
    istio_inbound_interception_mode: String,
    /// Inbound ports to redirect, separated by commas; * for all.
    #[arg(
        short = 'b',
        long,
        default_value = "",
        env = "ISTIO_INBOUND_PORTS",
        allow_hyphen_values = true
    )]
    istio_inbound_ports: String,
    /// Inbound ports not to redirect when all are.
    #[arg(short = 'd', long, default_value = "", env = "ISTIO_LOCAL_EXCLUDE_PORTS")]
    istio_local_exclude_ports: String,
    /// Interfaces that are left alone.
    #[arg(short = 'c', long, default_value = "", env = "ISTIO_EXCLUDE_INTERFACES")]
    istio_exclude_interfaces: String,
    /// Outbound ranges to redirect, separated by commas; * for all.
    #[arg(short = 'i', long, default_value = "", env = "ISTIO_SERVICE_CIDR")]
    istio_service_cidr: String,
    /// Outbound ranges not to redirect.
    #[arg(short = 'x', long, default_value = "", env = "ISTIO_SERVICE_EXCLUDE_CIDR")]
    istio_service_exclude_cidr: String,
    /// Outbound ports to redirect whatever the address.
    #[arg(short = 'q', long, default_value = "", env = "ISTIO_OUTBOUND_PORTS")]
    istio_outbound_ports: String,
    /// Outbound ports not to redirect.
    #[arg(short = 'o', long, default_value = "", env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE")]
    istio_local_outbound_ports_exclude: String,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound.
    #[arg(short = 'k', long, default_value = "", env = "KUBE_VIRT_INTERFACES")]
    kube_virt_interfaces: String,
    /// Packet mark in TPROXY mode.
    #[arg(short = 't', long, default_value = "1337", env = "ISTIO_INBOUND_TPROXY_MARK")]
    istio_inbound_tproxy_mark: String,
    /// Routing table in TPROXY mode.
    #[arg(short = 'r', long, default_value = "133", env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE")]
    istio_inbound_tproxy_route_table: String,
    /// Print what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Send DNS queries to the agent.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "ISTIO_META_DNS_CAPTURE")]
    redirect_dns: bool,
    /// Send all DNS queries to the agent.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "CAPTURE_ALL_DNS")]
    capture_all_dns: bool,
    /// Drop packets that connection tracking calls invalid.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "INVALID_DROP")]
    drop_invalid: bool,
    /// Both families.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "ISTIO_DUAL_STACK")]
    dual_stack: bool,
    /// Use nftables.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "NATIVE_NFTABLES")]
    native_nftables: bool,
    /// Remove what is set up, set nothing up.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "CLEANUP_ONLY")]
    cleanup_only: bool,
    /// Do not apply, only validate.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "SKIP_RULE_APPLY")]
    skip_rule_apply: bool,
    /// Check afterwards that the rules are in force.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", env = "RUN_VALIDATION")]
    run_validation: bool,
    /// Which iptables: legacy or nft; by default the system's.
    #[arg(long, default_value = "", env = "FORCE_IPTABLES_BINARY")]
    force_iptables_binary: String,
    /// Accepted for compatibility: differing rules are always replaced.
    #[arg(long, hide = true, default_value_t = false, num_args = 0..=1, default_missing_value = "true")]
    reconcile: bool,
    /// Accepted for compatibility: rules in place are recognised and kept.
    #[arg(long, hide = true, default_value_t = false, num_args = 0..=1, default_missing_value = "true")]
    force_apply: bool,
    /// Accepted for compatibility: the rules are checked, no probe is sent.
    #[arg(long, hide = true, default_value_t = 15002)]
    iptables_probe_port: u16,
    /// Accepted for compatibility: the rules are checked, no probe is sent.
    #[arg(long, hide = true, default_value = "5s")]
    probe_timeout: String,
}

/// Exit code when the rules are not in force, by which Istio's repair controller recognises such pods.
pub const NOT_CAPTURED: i32 = 126;

impl Flags {
    /// The configuration, completed by what the system says.
    ///
    /// # Errors
    /// If resolv.conf is needed and cannot be read.
    pub fn config(&self) -> anyhow::Result<Config> {
        let uid = if self.proxy_uid.is_empty() {
            "1337"
        } else {
            &self.proxy_uid
        }
        .to_owned();
        let variable = |name: &str, default: &str| {
            std::env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        let mut config = Config {
            proxy_port: self.envoy_port.clone(),
            inbound_capture_port: self.inbound_capture_port.clone(),
            inbound_tunnel_port: self.inbound_tunnel_port.clone(),
            proxy_gid: if self.proxy_gid.is_empty() {
                uid.clone()
            } else {
                self.proxy_gid.clone()
            },
            proxy_uid: uid,
            inbound_interception_mode: self.istio_inbound_interception_mode.clone(),
            inbound_tproxy_mark: self.istio_inbound_tproxy_mark.clone(),
            inbound_tproxy_route_table: self.istio_inbound_tproxy_route_table.clone(),
            inbound_ports_include: self.istio_inbound_ports.clone(),
            inbound_ports_exclude: self.istio_local_exclude_ports.clone(),
            owner_groups_include: variable("ISTIO_OUTBOUND_OWNER_GROUPS", "*"),
            owner_groups_exclude: variable("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", ""),
            outbound_ports_include: self.istio_outbound_ports.clone(),
            outbound_ports_exclude: self.istio_local_outbound_ports_exclude.clone(),
            outbound_ip_ranges_include: self.istio_service_cidr.clone(),
            outbound_ip_ranges_exclude: self.istio_service_exclude_cidr.clone(),
            reroute_virtual_interfaces: self.kube_virt_interfaces.clone(),
            exclude_interfaces: self.istio_exclude_interfaces.clone(),
            dry_run: self.dry_run,
            redirect_dns: self.redirect_dns,
            capture_all_dns: self.capture_all_dns,
            drop_invalid: self.drop_invalid,
            enable_ipv6: has_ipv6(self.dual_stack),
            dns_servers_v4: Vec::new(),
            dns_servers_v6: Vec::new(),
            host_ipv4_loopback_cidr: variable("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.1/32"),
        };
        if config.redirect_dns && !config.capture_all_dns {
            let text = std::fs::read_to_string("/etc/resolv.conf").context("cannot read /etc/resolv.conf")?;
            (config.dns_servers_v4, config.dns_servers_v6) = nameservers(&text);
        }
        Ok(config)
    }

    /// Carries out the command.
    ///
    /// # Errors
    /// If a value is refused or a command fails.
    pub async fn run(&self) -> anyhow::Result<()> {
        let config = self.config()?;
        config.validate()?;
        if self.dry_run {
            return self.print(&config);
        }
        let mut system = self.system()?;
        if self.cleanup_only {
            return self.clean();
        }
        if !self.skip_rule_apply {
            if self.native_nftables {
                apply::with_nftables(&config, &mut system)?;
            } else {
                apply::with_iptables(&config, &mut system)?;
            }
            routes::add(&config).await?;
            tracing::info!("traffic capture is set up");
        }
        Ok(())
    }

    fn system(&self) -> anyhow::Result<System> {
        let suffix = match self.force_iptables_binary.as_str() {
            "" => "",
            "legacy" => "-legacy",
            "nft" => "-nft",
            other => anyhow::bail!("--force-iptables-binary {other:?}: legacy or nft"),
        };
        Ok(System { suffix })
    }

    /// Removes what is set up, by either back end.
    ///
    /// # Errors
    /// If a value is refused.
    pub fn clean(&self) -> anyhow::Result<()> {
        let mut system = self.system()?;
        apply::clean_iptables(&self.config()?, &mut system)?;
        // Without nft there is nothing of nft's.
        if let Err(error) = apply::clean_nftables(&mut system) {
            tracing::debug!(%error, "nftables not cleaned");
        }
        Ok(())
    }

    /// Whether the rules are to be checked.
    pub fn validates(&self) -> bool {
        self.run_validation && !self.dry_run
    }

    /// Whether the rules are in force, for every family and back end that they are set up with.
    ///
    /// # Errors
    /// If a value is refused.
    pub fn in_force(&self) -> anyhow::Result<bool> {
        let config = self.config()?;
        let mut system = self.system()?;
        Ok(if self.native_nftables {
            apply::in_force_with_nftables(&config, &mut system)?
        } else {
            apply::in_force_with_iptables(&config, &mut system)?
        })
    }

    fn print(&self, config: &Config) -> anyhow::Result<()> {
        let rules = program::rules(config)?;
        let mut out = std::io::stdout().lock();
        if self.native_nftables {
            write!(out, "{}", nftables::transaction(&rules))?;
        } else {
            writeln!(
                out,
                "iptables-restore --noflush\n{}",
                iptables::restore(&rules, iptables::Version::V4)
            )?;
            if config.enable_ipv6 {
                writeln!(
                    out,
                    "ip6tables-restore --noflush\n{}",
                    iptables::restore(&rules, iptables::Version::V6)
                )?;
            }
        }
        Ok(())
    }
}

/// Whether the pod has an IPv6 address: the first one that is not local decides, unless both families are asked for.
fn has_ipv6(dual_stack: bool) -> bool {
    let addresses = nix::ifaddrs::getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|i| i.address);
    let mut ips = addresses.filter_map(|a| {
        let v4 = a.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| a.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let local = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    if dual_stack {
        ips.any(|ip| !local(&ip) && ip.is_ipv6())
    } else {
        ips.find(|ip| !local(ip)).is_some_and(|ip| ip.is_ipv6())
    }
}

/// Servers of resolv.conf, by family, without zones.
pub(crate) fn nameservers(text: &str) -> (Vec<String>, Vec<String>) {
    let servers = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .map(str::trim);
    let parsed = servers.filter_map(|s| {
        let bare = s.split(['%', '#', ' ']).next().unwrap_or_default();
        bare.parse::<IpAddr>().ok().map(|ip| (bare.to_owned(), ip.is_ipv4()))
    });
    let (v4, v6): (Vec<_>, Vec<_>) = parsed.partition(|(_, is_v4)| *is_v4);
    let texts = |list: Vec<(String, bool)>| list.into_iter().map(|(s, _)| s).collect();
    (texts(v4), texts(v6))
}

/// Runs commands of the system.
struct System {
    /// Between `iptables` and what follows, to choose a variant.
    suffix: &'static str,
}

impl System {
    fn program(&self, name: &str) -> String {
        ["ip6tables", "iptables"]
            .into_iter()
            .find_map(|base| Some(format!("{base}{}{}", self.suffix, name.strip_prefix(base)?)))
            .unwrap_or_else(|| name.to_owned())
    }
}

impl Runner for System {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        let program = self.program(&command.program);
        let line = format!("{program} {}", command.args.join(" "));
        tracing::debug!(%line, input = command.input.as_deref().unwrap_or_default(), "running");
        let failed = |e: std::io::Error| format!("{line}: {e}");
        let mut child = Process::new(&program)
            .args(&command.args)
            .stdin(if command.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), &command.input) {
            stdin.write_all(input.as_bytes()).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!(
                "{line}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_resolv_conf() {
        let text =
            "search a.svc\nnameserver 10.96.0.10\nnameserver fd00::a\n# nameserver 1.1.1.1\nnameserver fe80::1%eth0\n";
        assert_eq!(
            nameservers(text),
            (vec!["10.96.0.10".into()], vec!["fd00::a".into(), "fe80::1".into()])
        );
    }

    #[test]
    fn the_variant_is_chosen_by_name() {
        let system = System { suffix: "-legacy" };
        assert_eq!(system.program("iptables-restore"), "iptables-legacy-restore");
        assert_eq!(system.program("ip6tables"), "ip6tables-legacy");
        assert_eq!(system.program("nft"), "nft");
    }
}
