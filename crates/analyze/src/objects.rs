//! The objects that are looked at, whatever they were read from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use api::names::{PROXY_CONTAINER, ROOT_NAMESPACE};
use revision::selector::Labels;
use serde_json::{Value, json};

/// Where an object remembers the file it is from (a JSON pointer).
pub(crate) const FILE: &str = "/metadata/annotations/analyze.trysail.dev~1file";
const FILE_KEY: &str = "analyze.trysail.dev/file";

/// What the Gateway of the Kubernetes Gateway API is called here; `Gateway` is the mesh's own.
pub const KUBERNETES_GATEWAY: &str = "KubernetesGateway";

/// Most objects looked at.
const MOST: usize = 500_000;

/// Objects by kind, namespace and name; a later one replaces an earlier one of the same name.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    by_kind: BTreeMap<String, BTreeMap<(String, String), Value>>,
    count: usize,
    mesh: Value,
    networks: Value,
    now: Option<SystemTime>,
    /// Where the control plane is, if not where it usually is.
    system: Option<String>,
    /// Kinds that were given, if there is no cluster behind the files that could hold more.
    given: BTreeSet<String>,
    files_alone: bool,
    /// Services of other clusters of the mesh, with the clusters' names.
    remote_services: Vec<(String, Value)>,
    unreadable: BTreeSet<String>,
}

/// Kinds that have no namespace.
const CLUSTER_WIDE: [&str; 10] = [
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "GatewayClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "PersistentVolume",
    "StorageClass",
];

impl Objects {
    /// Adds an object; lists are taken apart.
    pub fn add(&mut self, object: Value) {
        if let (Some(items), true) = (object.get("items").and_then(Value::as_array), is_list(&object)) {
            items.iter().cloned().for_each(|item| self.add(item));
            return;
        }
        if let Some(kind) = object["kind"].as_str() {
            self.given.insert(kind.to_owned());
        }
        self.insert(object);
    }

    fn insert(&mut self, object: Value) {
        if self.count >= MOST {
            return;
        }
        self.count += 1;
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let kind = match text("/kind") {
            kind if kind == "Gateway" && text("/apiVersion").starts_with("gateway.networking.k8s.io/") => {
                KUBERNETES_GATEWAY.to_owned()
            }
            kind => kind,
        };
        let key = (text("/metadata/namespace"), text("/metadata/name"));
        self.by_kind.entry(kind).or_default().insert(key, object);
    }

    /// Adds an object of a file; one that should have a namespace and says none is in this one.
    pub fn add_from(&mut self, mut object: Value, file: &str, namespace: &str) {
        if let (Some(items), true) = (object.get("items").and_then(Value::as_array), is_list(&object)) {
            items
                .iter()
                .cloned()
                .for_each(|item| self.add_from(item, file, namespace));
            return;
        }
        let is_cluster_wide = object["kind"].as_str().is_some_and(|kind| CLUSTER_WIDE.contains(&kind));
        if !is_cluster_wide
            && object
                .get("metadata")
                .is_some_and(|metadata| metadata.get("namespace").is_none())
        {
            object["metadata"]["namespace"] = namespace.into();
        }
        if object.get("metadata").is_some_and(Value::is_object) {
            let annotations = &mut object["metadata"]["annotations"];
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[FILE_KEY] = file.into();
        }
        self.add(object);
    }

    /// There is no cluster: adds what every installation has and files need not hold, the ingress gateway. Checks that
    /// look at kinds which no file holds would find everything missing, and are skipped.
    pub fn add_defaults(&mut self) {
        self.files_alone = true;
        let labels = json!({"istio": "ingressgateway"});
        let metadata = |name: &str| json!({"name": name, "namespace": ROOT_NAMESPACE, "labels": labels});
        let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": port});
        self.insert(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata("istio-ingressgateway-default"),
            "spec": {"containers": [{"name": PROXY_CONTAINER}]},
        }));
        let ports = [
            port("http2", 80),
            port("https", 443),
            port("tcp", 31400),
            port("tls", 15443),
        ];
        self.insert(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata("istio-ingressgateway"),
            "spec": {"ports": ports, "selector": labels},
        }));
    }

    /// A kind that could not be read, so that nothing can be said of what refers to it.
    pub fn set_unreadable(&mut self, kind: &str) {
        self.unreadable.insert(kind.to_owned());
    }

    /// Could some kind not be read?
    pub fn is_partial(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Is it unknown which objects of a kind there are?
    pub fn lacks(&self, kind: &str) -> bool {
        self.unreadable.contains(kind) || (self.files_alone && !self.given.contains(kind))
    }

    /// Adds a Service of another cluster of the mesh.
    pub fn add_remote_service(&mut self, cluster: &str, service: Value) {
        if self.count < MOST {
            self.count += 1;
            self.remote_services.push((cluster.to_owned(), service));
        }
    }

    /// Services of other clusters, with the clusters' names.
    pub(crate) fn remote_services(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.remote_services
            .iter()
            .map(|(cluster, service)| (cluster.as_str(), service))
    }

    /// Takes the time to go by where something ends; without, nothing does.
    pub fn set_now(&mut self, now: SystemTime) {
        self.now = Some(now);
    }

    /// The time, in seconds since 1970.
    pub(crate) fn now(&self) -> Option<i64> {
        let since = self.now?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    /// Takes the namespace of the control plane.
    pub fn set_system(&mut self, namespace: &str) {
        self.system = Some(namespace.to_owned());
    }

    /// The namespace of the control plane.
    pub(crate) fn system(&self) -> &str {
        self.system.as_deref().unwrap_or(ROOT_NAMESPACE)
    }

    /// Takes the mesh configuration to go by.
    pub fn set_mesh_config(&mut self, mesh: Value) {
        self.mesh = mesh;
    }

    /// The mesh configuration; `null` if none is known.
    pub fn mesh_config(&self) -> &Value {
        &self.mesh
    }

    /// Takes the networks of the mesh to go by.
    pub fn set_mesh_networks(&mut self, networks: Value) {
        self.networks = networks;
    }

    /// The networks of the mesh; `null` if none are known.
    pub fn mesh_networks(&self) -> &Value {
        &self.networks
    }

    /// All objects of a kind, sorted by namespace and name.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.by_kind.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One object.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.by_kind.get(kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Namespaces by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.of_kind("Namespace").map(|object| (name(object), object))
    }
}

fn is_list(object: &Value) -> bool {
    object
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"))
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.labels`.
pub(crate) fn labels(object: &Value) -> Labels {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
