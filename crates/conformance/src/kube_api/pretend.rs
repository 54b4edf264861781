//! A node that only pretends: it says it is ready and that every pod bound to it runs. The recording was made with one
//! like it, so that no image is needed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{client::Admin, target::Target};

/// Name of the node.
const NAME: &str = "node-1";
/// Its address.
const ADDRESS: &str = "10.200.0.1";
/// How often the node says that it is alive.
const LEASE: Duration = Duration::from_secs(5);
/// How often pods are looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Registers the node and keeps it pretending until the returned task is aborted.
///
/// # Errors
/// When the server cannot be reached.
pub async fn pretend_node(target: &Target) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let admin = Admin(target.clone());
    register(&admin).await?;
    Ok(tokio::spawn(run(admin)))
}

async fn register(admin: &Admin) -> anyhow::Result<()> {
    let now = now();
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": NAME, "labels": { "kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux" } },
    });
    admin
        .send("POST", "/api/v1/nodes", "application/json", Some(&node))
        .await?;
    let untainted = json!({ "spec": { "taints": null } });
    let path = format!("/api/v1/nodes/{NAME}");
    admin
        .send("PATCH", &path, "application/merge-patch+json", Some(&untainted))
        .await?;
    let resources = json!({ "cpu": "8", "memory": "16Gi", "pods": "500" });
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": ADDRESS }, { "type": "Hostname", "address": NAME }],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "pretending",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "nodeInfo": { "kubeletVersion": "v1.36.2", "operatingSystem": "linux", "architecture": "amd64" },
    } });
    let path = format!("{path}/status");
    admin
        .send("PATCH", &path, "application/merge-patch+json", Some(&status))
        .await?;
    Ok(())
}

/// Says that the node is alive.
async fn renew(admin: &Admin) -> anyhow::Result<()> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": NAME },
        "spec": {
            "holderIdentity": NAME,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", jiff::Timestamp::now()),
        },
    });
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NAME}");
    admin.send("PUT", &path, "application/json", Some(&lease)).await?;
    Ok(())
}

/// Lets pods run and end, for ever.
async fn run(admin: Admin) {
    let mut next_address = 2u32;
    let mut renewed: Option<Instant> = None;
    loop {
        if renewed.is_none_or(|at| at.elapsed() > LEASE) {
            // Whatever fails is tried again at the next turn.
            let _ = renew(&admin).await;
            renewed = Some(Instant::now());
        }
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{NAME}");
        if let Ok(answer) = admin.send("GET", &path, "application/json", None).await {
            let list: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            for pod in list["items"].as_array().into_iter().flatten() {
                // Whatever fails is seen again at the next look.
                let _ = attend(&admin, pod, &mut next_address).await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn attend(admin: &Admin, pod: &Value, next_address: &mut u32) -> anyhow::Result<()> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        text("/metadata/namespace"),
        text("/metadata/name")
    );
    if !text("/metadata/deletionTimestamp").is_empty() {
        let path = format!("{path}?gracePeriodSeconds=0");
        admin.send("DELETE", &path, "application/json", None).await?;
    } else if text("/status/phase") == "Pending" {
        let address = format!("10.200.{}.{}", *next_address / 250, *next_address % 250 + 2);
        *next_address += 1;
        let status = json!({ "status": running(pod, &address) });
        admin
            .send(
                "PATCH",
                &format!("{path}/status"),
                "application/strategic-merge-patch+json",
                Some(&status),
            )
            .await?;
    }
    Ok(())
}

/// This moment, as Kubernetes writes it.
fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// The status of a pod that runs.
fn running(pod: &Value, address: &str) -> Value {
    let now = now();
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now });
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": container["image"],
                "containerID": format!("pretend://{}", container["name"].as_str().unwrap_or_default()),
                "ready": true, "started": true, "restartCount": 0,
                "state": { "running": { "startedAt": now } },
            })
        })
        .collect();
    let scheduled = pod["status"]["conditions"].as_array().into_iter().flatten();
    let conditions: Vec<Value> = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"]
        .map(condition)
        .into_iter()
        .chain(scheduled.filter(|one| one["type"] == "PodScheduled").cloned())
        .collect();
    json!({
        "phase": "Running", "startTime": now, "hostIP": ADDRESS, "hostIPs": [{ "ip": ADDRESS }],
        "podIP": address, "podIPs": [{ "ip": address }],
        "conditions": conditions, "containerStatuses": containers,
    })
}
