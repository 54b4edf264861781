//! The pod's status as kubelet writes it. Pure.

use super::plan::{Outcome, initialized, mains_begun};
use super::unit::{Ended, Phase, Role, Unit, Waiting};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What the status says besides the containers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) host_ip: String,
    pub(crate) pod_ip: Option<String>,
    pub(crate) sandbox_ready: bool,
    pub(crate) outcome: Option<Outcome>,
    /// Why the pod as a whole failed (`DeadlineExceeded`, `Evicted`), with a message.
    pub(crate) reason: Option<(String, String)>,
    pub(crate) started_at: Option<Timestamp>,
    /// Restarts may still happen; false once the pod is being ended.
    pub(crate) alive: bool,
}

/// The status to write. Conditions of others (readiness gates, PodScheduled) are kept from the pod as read.
pub(crate) fn status(pod: &Pod, units: &[Unit], facts: &Facts, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let ready_units = units.iter().filter(|u| u.role == Role::Main || u.role == Role::Sidecar);
    let unready: Vec<&str> = ready_units.filter(|u| !u.ready()).map(|u| u.name.as_str()).collect();
    let begun = initialized(units);
    let of = |role: fn(Role) -> bool| units.iter().filter(move |u| role(u.role)).collect::<Vec<&Unit>>();
    let inits = of(|r| matches!(r, Role::Init | Role::Sidecar));
    let mains = of(|r| r == Role::Main);
    let added = of(|r| r == Role::Ephemeral);
    let phase = match facts.outcome {
        Some(Outcome::Succeeded) => "Succeeded",
        Some(Outcome::Failed) => "Failed",
        None if !mains_begun(units) || mains.iter().any(|u| matches!(u.phase, Phase::New)) => "Pending",
        None => "Running",
    };
    let mut conditions = Conditions {
        old: old.conditions.clone().unwrap_or_default(),
        now,
    };
    let over = facts.outcome.map(|o| {
        if o == Outcome::Succeeded {
            "PodCompleted"
        } else {
            "PodFailed"
        }
    });
    conditions.set("PodReadyToStartContainers", facts.sandbox_ready, None);
    let not_initialized: Vec<&str> = inits
        .iter()
        .filter(|u| {
            if u.role == Role::Init {
                u.ended().is_none_or(|e| e.exit.code != 0)
            } else {
                !u.started()
            }
        })
        .map(|u| u.name.as_str())
        .collect();
    let why_init = (!begun).then(|| {
        (
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", not_initialized.join(" ")),
        )
    });
    conditions.set(
        "Initialized",
        begun,
        if begun && over == Some("PodCompleted") {
            Some(("PodCompleted", String::new()))
        } else {
            why_init
        },
    );
    let ready = unready.is_empty() && over.is_none();
    let why = match over {
        Some(reason) => Some((reason, String::new())),
        None if !ready => Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        )),
        None => None,
    };
    let gates: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten())
        .map(|g| g.condition_type.clone())
        .filter(|g| !conditions.is_true(g))
        .collect();
    let why_ready = match gates.first() {
        Some(gate) if ready => Some((
            "ReadinessGatesNotReady",
            format!("corresponding condition of pod readiness gate \"{gate}\" does not exist."),
        )),
        _ => why.clone(),
    };
    conditions.set("Ready", ready && gates.is_empty(), why_ready);
    conditions.set("ContainersReady", ready, why);
    conditions.keep("PodScheduled", true);
    PodStatus {
        phase: Some(phase.into()),
        conditions: Some(conditions.old),
        host_ip: Some(facts.host_ip.clone()),
        host_ips: Some(vec![HostIP {
            ip: facts.host_ip.clone(),
        }]),
        pod_ip: facts.pod_ip.clone(),
        pod_ips: facts.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: facts.started_at.map(Time),
        init_container_statuses: (!inits.is_empty())
            .then(|| inits.iter().map(|u| container(u, facts, begun)).collect()),
        container_statuses: Some(mains.iter().map(|u| container(u, facts, begun)).collect()),
        ephemeral_container_statuses: (!added.is_empty())
            .then(|| added.iter().map(|u| container(u, facts, begun)).collect()),
        qos_class: old.qos_class,
        reason: facts.reason.as_ref().map(|r| r.0.clone()),
        message: facts.reason.as_ref().map(|r| r.1.clone()).filter(|m| !m.is_empty()),
        ..PodStatus::default()
    }
}

fn container(unit: &Unit, facts: &Facts, begun: bool) -> ContainerStatus {
    let waiting = |w: &Waiting| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(w.reason.clone()),
            message: Some(w.message.clone()).filter(|m| !m.is_empty()),
        }),
        ..Default::default()
    };
    let terminated = |e: &Ended| ContainerState {
        terminated: Some(terminated(e)),
        ..Default::default()
    };
    let (state, last) = match &unit.phase {
        Phase::New => {
            let pending = match unit.role {
                Role::Ephemeral => "ContainerCreating",
                Role::Main if begun => "ContainerCreating",
                _ => "PodInitializing",
            };
            let first = Waiting {
                reason: pending.into(),
                message: String::new(),
            };
            (waiting(unit.waiting.as_ref().unwrap_or(&first)), None)
        }
        Phase::Running(run) => (
            ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: Some(Time(run.started_at)),
                }),
                ..Default::default()
            },
            unit.previous.as_ref(),
        ),
        // A run that will be followed by another is "last"; the present is the wait.
        Phase::Ended(ended) => match &unit.waiting {
            Some(w) if facts.alive && facts.outcome.is_none() && restarts(unit, ended) => (waiting(w), Some(ended)),
            _ => (terminated(ended), unit.previous.as_ref()),
        },
    };
    let run = match &unit.phase {
        Phase::New => None,
        Phase::Running(run) => Some(run),
        Phase::Ended(ended) => Some(&ended.run),
    };
    let done = unit.role == Role::Init && unit.ended().is_some_and(|e| e.exit.code == 0);
    ContainerStatus {
        name: unit.name.clone(),
        image: unit.image.clone(),
        image_id: run.map(|r| r.image_id.clone()).unwrap_or_default(),
        container_id: run.map(|r| format!("drydock://{}", r.id)),
        ready: match unit.role {
            Role::Init => done,
            Role::Ephemeral => false,
            _ => unit.ready(),
        },
        started: (unit.role != Role::Ephemeral).then(|| unit.started()),
        restart_count: run.map_or(0, |r| i32::try_from(r.attempt).unwrap_or(i32::MAX)),
        state: Some(state),
        last_state: last.map(terminated),
        ..ContainerStatus::default()
    }
}

