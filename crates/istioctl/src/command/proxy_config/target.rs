//! Which pods a name on the command line stands for.

use install::api_server::kind;
use install::object::{Id, Object};
use serde_json::Value;
use status::forward::PodPort;

use crate::cluster::Cluster;
use crate::command::injection;
use crate::failure::Failure;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

impl Pod {
    /// That of an object.
    pub fn of(object: &Object) -> Self {
        Self {
            name: object.name().to_owned(),
            namespace: object.namespace().to_owned(),
        }
    }

    /// One of its ports.
    pub fn port(&self, port: u16) -> PodPort<'_> {
        PodPort {
            namespace: &self.namespace,
            pod: &self.name,
            port,
        }
    }
}

/// Pods of `<pod>[.<namespace>]` (`pod/<pod>` too) or `<type>/<name>[.<namespace>]`, where the type is that of a workload or a
/// Service; running ones first.
pub async fn pods(cluster: &Cluster, text: &str, default_namespace: &str) -> Result<Vec<Pod>, Failure> {
    let (resource, rest) = text.split_once('/').unwrap_or(("pod", text));
    let (name, namespace) = injection::name_and_namespace(rest, default_namespace);
    let service = ("", "Service");
    let workload =
        injection::workload(resource).or(["service", "services", "svc"].contains(&resource).then_some(service));
    let Some((group, kind_name)) = workload else {
        return Err(no_pod(resource, name, "name a pod, a workload or a Service"));
    };
    let id = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind(group, "v1", kind_name)
    };
    let found = cluster.server.get(&id).await?;
    if id.kind == "Pod" {
        return match found {
            Some(pod) => Ok(vec![Pod::of(&pod)]),
            None => Err(no_such_pod(cluster, name, namespace).await),
        };
    }
    let Some(object) = found else {
        let why = format!("there is no {kind_name} {name:?} in namespace {namespace:?}");
        return Err(no_pod(resource, name, &why));
    };
    let path = if id.kind == "Service" {
        "/spec/selector"
    } else {
        "/spec/selector/matchLabels"
    };
    let labels = object.0.pointer(path).and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    // Without a label to go by every pod of the namespace would be one.
    if selector.is_empty() {
        return Err(no_pod(resource, name, "it selects none"));
    }
    let mut pods = kind("", "v1", "Pod");
    namespace.clone_into(&mut pods.namespace);
    let mut found = cluster.server.list(&pods, &selector.join(",")).await?;
    found.retain(|pod| pod.0.pointer("/metadata/deletionTimestamp").is_none());
    found.sort_by_key(|pod: &Object| (pod.text("/status/phase") != "Running", pod.name().to_owned()));
    if found.is_empty() {
        let why = format!("none in namespace {namespace:?} has the labels {}", selector.join(","));
        return Err(no_pod(resource, name, &why));
    }
    Ok(found.iter().map(Pod::of).collect())
}

fn no_pod(resource: &str, name: &str, why: &str) -> Failure {
    Failure::new(format!(
        "{:?} does not refer to a pod: {why}",
        format!("{resource}/{name}")
    ))
}

/// Whoever names a Deployment as if it were a pod is told how it is named.
async fn no_such_pod(cluster: &Cluster, name: &str, namespace: &str) -> Failure {
    let deployment = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind("apps", "v1", "Deployment")
    };
    let way = match cluster.server.get(&deployment).await {
        Ok(Some(_)) => format!("for a pod of the Deployment of that name: deployment/{name}.{namespace}"),
        _ => format!("one of another namespace is {name}.NAMESPACE, one of a workload TYPE/NAME"),
    };
    Failure::new(format!(
        "unable to retrieve Pod: pods {name:?} not found in namespace {namespace:?}; {way}"
    ))
}
