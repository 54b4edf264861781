//! The injector's configuration, kept current: ConfigMap `istio-sidecar-injector[-rev]` and the mesh configuration
//! (revisions.md §5.3).

use std::sync::Arc;

use cluster::config_map::Data;
use inject::{Config, Injector, NativeSidecars};
use mesh::Snapshot;
use serde_json::Value;
use tokio::sync::watch;

use crate::settings::Settings;
use crate::webhook::Webhooks;

/// Follows both for ever. A configuration that cannot be used leaves the one before in force.
pub async fn keep(
    webhooks: Arc<Webhooks>,
    mut templates: watch::Receiver<Data>,
    mut mesh: watch::Receiver<Value>,
    settings: Settings,
    native_sidecars: NativeSidecars,
    ready: impl Fn(),
) {
    loop {
        let data = templates.borrow_and_update().clone();
        let mesh_now = mesh.borrow_and_update().clone();
        match data.as_ref().map(parse) {
            Some(Ok(config)) => {
                webhooks.injector.store(Some(Arc::new(Injector {
                    config,
                    mesh: mesh_now,
                    revision: settings.revision.value().to_owned(),
                    native_sidecars: native_sidecars.clone(),
                    compliance_policy: settings.compliance_policy.clone(),
                })));
                ready();
                tracing::info!("injector configured");
            }
            Some(Err(error)) => {
                tracing::error!(error, "injector configuration not used; the one before stays in force")
            }
            None => {
                tracing::warn!(
                    "no ConfigMap with the injector's configuration; nothing is injected until there is one"
                );
                ready();
            }
        }
        tokio::select! {
            changed = templates.changed() => if changed.is_err() { return },
            changed = mesh.changed() => if changed.is_err() { return },
        }
    }
}

fn parse(data: &std::collections::BTreeMap<String, String>) -> Result<Config, String> {
    let key = |name: &str| {
        data.get(name)
            .ok_or_else(|| format!("the ConfigMap has no key {name:?}"))
    };
    Config::parse(key("config")?, key("values")?).map_err(|error| error.to_string())
}

/// `ENABLE_NATIVE_SIDECARS`: `true`, `false`, or by what the nodes of the moment can run.
pub fn native_sidecars(setting: &str, snapshot: impl Fn() -> Arc<Snapshot> + Send + Sync + 'static) -> NativeSidecars {
    match setting {
        "true" => true.into(),
        "false" => false.into(),
        _ => NativeSidecars::by_node(move |name| {
            let snapshot = snapshot();
            let own = snapshot.node(name).map(|node| node.kubelet.as_str());
            inject::native::can_run(own, snapshot.nodes().map(|node| node.kubelet.as_str()))
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use inject::{Outcome, Request};
    use mesh::{Event, Mesh, Object};
    use serde_json::json;

    use super::*;

    const CONFIG: &str = r#"
policy: enabled
defaultTemplates: [sidecar]
templates:
  sidecar: |
    spec:
      {{ if .NativeSidecars }}initContainers{{ else }}containers{{ end }}:
      - name: istio-proxy
"#;

    /// Whether the proxy of a pod on that node is an init container.
    fn is_native(injector: &Injector, node: &str) -> bool {
        let pod = json!({ "metadata": {}, "spec": { "nodeName": node, "containers": [{ "name": "app" }] } });
        let request = Request {
            pod: &pod,
            namespace: "app",
            namespace_annotations: None,
            environment: &Default::default(),
            workload: None,
        };
        match injector.inject(request).unwrap() {
            Outcome::Injected(pod) => pod["spec"]["initContainers"][0]["name"] == "istio-proxy",
            Outcome::Skipped(skip) => panic!("skipped: {skip:?}"),
        }
    }

    #[test]
    fn nodes_decide_at_every_review_which_proxies_are_native() {
        let mesh = Arc::new(Mutex::new(Mesh::new("Kubernetes", "cluster.local")));
        let node = |name: &str, kubelet: &str| {
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
                "status": { "nodeInfo": { "kubeletVersion": kubelet } },
            });
            let node = Object::from_json(node).unwrap().unwrap();
            mesh.lock().unwrap().apply([Event::Apply(node)]);
        };
        let injector = |setting: &str| Injector {
            config: Config::parse(CONFIG, "{}").unwrap(),
            mesh: json!({}),
            revision: String::new(),
            native_sidecars: native_sidecars(setting, {
                let mesh = mesh.clone();
                move || mesh.lock().unwrap().snapshot()
            }),
            compliance_policy: String::new(),
        };
        let (auto, always, never) = (injector("auto"), injector("true"), injector("false"));
        node("a", "v1.33.1");
        assert!(is_native(&auto, "") && is_native(&auto, "a"));
        node("b", "v1.32.9");
        assert!(!is_native(&auto, ""), "it may go to the old one");
        assert!(is_native(&auto, "a") && !is_native(&auto, "b"));
        assert!(is_native(&always, "b") && !is_native(&never, "a"));
        node("b", "v1.33.0");
        assert!(is_native(&auto, ""), "the node was upgraded");
    }
}
