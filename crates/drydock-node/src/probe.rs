//! Startup, readiness and liveness probes, run from the node's side as kubelet does.

mod grpc;
mod http;

use crate::pod::{Message, Site};
use crate::runtime::Exec;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A container that has just begun is asked more often than its probe says, so that nobody waits out a whole period for
/// one that was ready after a moment. What it answers before the first period is over does not count against it.
const EAGER: Duration = Duration::from_secs(10);
const BETWEEN_EAGER: Duration = Duration::from_millis(100);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The container's probe of this kind.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Counts answers until one side has enough of them in a row.
#[derive(Debug)]
struct Judge {
    need_success: u32,
    need_failure: u32,
    run: u32,
    last: Option<bool>,
    verdict: Option<bool>,
}

impl Judge {
    fn new(probe: &Probe) -> Self {
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        Self {
            need_success: count(probe.success_threshold, 1),
            need_failure: count(probe.failure_threshold, 3),
            run: 0,
            last: None,
            verdict: None,
        }
    }

    /// The new verdict, if this answer changed it.
    fn hear(&mut self, ok: bool) -> Option<bool> {
        self.run = if self.last == Some(ok) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(ok);
        let enough = self.run >= if ok { self.need_success } else { self.need_failure };
        (enough && self.verdict != Some(ok)).then(|| {
            self.verdict = Some(ok);
            ok
        })
    }
}

/// Probes one run of a container until it is told to stop (by abort) or, for startup and liveness, until its verdict
/// ends the run.
pub(crate) async fn watch(
    site: Site,
    container: Container,
    attempt: u32,
    kind: Kind,
    probe: Probe,
    unit: usize,
    sender: mpsc::Sender<Message>,
) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
    };
    let (period, timeout) = (
        seconds(probe.period_seconds.filter(|p| *p > 0), 10),
        seconds(probe.timeout_seconds.filter(|t| *t > 0), 1),
    );
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut judge = Judge::new(&probe);
    let mut early = kind != Kind::Liveness && probe.exec.is_none() && {
        let asked = eagerly(|| check(&site, &container, attempt, &probe, timeout));
        tokio::time::timeout(period.min(EAGER), asked).await.is_ok()
    };
    let first = tokio::time::Instant::now() + if early { period } else { Duration::ZERO };
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let result = if std::mem::take(&mut early) {
            Ok(())
        } else {
            ticks.tick().await;
            check(&site, &container, attempt, &probe, timeout).await
        };
        if let Err(message) = &result {
            site.warn(
                Some(&container.name),
                "Unhealthy",
                format!("{} probe failed: {message}", kind.title()),
            );
        }
        let Some(ok) = judge.hear(result.is_ok()) else { continue };
        if sender
            .send(Message::Probe {
                unit,
                attempt,
                kind,
                ok,
            })
            .await
            .is_err()
        {
            return;
        }
        // A started container stays started; a condemned one is not asked again.
        if kind == Kind::Startup || kind == Kind::Liveness && !ok {
            return;
        }
    }
}

/// Asks again and again until the answer is yes.
async fn eagerly<F: Future<Output = Result<(), String>>>(ask: impl Fn() -> F) {
    while ask().await.is_err() {
        tokio::time::sleep(BETWEEN_EAGER).await;
    }
}

async fn check(
    site: &Site,
    container: &Container,
    attempt: u32,
    probe: &Probe,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec_action) = &probe.exec {
        return exec(
            site,
            &container.name,
            attempt,
            exec_action.command.as_deref().unwrap_or_default(),
            timeout,
        )
        .await;
    }
    if let Some(get) = &probe.http_get {
        return http_get(site, container, get, timeout).await;
    }
    let in_time = |address| async move { tokio::time::timeout(timeout, TcpStream::connect(address)).await };
    if let Some(tcp) = &probe.tcp_socket {
        let address = address(site, tcp.host.as_deref(), port(container, &tcp.port)?)?;
        return match in_time(address).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", plain(&error))),
            Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        };
    }
    if let Some(grpc) = &probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("port {} is no port", grpc.port))?;
        let address = address(site, None, port)?;
        let asked = grpc::check(address, grpc.service.as_deref().unwrap_or_default());
        return tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| {
            Err(format!(
                "timeout: failed to connect service \"{address}\" within {timeout:?}: context deadline exceeded"
            ))
        });
    }
    Ok(())
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