fn restarts(unit: &Unit, ended: &Ended) -> bool {
    match unit.role {
        Role::Init => ended.exit.code != 0,
        Role::Ephemeral => false,
        _ => true,
    }
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    let reason = match ended.exit.code {
        0 => "Completed",
        _ if ended.exit.out_of_memory => "OOMKilled",
        _ if ended.exit.never_ran => "StartError",
        _ => "Error",
    };
    ContainerStateTerminated {
        container_id: Some(format!("drydock://{}", ended.run.id)),
        exit_code: ended.exit.code,
        reason: Some(reason.into()),
        message: ended.message.clone(),
        started_at: Some(Time(ended.run.started_at)),
        finished_at: Some(Time(ended.exit.at)),
        signal: None,
    }
}

struct Conditions {
    old: Vec<PodCondition>,
    now: Timestamp,
}

impl Conditions {
    fn is_true(&self, kind: &str) -> bool {
        self.old.iter().any(|c| c.type_ == kind && c.status == "True")
    }

    /// Sets a condition of kubelet's own; the transition time only moves with the status.
    fn set(&mut self, kind: &str, value: bool, why: Option<(&str, String)>) {
        let status = if value { "True" } else { "False" }.to_string();
        let index = match self.old.iter().position(|c| c.type_ == kind) {
            Some(index) => index,
            None => {
                self.old.push(PodCondition {
                    type_: kind.into(),
                    ..PodCondition::default()
                });
                self.old.len() - 1
            }
        };
        let condition = &mut self.old[index];
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
        }
        condition.status = status;
        condition.reason = why.as_ref().map(|w| w.0.to_string());
        condition.message = why.map(|w| w.1).filter(|m| !m.is_empty());
    }

    /// Sets a condition only if nobody else has.
    fn keep(&mut self, kind: &str, value: bool) {
        if !self.old.iter().any(|c| c.type_ == kind) {
            self.set(kind, value, None);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::unit::Run;
    use crate::runtime::Exit;
    use serde_json::json;
    use std::time::Instant;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "i", "image": "x"}], "containers": [{"name": "c", "image": "y", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap()
    }

    fn run(attempt: u32) -> Run {
        Run {
            attempt,
            id: "id".into(),
            image_id: "img".into(),
            started_at: Timestamp::UNIX_EPOCH,
            stop_signal: String::new(),
        }
    }

    fn exit(code: i32) -> Exit {
        Exit {
            code,
            out_of_memory: false,
            never_ran: false,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn check(units: &[Unit], facts: &Facts, want: serde_json::Value) {
        let status = serde_json::to_value(status(&pod(), units, facts, Timestamp::UNIX_EPOCH)).unwrap();
        let of = |kind: &str| {
            status["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .find(|c| c["type"] == kind)
                .unwrap()["status"]
                .clone()
        };
        let got = json!([
            status["phase"],
            of("Initialized"),
            of("Ready"),
            status["initContainerStatuses"][0]["state"],
            status["containerStatuses"][0]["state"]
        ]);
        assert_eq!(got, want);
    }

    #[test]
    fn from_pending_to_ready_to_crash_loop() {
        let (mut units, facts) = (
            Unit::all(&pod()),
            Facts {
                alive: true,
                ..Facts::default()
            },
        );
        let initializing = json!({"waiting": {"reason": "PodInitializing"}});
        check(
            &units,
            &facts,
            json!(["Pending", "False", "False", initializing, initializing]),
        );
        units[0].begin(run(0), false);
        units[0].end(exit(0), None, Instant::now());
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed", "containerID": "drydock://id", "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z"}});
        check(
            &units,
            &facts,
            json!(["Pending", "True", "False", done, {"waiting": {"reason": "ContainerCreating"}}]),
        );
        units[1].begin(run(0), false);
        let running = json!({"running": {"startedAt": "1970-01-01T00:00:00Z"}});
        check(&units, &facts, json!(["Running", "True", "False", done, running]));
        units[1].probe_ready = true;
        check(&units, &facts, json!(["Running", "True", "True", done, running]));
        units[1].end(exit(1), None, Instant::now());
        units[1].begin(run(1), false);
        units[1].end(exit(1), None, Instant::now());
        let waiting =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=c"}});
        check(&units, &facts, json!(["Running", "True", "False", done, waiting]));
    }

    #[test]
    fn transition_times_move_with_the_status_only() {
        let status = status(&pod(), &Unit::all(&pod()), &Facts::default(), Timestamp::UNIX_EPOCH);
        let ready = status
            .conditions
            .unwrap()
            .into_iter()
            .find(|c| c.type_ == "Ready")
            .unwrap();
        assert_eq!(
            ready.last_transition_time.unwrap().0.to_string(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(ready.message.unwrap(), "containers with unready status: [c]");
    }
}
