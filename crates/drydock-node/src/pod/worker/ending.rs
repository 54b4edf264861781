//! The end of a pod: by deletion, by deadline, or because its work is done.

use super::{RETRY, Worker, seconds};
use crate::mounts;
use crate::pod::plan::{self, Outcome};
use crate::pod::sandbox::Sandbox;
use crate::pod::unit::Role;
use crate::pod::{adopt, report};
use crate::runtime::cgroup;
use crate::runtime::shim::read_exit;
use std::time::{Duration, Instant};

impl Worker {
    /// The pod is to go: end everything, then take it apart, then say so.
    pub(super) async fn terminate(&mut self) -> bool {
        self.facts.alive = false;
        if self.deadline.is_none() {
            let meta = &self.pod.metadata;
            // Removed by force: nobody waits, but a process still gets a moment to close its files.
            let grace = if self.gone {
                1
            } else {
                meta.deletion_grace_period_seconds.unwrap_or(30)
            };
            self.deadline = Some(Instant::now() + seconds(grace));
        }
        for index in plan::stops(&self.units) {
            self.stop(index, None);
        }
        if self.units.iter().any(|u| u.running().is_some()) {
            return false;
        }
        if self.facts.outcome.is_none() {
            let own = self.units.iter().filter(|u| u.role != Role::Ephemeral);
            let failed = own.into_iter().any(|u| u.ended().is_some_and(|e| e.exit.code != 0));
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
        let removed = mounts::remove(&self.dir);
        if let Err(error) = &removed {
            // A shim still writes in there, or somebody unmounts.
            tracing::debug!(%error, dir = %self.dir.display(), "pod folder not removed yet");
            self.wake(Instant::now() + RETRY);
        }
        removed.is_ok()
    }

    /// Gives back what a pod without running containers does not need. Logs stay.
    pub(super) async fn release(&mut self) {
        for handle in self.probes.iter_mut().flat_map(|p| p.drain(..)) {
            handle.abort();
        }
        // What an earlier process has left is taken apart too, though nothing was made of it by this one.
        let site = match self.site.take() {
            Some(site) => site,
            None => match Sandbox::read(&self.dir) {
                Some(left) => self.new_site(left),
                None => return,
            },
        };
        for unit in &self.units {
            for attempt in adopt::attempts(&site, &unit.name) {
                let place = site.place(&unit.name, attempt);
                if read_exit(&place).is_none() {
                    self.node.runtime.delete(&place.id).await;
                }
                place.unmount();
            }
        }
        cgroup::remove(&site.pod_cgroup());
        site.volumes.remove();
        site.sandbox.remove(&self.node, &self.dir).await;
        self.facts.sandbox_ready = false;
    }

    pub(super) fn past_active_deadline(&mut self) -> bool {
        let limit = self.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds);
        let Some((limit, started)) = limit.zip(self.facts.started_at) else {
            return false;
        };
        let active = Duration::try_from(jiff::Timestamp::now().duration_since(started)).unwrap_or_default();
        let left = seconds(limit).saturating_sub(active);
        if !left.is_zero() {
            self.wake(Instant::now() + left);
        }
        left.is_zero()
    }

    pub(super) fn overdue(&mut self) -> bool {
        self.facts.reason = Some((
            "DeadlineExceeded".into(),
            "Pod was active on the node longer than the specified deadline".into(),
        ));
        for index in plan::stops(&self.units) {
            self.stop(index, None);
        }
        if self.units.iter().all(|u| u.running().is_none()) {
            self.facts.outcome = Some(Outcome::Failed);
            self.wake(Instant::now());
        }
        false
    }
}
