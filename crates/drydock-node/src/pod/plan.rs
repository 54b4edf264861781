//! What a pod needs next. Pure: from the state of its containers to what to start and what to stop.

use super::unit::{Phase, Role, Unit};
use std::time::Instant;

/// `restartPolicy` of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// How a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
}

/// What to do now. Indices are those of the containers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) start: Option<usize>,
    pub(crate) stop: Vec<usize>,
    /// Look again then, even if nothing happens.
    pub(crate) wake: Option<Instant>,
    pub(crate) outcome: Option<Outcome>,
}

impl Plan {
    fn start_when_due(&mut self, index: usize, unit: &Unit, now: Instant) {
        match unit.retry_at {
            Some(at) if at > now => self.wake = Some(self.wake.map_or(at, |w| w.min(at))),
            _ if self.start.is_none() => self.start = Some(index),
            _ => {}
        }
    }
}

fn is_new(unit: &Unit) -> bool {
    matches!(unit.phase, Phase::New)
}

/// Whether every init container has done its part: ended well, or (sidecars) is up.
pub(crate) fn initialized(units: &[Unit]) -> bool {
    let done = |u: &Unit| match u.role {
        Role::Init => u.ended().is_some_and(|e| e.exit.code == 0),
        Role::Sidecar => u.started(),
        Role::Main | Role::Ephemeral => true,
    };
    mains_begun(units) || units.iter().all(done)
}

/// Once a main container has run, init containers are history.
pub(crate) fn mains_begun(units: &[Unit]) -> bool {
    units.iter().any(|u| u.role == Role::Main && !is_new(u))
}

/// The next step of a pod that should run.
pub(crate) fn next(units: &[Unit], policy: Policy, now: Instant) -> Plan {
    let mut plan = Plan::default();
    if mains_begun(units) {
        run_mains(units, policy, now, &mut plan);
    } else {
        initialize(units, policy, now, &mut plan);
    }
    if plan.stop.is_empty() && plan.outcome.is_none() {
        let added = |u: &Unit| u.role == Role::Ephemeral && is_new(u);
        for (index, unit) in units.iter().enumerate().filter(|(_, u)| added(u)) {
            plan.start_when_due(index, unit, now);
        }
    }
    plan
}

/// Init containers in their order, then the first of the others.
fn initialize(units: &[Unit], policy: Policy, now: Instant, plan: &mut Plan) {
    let before = |u: &Unit| matches!(u.role, Role::Init | Role::Sidecar);
    for (index, unit) in units.iter().enumerate().filter(|(_, u)| before(u)) {
        match (&unit.phase, unit.role) {
            (Phase::Ended(e), Role::Init) if e.exit.code == 0 => continue,
            (Phase::Ended(_), Role::Init) if policy == Policy::Never => {
                return finish(units, Outcome::Failed, plan);
            }
            (Phase::Running(_), Role::Sidecar) if unit.started() => continue,
            (Phase::Running(_), _) => return,
            _ => return plan.start_when_due(index, unit, now),
        }
    }
    begin_mains(units, now, plan);
}

/// Main containers start in order, each after the postStart hook of the one before.
fn begin_mains(units: &[Unit], now: Instant, plan: &mut Plan) {
    for (index, unit) in units.iter().enumerate().filter(|(_, u)| u.role == Role::Main) {
        if is_new(unit) {
            plan.start_when_due(index, unit, now);
            // One that cannot start yet does not hold up the others.
            if plan.start.is_some() {
                return;
            }
        } else if unit.hook_pending {
            return;
        }
    }
}

fn run_mains(units: &[Unit], policy: Policy, now: Instant, plan: &mut Plan) {
    let over = |u: &Unit| u.ended().is_some_and(|e| !policy.restarts(e.exit.code));
    let mains = || units.iter().filter(|u| u.role == Role::Main);
    if mains().all(over) {
        let failed = mains().any(|u| u.ended().is_some_and(|e| e.exit.code != 0));
        finish(units, if failed { Outcome::Failed } else { Outcome::Succeeded }, plan);
        return;
    }
    begin_mains(units, now, plan);
    for (index, unit) in units.iter().enumerate() {
        let again = match unit.role {
            Role::Init | Role::Ephemeral => false,
            Role::Sidecar => unit.ended().is_some(),
            Role::Main => unit.ended().is_some() && !over(unit),
        };
        if again {
            plan.start_when_due(index, unit, now);
        }
    }
}

