//! Several revisions keep their webhooks, on one API.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::fake;

const VALIDATORS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const INJECTORS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
/// What istiod asks for to see whether its validator refuses.
const PROBES: &str = "/apis/networking.istio.io/v1/namespaces/istio-system/gateways";

/// A configuration of a revision, whose webhook calls `istiod-<revision>`.
fn configuration(kind: &str, name: &str, revision: &str) -> Value {
    let webhook = if kind == MUTATING {
        "rev.namespace.sidecar-injector.istio.io"
    } else {
        "rev.validation.istio.io"
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "labels": { "istio.io/rev": revision } },
        "webhooks": [{
            "name": webhook, "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": { "service": { "namespace": "istio-system", "name": format!("istiod-{revision}") } },
        }],
    })
}

fn endpoints(api: &fake::Api, revision: &str, ready: bool) {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices/{revision}");
    let labels = json!({ "kubernetes.io/service-name": format!("istiod-{revision}") });
    api.put(
        &path,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": revision, "namespace": "istio-system", "labels": labels },
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } }],
        }),
    );
}

struct Setup {
    api: fake::Api,
    authority: Current,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
    leads: watch::Sender<bool>,
}

impl Setup {
    fn new() -> Self {
        let root = ca::Authority::self_signed("cluster.local", jiff::Timestamp::now()).unwrap();
        Self {
            api: fake::Api::default(),
            authority: Current::new(root),
            ledger: Arc::default(),
            counters: Arc::default(),
            leads: watch::Sender::new(true),
        }
    }

    fn keep(&self, revision: &str) -> watch::Receiver<Option<Standing>> {
        self.keeper(revision, fake::Line::default()).run()
    }

    fn keeper(&self, revision: &str, line: fake::Line) -> Keeper {
        let client = self.api.client_on(line);
        Keeper {
            client: client.clone(),
            revision: revision.to_owned(),
            namespace: "istio-system".to_owned(),
            authority: self.authority.clone(),
            injection: true,
            validation: true,
            counters: self.counters.clone(),
            leads: self.leads.subscribe(),
            events: Events::new(client, revision),
            ledger: self.ledger.clone(),
        }
    }

