//! Which resources the API server has, by discovery.

use kube::core::discovery::{ApiCapabilities, ApiResource, Scope, verbs};
use kube::{Client, Discovery};

use crate::Error;

/// One kind of object that can be listed and deleted, in its preferred version.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Group, version, kind and plural.
    pub api: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs of the server, e.g. `watch`, `deletecollection`.
    verbs: Vec<String>,
}

impl Resource {
    /// Whether the server offers `verb` on it.
    #[must_use]
    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|offered| offered == verb)
    }

    /// `deployments.apps`, as messages name it (`pods.` for the core group).
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.api.plural, self.api.group)
    }
}

/// All resources whose objects can be listed and deleted, in order of their names.
///
/// # Errors
/// Discovery failed.
pub async fn catalogue(client: &Client) -> Result<Vec<Resource>, Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        // A server that does not know the aggregated form.
        Err(_) => Discovery::new(client.clone())
            .run()
            .await
            .map_err(|error| Error::Discovery(Box::new(error)))?,
    };
    let resources = discovery.groups().flat_map(|group| group.recommended_resources());
    let mut found: Vec<_> = resources
        .filter(|(_, capabilities): &(ApiResource, ApiCapabilities)| {
            capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
        })
        .map(|(api, capabilities)| Resource {
            api,
            namespaced: capabilities.scope == Scope::Namespaced,
            verbs: capabilities.operations,
        })
        .collect();
    found.sort_by_key(Resource::name);
    Ok(found)
}
