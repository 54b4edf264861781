//! The task that looks after one pod: takes in what happens, asks [`super::plan`] what to do, does it, reports.

use super::plan::{self, Outcome, Policy};
use super::report::{self, Report};
use super::sandbox::Sandbox;
use super::site::Site;
use super::status::{Facts, status};
use super::unit::{Phase, Run, Unit, Waiting};
use super::{adopt, hooks, key, lifecycle, start};
use crate::agent::Node;
use crate::error::{Result};
use crate::probe::{self, Kind};
use crate::runtime::shim::{read_exit, wait_exit};
use crate::runtime::{Exit, Rootfs};
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
    Exited { unit: usize, attempt: u32, exit: Option<Exit> },
    /// A postStart hook returned.
    Hook { unit: usize, attempt: u32, result: Result<(), String> },
    /// A probe changed its mind.
    Probe { unit: usize, attempt: u32, kind: Kind, ok: bool },
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
        facts: Facts { host_ip: node.config.node_ip().to_string(), alive: true, ..Facts::default() },
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
    Handle { messages: sender, pod: pod_tx, view }
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
            let _ = nix::mount::umount2(&self.dir.join("shm"), nix::mount::MntFlags::MNT_DETACH);
        }
    }

    fn new_site(&self, sandbox: Sandbox) -> Site {
        Site { node: self.node.clone(), dir: self.dir.clone(), sandbox: Arc::new(sandbox), volumes: Arc::new(Volumes::new(&self.dir, &self.pod)), pod: self.pod.clone() }
    }

    fn settle(&mut self, site: Site) {
        self.facts.pod_ip = Some(site.sandbox.ip.to_string());
        self.facts.sandbox_ready = true;
        self.site = Some(site);
    }

    /// Does what is due. `true` when nothing of the pod is left.
    async fn step(&mut self) -> bool {
        self.retry_at = None;
        if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
            return self.terminate().await;
        }
        if self.facts.outcome.is_some() {
            self.release().await;
            return false;
        }
        if let Err(error) = self.surroundings().await {
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
    async fn surroundings(&mut self) -> Result<()> {
        if self.site.is_none() {
            let sandbox = Sandbox::create(&self.node, &self.pod, &self.dir).await?;
            let site = self.new_site(sandbox);
            self.settle(site);
            self.publish();
        }
        let Some(site) = self.site.clone() else { return Ok(()) };
        let addresses = site.addresses();
        let context = Context { sources: &self.node.objects, tokens: &self.tokens, addresses: &addresses, node: self.node.capacity };
        if self.units.iter().all(|u| matches!(u.phase, Phase::New)) {
            return site.volumes.prepare(&self.pod, &context).await;
        }
        if Instant::now() >= self.next_refresh {
            self.next_refresh = Instant::now() + REFRESH;
            if let Err(error) = site.volumes.refresh(&self.pod, &context).await {
                tracing::debug!(pod = key(&self.pod).1, %error, "volume not refreshed");
            }
        }
        Ok(())
    }

    async fn start(&mut self, index: usize) {
        let Some((container, site)) = self.container(index).zip(self.site.clone()) else { return };
        let attempt = self.units[index].next_attempt();
        let name = Some(container.name.as_str());
        let image = match start::image(&site, &container) {
            Ok(image) => image,
            Err(refused) => return self.refuse(index, &site, refused),
        };
        site.event(name, "Pulled", format!("Container image \"{}\" already present on machine", self.units[index].image));
        self.forget_old_runs(&site, &container.name, attempt).await;
        let launch = match start::prepare(&site, &self.pod, &container, attempt, image).await {
            Ok(launch) => launch,
            Err(refused) => return self.refuse(index, &site, refused),
        };
        site.event(name, "Created", format!("Created container: {}", container.name));
        let (run, result) = start::launch(&site, &container, attempt, &launch).await;
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
        self.units[index].begin(run, hook.is_some());
        if let Err(error) = result {
            let message = error.to_string();
            site.warn(name, "Failed", format!("Error: {message}"));
            return self.never_ran(index, &site, message);
        }
        site.event(name, "Started", format!("Started container {}", container.name));
        self.publish();
        self.watch_run(index, attempt);
        self.start_probes(index);
        if let Some(hook) = hook {
            let sender = self.sender.clone();
            tokio::spawn(async move {
                let result = hooks::run(&site, &container, attempt, &hook).await;
                let _ = sender.send(Message::Hook { unit: index, attempt, result }).await;
            });
        }
    }

    /// A container whose program could not be started has run and failed with 128 (as containerd reports it).
    fn never_ran(&mut self, index: usize, site: &Site, message: String) {
        let exit = Exit { code: 128, out_of_memory: false, at: jiff::Timestamp::now() };
        let place = site.place(&self.units[index].name, self.units[index].running().map_or(0, |r| r.attempt));
        let _ = serde_json::to_vec(&exit).map(|data| std::fs::write(place.exit_file(), data));
        Rootfs::new(&place.dir).release();
        self.units[index].end(exit, Some(message), Instant::now());
    }

    fn refuse(&mut self, index: usize, site: &Site, refused: start::Refused) {
        let unit = &mut self.units[index];
        let again = unit.waiting.is_some();
        unit.retry_at = Some(Instant::now() + refused.retry);
        let (reason, message) = match (refused.reason, again) {
            ("ErrImagePull", true) => ("ImagePullBackOff", format!("Back-off pulling image \"{}\": {}", unit.image, refused.message)),
            (reason, _) => (reason, refused.message.clone()),
        };
        let waiting = Waiting { reason: reason.into(), message };
        if unit.waiting.as_ref() != Some(&waiting) {
            let name = Some(unit.name.as_str());
            match reason {
                "ImagePullBackOff" => site.event(name, "BackOff", format!("Back-off pulling image \"{}\"", unit.image)),
                "ErrImagePull" => site.warn(name, "Failed", format!("Failed to pull image \"{}\": {}", unit.image, refused.message)),
                _ => site.warn(name, "Failed", format!("Error: {}", refused.message)),
            }
        }
        unit.waiting = Some(waiting);
    }

    /// Keeps the run before this one (for `logs --previous`), drops older ones.
    async fn forget_old_runs(&self, site: &Site, container: &str, attempt: u32) {
        for old in adopt::attempts(site, container).into_iter().filter(|a| a + 1 < attempt) {
            adopt::discard(site, container, old).await;
            let log = crate::runtime::log_path(&self.dir, container, old);
            let _ = std::fs::remove_file(crate::runtime::rotated(&log));
            let _ = std::fs::remove_file(log);
        }
    }

    fn watch_run(&self, index: usize, attempt: u32) {
        let Some(site) = &self.site else { return };
        let (place, sender) = (site.place(&self.units[index].name, attempt), self.sender.clone());
        tokio::spawn(async move {
            let exit = wait_exit(&place).await;
            let _ = sender.send(Message::Exited { unit: index, attempt, exit }).await;
        });
    }

    /// The startup probe first; the other two once it is behind.
    fn start_probes(&mut self, index: usize) {
        let (Some(container), Some(site)) = (self.container(index), self.site.clone()) else { return };
        let unit = &self.units[index];
        let Some(attempt) = unit.running().map(|r| r.attempt) else { return };
        let kinds: &[Kind] = if unit.has_startup && !unit.startup_done { &[Kind::Startup] } else { &[Kind::Readiness, Kind::Liveness] };
        let begin = |kind: &Kind| {
            let probe = kind.of(&container)?.clone();
            let task = probe::watch(site.clone(), container.clone(), attempt, *kind, probe, index, self.sender.clone());
            Some(tokio::spawn(task).abort_handle())
        };
        let started: Vec<AbortHandle> = kinds.iter().filter_map(begin).collect();
        self.probes[index].extend(started);
    }

    fn stop(&mut self, index: usize, grace: Option<Duration>) {
        let (Some(container), Some(site)) = (self.container(index), self.site.clone()) else { return };
        let unit = &mut self.units[index];
        let Some(run) = unit.running().cloned().filter(|_| !unit.stopping) else { return };
        unit.stopping = true;
        let spec_grace = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        let grace = grace.unwrap_or_else(|| match self.deadline {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => seconds(spec_grace),
        });
        if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
            site.event(Some(&container.name), "Killing", format!("Stopping container {}", container.name));
        }
        let Run { attempt, stop_signal, .. } = run;
        let signal = if stop_signal.is_empty() { "SIGTERM".into() } else { stop_signal };
        tokio::spawn(lifecycle::stop(site, container, attempt, grace, signal));
    }

    /// The pod is to go: end everything, then take it apart, then say so.
    async fn terminate(&mut self) -> bool {
        self.facts.alive = false;
        if self.deadline.is_none() {
            let meta = &self.pod.metadata;
            // Removed by force: nobody waits, but a process still gets a moment to close its files.
            let grace = if self.gone { 1 } else { meta.deletion_grace_period_seconds.unwrap_or(30) };
            self.deadline = Some(Instant::now() + seconds(grace));
        }
        for index in plan::stops(&self.units) {
            self.stop(index, None);
        }
        if self.units.iter().any(|u| u.running().is_some()) {
            return false;
        }
        if self.facts.outcome.is_none() {
            let failed = self.units.iter().any(|u| u.ended().is_some_and(|e| e.exit.code != 0));
            self.facts.outcome = Some(if failed { Outcome::Failed } else { Outcome::Succeeded });
        }
        self.release().await;
        if !self.gone {
            let last = self.current_status();
            let written = self.frozen || self.report.write(&self.node, &self.pod, &last).await;
            if !written || !report::delete(&self.node, &self.pod).await {
                self.wake(Instant::now() + RETRY);
                return false;
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        true
    }

    /// Gives back what a pod without running containers does not need. Logs stay.
    async fn release(&mut self) {
        for handle in self.probes.iter_mut().flat_map(|p| p.drain(..)) {
            handle.abort();
        }
        let Some(site) = self.site.take() else { return };
        for unit in &self.units {
            for attempt in adopt::attempts(&site, &unit.name) {
                let place = site.place(&unit.name, attempt);
                if read_exit(&place).is_none() {
                    self.node.runtime.delete(&place.id).await;
                }
                Rootfs::new(&place.dir).release();
            }
        }
        site.volumes.remove();
        site.sandbox.remove(&self.node, &self.dir).await;
        self.facts.sandbox_ready = false;
    }

    fn past_active_deadline(&mut self) -> bool {
        let limit = self.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        let Some((limit, started)) = limit.zip(self.facts.started_at) else { return false };
        let active = Duration::try_from(jiff::Timestamp::now().duration_since(started)).unwrap_or_default();
        let left = seconds(limit).saturating_sub(active);
        if !left.is_zero() {
            self.wake(Instant::now() + left);
        }
        left.is_zero()
    }

    fn overdue(&mut self) -> bool {
        self.facts.reason = Some(("DeadlineExceeded".into(), "Pod was active on the node longer than the specified deadline".into()));
        for index in plan::stops(&self.units) {
            self.stop(index, None);
        }
        if self.units.iter().all(|u| u.running().is_none()) {
            self.facts.outcome = Some(Outcome::Failed);
            self.wake(Instant::now());
        }
        false
    }

    async fn wait(&mut self) {
        let at = self.retry_at.unwrap_or(self.next_refresh).min(self.next_refresh);
        tokio::select! {
            changed = self.incoming.changed() => match (changed, self.incoming.borrow_and_update().clone()) {
                (Ok(()), Some(pod)) => {
                    self.pod = pod;
                    self.next_refresh = Instant::now();
                }
                _ => self.gone = true,
            },
            message = self.messages.recv() => if let Some(message) = message { self.take(message) },
            () = tokio::time::sleep_until(at.into()) => {}
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let current = |units: &[Unit], unit: usize, attempt: u32| units.get(unit).and_then(Unit::running).is_some_and(|r| r.attempt == attempt);
        match message {
            Message::Exited { unit, attempt, exit } if current(&self.units, unit, attempt) => self.exited(unit, exit),
            Message::Hook { unit, attempt, result } if current(&self.units, unit, attempt) => {
                self.units[unit].hook_pending = false;
                if let (Err(message), Some(site)) = (result, &self.site) {
                    site.warn(Some(&self.units[unit].name), "FailedPostStartHook", format!("PostStartHook failed: {message}"));
                    self.stop(unit, None);
                }
            }
            Message::Probe { unit, attempt, kind, ok } if current(&self.units, unit, attempt) => self.probed(unit, kind, ok),
            Message::Refresh => self.next_refresh = Instant::now(),
            _ => {}
        }
    }

    fn exited(&mut self, index: usize, exit: Option<Exit>) {
        for handle in self.probes[index].drain(..) {
            handle.abort();
        }
        let Some(site) = self.site.clone() else { return };
        let attempt = self.units[index].running().map_or(0, |r| r.attempt);
        let place = site.place(&self.units[index].name, attempt);
        let message = self.container(index).and_then(|c| crate::server::last_words(&c, &place, exit.as_ref().is_none_or(|e| e.code != 0)));
        let lost = exit.is_none();
        let exit = exit.unwrap_or_else(|| Exit { code: 137, out_of_memory: false, at: jiff::Timestamp::now() });
        if lost {
            let _ = serde_json::to_vec(&exit).map(|data| std::fs::write(place.exit_file(), data));
        }
        self.units[index].end(exit, message, Instant::now());
        if self.units[index].waiting.is_some() && self.facts.alive {
            let name = &self.units[index].name;
            let (namespace, pod, uid) = key(&self.pod);
            site.warn(Some(name), "BackOff", format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"));
        }
        let node = self.node.clone();
        tokio::spawn(async move {
            if lost {
                node.runtime.delete(&place.id).await;
            }
            Rootfs::new(&place.dir).release();
            crate::runtime::sweep_execs(&place.dir);
        });
    }

    fn probed(&mut self, index: usize, kind: Kind, ok: bool) {
        match (kind, ok) {
            (Kind::Readiness, ok) => self.units[index].probe_ready = ok,
            (Kind::Startup, true) => {
                self.units[index].startup_done = true;
                self.start_probes(index);
            }
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                let Some(container) = self.container(index) else { return };
                if let Some(site) = &self.site {
                    site.event(Some(&container.name), "Killing", format!("Container {} failed {} probe, will be restarted", container.name, kind.name()));
                }
                let own = kind.of(&container).and_then(|p| p.termination_grace_period_seconds);
                self.stop(index, own.map(seconds));
            }
        }
    }

    fn container(&self, index: usize) -> Option<Container> {
        super::all_containers(&self.pod).nth(index).cloned()
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
