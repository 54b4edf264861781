//! Which pods a name on the command line stands for.

use install::api_server::kind;
use install::object::Object;
use serde_json::Value;
use status::forward::PodPort;

use crate::cluster::Cluster;
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

/// Pods of `<pod>[.<namespace>]` (`pod/<pod>` too) or `deployment/<name>[.<namespace>]`; running ones first.
pub async fn pods(cluster: &Cluster, text: &str, default_namespace: &str) -> Result<Vec<Pod>, Failure> {
    let (resource, rest) = text.split_once('/').unwrap_or(("pod", text));
    let (name, namespace) = rest.split_once('.').unwrap_or((rest, default_namespace));
    let mut id = match resource {
        "pod" | "pods" | "po" => kind("", "v1", "Pod"),
        "deployment" | "deployments" | "deploy" => kind("apps", "v1", "Deployment"),
        _ => return Err(no_pod(resource, name)),
    };
    name.clone_into(&mut id.name);
    namespace.clone_into(&mut id.namespace);
    let found = cluster.server.get(&id).await?;
    if id.kind == "Pod" {
        let Some(pod) = found else {
            return Err(Failure::new(format!("unable to retrieve Pod: pods {name:?} not found")));
        };
        return Ok(vec![Pod::of(&pod)]);
    }
    let Some(deployment) = found else {
        return Err(no_pod(resource, name));
    };
    let labels = deployment
        .0
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    let mut pods = kind("", "v1", "Pod");
    namespace.clone_into(&mut pods.namespace);
    let mut found = cluster.server.list(&pods, &selector.join(",")).await?;
    found.retain(|pod| pod.0.pointer("/metadata/deletionTimestamp").is_none());
    found.sort_by_key(|pod: &Object| (pod.text("/status/phase") != "Running", pod.name().to_owned()));
    if found.is_empty() {
        return Err(no_pod(resource, name));
    }
    Ok(found.iter().map(Pod::of).collect())
}

fn no_pod(resource: &str, name: &str) -> Failure {
    Failure::new(format!("{:?} does not refer to a pod", format!("{resource}/{name}")))
}
