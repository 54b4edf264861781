//! A rollout is walked against a toy cluster in which every action is carried out at once and pods become available in
//! an order that the test chooses.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use proptest::prelude::*;
use serde_json::json;

use super::*;

struct Toy {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    created: i64,
    log: Vec<String>,
}

fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    }))
    .unwrap()
}

impl Toy {
    fn new(deployment: Deployment) -> Self {
        Toy {
            deployment,
            sets: BTreeMap::new(),
            created: 0,
            log: Vec::new(),
        }
    }

    fn spec(&mut self, change: impl FnOnce(&mut k8s_openapi::api::apps::v1::DeploymentSpec)) {
        change(self.deployment.spec.as_mut().unwrap());
        *self.deployment.metadata.generation.get_or_insert_default() += 1;
    }

    fn image(&mut self, image: &str) {
        let image = image.to_owned();
        self.spec(|spec| spec.template.spec.as_mut().unwrap().containers[0].image = Some(image));
    }

    /// One decision, carried out. False when nothing was to be done.
    fn step(&mut self) -> bool {
        let sets: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        let alive = self.sets.values().filter(|set| numbers::actual(set) > 0);
        let running = alive.filter_map(|set| set.metadata.uid.clone()).collect();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let actions = decide(&Seen {
            deployment: &self.deployment,
            replica_sets: &sets,
            running: &running,
            now,
        });
        let mut changed = false;
        for action in actions {
            changed |= !matches!(action, Action::Requeue(_));
            match action {
                Action::Create(mut set) => {
                    self.created += 1;
                    let name = meta::name(&set.metadata).to_owned();
                    set.metadata.uid = Some(name.clone());
                    set.metadata.creation_timestamp = Some(meta::time(Timestamp::from_second(self.created).unwrap()));
                    self.sets.insert(name, *set);
                }
                Action::Update(set) => {
                    self.sets.insert(meta::name(&set.metadata).to_owned(), *set);
                }
                Action::Delete(set) => {
                    self.sets.remove(meta::name(&set.metadata));
                }
                Action::Annotate(deployment) => self.deployment.metadata = deployment.metadata,
                Action::Status(status) => self.deployment.status = Some(*status),
                Action::Scaled(message) => self.log.push(message),
                Action::Warn(reason, message) => self.log.push(format!("{reason}: {message}")),
                Action::Requeue(_) => {}
            }
        }
        changed
    }

    /// The ReplicaSet controller and the node: each set gets nearer to its size by one pod.
    fn pods_move(&mut self, name: &str) -> bool {
        let Some(set) = self.sets.get_mut(name) else {
            return false;
        };
        let size = numbers::desired(set);
        let generation = set.metadata.generation;
        let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
        status.observed_generation = generation.or(Some(0));
        let before = (status.replicas, status.available_replicas.unwrap_or(0));
        status.replicas = size;
        let available = before.1.min(size);
        let available = if available < size { available + 1 } else { available };
        status.available_replicas = Some(available);
        status.ready_replicas = Some(available);
        before != (size, available)
    }

    fn names(&self) -> Vec<String> {
        self.sets.keys().cloned().collect()
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut moved = self.step();
            for name in self.names() {
                moved |= self.pods_move(&name);
            }
            if !moved {
                return;
            }
        }
        panic!("does not settle: {:#?}", self.log);
    }

    /// `image=size/available` of each set, by revision.
    fn picture(&self) -> String {
        let mut sets: Vec<_> = self.sets.values().collect();
        sets.sort_by_key(|set| revision::of(set));
        let line = |set: &&ReplicaSet| {
            let template = set
                .spec
                .as_ref()
                .and_then(|s| s.template.as_ref())
                .and_then(|t| t.spec.as_ref())
                .unwrap();
            let image = template.containers[0].image.clone().unwrap_or_default();
            format!(
                "r{} {image}={}/{}",
                revision::of(set),
                numbers::desired(set),
                numbers::available(set)
            )
        };
        sets.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    /// The log with the hashes of names replaced by what they stand for.
    fn told(&mut self) -> String {
        let mut text = std::mem::take(&mut self.log).join("\n");
        for (name, set) in &self.sets {
            let template = set
                .spec
                .as_ref()
                .and_then(|s| s.template.as_ref())
                .and_then(|t| t.spec.as_ref())
                .unwrap();
            text = text.replace(name, template.containers[0].image.as_deref().unwrap_or_default());
        }
        text
    }
}

