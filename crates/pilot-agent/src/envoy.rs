//! Envoy as a child process: arguments, administration interface, drain and end (control-plane.md §4.1, §4.8).

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::fetch::{FetchError, Target, fetch, get};

/// Answers of the administration interface are not longer than this, in bytes.
const MAX_ADMIN: usize = 64 * 1024 * 1024;
/// The administration interface answers within this time or not at all.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy flushes its logs and ends within this time after SIGTERM, or is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How Envoy is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Binary.
    pub binary: PathBuf,
    /// Bootstrap file.
    pub bootstrap: PathBuf,
    /// `drainDuration`.
    pub drain_time: Duration,
    /// All addresses of the pod are IPv6.
    pub ipv6_only: bool,
    /// `--proxyLogLevel`: a level, or levels of components, or both, separated by commas.
    pub log_level: String,
    /// `--proxyComponentLogLevel`.
    pub component_log_level: String,
    /// `fileFlushInterval`; by default one second.
    pub file_flush_interval: Option<Duration>,
    /// `fileFlushMinSizeKb`, 0 for Envoy's default.
    pub file_flush_min_kb: u64,
    /// Worker threads; 0 for one per processor.
    pub concurrency: u32,
    /// `ENVOY_SKIP_DEPRECATED_LOGS`.
    pub skip_deprecated_logs: bool,
    /// `ISTIO_ENVOY_ENABLE_CORE_DUMP`.
    pub core_dump: bool,
    /// Text of `ISTIO_BOOTSTRAP_OVERRIDE`, merged over the bootstrap.
    pub bootstrap_override: Option<String>,
}

impl Launch {
    /// Envoy's command line.
    pub fn arguments(&self) -> Vec<String> {
        let flush = self.file_flush_interval.unwrap_or(Duration::from_secs(1));
        let ip_version = if self.ipv6_only { "v6" } else { "v4" };
        let mut args = vec![
            "-c".to_owned(),
            self.bootstrap.display().to_string(),
            "--drain-time-s".to_owned(),
            self.drain_time.as_secs().to_string(),
            // Clients are told at once, not at random within the drain time.
            "--drain-strategy".to_owned(),
            "immediate".to_owned(),
            "--local-address-ip-version".to_owned(),
            ip_version.to_owned(),
            "--file-flush-interval-msec".to_owned(),
            flush.as_millis().to_string(),
            "--disable-hot-restart".to_owned(),
            "--allow-unknown-static-fields".to_owned(),
        ];
        let mut add = |items: &[&str]| args.extend(items.iter().map(|i| (*i).to_owned()));
        if self.file_flush_min_kb > 0 {
            add(&["--file-flush-min-size-kb", &self.file_flush_min_kb.to_string()]);
        }
        let (components, levels): (Vec<&str>, Vec<&str>) = self
            .log_level
            .split(',')
            .filter(|l| !l.is_empty())
            .partition(|l| l.contains(':'));
        if let Some(level) = levels.last() {
            add(&["-l", level]);
        }
        if !components.is_empty() {
            add(&["--component-log-level", &components.join(",")]);
        } else if !self.component_log_level.is_empty() {
            add(&["--component-log-level", &self.component_log_level]);
        }
        if self.skip_deprecated_logs {
            add(&["--skip-deprecated-logs"]);
        }
        if self.core_dump {
            add(&["--enable-core-dump"]);
        }
        if let Some(text) = &self.bootstrap_override {
            add(&["--config-yaml", text]);
        }
        if self.concurrency > 0 {
            add(&["--concurrency", &self.concurrency.to_string()]);
        }
        args
    }

    /// Starts Envoy; it ends with this process.
    ///
    /// # Errors
    /// If the binary cannot be run.
    pub fn start(&self) -> std::io::Result<Envoy> {
        let args = self.arguments();
        tracing::info!(binary = %self.binary.display(), ?args, "starting Envoy");
        // A process group of its own: a signal to the agent's group (Ctrl-C) must not end Envoy before it has drained.
        let child = Command::new(&self.binary)
            .args(&args)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Envoy(child))
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy(Child);

impl Envoy {
    /// Waits until it ends by itself. May be dropped and called again.
    ///
    /// # Errors
    /// If the system cannot wait for it.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Ends it: SIGTERM, so that logs are flushed; SIGKILL if that takes too long.
    pub async fn end(&mut self) {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
        {
            tracing::warn!(%error, "cannot signal Envoy");
        }
        match tokio::time::timeout(END_TIMEOUT, self.0.wait()).await {
            Ok(Ok(status)) => tracing::info!(%status, "Envoy ended"),
            _ => {
                tracing::warn!("Envoy does not end; killing it");
                let _ = self.0.kill().await;
            }
        }
    }
}

/// Envoy's administration interface.
#[derive(Debug, Clone)]
pub struct Admin {
    target: Target,
    /// Gateways drain all listeners, sidecars only the inbound ones: the application may still call out.
    inbound_only: bool,
}

impl Admin {
    /// At `port` of `localhost`.
    pub fn new(localhost: &str, port: u16, inbound_only: bool) -> Self {
        Self {
            target: Target::plain(localhost, port),
            inbound_only,
        }
    }