    fn put(&self, collection: &str, configuration: Value) -> Value {
        let name = configuration["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.api.put(&format!("{collection}/{name}"), configuration)
    }

    fn policy(&self, validator: &str) -> Value {
        self.api.get(&format!("{VALIDATORS}/{validator}")).unwrap()["webhooks"][0]["failurePolicy"].clone()
    }

    fn bundle(&self, injector: &str) -> Value {
        self.api.get(&format!("{INJECTORS}/{injector}")).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone()
    }

    fn warnings(&self) -> Vec<String> {
        let paths = self.api.paths("/apis/events.k8s.io");
        let reason = |path: String| self.api.get(&path).unwrap()["reason"].as_str().unwrap().to_owned();
        paths.into_iter().map(reason).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn revisions_side_by_side_write_once_and_then_nothing_for_an_hour() {
    let setup = Setup::new();
    for revision in ["a", "b", "c"] {
        setup.api.put(
            &format!("{INJECTORS}/{revision}"),
            configuration(MUTATING, revision, revision),
        );
        setup.api.put(
            &format!("{VALIDATORS}/{revision}"),
            configuration(VALIDATING, revision, revision),
        );
        endpoints(&setup.api, revision, true);
        setup.keep(revision);
    }
    setup
        .api
        .put(&format!("{INJECTORS}/tag"), configuration(MUTATING, "tag", "a"));
    pass(60).await;
    let first = setup.api.writes();
    let webhooks = |writes: &[fake::Write]| writes.iter().filter(|w| w.path.contains("webhook")).count();
    assert_eq!(webhooks(&first), 7, "one bundle each: {first:?}");
    for minute in 0..60 {
        // Watches end, and objects are told again.
        setup.api.cut_watches(minute % 2 == 0);
        pass(60).await;
    }
    assert_eq!(webhooks(&setup.api.writes()), 0);
    // The tag moves: its new revision writes, once.
    setup
        .api
        .put(&format!("{INJECTORS}/tag"), configuration(MUTATING, "tag", "b"));
    pass(60).await;
    let moved = setup.api.writes();
    assert_eq!(webhooks(&moved), 1, "{moved:?} {:?}", setup.bundle("tag"));
    assert!(setup.bundle("tag").is_string());
    assert_eq!(setup.warnings(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_fought_is_held_and_tells() {
    let setup = Setup::new();
    setup
        .api
        .put(&format!("{INJECTORS}/a"), configuration(MUTATING, "a", "a"));
    endpoints(&setup.api, "a", true);
    setup.keep("a");
    pass(5).await;
    setup.api.writes();
    let start = Instant::now();
    // A tool that takes the bundle away whenever it sees one.
    while start.elapsed() < Duration::from_secs(600) {
        if setup.bundle("a").is_string() {
            setup
                .api
                .put(&format!("{INJECTORS}/a"), configuration(MUTATING, "a", "a"));
        }
        pass(1).await;
    }
    let written = setup
        .api
        .writes()
        .iter()
        .filter(|write| write.path.starts_with(INJECTORS))
        .count();
    assert!(
        (20..=32).contains(&written),
        "a burst, and then one each half minute: {written}"
    );
    assert!(setup.ledger.read(Writer::CaBundle).1 > 0);
    assert_eq!(setup.warnings(), ["WriteBudgetExhausted"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_fails_closed_without_somebody_behind_it() {
    let setup = Setup::new();
    for (name, revision) in [("own", "a"), ("gone", "old")] {
        setup.api.put(
            &format!("{VALIDATORS}/{name}"),
            configuration(VALIDATING, name, revision),
        );
        setup
            .api
            .put(&format!("{INJECTORS}/{name}"), configuration(MUTATING, name, revision));
    }
    endpoints(&setup.api, "a", true);
    endpoints(&setup.api, "old", false);
    setup.leads.send_replace(false);
    setup.keep("a");
    pass(25).await;
    assert!(
        setup.counters.findings().is_empty(),
        "one that just starts needs no warning"
    );
    pass(275).await;
    assert_eq!(setup.policy("gone"), "Fail", "who does not lead leaves it alone");
    let found = setup.counters.findings();
    let found: Vec<_> = found.iter().map(|f| (f.kind, &*f.service, f.fails_closed)).collect();
    let service = "istio-system/istiod-old";
    assert_eq!(found, [(MUTATING, service, true), (VALIDATING, service, true)]);
    assert_eq!(setup.warnings(), Vec::<String>::new());
    setup.leads.send_replace(true);
    pass(60).await;
    assert_eq!(
        (setup.policy("gone"), setup.policy("own")),
        ("Ignore".into(), "Fail".into())
    );
    let injector = setup.api.get(&format!("{INJECTORS}/gone")).unwrap();
    assert_eq!(
        injector["webhooks"][0]["failurePolicy"], "Fail",
        "a pod without its proxy is worse than no pod"
    );
    assert_eq!(setup.warnings(), ["WebhookWithoutEndpoints"; 2]);
    assert_eq!(setup.counters.patches(), Patches::default());
    // It comes back, and nobody warns any more.
    endpoints(&setup.api, "old", true);
    pass(60).await;
    assert!(setup.counters.findings().is_empty());
}

/// A configuration of a mesh in another namespace.
fn elsewhere(mut configuration: Value) -> Value {
    configuration["webhooks"][0]["clientConfig"]["service"]["namespace"] = "mesh-b".into();
    configuration
}

fn tagged(mut configuration: Value, tag: &str) -> Value {
    configuration["metadata"]["labels"]["istio.io/tag"] = tag.into();
    configuration
}

#[tokio::test(start_paused = true)]
async fn meshes_in_one_cluster_leave_each_other_alone() {
    let setup = Setup::new();
    let (tag, injector) = ("istio-revision-tag-default", "istio-sidecar-injector");
    // The names are those of the mesh in istio-system; revisions are called alike in both.
    for (name, revision) in [(injector, "a"), (tag, "b")] {
        let configuration = elsewhere(configuration(MUTATING, name, revision));
        setup.put(INJECTORS, tagged(configuration, "default"));
    }
    setup.put(VALIDATORS, elsewhere(configuration(VALIDATING, DEFAULT_VALIDATOR, "a")));
    let mut standing = setup.keep("a");
    pass(60).await;
    let seen = |standing: &mut watch::Receiver<Option<Standing>>| standing.borrow_and_update().clone().unwrap();
    assert_eq!(seen(&mut standing).default, None);
    assert!(!seen(&mut standing).names.is_default());
    let written = || -> Vec<String> {
        let paths = setup.api.writes().into_iter().map(|write| write.path);
        paths.filter(|path| path.contains("webhook")).collect()
    };
    assert_eq!(written(), Vec::<String>::new());
    // The own one, whatever it is called.
    let own = format!("{tag}-istio-system");
    setup.put(INJECTORS, tagged(configuration(MUTATING, &own, "a"), "default"));
    pass(60).await;
    assert_eq!(seen(&mut standing).default.as_deref(), Some("a"));
    assert_eq!(written(), [format!("{INJECTORS}/{own}")]);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_holds_nothing_else_up() {
    let (setup, line) = (Setup::new(), fake::Line::default());
    setup.put(INJECTORS, configuration(MUTATING, "a", "a"));
    endpoints(&setup.api, "a", true);
    line.stuck.store(true, Relaxed);
    let mut standing = setup.keeper("a", line.clone()).run();
    pass(60).await;
    let tag = configuration(MUTATING, "istio-revision-tag-default", "a");
    setup.put(INJECTORS, tagged(tag, "default"));
    let moved = |standing: &Option<Standing>| standing.as_ref().is_some_and(|standing| standing.default.is_some());
    let seen = tokio::time::timeout(Duration::from_secs(12), standing.wait_for(moved))
        .await
        .is_ok();
    assert!(seen, "the default is known");
    line.stuck.store(false, Relaxed);
    pass(90).await;
    assert!(setup.bundle("a").is_string(), "and the write is tried again");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_counted_by_object_and_reason() {
    let setup = Setup::new();
    setup.put(INJECTORS, configuration(MUTATING, "a", "a"));
    setup.put(INJECTORS, configuration(MUTATING, "tag", "a"));
    setup.api.refuses(&format!("{INJECTORS}/tag"), true);
    setup.keep("a");
    pass(5).await;
    let patches = setup.counters.patches();
    let failures: Vec<_> = patches
        .failures
        .keys()
        .map(|(name, why)| (&**name, why.name()))
        .collect();
    assert_eq!(failures, [("tag", "webhook_update_failure")]);
    let failed: u64 = patches.failures.values().sum();
    assert!(failed > 1, "{failed}");
    assert_eq!(patches.retries, [("tag".to_owned(), failed)].into());
    assert_eq!(setup.counters.attempts(), 1 + failed);
}

#[tokio::test(start_paused = true)]
async fn what_an_istiod_that_came_back_has_closed_is_not_opened_by_what_was_known_before() {
    let setup = Setup::new();
    setup.put(VALIDATORS, configuration(VALIDATING, "old", "old"));
    endpoints(&setup.api, "old", false);
    setup.keep("a");
    pass(120).await;
    assert_eq!(setup.policy("old"), "Ignore");
    setup.api.writes();
    // A moment after the leader has looked.
    pass(1).await;
    endpoints(&setup.api, "old", true);
    setup.api.refuses(PROBES, true);
    setup.keep("old");
    pass(5).await;
    assert_eq!(setup.policy("old"), "Fail");
    pass(600).await;
    assert_eq!(setup.policy("old"), "Fail");
    let written = setup
        .api
        .writes()
        .iter()
        .filter(|write| write.path.starts_with(VALIDATORS))
        .count();
    assert_eq!(written, 1, "closed once, and nobody opens it again");
}

/// Several revisions that are cut off, lose answers and are restarted, while the root changes.
#[tokio::test(start_paused = true)]
async fn errors_restarts_and_a_new_root_cost_no_write_that_changes_nothing() {
    let setup = Setup::new();
    setup.api.refuses(PROBES, true);
    let revisions = ["a", "b", "c"];
    for revision in revisions {
        setup.put(INJECTORS, configuration(MUTATING, revision, revision));
        let mut open = configuration(VALIDATING, revision, revision);
        open["webhooks"][0]["failurePolicy"] = "Ignore".into();
        setup.put(VALIDATORS, open);
        endpoints(&setup.api, revision, true);
    }
    setup.put(INJECTORS, configuration(MUTATING, "tag", "a"));
    let lines = revisions.map(|_| fake::Line::default());
    let start = |at: usize| {
        let keeper = setup.keeper(revisions[at], lines[at].clone());
        tokio::spawn(keeper.keep(watch::Sender::new(None)))
    };
    let mut keepers = [0, 1, 2].map(start);
    let mut writes = Vec::new();
    for minute in 0..60 {
        let who = minute % revisions.len();
        match minute % 7 {
            0 => setup.api.cut_watches(minute % 2 == 0),
            1 => lines[who].down.store(true, Relaxed),
            2 => lines[who].lossy.store(true, Relaxed),
            3 => lines[who].stuck.store(true, Relaxed),
            5 => {
                keepers[who].abort();
                keepers[who] = start(who);
            }
            _ => {}
        }
        if minute % 14 == 3 {
            // In the middle of all that is wrong: with each root, every line has another fault.
            let root = ca::Authority::self_signed("cluster.local", jiff::Timestamp::now()).unwrap();
            setup.authority.replace(root);
        }
        pass(60).await;
        if minute % 7 > 4 {
            lines.iter().for_each(fake::Line::mend);
        }
        writes.extend(setup.api.writes());
    }
    lines.iter().for_each(fake::Line::mend);
    pass(120).await;
    writes.extend(setup.api.writes());
    for (line, revision) in lines.iter().zip(revisions) {
        assert_eq!(line.met(), ["down", "lossy", "stuck"], "writes of {revision}");
    }
    let webhooks: Vec<&fake::Write> = writes.iter().filter(|write| write.path.contains("webhook")).collect();
    let same: Vec<_> = webhooks.iter().filter(|write| write.changes_nothing).collect();
    assert!(same.is_empty(), "{same:?}");
    // Each of the seven at the start, and again for each of five roots.
    assert_eq!(webhooks.len(), 7 * 6, "{webhooks:?}");
    let bundle = setup.bundle("a");
    assert!(bundle.is_string());
    for name in ["b", "c", "tag"] {
        assert_eq!(setup.bundle(name), bundle);
    }
    for name in revisions {
        assert_eq!(setup.policy(name), "Fail");
    }
    assert_eq!(setup.warnings(), Vec::<String>::new());
}
