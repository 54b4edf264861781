//! The benchmark's mesh: services with pods, spread over namespaces, as Kubernetes objects in YAML files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Shape;

/// One pod of the mesh.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub service: usize,
    pub address: String,
}

/// The pod of a number.
pub fn pod(shape: Shape, number: usize) -> Pod {
    let number = number % (shape.services * shape.pods);
    let service = number / shape.pods;
    Pod {
        name: format!("pod-{number}"),
        namespace: namespace(shape, service),
        service,
        address: format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250 + 1),
    }
}

/// Namespace of a service.
pub fn namespace(shape: Shape, service: usize) -> String {
    format!("ns-{}", service % shape.namespaces)
}

/// Services whose endpoints the benchmark changes: each has a file of its own.
pub const CHANGING: usize = 100;

/// File with the endpoints of one of the first [`CHANGING`] services.
pub fn endpoints_of(folder: &Path, service: usize) -> PathBuf {
    folder.join(format!("endpoints-{service}.yaml"))
}

/// Writes the whole mesh, and removes what was in the folder.
pub fn write(folder: &Path, shape: Shape) -> Result<()> {
    std::fs::remove_dir_all(folder).ok();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    save(&folder.join("namespaces.yaml"), &namespaces(shape))?;
    save(&folder.join("services.yaml"), &services(shape))?;
    save(&folder.join("pods.yaml"), &pods(shape))?;
    for service in 0..CHANGING.min(shape.services) {
        save(&endpoints_of(folder, service), &slice(shape, service, shape.pods))?;
    }
    let rest = (CHANGING..shape.services).map(|service| slice(shape, service, shape.pods));
    save(&folder.join("endpoints.yaml"), &rest.collect::<String>())
}

/// The whole mesh as YAML, each part after what it refers to: namespaces, service accounts, services, pods, endpoints.
pub fn parts(shape: Shape) -> [String; 5] {
    let accounts = (0..shape.services).map(|service| {
        let namespace = namespace(shape, service);
        format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: svc-{service}, namespace: {namespace}}}\n---\n"
        )
    });
    let slices = (0..shape.services).map(|service| slice(shape, service, shape.pods));
    [
        namespaces(shape),
        accounts.collect(),
        services(shape),
        pods(shape),
        slices.collect(),
    ]
}

fn namespaces(shape: Shape) -> String {
    let names = (0..shape.namespaces.min(shape.services)).map(|index| format!("ns-{index}"));
    names
        .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n"))
        .collect()
}

/// Without selectors: endpoints are the benchmark's alone, also where a cluster would make them.
fn services(shape: Shape) -> String {
    let mut text = String::new();
    for service in 0..shape.services {
        let address = format!(
            "10.{}.{}.{}",
            100 + service / 62_500,
            service / 250 % 250,
            service % 250 + 1
        );
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc-{service}, namespace: {}}}\nspec:\n  clusterIP: {address}\n  ports:\n  - {{name: http, port: 80, targetPort: 8080, protocol: TCP}}\n---\n",
            namespace(shape, service)
        );
    }
    text
}

fn pods(shape: Shape) -> String {
    let mut text = String::new();
    for number in 0..shape.services * shape.pods {
        let pod = pod(shape, number);
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {}\n  labels: {{app: svc-{service}, security.istio.io/tlsMode: istio}}\nspec:\n  serviceAccountName: svc-{service}\n  nodeName: node-0\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: app\n    image: app\n    ports:\n    - {{containerPort: 8080}}\nstatus:\n  phase: Running\n  podIP: {address}\n  podIPs:\n  - {{ip: {address}}}\n---\n",
            pod.name,
            pod.namespace,
            service = pod.service,
            address = pod.address,
        );
    }
    text
}

/// The endpoints of a service, the first `ready` of its pods being ready.
pub fn slice(shape: Shape, service: usize, ready: usize) -> String {
    let namespace = namespace(shape, service);
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{service}-a\n  namespace: {namespace}\n  labels: {{kubernetes.io/service-name: svc-{service}}}\naddressType: IPv4\nports:\n- {{name: http, port: 8080, protocol: TCP}}\nendpoints:\n"
    );
    for replica in 0..shape.pods {
        let pod = pod(shape, service * shape.pods + replica);
        let _ = writeln!(
            text,
            "- addresses: [{}]\n  conditions: {{ready: {}, serving: true, terminating: false}}\n  nodeName: node-0\n  targetRef: {{kind: Pod, name: {}, namespace: {namespace}}}",
            pod.address,
            replica < ready,
            pod.name,
        );
    }
    text.push_str("---\n");
    text
}

/// Replaces a file at once, so that a reader never sees half of it.
pub fn save(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).with_context(|| format!("cannot write {}", temporary.display()))?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot replace {}", path.display()))
}
