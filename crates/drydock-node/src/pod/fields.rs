//! `fieldRef` of the downward API.

use super::key;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// What only the node knows about a pod that its object may not say yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    pub(crate) pod: String,
    pub(crate) host: String,
}

/// The value at `path`, `None` if there is no such field.
pub(crate) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Option<String> {
    let (namespace, name, uid) = key(pod);
    let spec = pod.spec.as_ref();
    let text = match path {
        "metadata.name" => name.to_string(),
        "metadata.namespace" => namespace.to_string(),
        "metadata.uid" => uid.to_string(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec?.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec?.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => addresses.host.clone(),
        "status.podIP" | "status.podIPs" => addresses.pod.clone(),
        _ => {
            let (map, rest) = match path.strip_prefix("metadata.labels['") {
                Some(rest) => (pod.metadata.labels.as_ref(), rest),
                None => (
                    pod.metadata.annotations.as_ref(),
                    path.strip_prefix("metadata.annotations['")?,
                ),
            };
            let key = rest.strip_suffix("']")?;
            map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
        }
    };
    Some(text)
}

/// `key="value"` lines as kubelet writes them: sorted, value quoted like a Go string.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(k, v): (&String, &String)| format!("{k}={}", quote(v));
    map.iter()
        .flat_map(|m| m.iter())
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "d", "labels": {"b/c": "2", "a": "x\"y"}, "annotations": {"n": "1\n2"}}, "spec": {"nodeName": "node", "containers": []}})).unwrap();
        let addresses = Addresses {
            pod: "10.0.0.2".into(),
            host: "10.0.0.1".into(),
        };
        let check =
            |path: &str, want: Option<&str>| assert_eq!(field(&pod, path, &addresses).as_deref(), want, "{path}");
        check("metadata.labels", Some("a=\"x\\\"y\"\nb/c=\"2\""));
        check("metadata.labels['b/c']", Some("2"));
        check("metadata.annotations", Some("n=\"1\\n2\""));
        check("metadata.annotations['absent']", Some(""));
        check("status.podIP", Some("10.0.0.2"));
        check("spec.nodeName", Some("node"));
        check("spec.secrets", None);
    }
}
