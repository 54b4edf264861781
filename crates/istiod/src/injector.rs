//! The injector's configuration, kept current: ConfigMap `istio-sidecar-injector[-rev]` and the mesh configuration
//! (revisions.md §5.3).

use std::sync::Arc;

use cluster::config_map::Data;
use inject::{Config, Injector};
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
    native_sidecars: bool,
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
                    native_sidecars,
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
