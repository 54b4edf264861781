//! The task that looks after one pod: takes in what happens, asks [`super::plan`] what to do, does it, reports.

mod ending;
mod runs;

use super::plan::{self, Outcome, Policy};
use super::report::Report;
use super::sandbox::Sandbox;
use super::site::Site;
use super::status::{Facts, status};
use super::unit::{Phase, Unit};
use super::{adopt, key};
use crate::agent::Node;
use crate::error::Result;
use crate::probe::Kind;
use crate::runtime::Exit;
use crate::volumes::{Context, Tokens, Volumes};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// What can happen to a pod.
#[derive(Debug)]
pub(crate) enum Message {
    /// A container ended (`None`: its shim was lost, and with it the exit code).
    Exited {
        unit: usize,
        attempt: u32,
        exit: Option<Exit>,
    },
    /// A postStart hook returned.
    Hook {
        unit: usize,
        attempt: u32,
        result: Result<(), String>,
    },
    /// A probe changed its mind.
    Probe {
        unit: usize,
        attempt: u32,
        kind: Kind,
        ok: bool,
    },
    /// An object that a volume shows has changed.
    Refresh,
}

/// What the kubelet server sees of a pod.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) site: Option<Site>,
    /// Container, number of its newest run, whether that runs.
    pub(crate) runs: Vec<(String, u32, bool)>,
}

/// The outside of a worker.
pub(crate) struct Handle {
    pub(crate) messages: mpsc::Sender<Message>,
    /// The pod as the API server has it; `None` once it is gone there.
    pub(crate) pod: watch::Sender<Option<Arc<Pod>>>,
    pub(crate) view: Arc<Mutex<View>>,
}

/// How often volumes are looked at even if no object has changed: tokens age.
const REFRESH: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

struct Worker {
    node: Arc<Node>,
    /// The last known object: what it says holds even when it is gone from the API.
    pod: Arc<Pod>,
    incoming: watch::Receiver<Option<Arc<Pod>>>,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    view: Arc<Mutex<View>>,
    dir: PathBuf,
    tokens: Tokens,
    site: Option<Site>,
    units: Vec<Unit>,
    probes: Vec<Vec<AbortHandle>>,
    facts: Facts,
    report: Report,
    gone: bool,
    /// The pod ended under an earlier node process and was taken apart: what its status says is all that is known.
    frozen: bool,
    /// Ended by deletion: everything must be over by then.
    deadline: Option<Instant>,
    next_refresh: Instant,
    retry_at: Option<Instant>,
}

/// Starts a worker for a pod.
pub(crate) fn spawn(node: Arc<Node>, pod: Arc<Pod>) -> Handle {
    let (sender, messages) = mpsc::channel(256);
    let (pod_tx, incoming) = watch::channel(Some(pod.clone()));
    let view = Arc::new(Mutex::new(View::default()));
    let units = Unit::all(&pod);
    let worker = Worker {
        dir: node.config.pods_dir().join(key(&pod).2),
        tokens: Tokens::new(node.client.clone()),
        probes: units.iter().map(|_| Vec::new()).collect(),
        facts: Facts {
            host_ip: node.config.node_ip().to_string(),
            alive: true,
            ..Facts::default()
        },
        node,
        pod,
        incoming,
        messages,
        sender: sender.clone(),
        view: view.clone(),
        site: None,
        units,
        report: Report::default(),
        gone: false,
        frozen: false,
        deadline: None,
        next_refresh: Instant::now() + REFRESH,
        retry_at: None,
    };
    tokio::spawn(worker.run());
    Handle {
        messages: sender,
        pod: pod_tx,
        view,
    }
}

impl Worker {
    async fn run(mut self) {
        self.adopt().await;
        while !self.step().await {
            let report = self.current_status();
            if !self.gone && !self.frozen && !self.report.write(&self.node, &self.pod, &report).await {
                self.wake(Instant::now() + RETRY);
            }
            self.publish();
            self.wait().await;
        }
        self.publish();
        self.node.forget(key(&self.pod).2);
    }

    fn current_status(&self) -> k8s_openapi::api::core::v1::PodStatus {
        status(&self.pod, &self.units, &self.facts, jiff::Timestamp::now())
    }

