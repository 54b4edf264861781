//! Proxies that stand in the template of a workload already, which is what `kube-inject` does: a restart brings them back
//! whether a webhook injects or not.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use inject::workload::Workload;
use install::api_server::kind;
use install::object::{Id, Object};

use crate::cluster::Cluster;
use crate::command::proxy_status::unconnected::{has_proxy, revision};

/// Workloads that are asked for at the same time.
const AT_ONCE: usize = 8;

/// Revisions of such proxies, by namespace and name of the pods that were asked about.
pub type Carried = BTreeMap<(String, String), String>;

/// Asks for the workloads of these pods. One that cannot be read carries nothing, as far as is known.
pub async fn read(cluster: &Cluster, pods: &[&Object]) -> Carried {
    let workloads: BTreeMap<(&str, &str), Id> = pods
        .iter()
        .filter_map(|pod| Some(((pod.namespace(), pod.name()), workload(pod)?)))
        .collect();
    let wanted: BTreeSet<Id> = workloads.values().cloned().collect();
    let revisions: BTreeMap<Id, String> = futures::stream::iter(wanted)
        .map(|id| async move {
            let found = cluster.server.get(&id).await.ok().flatten()?;
            Some((id, in_template(&found)?))
        })
        .buffered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    workloads
        .into_iter()
        .filter_map(|((namespace, name), id)| {
            let revision = revisions.get(&id)?;
            Some(((namespace.to_owned(), name.to_owned()), revision.clone()))
        })
        .collect()
}

/// What a restart makes a pod from; nothing restarts a bare pod.
fn workload(pod: &Object) -> Option<Id> {
    let workload = Workload::of(&pod.0, pod.namespace());
    let (group, version) = workload
        .api_version
        .split_once('/')
        .unwrap_or(("", &workload.api_version));
    (workload.kind != "Pod" && !workload.name.is_empty()).then(|| Id {
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        ..kind(group, version, &workload.kind)
    })
}

/// The revision of the proxy that a workload's template has.
fn in_template(workload: &Object) -> Option<String> {
    let template = ["/spec/template", "/spec/jobTemplate/spec/template"]
        .iter()
        .find_map(|path| workload.0.pointer(path))?;
    let template = Object(template.clone());
    Some(revision(&template)).filter(|revision| has_proxy(&template) && !revision.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(workload: serde_json::Value, expected: Option<&str>) {
        assert_eq!(in_template(&Object(workload)).as_deref(), expected);
    }

    #[test]
    fn a_template_carries_the_proxy_that_kube_inject_put_there() {
        let template = |containers: serde_json::Value| {
            json!({"metadata": {"annotations": {"sidecar.istio.io/status": "{\"revision\": \"canary\"}"}},
                "spec": {"initContainers": containers}})
        };
        let injected = template(json!([{"name": "istio-proxy"}]));
        check(json!({"spec": {"template": injected}}), Some("canary"));
        check(
            json!({"spec": {"jobTemplate": {"spec": {"template": injected}}}}),
            Some("canary"),
        );
        check(json!({"spec": {"template": template(json!([]))}}), None);
        check(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "istio-proxy"}]}}}}),
            None,
        );
        check(json!({"spec": {}}), None);
    }

    #[test]
    fn a_bare_pod_has_no_workload() {
        let owner = json!([{"controller": true, "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5f6d"}]);
        let mut pod = Object(
            json!({"metadata": {"name": "web-5f6d-x", "namespace": "app", "generateName": "web-5f6d-",
            "labels": {"pod-template-hash": "5f6d"}, "ownerReferences": owner}}),
        );
        assert_eq!(
            workload(&pod).map(|id| id.to_string()).unwrap_or_default(),
            "apps/v1, Kind=Deployment/web.app"
        );
        pod.0["metadata"] = json!({"name": "web", "namespace": "app"});
        assert_eq!(workload(&pod), None);
    }
}