/// A port by number or by the name it has in the container.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => match name.parse() {
            Ok(n) => Some(n),
            Err(_) => container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_ref() == Some(name))
                .map(|p| p.container_port),
        },
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("the container has no port {port:?}"))
}

fn address(site: &Site, host: Option<&str>, port: u16) -> Result<SocketAddr, String> {
    match host.filter(|h| !h.is_empty()) {
        None => Ok((site.sandbox.ip, port).into()),
        Some("localhost") => Ok(([127, 0, 0, 1], port).into()),
        Some(host) => host
            .parse()
            .map(|ip: std::net::IpAddr| (ip, port).into())
            .map_err(|_| format!("host {host:?} is not an address")),
    }
}

/// HTTP(S) GET of a probe or hook: 200 to 399 is well.
pub(crate) async fn http_get(
    site: &Site,
    container: &Container,
    get: &HTTPGetAction,
    timeout: Duration,
) -> Result<(), String> {
    let address = address(site, get.host.as_deref(), port(container, &get.port)?)?;
    let asked = http::get(address, get);
    match tokio::time::timeout(timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            http::url(address, get)
        )),
    }
}

/// Runs a command in the container; exit code 0 is well, and what it printed explains a failure.
pub(crate) async fn exec(
    site: &Site,
    container: &str,
    attempt: u32,
    command: &[String],
    timeout: Duration,
) -> Result<(), String> {
    const SHOWN: usize = 10 << 10;
    let place = site.place(container, attempt);
    let exec = Exec {
        place: &place,
        command,
        tty: false,
        stdio: [Stdio::null(), Stdio::piped(), Stdio::piped()],
    };
    let mut process = site.node.runtime.exec(exec).map_err(|e| e.to_string())?;
    let (out, err) = (process.child.stdout.take(), process.child.stderr.take());
    let ended = async { tokio::join!(process.wait(), said(out, SHOWN), said(err, SHOWN)) };
    let (status, mut text, rest) = tokio::time::timeout(timeout, ended)
        .await
        .map_err(|_| format!("command timed out: {command:?} timed out after {timeout:?}"))?;
    if status.map_err(|e| e.to_string())?.success() {
        return Ok(());
    }
    text.extend(rest);
    text.truncate(SHOWN);
    Err(String::from_utf8_lossy(&text).into_owned())
}

/// The beginning of what is written; the rest is read, so that the writer does not wait, and not kept.
async fn said(from: Option<impl AsyncRead + Unpin>, most: usize) -> Vec<u8> {
    let (mut kept, Some(mut from)) = (Vec::new(), from) else {
        return Vec::new();
    };
    let read = (&mut from).take(most as u64).read_to_end(&mut kept).await;
    if read.is_ok() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_a_command_says_is_read_and_not_all_kept() {
        let text = [b"x".repeat(100), b"y".repeat(1 << 20)].concat();
        let mut from = text.as_slice();
        assert_eq!(said(Some(&mut from), 100).await, b"x".repeat(100));
        assert!(from.is_empty());
    }

    #[test]
    fn verdicts_need_a_run() {
        let probe: Probe =
            serde_json::from_value(serde_json::json!({"successThreshold": 2, "failureThreshold": 3})).unwrap();
        let mut judge = Judge::new(&probe);
        let heard: Vec<Option<bool>> = [true, true, true, false, false, true, false, false, false, false]
            .map(|ok| judge.hear(ok))
            .to_vec();
        assert_eq!(
            heard,
            [None, Some(true), None, None, None, None, None, None, Some(false), None]
        );
    }

    #[test]
    fn ports_by_name() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}),
        )
        .unwrap();
        assert_eq!(port(&container, &IntOrString::String("http".into())), Ok(8080));
        assert_eq!(port(&container, &IntOrString::String("81".into())), Ok(81));
        assert!(
            port(&container, &IntOrString::String("x".into())).is_err()
                && port(&container, &IntOrString::Int(0)).is_err()
        );
    }
}
