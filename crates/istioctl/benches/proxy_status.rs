//! `istioctl ps` in a mesh of 10,000 proxies: what it costs from the answers of the istiods to the text. The figure to
//! hold is one second.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use install::object::Object;
use istioctl::command::proxy_status::{show, unconnected};
use revision::decision::Injector;
use revision::name::Revision;
use revision::selector::Labels;
use revision::webhook::{Options, of_revision};
use serde_json::{Value, json};
use status::gather::{self, Ask, Instance};
use status::proxy::TYPES;

fn main() {
    divan::main();
    istioctl::out::put("to hold: 1 s\n");
}

const PROXIES: usize = 10_000;

/// Istiods that answer at once.
struct Simulated(BTreeMap<String, Bytes>);

#[async_trait]
impl Ask for Simulated {
    async fn ask(&self, pod: &str, _: &str) -> Result<Bytes, String> {
        self.0.get(pod).cloned().ok_or_else(|| "no such pod".to_owned())
    }
}

fn entry(index: usize) -> Value {
    let nonce = |kind: usize| format!("nonce-{kind}-{index}");
    let resources: BTreeMap<&str, Value> = TYPES
        .iter()
        .enumerate()
        .map(|(kind, (.., url))| {
            let state = json!({"sent": nonce(kind), "acked": nonce(kind), "status": "SYNCED", "version": "2026-01-01T00:00:00Z/7"});
            (*url, state)
        })
        .collect();
    json!({"cluster_id": "Kubernetes", "proxy": name(index), "proxy_type": "sidecar", "istio_version": "1.23.1", "resources": resources})
}

fn name(index: usize) -> String {
    format!("workload-{index:05}-5984f48bc7-abcde.namespace-{}", index % 200)
}

fn mesh(istiods: usize) -> (Simulated, Vec<Instance>) {
    let mut answers = BTreeMap::new();
    let mut instances = Vec::new();
    for istiod in 0..istiods {
        let own: Vec<Value> = (istiod..PROXIES).step_by(istiods).map(entry).collect();
        let pod = format!("istiod-{istiod}");
        answers.insert(pod.clone(), Bytes::from(json!(own).to_string()));
        instances.push(Instance {
            pod,
            revision: format!("r{}", istiod % 2),
            component: "istiod".to_owned(),
        });
    }
    (Simulated(answers), instances)
}

/// Pods as the API server lists them: those that are connected, and as many more as are lost, which a revision injected that
/// is gone.
fn pods(lost: usize) -> Vec<Object> {
    (0..PROXIES + lost)
        .map(|index| {
            let id = name(index);
            let revision = if index < PROXIES { "r0" } else { "gone" };
            let (pod, namespace) = id.split_once('.').unwrap_or_default();
            Object(json!({
                "metadata": {"name": pod, "namespace": namespace, "annotations": {"sidecar.istio.io/status": json!({"revision": revision}).to_string()}},
                "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "istio-proxy", "ready": true, "state": {"running": {}}}]},
            }))
        })
        .collect()
}

/// Namespaces, and the injectors that decide who would inject lost pods.
fn read(lost: usize) -> unconnected::Pods {
    let namespace = |index: usize| {
        let labels = Labels::from([("istio.io/rev".to_owned(), format!("r{}", index % 2))]);
        (format!("namespace-{index}"), labels)
    };
    let injector = |name: &str| {
        let revision = Revision::parse(name).expect("a name");
        Injector {
            config: revision.injector_webhook("istio-system"),
            revision: name.to_owned(),
            tag: None,
            webhooks: of_revision(&revision, Options::default()),
        }
    };
    unconnected::Pods {
        pods: pods(lost),
        namespaces: (0..200).map(namespace).collect(),
        injectors: vec![injector("r0"), injector("r1")],
        ..Default::default()
    }
}

#[divan::bench(args = [1, 10])]
fn ten_thousand_proxies(bencher: divan::Bencher<'_, '_>, istiods: usize) {
    measure(bencher, istiods, 100);
}

/// As many again are connected nowhere, since their revision is gone.
#[divan::bench(args = [1, 10])]
fn ten_thousand_lost(bencher: divan::Bencher<'_, '_>, istiods: usize) {
    measure(bencher, istiods, PROXIES);
}

fn measure(bencher: divan::Bencher<'_, '_>, istiods: usize, lost: usize) {
    let (ask, instances) = mesh(istiods);
    let pods = read(lost);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    bencher.bench_local(|| {
        let answers = runtime.block_on(gather::proxies(&ask, &instances, Duration::from_secs(10)));
        let planes = unconnected::Planes {
            instances: &instances,
            answers: &answers,
        };
        let lost = unconnected::find(&pods, &planes);
        show::table(&answers) + &unconnected::table(&lost, false)
    });
}
