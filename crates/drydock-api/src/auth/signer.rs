//! Signs approved certificate signing requests for the signers that every cluster has.

use super::{
    csr::{self, Subject},
    node_scope,
    pki::ClusterCa,
    user::MASTERS,
};
use crate::{Core, follow::Follower, objects::text};
use base64::{Engine, engine::general_purpose::STANDARD};
use drydock_store::{Expect, Stored};
use serde_json::{Value, json};
use std::sync::Arc;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const SIGNERS: [&str; 3] = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING];
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

/// Why a signer does not sign a request, in the words of the real one. Each signer gives certificates for one purpose,
/// whatever the request asks for and whoever has approved it.
fn refusal(signer: &str, subject: &Subject, usages: &[&str]) -> Option<&'static str> {
    let (purpose, nodes) = match signer {
        CLIENT => ("client auth", false),
        KUBELET_CLIENT => ("client auth", true),
        _ => ("server auth", true),
    };
    let fits = |usage: &&str| [purpose, "digital signature", "key encipherment"].contains(usage);
    if !usages.iter().all(fits) || !usages.contains(&purpose) {
        return Some("usages did not match the signer's");
    }
    if subject.organizations.iter().any(|one| one == MASTERS) {
        return Some("subject organization system:masters is not allowed");
    }
    if !nodes {
        return None;
    }
    if subject.organizations != ["system:nodes"] {
        return Some("subject organization is not system:nodes");
    }
    if node_scope::node_of(&subject.common_name).is_none() {
        return Some("subject common name does not begin with system:node: ");
    }
    match signer {
        KUBELET_CLIENT if subject.hosts + subject.other_names > 0 => Some("subjectAltNames are not allowed"),
        KUBELET_SERVING if subject.other_names > 0 => Some("email and URI subjectAltNames are not allowed"),
        KUBELET_SERVING if subject.hosts == 0 => Some("DNS or IP subjectAltName is required"),
        _ => None,
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
    let subject = csr::subject(text(request, &["spec", "request"]));
    if let Some(why) = refusal(text(request, &["spec", "signerName"]), &subject, &usages) {
        return Err(why.into());
    }
    ca.sign_request(&pem, &usages, seconds).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(signer: &str, cn: &str, organization: &str, hosts: usize, usages: &[&str], expected: Option<&str>) {
        let subject = Subject {
            common_name: cn.into(),
            organizations: vec![organization.into()],
            hosts,
            other_names: 0,
        };
        assert_eq!(
            refusal(signer, &subject, usages),
            expected,
            "{signer} {cn} {organization}"
        );
    }

    #[test]
    fn each_signer_has_one_purpose() {
        let (client, server) = (
            ["client auth", "digital signature"],
            ["server auth", "key encipherment"],
        );
        check(CLIENT, "jane", "dev", 0, &client, None);
        check(
            CLIENT,
            "jane",
            "system:masters",
            0,
            &client,
            Some("subject organization system:masters is not allowed"),
        );
        check(
            CLIENT,
            "jane",
            "dev",
            0,
            &server,
            Some("usages did not match the signer's"),
        );
        check(KUBELET_CLIENT, "system:node:n", "system:nodes", 0, &client, None);
        check(
            KUBELET_CLIENT,
            "system:node:n",
            "system:masters",
            0,
            &client,
            Some("subject organization system:masters is not allowed"),
        );
        check(
            KUBELET_CLIENT,
            "jane",
            "system:nodes",
            0,
            &client,
            Some("subject common name does not begin with system:node: "),
        );
        check(
            KUBELET_CLIENT,
            "system:node:n",
            "dev",
            0,
            &client,
            Some("subject organization is not system:nodes"),
        );
        check(
            KUBELET_CLIENT,
            "system:node:n",
            "system:nodes",
            1,
            &client,
            Some("subjectAltNames are not allowed"),
        );
        check(KUBELET_SERVING, "system:node:n", "system:nodes", 1, &server, None);
        check(
            KUBELET_SERVING,
            "system:node:n",
            "system:nodes",
            1,
            &["server auth", "client auth"],
            Some("usages did not match the signer's"),
        );
        check(
            KUBELET_SERVING,
            "system:node:n",
            "system:nodes",
            0,
            &server,
            Some("DNS or IP subjectAltName is required"),
        );
    }
}
