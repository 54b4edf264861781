//! An API server in this process, the controllers on it, a stand-in for the node that makes pods ready, and one for
//! istiod that fills in `caBundle` and closes the validators of who serves.

use std::time::{Duration, Instant};

use drydock_api::{Config, Handle, Server};
use install::api_server::{ApiServer, kind};
use install::object::Object;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use revision::decision::{Injector, decide};
use revision::selector::Labels;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const ADMISSION: &str = "admissionregistration.k8s.io";
const INJECTOR: &str = "MutatingWebhookConfiguration";
const VALIDATOR: &str = "ValidatingWebhookConfiguration";
/// Where a webhook leads.
const SERVICE: &str = "/webhooks/0/clientConfig/service/name";
const URL: &str = "/webhooks/0/clientConfig/url";
/// Field managers of what installations and tags consist of, and of whoever applies manifests himself.
const WRITERS: [&str; 3] = ["istio-operator", "istio-ci", "kubectl"];
/// How often the stand-ins look.
const POLL: Duration = Duration::from_millis(100);
/// How often the node says that it lives; far below the time after which it counts as dead.
const RENEW: Duration = Duration::from_secs(5);

/// Labels of namespaces that are looked at.
pub const NAMESPACES: [&str; 6] = [
    "",
    "istio-injection=enabled",
    "istio.io/rev=old",
    "istio.io/rev=new",
    "istio.io/rev=prod",
    "istio.io/rev=default",
];

