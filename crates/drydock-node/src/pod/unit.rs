//! One container of a pod, as the worker sees it.

use super::backoff::Backoff;
use crate::runtime::Exit;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    Main,
    /// Added to a running pod to look into it: started once, and no part of the pod's own life.
    Ephemeral,
}

/// One run, as its status reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) attempt: u32,
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) started_at: jiff::Timestamp,
    /// The image's `StopSignal`, empty for the usual SIGTERM.
    #[serde(default)]
    pub(crate) stop_signal: String,
}

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) run: Run,
    pub(crate) exit: Exit,
    pub(crate) message: Option<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    New,
    Running(Run),
    Ended(Ended),
}

/// Why a container that should run does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// State of one container.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) image: String,
    pub(crate) phase: Phase,
    /// The run before the one in `phase`.
    pub(crate) previous: Option<Ended>,
    pub(crate) waiting: Option<Waiting>,
    /// Not to be started earlier.
    pub(crate) retry_at: Option<Instant>,
    pub(crate) backoff: Backoff,
    /// A postStart hook has not returned yet.
    pub(crate) hook_pending: bool,
    /// The startup probe, if there is one, has succeeded in this run.
    pub(crate) startup_done: bool,
    /// What the readiness probe said last; `true` if there is none.
    pub(crate) probe_ready: bool,
    /// Somebody has begun to end this run.
    pub(crate) stopping: bool,
    pub(crate) has_startup: bool,
    pub(crate) has_readiness: bool,
}

impl Unit {
    fn new(container: &Container, role: Role) -> Self {
        Self {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            phase: Phase::New,
            previous: None,
            waiting: None,
            retry_at: None,
            backoff: Backoff::default(),
            hook_pending: false,
            startup_done: false,
            probe_ready: false,
            stopping: false,
            has_startup: container.startup_probe.is_some(),
            has_readiness: container.readiness_probe.is_some(),
        }
    }

    /// All containers of a pod, init containers first.
    pub(crate) fn all(pod: &Pod) -> Vec<Self> {
        let Some(spec) = &pod.spec else { return vec![] };
        let init = spec.init_containers.iter().flatten().map(|c| {
            Self::new(
                c,
                if c.restart_policy.as_deref() == Some("Always") {
                    Role::Sidecar
                } else {
                    Role::Init
                },
            )
        });
        let main = spec.containers.iter().map(|c| Self::new(c, Role::Main));
        let added = super::every_container(pod).skip(super::all_containers(pod).count());
        init.chain(main)
            .chain(added.map(|c| Self::new(&c, Role::Ephemeral)))
            .collect()
    }

    pub(crate) fn running(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Running(run) => Some(run),
            _ => None,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Runs, and its startup probe and postStart hook are behind it.
    pub(crate) fn started(&self) -> bool {
        self.running().is_some() && !self.hook_pending && (self.startup_done || !self.has_startup)
    }

    pub(crate) fn ready(&self) -> bool {
        self.started() && (self.probe_ready || !self.has_readiness)
    }

    /// The number of the next run.
    pub(crate) fn next_attempt(&self) -> u32 {
        match &self.phase {
            Phase::New => 0,
            Phase::Running(run) => run.attempt + 1,
            Phase::Ended(ended) => ended.run.attempt + 1,
        }
    }

    /// A new run begins.
    pub(crate) fn begin(&mut self, run: Run, hook: bool) {
        if let Phase::Ended(ended) = std::mem::replace(&mut self.phase, Phase::Running(run)) {
            self.previous = Some(ended);
        }
        self.waiting = None;
        self.retry_at = None;
        self.hook_pending = hook;
        self.startup_done = false;
        self.probe_ready = false;
        self.stopping = false;
    }

    /// The current run is over; when it may start again follows from how long it ran.
    pub(crate) fn end(&mut self, exit: Exit, message: Option<String>, now: Instant) {
        let Phase::Running(run) = &self.phase else { return };
        let ran = exit.at.duration_since(run.started_at).try_into().unwrap_or_default();
        if self.role != Role::Ephemeral {
            let wait = self.backoff.after(ran);
            self.retry_at = Some(now + wait);
            self.waiting = (!wait.is_zero()).then(|| Waiting {
                reason: "CrashLoopBackOff".into(),
                message: format!("back-off {}s restarting failed container={}", wait.as_secs(), self.name),
            });
        }
        self.phase = Phase::Ended(Ended {
            run: run.clone(),
            exit,
            message,
        });
        self.hook_pending = false;
        self.stopping = false;
    }
}
