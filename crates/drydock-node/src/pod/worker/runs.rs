//! Runs of containers: beginning, watching, probing and ending one.

use super::{Message, Worker, seconds};
use crate::error::Error;
use crate::pod::site::Site;
use crate::pod::unit::{Run, Waiting};
use crate::pod::{adopt, ephemeral_containers, hooks, key, lifecycle, start};
use crate::probe::{self, Kind};
use crate::runtime::Exit;
use crate::runtime::shim::wait_exit;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

impl Worker {
    pub(super) async fn start(&mut self, index: usize) {
        let Some((container, site)) = self.container(index).zip(self.site.clone()) else {
            return;
        };
        let attempt = self.units[index].next_attempt();
        let name = Some(container.name.as_str());
        let image = match start::image(&site, &container) {
            Ok(image) => image,
            Err(refused) => return self.refuse(index, &site, refused),
        };
        site.event(
            name,
            "Pulled",
            format!(
                "Container image \"{}\" already present on machine",
                self.units[index].image
            ),
        );
        self.forget_old_runs(&site, &container.name, attempt).await;
        let processes = match self.shared_processes(&container.name).await {
            Ok(path) => path,
            Err(refused) => return self.refuse(index, &site, refused),
        };
        let launch = match start::prepare(&site, &self.pod, &container, attempt, image, processes).await {
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
                let _ = sender
                    .send(Message::Hook {
                        unit: index,
                        attempt,
                        result,
                    })
                    .await;
            });
        }
    }

    /// The process namespace that an ephemeral container looks into: that of the container it targets.
    async fn shared_processes(&self, name: &str) -> Result<Option<PathBuf>, start::Refused> {
        let added = ephemeral_containers(&self.pod).find(|c| c.name == name);
        let Some(target) = added.and_then(|c| c.target_container_name.as_deref()) else {
            return Ok(None);
        };
        let unit = self.units.iter().find(|u| u.name == target);
        let running = unit.and_then(|u| u.running());
        let found = match running.zip(self.site.as_ref()) {
            Some((run, site)) => site.node.runtime.pid(&site.place(target, run.attempt).id).await,
            None => Err(Error::Pod(format!("target container \"{target}\" does not run"))),
        };
        let found = found.map(|pid| Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))));
        found.map_err(|error| start::Refused::create(&error))
    }

    /// A container whose program could not be started has run and failed with 128 (as containerd reports it).
    pub(super) fn never_ran(&mut self, index: usize, site: &Site, message: String) {
        let exit = Exit {
            code: 128,
            out_of_memory: false,
            never_ran: true,
            at: jiff::Timestamp::now(),
        };
        let place = site.place(
            &self.units[index].name,
            self.units[index].running().map_or(0, |r| r.attempt),
        );
        let _ = serde_json::to_vec(&exit).map(|data| std::fs::write(place.exit_file(), data));
        place.unmount();
        self.units[index].end(exit, Some(message), Instant::now());
    }

    pub(super) fn refuse(&mut self, index: usize, site: &Site, refused: start::Refused) {
        let unit = &mut self.units[index];
        let again = unit.waiting.is_some();
        unit.retry_at = Some(Instant::now() + refused.retry);
        let (reason, message) = match (refused.reason, again) {
            ("ErrImagePull", true) => (
                "ImagePullBackOff",
                format!("Back-off pulling image \"{}\": {}", unit.image, refused.message),
            ),
            (reason, _) => (reason, refused.message.clone()),
        };
        let waiting = Waiting {
            reason: reason.into(),
            message,
        };
        if unit.waiting.as_ref() != Some(&waiting) {
            let name = Some(unit.name.as_str());
            match reason {
                "ImagePullBackOff" => site.event(name, "BackOff", format!("Back-off pulling image \"{}\"", unit.image)),
                "ErrImagePull" => site.warn(
                    name,
                    "Failed",
                    format!("Failed to pull image \"{}\": {}", unit.image, refused.message),
                ),
                _ => site.warn(name, "Failed", format!("Error: {}", refused.message)),
            }
        }
        unit.waiting = Some(waiting);
    }

    /// Keeps the run before this one (for `logs --previous`), drops older ones.
    pub(super) async fn forget_old_runs(&self, site: &Site, container: &str, attempt: u32) {
        for old in adopt::attempts(site, container).into_iter().filter(|a| a + 1 < attempt) {
            adopt::discard(site, container, old).await;
            let log = crate::runtime::log_path(&self.dir, container, old);
            let _ = std::fs::remove_file(crate::runtime::rotated(&log));
            let _ = std::fs::remove_file(log);
        }
    }

    pub(super) fn watch_run(&self, index: usize, attempt: u32) {
        let Some(site) = &self.site else { return };
        let (place, sender) = (site.place(&self.units[index].name, attempt), self.sender.clone());
        tokio::spawn(async move {
            let exit = wait_exit(&place).await;
            let _ = sender
                .send(Message::Exited {
                    unit: index,
                    attempt,
                    exit,
                })
                .await;
        });
    }

    /// The startup probe first; the other two once it is behind.
    pub(super) fn start_probes(&mut self, index: usize) {
        let (Some(container), Some(site)) = (self.container(index), self.site.clone()) else {
            return;
        };
        let unit = &self.units[index];
        let Some(attempt) = unit.running().map(|r| r.attempt) else {
            return;
        };
        let kinds: &[Kind] = if unit.has_startup && !unit.startup_done {
            &[Kind::Startup]
        } else {
            &[Kind::Readiness, Kind::Liveness]
        };
        let begin = |kind: &Kind| {
            let probe = kind.of(&container)?.clone();
            let task = probe::watch(
                site.clone(),
                container.clone(),
                attempt,
                *kind,
                probe,
                index,
                self.sender.clone(),
            );
            Some(tokio::spawn(task).abort_handle())
        };
        let started: Vec<AbortHandle> = kinds.iter().filter_map(begin).collect();
        self.probes[index].extend(started);
    }

    pub(super) fn stop(&mut self, index: usize, grace: Option<Duration>) {
        let (Some(container), Some(site)) = (self.container(index), self.site.clone()) else {
            return;
        };
        let unit = &mut self.units[index];
        let Some(run) = unit.running().cloned().filter(|_| !unit.stopping) else {
            return;
        };
        unit.stopping = true;
        let spec_grace = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds)
            .unwrap_or(30);
        let grace = grace.unwrap_or_else(|| match self.deadline {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => seconds(spec_grace),
        });
        if self.gone || self.pod.metadata.deletion_timestamp.is_some() {
            site.event(
                Some(&container.name),
                "Killing",
                format!("Stopping container {}", container.name),
            );
        }
        let Run {
            attempt, stop_signal, ..
        } = run;
        let signal = if stop_signal.is_empty() {
            "SIGTERM".into()
        } else {
            stop_signal
        };
        tokio::spawn(lifecycle::stop(site, container, attempt, grace, signal));
    }

    pub(super) fn exited(&mut self, index: usize, exit: Option<Exit>) {
        for handle in self.probes[index].drain(..) {
            handle.abort();
        }
        let Some(site) = self.site.clone() else { return };
        let attempt = self.units[index].running().map_or(0, |r| r.attempt);
        let place = site.place(&self.units[index].name, attempt);
        let message = self
            .container(index)
            .and_then(|c| crate::server::last_words(&c, &place, exit.as_ref().is_none_or(|e| e.code != 0)));
        let lost = exit.is_none();
        let exit = exit.unwrap_or_else(|| Exit {
            code: 137,
            out_of_memory: false,
            never_ran: false,
            at: jiff::Timestamp::now(),
        });
        if lost {
            let _ = serde_json::to_vec(&exit).map(|data| std::fs::write(place.exit_file(), data));
        }
        self.units[index].end(exit, message, Instant::now());
        if self.units[index].waiting.is_some() && self.facts.alive {
            let name = &self.units[index].name;
            let (namespace, pod, uid) = key(&self.pod);
            site.warn(
                Some(name),
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"),
            );
        }
        let node = self.node.clone();
        tokio::spawn(async move {
            if lost {
                node.runtime.delete(&place.id).await;
            }
            // What the container has written may be much.
            let cleaned = tokio::task::spawn_blocking(move || {
                place.unmount();
                crate::runtime::sweep_execs(&place.dir);
            });
            let _ = cleaned.await;
        });
    }

    pub(super) fn probed(&mut self, index: usize, kind: Kind, ok: bool) {
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
                    site.event(
                        Some(&container.name),
                        "Killing",
                        format!(
                            "Container {} failed {} probe, will be restarted",
                            container.name,
                            kind.name()
                        ),
                    );
                }
                let own = kind.of(&container).and_then(|p| p.termination_grace_period_seconds);
                self.stop(index, own.map(seconds));
            }
        }
    }
}