    /// Starts to drain: listeners stop accepting after the drain time, clients are told to reconnect elsewhere. With
    /// `stay`, Envoy keeps the listeners open after the drain time (a native sidecar ends last).
    ///
    /// # Errors
    /// If Envoy does not answer.
    pub async fn drain(&self, stay: bool) -> Result<(), FetchError> {
        let inbound = if self.inbound_only { "inboundonly&" } else { "" };
        let path = format!(
            "/drain_listeners?{inbound}graceful{}",
            if stay { "&skip_exit" } else { "" }
        );
        let name = format!("{}:{}", self.target.host, self.target.port);
        let request = Request::builder()
            .method(Method::POST)
            .uri(&path)
            .header(http::header::HOST, &name)
            .body(Full::<Bytes>::default())
            .map_err(|e| FetchError::Answer(name, e.to_string()))?;
        fetch(&self.target, request, ADMIN_TIMEOUT, MAX_ADMIN).await.map(drop)
    }

    /// Statistics whose names match the regular expression `filter` (percent-encoded), as lines `name: value`.
    ///
    /// # Errors
    /// If Envoy does not answer, or not with 200.
    pub async fn stats(&self, filter: &str) -> Result<String, FetchError> {
        let response = get(
            &self.target,
            &format!("/stats?filter={filter}"),
            ADMIN_TIMEOUT,
            MAX_ADMIN,
        )
        .await?;
        if !response.status().is_success() {
            let name = format!("{}:{}", self.target.host, self.target.port);
            return Err(FetchError::Answer(name, format!("HTTP status {}", response.status())));
        }
        Ok(String::from_utf8_lossy(response.body()).into_owned())
    }

    /// Connections of clients that are open, without those to the proxy's own ports; `None` if none was ever opened.
    ///
    /// # Errors
    /// If Envoy does not answer.
    pub async fn active_connections(&self, own_ports: &[u16]) -> Result<Option<u64>, FetchError> {
        let stats = self.stats("downstream_cx_active%24&usedonly").await?;
        Ok(active_connections(&stats, own_ports))
    }
}

/// Sums `listener.<address>.downstream_cx_active`, without internal and administration listeners, per-worker values and
/// `own_ports`.
pub fn active_connections(stats: &str, own_ports: &[u16]) -> Option<u64> {
    let own: Vec<String> = own_ports.iter().map(|p| format!("_{p}.")).collect();
    let mut found = None;
    for line in stats.lines() {
        found.get_or_insert(0);
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let counts = name.starts_with("listener.")
            && !name.contains("worker_")
            && !name.starts_with("listener.envoy_internal_")
            // The connection that asks.
            && !name.starts_with("listener.admin.")
            && !own.iter().any(|port| name.contains(port));
        if let (true, Ok(value)) = (counts, value.trim().parse::<u64>()) {
            *found.get_or_insert(0) += value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line() {
        let launch = Launch {
            bootstrap: "etc/istio/proxy/envoy-rev.json".into(),
            drain_time: Duration::from_secs(45),
            log_level: "warning,misc:error".into(),
            concurrency: 2,
            skip_deprecated_logs: true,
            ..Launch::default()
        };
        let line = launch.arguments().join(" ");
        assert_eq!(
            line,
            "-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate \
             --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart \
             --allow-unknown-static-fields -l warning --component-log-level misc:error --skip-deprecated-logs \
             --concurrency 2"
        );
    }

    #[test]
    fn connections_of_clients() {
        let stats = "\
http.outbound_0.0.0.0_80;.downstream_cx_active: 7
listener.0.0.0.0_15006.downstream_cx_active: 2
listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2
listener.0.0.0.0_8443.downstream_cx_active: 3
listener.admin.downstream_cx_active: 1
listener.0.0.0.0_15021.downstream_cx_active: 1
listener.envoy_internal_connect_originate.downstream_cx_active: 5
";
        assert_eq!(active_connections(stats, &[15021, 15090]), Some(5));
        assert_eq!(active_connections("", &[]), None);
    }
}