    /// Goes on from what an earlier process left of this pod.
    async fn adopt(&mut self) {
        let old = self.pod.status.clone().unwrap_or_default();
        self.facts.started_at = old.start_time.map(|t| t.0).or_else(|| Some(jiff::Timestamp::now()));
        self.facts.outcome = match old.phase.as_deref() {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed),
            _ => None,
        };
        self.facts.pod_ip = old.pod_ip;
        let Some(sandbox) = Sandbox::read(&self.dir) else {
            self.frozen = self.facts.outcome.is_some();
            return;
        };
        let whole = Sandbox::restore(&self.dir).is_some();
        let site = self.new_site(sandbox);
        adopt::units(&site, &self.pod, &mut self.units).await;
        if whole {
            self.node.addresses.reserve(site.sandbox.ip);
            self.settle(site);
            for index in 0..self.units.len() {
                if let Some(run) = self.units[index].running().cloned() {
                    self.watch_run(index, run.attempt);
                    self.start_probes(index);
                }
            }
        } else {
            adopt::lost(&mut self.units);
        }
    }

    fn new_site(&self, sandbox: Sandbox) -> Site {
        Site {
            node: self.node.clone(),
            dir: self.dir.clone(),
            sandbox: Arc::new(sandbox),
            volumes: Arc::new(Volumes::new(&self.dir, &self.pod)),
            pod: self.pod.clone(),
        }
    }

    fn settle(&mut self, site: Site) {
        self.facts.pod_ip = Some(site.sandbox.ip.to_string());
        self.facts.sandbox_ready = true;
        self.site = Some(site);
    }

    /// Does what is due. `true` when nothing of the pod is left.
    async fn step(&mut self) -> bool {
        self.retry_at = None;
        // Set forward whatever comes of it: what lies in the past would wake a pod that has nothing to do for ever.
        let refresh = Instant::now() >= self.next_refresh;
        if refresh {
            self.next_refresh = Instant::now() + REFRESH;
        }
        if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
            return self.terminate().await;
        }
        if self.facts.outcome.is_some() {
            self.release().await;
            return false;
        }
        if let Err(error) = self.surroundings(refresh).await {
            self.warn("FailedMount", error.to_string());
            self.wake(Instant::now() + RETRY);
            return false;
        }
        if self.past_active_deadline() {
            return self.overdue();
        }
        let policy = Policy::parse(self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()));
        let next = plan::next(&self.units, policy, Instant::now());
        for index in next.stop {
            self.stop(index, None);
        }
        if let Some(at) = next.wake {
            self.wake(at);
        }
        self.facts.outcome = next.outcome;
        if next.outcome.is_some() {
            self.wake(Instant::now());
        }
        if let Some(index) = next.start {
            self.start(index).await;
            // There may be more to start at once.
            self.wake(Instant::now());
        }
        false
    }

    /// Sandbox and volumes, made when missing and kept fresh.
    async fn surroundings(&mut self, refresh: bool) -> Result<()> {
        if self.site.is_none() {
            // Lost in a reboot: its address is free again.
            if let Some(lost) = Sandbox::read(&self.dir) {
                lost.remove(&self.node, &self.dir).await;
            }
            let sandbox = Sandbox::create(&self.node, &self.pod, &self.dir).await?;
            let site = self.new_site(sandbox);
            self.settle(site);
            self.publish();
        }
        let Some(site) = self.site.clone() else { return Ok(()) };
        let addresses = site.addresses();
        let context = Context {
            sources: &self.node.objects,
            tokens: &self.tokens,
            addresses: &addresses,
            node: self.node.capacity,
        };
        if self.units.iter().all(|u| matches!(u.phase, Phase::New)) {
            return site.volumes.prepare(&self.pod, &context).await;
        }
        if refresh && let Err(error) = site.volumes.refresh(&self.pod, &context).await {
            tracing::debug!(pod = key(&self.pod).1, %error, "volume not refreshed");
        }
        Ok(())
    }

    async fn wait(&mut self) {
        let at = self.retry_at.unwrap_or(self.next_refresh).min(self.next_refresh);
        tokio::select! {
            changed = self.incoming.changed() => {
                let pod = self.incoming.borrow_and_update().clone();
                match (changed, pod) {
                    (Ok(()), Some(pod)) => self.changed(pod),
                    _ => self.gone = true,
                }
            }
            message = self.messages.recv() => if let Some(message) = message { self.take(message) },
            () = tokio::time::sleep_until(at.into()) => {}
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn changed(&mut self, pod: Arc<Pod>) {
        self.pod = pod;
        self.next_refresh = Instant::now();
        // The only containers that a pod can get later: they are added behind the others, and stay.
        let known = self.units.len();
        self.units.extend(Unit::all(&self.pod).into_iter().skip(known));
        self.probes.resize_with(self.units.len(), Vec::new);
    }

    fn take(&mut self, message: Message) {
        let current = |units: &[Unit], unit: usize, attempt: u32| {
            units
                .get(unit)
                .and_then(Unit::running)
                .is_some_and(|r| r.attempt == attempt)
        };
        match message {
            Message::Exited { unit, attempt, exit } if current(&self.units, unit, attempt) => self.exited(unit, exit),
            Message::Hook { unit, attempt, result } if current(&self.units, unit, attempt) => {
                self.units[unit].hook_pending = false;
                if let (Err(message), Some(site)) = (result, &self.site) {
                    site.warn(
                        Some(&self.units[unit].name),
                        "FailedPostStartHook",
                        format!("PostStartHook failed: {message}"),
                    );
                    self.stop(unit, None);
                }
            }
            Message::Probe {
                unit,
                attempt,
                kind,
                ok,
            } if current(&self.units, unit, attempt) => self.probed(unit, kind, ok),
            Message::Refresh => self.next_refresh = Instant::now(),
            _ => {}
        }
    }

    fn container(&self, index: usize) -> Option<Container> {
        super::every_container(&self.pod).nth(index)
    }

    fn wake(&mut self, at: Instant) {
        self.retry_at = Some(self.retry_at.map_or(at, |r| r.min(at)));
    }

    fn warn(&self, reason: &str, message: String) {
        self.node.events.pod(&self.pod, None, "Warning", reason, message);
    }

    fn publish(&self) {
        let newest = |u: &Unit| match &u.phase {
            Phase::New => None,
            Phase::Running(run) => Some((u.name.clone(), run.attempt, true)),
            Phase::Ended(ended) => Some((u.name.clone(), ended.run.attempt, false)),
        };
        let site = self.site.clone();
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.runs = self.units.iter().filter_map(newest).collect();
        // Logs of a pod that has ended are still asked for.
        if site.is_some() {
            view.site = site;
        }
    }
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}
