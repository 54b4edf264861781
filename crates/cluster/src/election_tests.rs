//! Who holds the lock, step by step; and hours of several revisions that want it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;
use crate::budget::Writer;
use crate::events::Events;
use crate::fake;

fn check(holder: Option<(&str, &str)>, unchanged: u64, default: Option<&str>, expected: Step) {
    let record = holder.map(|(identity, key)| Record {
        holder_identity: identity.into(),
        holder_key: key.into(),
        lease_duration_seconds: 30,
        ..Record::default()
    });
    let me = candidate("me", "canary");
    let lock = record.as_ref().map_or(Lock::Unheld, Lock::Held);
    assert_eq!(decide(lock, Duration::from_secs(unchanged), &me, default), expected);
}

#[test]
fn the_lock_is_taken_when_free_expired_or_ours_by_right() {
    check(None, 0, None, Step::Acquire);
    check(Some(("", "")), 0, None, Step::Acquire);
    check(Some(("me", "canary")), 60, None, Step::Renew);
    check(Some(("other", "default")), 29, None, Step::Wait);
    check(Some(("other", "default")), 31, None, Step::Acquire);
    check(Some(("other", "default")), 0, Some("canary"), Step::Steal);
    check(Some(("other", "default")), 0, Some("default"), Step::Wait);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_read_may_have_a_holder() {
    let api = fake::Api::default();
    let path = format!("/api/v1/namespaces/istio-system/configmaps/{NAMESPACE_CONTROLLER}");
    let annotated = |text: &str| {
        let metadata = serde_json::json!({ "name": NAMESPACE_CONTROLLER, "annotations": { RECORD: text } });
        api.put(
            &path,
            serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }),
        );
    };
    annotated(r#"{"holderIdentity":7,"#);
    let client = api.client();
    // The default revision takes no lock of which it does not know whose it is, either.
    let default = watch::channel(Some("canary".to_owned())).1;
    let election = election(&client, candidate("me", "canary"), default);
    let mut run = Run::new(election, Api::namespaced(client, "istio-system"));
    for second in 0..3 {
        // Somebody renews it.
        annotated(&format!(r#"{{"renewed":{second},"#));
        assert_eq!(run.turn().await.ok(), Some(Turn::Follows));
        tokio::time::sleep(DURATION).await;
        assert_eq!(run.turn().await.ok(), Some(Turn::Follows));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        run.turn().await.ok(),
        Some(Turn::Holds),
        "nobody renewed it for its whole time"
    );
    assert_eq!(holder(&api).holder_identity, "me");
}

#[test]
fn the_record_reads_what_other_implementations_write() {
    let text = r#"{"holderIdentity":"istiod-x","holderKey":"default","leaseDurationSeconds":30,"acquireTime":"2026-01-01T00:00:00Z","renewTime":"2026-01-01T00:00:00Z","leaderTransitions":3}"#;
    let record: Record = serde_json::from_str(text).unwrap_or_default();
    assert_eq!((&*record.holder_identity, record.leader_transitions), ("istiod-x", 3));
}

fn candidate(identity: &str, revision: &str) -> Candidate {
    Candidate {
        identity: identity.into(),
        revision: revision.into(),
        namespace: "istio-system".into(),
    }
}

fn election(client: &Client, me: Candidate, default: watch::Receiver<Option<String>>) -> Election {
    let meter = Meter::new(Writer::Lease, Arc::default(), Events::new(client.clone(), &me.identity));
    Election {
        name: NAMESPACE_CONTROLLER,
        me,
        default,
        leads: watch::Sender::new(false),
        meter,
    }
}

fn holder(api: &fake::Api) -> Record {
    let lock = api.get(&format!(
        "/api/v1/namespaces/istio-system/configmaps/{NAMESPACE_CONTROLLER}"
    ));
    let text = lock.unwrap_or_default()["metadata"]["annotations"][RECORD].clone();
    serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_default_revision_takes_the_lock_and_the_other_notices() {
    let api = fake::Api::default();
    let client = api.client();
    let run = |identity: &str, revision: &str| {
        let default = watch::channel(Some("canary".to_owned())).1;
        let election = election(&client, candidate(identity, revision), default);
        let maps = Api::namespaced(client.clone(), "istio-system");
        Run::new(election, maps)
    };
    let (mut old, mut second, mut new) = (run("a", "default"), run("b", "default"), run("c", "canary"));
    assert_eq!(old.turn().await.ok(), Some(Turn::Holds), "nobody has it");
    assert_eq!(second.turn().await.ok(), Some(Turn::Follows), "held and fresh");
    assert_eq!(
        new.turn().await.ok(),
        Some(Turn::Holds),
        "the default revision may take it"
    );
    assert!(
        new.held.is_some_and(|held| held.leads_from > Instant::now() + RENEWAL),
        "and waits for the other"
    );
    assert_eq!(old.turn().await.ok(), Some(Turn::Follows), "it is gone");
    old.give_up().await;
    assert_eq!(
        holder(&api).holder_identity,
        "c",
        "who has lost the lock does not free it"
    );
    new.give_up().await;
    assert_eq!(second.turn().await.ok(), Some(Turn::Holds), "given up");
    assert_eq!(
        (&*holder(&api).holder_identity, holder(&api).leader_transitions),
        ("b", 3)
    );
}

/// What happens to one of the replicas, or to all.
#[derive(Clone, Debug)]
enum Fate {
    /// It ends in order and comes back as another pod.
    Restart(usize),
    /// It dies and comes back in the same pod.
    Kill(usize),
    /// It does not reach the API for so many seconds.
    Cut(usize, u64),
    /// Its writes are done but look failed for so many seconds.
    Lose(usize, u64),
    /// Another revision becomes the default, and one of the replicas learns so much later.
    Default(usize, usize, u64),
}

fn fates(replicas: usize) -> impl Strategy<Value = Vec<(u64, Fate)>> {
    let (who, long) = (0..replicas, 1u64..60);
    let fate = prop_oneof![
        who.clone().prop_map(Fate::Restart),
        who.clone().prop_map(Fate::Kill),
        (who.clone(), long.clone()).prop_map(|(who, long)| Fate::Cut(who, long)),
        (who.clone(), long.clone()).prop_map(|(who, long)| Fate::Lose(who, long)),
        (0usize..3, who, long).prop_map(|(which, who, late)| Fate::Default(which, who, late)),
    ];
    prop::collection::vec((0u64..180, fate), 1..24)
}

struct Replica {
    me: Candidate,
    line: fake::Line,
    default: watch::Sender<Option<String>>,
    ending: watch::Sender<bool>,
    leads: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(api: &fake::Api, me: Candidate, default: Option<String>) -> Self {
        let (line, default, ending) = (
            fake::Line::default(),
            watch::Sender::new(default),
            watch::Sender::new(false),
        );
        let client = api.client_on(line.clone());
        let election = election(&client, me.clone(), default.subscribe());
        let leads = election.leads.subscribe();
        let task = election.run(&client, ending.subscribe());
        Self {
            me,
            line,
            default,
            ending,
            leads,
            task,
        }
    }

    /// Whether it leads; the dead do not.
    fn leads(&self) -> bool {
        !self.task.is_finished() && *self.leads.borrow()
    }
}

/// Several revisions with two replicas each, for an hour.
struct Hour {
    api: fake::Api,
    revisions: usize,
    default: Option<String>,
    replicas: Vec<Replica>,
    leaders: usize,
}

impl Hour {
    fn new(revisions: usize) -> Self {
        let api = fake::Api::default();
        let start = |at: usize| {
            Replica::start(
                &api,
                candidate(&format!("pod-{at}"), &format!("r{}", at % revisions)),
                None,
            )
        };
        let replicas = (0..2 * revisions).map(start).collect();
        Self {
            api,
            revisions,
            default: None,
            replicas,
            leaders: 0,
        }
    }

    /// Lets time pass, and looks ten times a second.
    async fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let leaders: Vec<_> = self
                .replicas
                .iter()
                .filter(|r| r.leads())
                .map(|r| &r.me.identity)
                .collect();
            assert!(leaders.len() <= 1, "two leaders: {leaders:?}");
            self.leaders += leaders.len();
        }
    }

    async fn happen(&mut self, fate: Fate) {
        let replicas = self.replicas.len();
        match fate {
            Fate::Restart(who) => {
                let old = &mut self.replicas[who % replicas];
                old.ending.send_replace(true);
                let _ = (&mut old.task).await;
                let me = candidate(&format!("{}x", old.me.identity), &old.me.revision);
                *old = Replica::start(&self.api, me, self.default.clone());
            }
            Fate::Kill(who) => {
                let old = &mut self.replicas[who % replicas];
                old.task.abort();
                let _ = (&mut old.task).await;
                *old = Replica::start(&self.api, old.me.clone(), self.default.clone());
            }
            Fate::Cut(who, long) => {
                let line = self.replicas[who % replicas].line.clone();
                line.down.store(true, Relaxed);
                self.pass(long).await;
                line.down.store(false, Relaxed);
            }
            Fate::Lose(who, long) => {
                let line = self.replicas[who % replicas].line.clone();
                line.lossy.store(true, Relaxed);
                self.pass(long).await;
                line.lossy.store(false, Relaxed);
            }
            Fate::Default(which, late, long) => {
                self.default = Some(format!("r{}", which % self.revisions));
                for (at, replica) in self.replicas.iter().enumerate() {
                    if at != late % replicas {
                        replica.default.send_replace(self.default.clone());
                    }
                }
                self.pass(long).await;
                self.replicas[late % replicas]
                    .default
                    .send_replace(self.default.clone());
            }
        }
    }
}

async fn an_hour(revisions: usize, fates: Vec<(u64, Fate)>) {
    let start = Instant::now();
    let mut hour = Hour::new(revisions);
    hour.pass(1).await;
    assert_eq!(hour.leaders, 10, "a free lock has a leader at once");
    for (before, fate) in fates {
        hour.pass(before).await;
        hour.happen(fate).await;
    }
    // Whatever happened, the one who should lead leads soon, and goes on leading.
    hour.pass(120).await;
    hour.leaders = 0;
    let rest = 3600u64.saturating_sub(start.elapsed().as_secs()).max(120);
    hour.pass(rest).await;
    assert_eq!(hour.leaders as u64, rest * 10, "there is a leader all the time");
    if let Some(default) = &hour.default {
        let leader = hour.replicas.iter().find(|replica| replica.leads());
        assert_eq!(leader.map(|leader| &leader.me.revision), Some(default));
    }
    let writes = hour.api.writes();
    let same: Vec<_> = writes.iter().filter(|write| write.changes_nothing).collect();
    assert!(same.is_empty(), "{} writes change nothing: {:?}", same.len(), same[0]);
    // A renewal each time, and a few for each change of hands.
    let renewals = start.elapsed().as_millis() / RETRY.as_millis();
    let limit = renewals as usize * 5 / 4 + 100;
    assert!(
        writes.len() < limit,
        "{} writes; {renewals} renewals are enough",
        writes.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn revisions_do_not_take_the_lock_back_and_forth(revisions in 2usize..4, fates in fates(6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(|error| TestCaseError::fail(error.to_string()))?.block_on(an_hour(revisions, fates));
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_never_agree_on_the_default_do_not_keep_the_api_busy() {
    let api = fake::Api::default();
    let replicas: Vec<Replica> = ["r0", "r1"]
        .map(|revision| Replica::start(&api, candidate(revision, revision), Some(revision.to_owned())))
        .into();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3600) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(replicas.iter().filter(|replica| replica.leads()).count() <= 1);
    }
    let transitions = holder(&api).leader_transitions;
    assert!(transitions <= 3600 / DURATION.as_secs() + 2, "{transitions}");
    assert_eq!(
        api.paths("/apis/events.k8s.io"),
        Vec::<String>::new(),
        "no budget was used up"
    );
}