#[test]
fn first_rollout_makes_one_set_and_completes() {
    let mut toy = Toy::new(deployment(3, "25%", "25%"));
    toy.settle();
    assert_eq!(toy.picture(), "r1 v1=3/3");
    assert_eq!(toy.told(), "Scaled up replica set v1 from 0 to 3");
    let status = toy.deployment.status.clone().unwrap();
    assert_eq!(
        (status.replicas, status.updated_replicas, status.available_replicas),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!(
        (status.unavailable_replicas, status.observed_generation),
        (None, Some(1))
    );
    let told: Vec<_> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| format!("{}={}", c.type_, c.reason.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        told,
        [
            "Available=MinimumReplicasAvailable",
            "Progressing=NewReplicaSetAvailable"
        ]
    );
    assert_eq!(
        revision::annotation(&toy.deployment.metadata, revision::REVISION),
        Some("1")
    );
}

#[test]
fn update_of_a_single_replica_goes_up_before_down() {
    let mut toy = Toy::new(deployment(1, "25%", "25%"));
    toy.settle();
    toy.told();
    toy.image("v2");
    toy.settle();
    assert_eq!(
        toy.told(),
        "Scaled up replica set v2 from 0 to 1\nScaled down replica set v1 from 1 to 0"
    );
    assert_eq!(toy.picture(), "r1 v1=0/0, r2 v2=1/1");
}

#[test]
fn undo_uses_the_old_set_again_under_a_new_revision() {
    let mut toy = Toy::new(deployment(2, "1", "0"));
    for image in ["v1", "v2", "v1"] {
        toy.image(image);
        toy.settle();
    }
    assert_eq!(toy.picture(), "r2 v2=0/0, r3 v1=2/2");
    let set = toy.sets.values().find(|set| revision::of(set) == 3).unwrap();
    assert_eq!(
        revision::annotation(&set.metadata, "deployment.kubernetes.io/revision-history"),
        Some("1")
    );
}

#[test]
fn history_is_kept_within_its_limit() {
    let mut toy = Toy::new(deployment(1, "1", "0"));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        toy.image(image);
        toy.settle();
    }
    assert_eq!(toy.picture(), "r3 v3=0/0, r4 v4=0/0, r5 v5=1/1");
}

#[test]
fn paused_deployment_scales_but_does_not_roll() {
    let mut toy = Toy::new(deployment(2, "1", "0"));
    toy.settle();
    toy.spec(|spec| spec.paused = Some(true));
    toy.image("v2");
    toy.spec(|spec| spec.replicas = Some(4));
    toy.settle();
    assert_eq!(toy.picture(), "r1 v1=4/4");
    toy.spec(|spec| spec.paused = None);
    toy.settle();
    assert_eq!(toy.picture(), "r1 v1=0/0, r2 v2=4/4");
}

#[test]
fn recreate_waits_until_the_old_pods_have_ended() {
    let mut toy = Toy::new(deployment(2, "1", "0"));
    toy.spec(|spec| spec.strategy.as_mut().unwrap().type_ = Some("Recreate".into()));
    toy.settle();
    toy.image("v2");
    while toy.step() {}
    assert_eq!(toy.picture(), "r1 v1=0/2", "the old pods have not ended yet");
    toy.settle();
    assert_eq!(toy.picture(), "r1 v1=0/0, r2 v2=2/2");
}

#[test]
fn a_rollout_that_does_not_progress_is_called_stuck() {
    let mut toy = Toy::new(deployment(1, "1", "0"));
    while toy.step() {}
    let status = toy.deployment.status.clone().unwrap();
    let mut seen_later = toy.deployment.clone();
    seen_later.status = Some(status);
    let sets: Vec<_> = toy.sets.values().cloned().map(Arc::new).collect();
    let now = Timestamp::from_second(1_000_601).unwrap();
    let actions = decide(&Seen {
        deployment: &seen_later,
        replica_sets: &sets,
        running: &BTreeSet::new(),
        now,
    });
    let Some(Action::Status(status)) = actions.first() else {
        panic!("{actions:?}")
    };
    let condition = conditions::find(status, "Progressing").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_deref()),
        ("False", Some("ProgressDeadlineExceeded"))
    );
}

#[test]
fn selecting_everything_is_refused() {
    let mut toy = Toy::new(deployment(1, "1", "0"));
    toy.spec(|spec| spec.selector = Default::default());
    toy.step();
    assert!(toy.sets.is_empty());
    assert!(toy.told().starts_with("SelectingAll"));
}

proptest! {
    /// In whatever order pods and decisions come, and whatever is edited meanwhile, a rollout stays within its bounds
    /// and ends with the last template at the last size.
    #[test]
    fn stays_within_bounds_and_converges(
        replicas in 1i32..6,
        bounds in prop::sample::select(vec![("25%", "25%"), ("1", "0"), ("0", "1"), ("100%", "50%"), ("2", "2")]),
        events in prop::collection::vec(0u8..12, 0..80),
    ) {
        let mut toy = Toy::new(deployment(replicas, bounds.0, bounds.1));
        toy.settle();
        let mut version = 1;
        let mut scaled = false;
        for event in events {
            match event {
                0 => { version += 1; toy.image(&format!("v{version}")); }
                1 => { scaled = true; toy.spec(|spec| spec.replicas = Some(i32::from(event) + 2)); }
                2..=6 => { toy.step(); }
                n => {
                    let names = toy.names();
                    toy.pods_move(&names[usize::from(n) % names.len()].clone());
                }
            }
            if !scaled {
                let all: Vec<_> = toy.sets.values().cloned().map(Arc::new).collect();
                let limit = numbers::bounds(&toy.deployment);
                prop_assert!(numbers::sum(&all, numbers::desired) <= replicas + limit.surge, "{}", toy.picture());
                prop_assert!(numbers::sum(&all, numbers::available) >= replicas - limit.unavailable, "{}", toy.picture());
            }
        }
        toy.settle();
        let last = toy.picture();
        let wanted = numbers::wanted(&toy.deployment);
        prop_assert!(last.ends_with(&format!("v{version}={wanted}/{wanted}")), "{last}");
        prop_assert!(!toy.step(), "something is written although nothing changes");
    }
}
