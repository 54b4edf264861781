//! The Node object, its conditions, and the lease that shows that the node lives.

use super::Node;
use crate::config::NodeConfig;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i64 = 40;
/// Failed heartbeats between two warnings.
const TELL_EVERY: u32 = 20;
/// Node status is written again after this even if nothing changed (kubelet: five minutes).
const STATUS_EVERY: u32 = 30;
/// The version the node reports: that of the API server beside it, so that clients see no skew.
const VERSION: &str = "v1.36.2";
/// How much more than the machine has may be requested. One local node carries meshes whose requests were written for
/// large clusters; the kernel shares fairly, and nothing is promised.
const OVERCOMMIT: i128 = 16;

/// CPUs and memory (bytes) of this machine.
pub(super) fn capacity() -> (i128, i128) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse::<i128>().ok());
    (cpus as i128, kib.unwrap_or(1 << 20) * 1024)
}

/// Registers the node and keeps it alive.
pub(super) async fn keep(node: Arc<Node>, port: u16) {
    let mut beat: u32 = 0;
    let mut registered = false;
    let mut told = false;
    let since = jiff::Timestamp::now();
    loop {
        let round = async {
            if !told || beat.is_multiple_of(STATUS_EVERY) {
                write_node(&node, port, since).await?;
                (registered, told) = (true, true);
            }
            renew(&node).await
        };
        let done = tokio::time::timeout(HEARTBEAT, round).await;
        // While the node could not be heard somebody may have written that it is unknown.
        told &= matches!(done, Ok(Ok(())));
        let pause = match done {
            Ok(Ok(())) => HEARTBEAT,
            Ok(Err(error)) => {
                // Often at the start, where both begin together; after that somebody should know.
                if beat > 0 && beat.is_multiple_of(TELL_EVERY) {
                    tracing::warn!(%error, "the API server does not take this node");
                } else {
                    tracing::debug!(%error, "heartbeat failed");
                }
                if registered {
                    Duration::from_secs(2)
                } else {
                    Duration::from_millis(100)
                }
            }
            Err(_) => Duration::from_millis(100),
        };
        beat = beat.wrapping_add(1);
        tokio::time::sleep(pause).await;
    }
}

async fn write_node(node: &Node, port: u16, since: jiff::Timestamp) -> Result<(), kube::Error> {
    let api: Api<NodeObject> = Api::all(node.client.clone());
    let name = &node.config.name;
    let object: NodeObject = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels(&node.config)},
        "spec": {"podCIDR": node.config.pod_cidr.to_string(), "podCIDRs": [node.config.pod_cidr.to_string()]},
    }))
    .map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(e)) if e.code == 409 => {
            api.patch(
                name,
                &PatchParams::default(),
                &Patch::Merge(json!({"metadata": {"labels": labels(&node.config)}})),
            )
            .await?;
        }
        Err(error) => return Err(error),
    }
    let mut addresses = vec![json!({"type": "InternalIP", "address": node.config.node_ip()})];
    if resolves(name).await {
        addresses.push(json!({"type": "Hostname", "address": name}));
    }
    let patch = Patch::Merge(json!({ "status": status(node, port, since, &addresses) }));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

/// An API server dials a node by host name first unless told otherwise: a name that leads nowhere is better not given.
async fn resolves(name: &str) -> bool {
    let lookup = tokio::net::lookup_host((name, 0));
    let found = tokio::time::timeout(Duration::from_secs(1), lookup).await;
    found.is_ok_and(|answer| answer.is_ok_and(|mut addresses| addresses.next().is_some()))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn labels(config: &NodeConfig) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": config.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch(),
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": arch(),
    });
    if config.control_plane {
        labels["node-role.kubernetes.io/control-plane"] = json!("");
    }
    labels
}

fn status(node: &Node, port: u16, since: jiff::Timestamp, addresses: &[Value]) -> Value {
    let text = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (now, since) = (text(jiff::Timestamp::now()), text(since));
    let condition = |kind: &str, value: &str, reason: &str, message: &str| json!({"type": kind, "status": value, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": since});
    let (cpus, memory) = node.capacity;
    let amount = |factor: i128| json!({"cpu": (cpus * factor).to_string(), "memory": format!("{}Ki", memory * factor / 1024), "pods": "250", "ephemeral-storage": "100Gi"});
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let os = read("/etc/os-release")
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME=").map(|n| n.trim_matches('"').to_string()))
        .unwrap_or_else(|| "Linux".into());
    let images = node.images.list().unwrap_or_default();
    json!({
        "addresses": addresses,
        "capacity": amount(1),
        "allocatable": amount(OVERCOMMIT),
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "images": images.keys().take(50).map(|r| json!({"names": [r.as_str()]})).collect::<Vec<_>>(),
        "nodeInfo": {
            "architecture": arch(), "operatingSystem": "linux", "osImage": os,
            "kernelVersion": read("/proc/sys/kernel/osrelease"), "bootID": read("/proc/sys/kernel/random/boot_id"),
            "machineID": read("/etc/machine-id"), "systemUUID": read("/etc/machine-id"),
            "containerRuntimeVersion": format!("drydock://{}", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": VERSION, "kubeProxyVersion": VERSION,
        },
    })
}

async fn renew(node: &Node) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(node.client.clone(), "kube-node-lease");
    let name = &node.config.name;
    let spec = json!({"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": format!("{:.6}", jiff::Timestamp::now())});
    let patch = Patch::Merge(json!({ "spec": spec }));
    match api.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(e)) if e.code == 404 => {
            let lease: Lease = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))
                .map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
