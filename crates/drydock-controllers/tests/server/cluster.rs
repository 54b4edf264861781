//! An API server in this process, the controllers on it, and a node that only pretends to run pods.

use std::fmt::Debug;
use std::time::Duration;

use drydock_api::{Config, Handle, Server};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything ends with it.
pub struct Cluster {
    pub client: Client,
    _server: Handle,
    _data: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Cluster {
    pub async fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(Config::new(data.path())).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig().unwrap()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let mut tasks = JoinSet::new();
        let options = drydock_controllers::Options {
            root_ca: Some("PEM".into()),
            ..Default::default()
        };
        tasks.spawn(drydock_controllers::run(client.clone(), options));
        tasks.spawn(pretend_to_run_pods(client.clone()));
        let cluster = Cluster {
            client,
            _server: server,
            _data: data,
            _tasks: tasks,
        };
        cluster.add_node().await;
        cluster
    }

    async fn add_node(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "one"}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let status = json!({"status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        }});
        nodes
            .patch_status("one", &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api(namespace)
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// Waits until `test` is content with all objects of a kind in a namespace.
    pub async fn until<K>(&self, namespace: &str, what: &str, test: impl Fn(&[K]) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>(namespace);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = api.list(&Default::default()).await.unwrap().items;
            if test(&found) {
                return found;
            }
            let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
            assert!(
                tokio::time::Instant::now() < deadline,
                "waiting for {what}; there is {names:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reports pods as running as soon as they are bound (unless their name says `broken`), and ends them when asked.
async fn pretend_to_run_pods(client: Client) {
    let mut pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let started = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await
                .ok();
        } else if bound && !started && !pod.name_any().contains("broken") {
            let status = json!({"status": {
                "phase": "Running", "podIP": "192.0.2.77", "podIPs": [{"ip": "192.0.2.77"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            }});
            api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
                .await
                .ok();
        }
    }
}