/// Everything ends with it.
pub struct Cluster {
    pub config: kube::Config,
    pub server: ApiServer,
    _handle: Handle,
    _data: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Cluster {
    pub async fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let data = tempfile::tempdir().unwrap();
        let handle = Server::start(Config::new(data.path())).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&handle.kubeconfig().unwrap()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let nodes: Api<Node> = Api::all(client.clone());
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "one"}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        nodes
            .patch_status("one", &PatchParams::default(), &Patch::Merge(ready))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(drydock_controllers::run(
            client.clone(),
            drydock_controllers::Options::default(),
        ));
        tasks.spawn(pods(client.clone()));
        tasks.spawn(bundles(client.clone()));
        tasks.spawn(policies(ApiServer::new(client.clone())));
        Self {
            config,
            server: ApiServer::new(client),
            _handle: handle,
            _data: data,
            _tasks: tasks,
        }
    }

    /// All objects that installations make, without what the server adds; by kind and name. Waits until istiod has
    /// written what it will.
    pub async fn state(&self) -> Vec<(String, Value)> {
        self.settled().await;
        let mut state = Vec::new();
        for (group, name) in [
            (ADMISSION, INJECTOR),
            (ADMISSION, VALIDATOR),
            ("apps", "Deployment"),
            ("", "Service"),
            ("", "ConfigMap"),
            ("", "ServiceAccount"),
            ("rbac.authorization.k8s.io", "Role"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
        ] {
            for mut object in self.server.list(&kind(group, "v1", name), "").await.unwrap() {
                let writers = object.0["metadata"]["managedFields"].to_string();
                let ours = WRITERS.iter().any(|writer| writers.contains(writer));
                // What a proof leaves behind that was cut off selects nothing, and a later proof removes it.
                let is_probe = object.name().starts_with("trysail-probe-");
                if !ours || is_probe || object.0["metadata"].get("deletionTimestamp").is_some() {
                    continue;
                }
                let id = object.id().path();
                let metadata = object.0["metadata"].as_object_mut().unwrap();
                for field in [
                    "uid",
                    "resourceVersion",
                    "generation",
                    "creationTimestamp",
                    "managedFields",
                ] {
                    metadata.shift_remove(field);
                }
                metadata
                    .get_mut("annotations")
                    .and_then(Value::as_object_mut)
                    .map(|a| a.shift_remove("deployment.kubernetes.io/revision"));
                if let Some(fields) = object.0.as_object_mut() {
                    fields.shift_remove("status");
                }
                for field in ["clusterIP", "clusterIPs"] {
                    if let Some(spec) = object.0.get_mut("spec").and_then(Value::as_object_mut) {
                        spec.shift_remove(field);
                    }
                }
                state.push((id, object.0));
            }
        }
        state.sort_by(|a, b| a.0.cmp(&b.0));
        state
    }

    /// Waits until istiod has written what it will.
    pub async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !closable(&self.server).await.is_empty() {
            assert!(Instant::now() < deadline, "nobody closes the validators");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Every injector that is there.
    pub async fn injectors(&self) -> Vec<Injector> {
        let configurations = kind(ADMISSION, "v1", INJECTOR);
        let found = self.server.list(&configurations, "").await.unwrap();
        let read = |object: Object| Injector::from_configuration(&serde_json::from_value(object.0).unwrap());
        found.into_iter().filter_map(read).collect()
    }

    /// What must hold at every moment: no pod has two webhooks, and one that was served before still is. `served` are
    /// labels of namespaces, `key=value`.
    pub async fn assert_one_webhook(&self, when: &str, served: &[&str]) {
        let injectors = self.injectors().await;
        let pods = [
            "",
            "sidecar.istio.io/inject=true",
            "istio.io/rev=old",
            "istio.io/rev=new",
            "istio.io/rev=prod",
        ];
        for namespace in NAMESPACES {
            for pod in pods {
                let decision = decide(&labels(namespace), &labels(pod), &injectors);
                assert!(
                    !decision.is_ambiguous(),
                    "{when}: pod {pod:?} in namespace {namespace:?}: {:?}",
                    decision.matches
                );
                if pod.is_empty() && served.contains(&namespace) {
                    assert!(decision.revision().is_some(), "{when}: nobody injects {namespace:?}");
                }
            }
        }
    }

    /// Both of what must hold at every moment.
    pub async fn assert_sound(&self, when: &str, served: &[&str]) {
        self.assert_one_webhook(when, served).await;
        self.assert_no_webhook_fails_closed(when).await;
    }

    /// What must hold at every moment: an injection webhook that is not switched off, and a validator that is closed,
    /// lead to a control plane that is there and serves.
    async fn assert_no_webhook_fails_closed(&self, when: &str) {
        let mut closed = self.server.list(&kind(ADMISSION, "v1", INJECTOR), "").await.unwrap();
        closed.retain(|webhook| !install::tag::is_deactivated(webhook));
        let validators = self.server.list(&kind(ADMISSION, "v1", VALIDATOR), "").await.unwrap();
        closed.extend(validators.into_iter().filter(|validator| !is_open(validator)));
        for webhook in closed {
            assert!(
                serves(&self.server, &webhook).await,
                "{when}: {} points at {}{}, which does not serve",
                webhook.id().path(),
                webhook.text(SERVICE),
                webhook.text(URL)
            );
        }
    }
}

/// Does the validator let pass what nobody checks?
fn is_open(validator: &Object) -> bool {
    validator.text("/webhooks/0/failurePolicy") == "Ignore"
}

/// Is somebody ready where the webhook leads?
async fn serves(server: &ApiServer, webhook: &Object) -> bool {
    if let Some(rest) = webhook.text(URL).strip_prefix("https://") {
        let address = rest.split('/').next().unwrap();
        return tokio::net::TcpStream::connect(address).await.is_ok();
    }
    let mut id = kind("apps", "v1", "Deployment");
    (id.namespace, id.name) = ("istio-system".to_owned(), webhook.text(SERVICE).to_owned());
    let backend = server.get(&id).await.unwrap();
    backend.is_some_and(|deployment| deployment.0.pointer("/status/availableReplicas").is_some())
}

/// Validators that are open although somebody serves them, and that say whose they are.
async fn closable(server: &ApiServer) -> Vec<Object> {
    let mut found = Vec::new();
    for validator in server.list(&kind(ADMISSION, "v1", VALIDATOR), "").await.unwrap() {
        let leads = !validator.text(SERVICE).is_empty() || !validator.text(URL).is_empty();
        let is_owned = !validator.label("istio.io/rev").is_empty();
        if is_open(&validator) && leads && is_owned && serves(server, &validator).await {
            found.push(validator);
        }
    }
    found
}

/// As istiod does, with its own field manager; one that goes or is written by others meanwhile is looked at again.
async fn policies(server: ApiServer) {
    loop {
        for mut validator in closable(&server).await {
            for webhook in validator.0["webhooks"].as_array_mut().unwrap() {
                webhook["failurePolicy"] = "Fail".into();
            }
            server.replace(&validator, "istiod", false).await.ok();
        }
        tokio::time::sleep(POLL).await;
    }
}

/// `key=value` as labels.
pub fn labels(text: &str) -> Labels {
    let pairs = text.split_once('=');
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
        .collect()
}

/// Pods are ready as soon as they are bound, and end when they are asked to. The node shows that it lives.
async fn pods(client: Client) {
    let all: Api<Pod> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let mut renewed: Option<Instant> = None;
    for turn in 0_i32.. {
        if renewed.is_none_or(|then| then.elapsed() > RENEW) {
            renewed = Some(Instant::now());
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "one"},
                "spec": {"holderIdentity": "one", "leaseTransitions": turn}});
            leases
                .patch("one", &PatchParams::apply("node").force(), &Patch::Apply(lease))
                .await
                .ok();
        }
        for pod in all
            .list(&Default::default())
            .await
            .map(|list| list.items)
            .unwrap_or_default()
        {
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
            if pod.metadata.deletion_timestamp.is_some() {
                api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                    .await
                    .ok();
            } else if pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none())
                && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
            {
                let status = json!({"status": {"phase": "Running", "podIP": "192.0.2.7", "podIPs": [{"ip": "192.0.2.7"}],
                    "conditions": [{"type": "Ready", "status": "True"}]}});
                api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
                    .await
                    .ok();
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// As istiod does, with its own field manager.
async fn bundles(client: Client) {
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client);
    loop {
        for mut object in webhooks
            .list(&Default::default())
            .await
            .map(|list| list.items)
            .unwrap_or_default()
        {
            let mut changed = false;
            for webhook in object.webhooks.iter_mut().flatten() {
                if webhook.client_config.ca_bundle.is_none() {
                    webhook.client_config.ca_bundle = Some(k8s_openapi::ByteString(b"-----".to_vec()));
                    changed = true;
                }
            }
            if changed {
                let parameters = PostParams {
                    field_manager: Some("istiod".to_owned()),
                    ..PostParams::default()
                };
                webhooks.replace(&object.name_any(), &parameters, &object).await.ok();
            }
        }
        tokio::time::sleep(POLL).await;
    }
}