/// The pod's work is done: what still runs is ended, then the outcome stands.
fn finish(units: &[Unit], outcome: Outcome, plan: &mut Plan) {
    plan.stop = stops(units);
    if units.iter().all(|u| u.running().is_none()) {
        plan.outcome = Some(outcome);
    }
}

/// What to end next when a pod has to go: everything but sidecars at once, then sidecars one by one, last first.
pub(crate) fn stops(units: &[Unit]) -> Vec<usize> {
    let running = |role: fn(Role) -> bool| {
        units
            .iter()
            .enumerate()
            .filter(move |(_, u)| role(u.role) && u.running().is_some())
    };
    let others: Vec<usize> = running(|r| r != Role::Sidecar).map(|(i, _)| i).collect();
    let chosen = if others.is_empty() {
        running(|r| r == Role::Sidecar)
            .next_back()
            .map(|(i, _)| i)
            .into_iter()
            .collect()
    } else {
        others
    };
    chosen.into_iter().filter(|i| !units[*i].stopping).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::unit::Run;
    use crate::runtime::Exit;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    /// `"i:0 s:r m:n e:n"`: role, then n(ew), r(unning), R(unning, startup pending), h(ook pending) or an exit code.
    fn units(text: &str) -> Vec<Unit> {
        let containers = |kinds: &str| -> Vec<_> {
            let of = |w: &str| {
                let startup = w.ends_with('R').then(|| json!({"tcpSocket": {"port": 1}}));
                json!({"name": "c", "restartPolicy": w.starts_with('s').then_some("Always"), "startupProbe": startup})
            };
            text.split(' ')
                .filter(|w| w.starts_with(|c| kinds.contains(c)))
                .map(of)
                .collect()
        };
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {}, "spec": {"initContainers": containers("is"), "containers": containers("m"), "ephemeralContainers": containers("e")}}),
        )
        .unwrap();
        let mut units = Unit::all(&pod);
        for (unit, word) in units.iter_mut().zip(text.split(' ')) {
            let state = word.split(':').nth(1).unwrap();
            if state != "n" {
                unit.begin(
                    Run {
                        attempt: 0,
                        id: String::new(),
                        image_id: String::new(),
                        started_at: jiff::Timestamp::UNIX_EPOCH,
                        stop_signal: String::new(),
                    },
                    state == "h",
                );
            }
            if let Ok(code) = state.parse() {
                unit.end(
                    Exit {
                        code,
                        out_of_memory: false,
                        never_ran: false,
                        at: jiff::Timestamp::UNIX_EPOCH,
                    },
                    None,
                    Instant::now(),
                );
            }
        }
        units
    }

    fn check(state: &str, policy: Policy, start: Option<usize>, stop: &[usize], outcome: Option<Outcome>) {
        let plan = next(
            &units(state),
            policy,
            Instant::now() + std::time::Duration::from_secs(1),
        );
        assert_eq!(
            (plan.start, plan.stop.as_slice(), plan.outcome),
            (start, stop, outcome),
            "{state}"
        );
    }

    #[test]
    fn init_containers_one_after_the_other() {
        check("i:n i:n m:n", Policy::Always, Some(0), &[], None);
        check("i:r i:n m:n", Policy::Always, None, &[], None);
        check("i:0 i:n m:n", Policy::Always, Some(1), &[], None);
        check("i:1 i:n m:n", Policy::Always, Some(0), &[], None);
        check("i:1 i:n m:n", Policy::Never, None, &[], Some(Outcome::Failed));
        check("i:0 i:0 m:n m:n", Policy::Always, Some(2), &[], None);
    }

    #[test]
    fn sidecars_gate_what_follows_and_end_last() {
        check("s:R m:n", Policy::Always, None, &[], None);
        check("s:r m:n", Policy::Always, Some(1), &[], None);
        check("s:1 m:r", Policy::Never, Some(0), &[], None);
        check("s:r s:r m:0", Policy::Never, None, &[1], None);
        check("s:r s:0 m:0", Policy::Never, None, &[0], None);
        check("s:0 s:0 m:0", Policy::Never, None, &[], Some(Outcome::Succeeded));
        check("s:r i:1 m:n", Policy::Never, None, &[0], None);
    }

    #[test]
    fn mains_restart_by_policy_and_wait_for_hooks() {
        check("m:h m:n", Policy::Always, None, &[], None);
        check("m:r m:n", Policy::Always, Some(1), &[], None);
        check("m:0 m:r", Policy::Always, Some(0), &[], None);
        check("m:0 m:r", Policy::OnFailure, None, &[], None);
        check("m:0 m:3", Policy::Never, None, &[], Some(Outcome::Failed));
        check("m:0 m:3", Policy::OnFailure, Some(1), &[], None);
    }

    #[test]
    fn ephemeral_containers_start_once_and_hold_nothing_up() {
        check("m:r e:n", Policy::Always, Some(1), &[], None);
        check("i:r m:n e:n", Policy::Always, Some(2), &[], None);
        check("m:r e:1", Policy::Always, None, &[], None);
        check("m:0 e:r", Policy::Never, None, &[1], None);
        check("m:0 e:1", Policy::Never, None, &[], Some(Outcome::Succeeded));
        check("m:0 e:n", Policy::Never, None, &[], Some(Outcome::Succeeded));
    }

    /// One step of a random life: whatever the plan starts or stops happens, and running containers end at random.
    fn live(units: &mut [Unit], plan: &Plan, choice: u8, now: Instant) {
        let exit = |code| Exit {
            code,
            out_of_memory: false,
            never_ran: false,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        if let Some(index) = plan.start {
            let attempt = units[index].next_attempt();
            let run = Run {
                attempt,
                id: String::new(),
                image_id: String::new(),
                started_at: jiff::Timestamp::UNIX_EPOCH,
                stop_signal: String::new(),
            };
            units[index].begin(run, choice.is_multiple_of(3));
        }
        for index in &plan.stop {
            units[*index].end(exit(143), None, now);
        }
        let chosen = usize::from(choice) % units.len();
        match choice / 64 {
            0 => units[chosen].hook_pending = false,
            1 => units[chosen].startup_done = true,
            2 => units[chosen].end(exit(0), None, now),
            _ => units[chosen].end(exit(1), None, now),
        }
    }

    proptest::proptest! {
        /// In any life: mains only after initialisation, never a start of something that runs, an outcome only when
        /// nothing runs, and with `Never` no second run of a main.
        #[test]
        fn any_life_is_orderly(choices in proptest::collection::vec(0u8..=255, 1..200), policy in 0u8..3) {
            let policy = [Policy::Always, Policy::OnFailure, Policy::Never][usize::from(policy)];
            let mut units = units("i:n s:n i:n m:n m:n");
            let mut now = Instant::now();
            for choice in choices {
                now += std::time::Duration::from_secs(400);
                let plan = next(&units, policy, now);
                if let Some(index) = plan.start {
                    assert!(units[index].running().is_none());
                    assert!(units[index].role != Role::Main || initialized(&units));
                    assert!(policy != Policy::Never || units[index].role != Role::Main || is_new(&units[index]));
                }
                if plan.outcome.is_some() {
                    assert!(units.iter().all(|u| u.running().is_none()) && plan.start.is_none());
                    return Ok(());
                }
                live(&mut units, &plan, choice, now);
            }
        }
    }

    #[test]
    fn a_second_failure_waits() {
        let mut units = units("m:1");
        let run = Run {
            attempt: 1,
            id: String::new(),
            image_id: String::new(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            stop_signal: String::new(),
        };
        units[0].begin(run, false);
        let now = Instant::now();
        units[0].end(
            Exit {
                code: 1,
                out_of_memory: false,
                never_ran: false,
                at: jiff::Timestamp::UNIX_EPOCH,
            },
            None,
            now,
        );
        let plan = next(&units, Policy::Always, now);
        assert_eq!((plan.start, plan.wake.map(|w| (w - now).as_secs())), (None, Some(10)));
        assert_eq!(units[0].waiting.as_ref().unwrap().reason, "CrashLoopBackOff");
    }
}
