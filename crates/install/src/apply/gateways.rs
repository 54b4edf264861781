//! Gateways that an installation takes over in place from another revision (revisions.md §9.1).

use api::names::label;

use super::{InstallError, Installation};
use crate::api_server::ApiServer;
use crate::component::Kind;
use crate::object::Object;
use crate::tag::Inventory;

impl Installation<'_> {
    /// What is said of gateways that go to this revision.
    pub(super) async fn taken_gateways(
        &self,
        server: &ApiServer,
        before: &Inventory,
    ) -> Result<Vec<String>, InstallError> {
        let is_gateway = |kind| matches!(kind, Kind::IngressGateways | Kind::EgressGateways);
        let components = self.components.iter().filter(|component| is_gateway(component.kind));
        let mut told = Vec::new();
        for gateway in components.flat_map(|component| &component.objects) {
            if gateway.kind() != "Deployment" {
                continue;
            }
            let live = server.get(&gateway.id()).await.map_err(InstallError::Unread)?;
            told.extend(live.and_then(|live| taken(&live, self.operator.revision_label(), before)));
        }
        Ok(told)
    }
}

/// What is said of one, if it runs on another revision now.
fn taken(live: &Object, to: &str, before: &Inventory) -> Option<String> {
    let from = live.label(label::REVISION);
    if from.is_empty() || from == to {
        return None;
    }
    let (name, namespace) = (live.name(), live.namespace());
    let mut text = format!(
        "The gateway {name}.{namespace} runs on revision {from:?}, and is upgraded in place: it goes to {to:?}."
    );
    if before.is_ready(from) {
        text += &format!(" To put it back afterwards: istioctl gateway revert --revision {from}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_that_changes_sides_is_said() {
        let before = Inventory {
            pods: vec![Object(json!({"metadata": {"labels": {"istio.io/rev": "old"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))],
            ..Inventory::default()
        };
        let told = |revision: &str| {
            let live = json!({"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system",
                "labels": {"istio.io/rev": revision}}});
            taken(&Object(live), "canary", &before)
        };
        insta::assert_snapshot!(told("old").unwrap_or_default(), @r#"The gateway istio-ingressgateway.istio-system runs on revision "old", and is upgraded in place: it goes to "canary". To put it back afterwards: istioctl gateway revert --revision old"#);
        // There is no way back to one that does not run.
        assert!(told("gone").is_some_and(|told| told.ends_with("it goes to \"canary\".")));
        assert_eq!(told("canary"), None);
        assert_eq!(told(""), None);
    }
}
