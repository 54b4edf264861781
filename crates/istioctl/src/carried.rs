//! Proxies that stand in the template of a workload already, which is what `kube-inject` does: a restart brings them back
//! whether a webhook injects or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use inject::workload::Workload;
use install::api_server::kind;
use install::object::{Id, Object};

use crate::cluster::Cluster;
use crate::command::proxy_status::unconnected::{has_proxy, revision};

/// Requests at the same time.
const AT_ONCE: usize = 8;
/// Workloads of a kind that are asked for one by one; more are listed at once.
const ONE_BY_ONE: usize = 50;

/// Revisions of such proxies, by namespace and name of the pods that were asked about.
pub type Carried = BTreeMap<(String, String), String>;

/// Asks for the workloads of these pods. One that cannot be read carries nothing, as far as is known; nor does any if they
/// are not read in time, which is told.
pub async fn read(cluster: &Cluster, pods: &[&Object], limit: Duration) -> Carried {
    let workloads: BTreeMap<(&str, &str), Id> = pods
        .iter()
        .filter_map(|pod| Some(((pod.namespace(), pod.name()), workload(pod)?)))
        .collect();
    let answers = futures::stream::iter(requests(workloads.values()))
        .map(|request| async move {
            let found = match request {
                Request::One(id) => cluster.server.get(&id).await.ok().flatten().into_iter().collect(),
                Request::All(id) => cluster.server.list(&id, "").await.unwrap_or_default(),
            };
            found
                .iter()
                .filter_map(|found| Some((found.id(), in_template(found)?)))
                .collect::<Vec<_>>()
        })
        .buffered(AT_ONCE)
        .concat();
    let Ok(revisions) = tokio::time::timeout(limit, answers).await else {
        anstream::eprintln!(
            "❗ which workloads have a proxy in their template is not known: the API server does not answer within {limit:?} (--timeout)"
        );
        return Carried::new();
    };
    let revisions: BTreeMap<Id, String> = revisions.into_iter().collect();
    workloads
        .into_iter()
        .filter_map(|((namespace, name), id)| {
            let revision = revisions.get(&id)?;
            Some(((namespace.to_owned(), name.to_owned()), revision.clone()))
        })
        .collect()
}

/// A request for workloads.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// For one.
    One(Id),
    /// For all of a kind, in a namespace or in all.
    All(Id),
}

/// Few workloads are asked for one by one; where there are many, a list of all of the kind is less work for both sides.
fn requests<'a>(workloads: impl Iterator<Item = &'a Id>) -> Vec<Request> {
    let mut kinds: BTreeMap<Id, BTreeSet<&Id>> = BTreeMap::new();
    for id in workloads {
        let all = Id {
            name: String::new(),
            namespace: String::new(),
            ..id.clone()
        };
        kinds.entry(all).or_default().insert(id);
    }
    let mut requests = Vec::new();
    for (mut all, wanted) in kinds {
        if wanted.len() <= ONE_BY_ONE {
            requests.extend(wanted.into_iter().cloned().map(Request::One));
            continue;
        }
        let namespaces: BTreeSet<&str> = wanted.iter().map(|id| id.namespace.as_str()).collect();
        if let (1, Some(one)) = (namespaces.len(), namespaces.first()) {
            (*one).clone_into(&mut all.namespace);
        }
        requests.push(Request::All(all));
    }
    requests
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
    fn many_workloads_of_a_kind_are_one_request() {
        let check = |deployments: usize, namespaces: usize, expected: &[&str]| {
            let id = |index: usize| Id {
                name: format!("w{index}"),
                namespace: format!("n{}", index % namespaces),
                ..kind("apps", "v1", "Deployment")
            };
            let mut wanted: Vec<Id> = (0..deployments).map(id).collect();
            wanted.push(Id {
                kind: "StatefulSet".to_owned(),
                ..id(0)
            });
            let requests = requests(wanted.iter());
            let shown = requests.iter().rev().take(2).map(|request| match request {
                Request::One(id) => format!("get {id}"),
                Request::All(id) => format!("list {} of {:?}", id.kind, id.namespace),
            });
            assert_eq!(shown.collect::<Vec<_>>(), expected);
            requests.len()
        };
        let stateful = "get apps/v1, Kind=StatefulSet/w0.n0";
        assert_eq!(check(50, 1, &[stateful, "get apps/v1, Kind=Deployment/w9.n0"]), 51);
        assert_eq!(check(51, 1, &[stateful, "list Deployment of \"n0\""]), 2);
        assert_eq!(check(3000, 7, &[stateful, "list Deployment of \"\""]), 2);
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_holds_nobody_up() {
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let reach = std::sync::Arc::new(status::forward::PortForward::new(
            kube::Client::new(silent, "default"),
            Duration::from_secs(15),
        ));
        let cluster = Cluster::with(kube::Client::new(silent, "default"), reach, "default");
        let pod = Object(json!({"metadata": {"name": "web-x", "namespace": "app",
            "ownerReferences": [{"controller": true, "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}]}}));
        assert_eq!(read(&cluster, &[&pod], Duration::from_millis(1)).await, Carried::new());
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
