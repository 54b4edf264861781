//! Signs approved certificate signing requests for the signers that every cluster has.

use super::pki::ClusterCa;
use crate::{Core, follow::Follower, objects::text};
use base64::{Engine, engine::general_purpose::STANDARD};
use drydock_store::{Expect, Stored};
use serde_json::{Value, json};
use std::sync::Arc;

const SIGNERS: [&str; 3] = [
    "kubernetes.io/kube-apiserver-client",
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
];
/// Lifetime when none is asked for, seconds: a year.
const USUAL: i64 = 365 * 24 * 60 * 60;

/// Follows requests for as long as the server runs.
pub async fn run(core: Arc<Core>, ca: Arc<ClusterCa>) {
    let Some(mut requests) = Follower::new(&core, "certificates.k8s.io", "certificatesigningrequests") else {
        return;
    };
    loop {
        let key = requests.next().await;
        if let Some(stored) = core.store.get(&key) {
            sign(&core, &ca, &stored).await;
        }
    }
}

async fn sign(core: &Core, ca: &ClusterCa, stored: &Stored) {
    let request = stored.value.as_ref();
    let condition = |kind: &str| {
        request["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    let wanted = SIGNERS.contains(&text(request, &["spec", "signerName"]))
        && condition("Approved")
        && !condition("Denied")
        && !condition("Failed")
        && text(request, &["status", "certificate"]).is_empty();
    if !wanted {
        return;
    }
    let mut next = request.clone();
    match certificate(ca, request) {
        Ok(pem) => next["status"]["certificate"] = json!(STANDARD.encode(pem)),
        Err(problem) => {
            let now = crate::schema::time::now();
            let failed = json!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": problem,
                "lastUpdateTime": now, "lastTransitionTime": now,
            });
            match &mut next["status"]["conditions"] {
                Value::Array(list) => list.push(failed),
                other => *other = json!([failed]),
            }
        }
    }
    if let Err(error) = core
        .store
        .put(&stored.key, Expect::Revision(stored.revision), next)
        .await
    {
        tracing::debug!(key = stored.key, %error, "certificate not written, will be tried again");
    }
}

fn certificate(ca: &ClusterCa, request: &Value) -> Result<String, String> {
    let pem = STANDARD
        .decode(text(request, &["spec", "request"]))
        .map_err(|e| e.to_string())?;
    let pem = String::from_utf8(pem).map_err(|e| e.to_string())?;
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(USUAL);
    let usages: Vec<&str> = request["spec"]["usages"]
        .as_array()
        .map(|u| u.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    ca.sign_request(&pem, &usages, seconds).map_err(|e| e.to_string())
}
