//! A visit to somebody's cluster: it must have no mesh before, and what the stories leave in it is told afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Resource, ResourceExt};

/// Label of what belongs to a revision of a mesh.
const REVISION: &str = "istio.io/rev";
/// Namespace of a mesh.
const MESH: &str = "istio-system";

/// A cluster that is not ours.
pub struct Visit {
    client: Client,
    before: Found,
}

/// What stories could leave in a cluster.
#[derive(Debug, Default)]
struct Found {
    namespaces: BTreeSet<String>,
    /// Webhooks of a revision.
    webhooks: BTreeSet<String>,
}

impl Visit {
    /// Looks at the cluster before anything is done to it.
    ///
    /// # Errors
    /// It has a mesh, which the stories would change; or it cannot be asked.
    pub async fn begin(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let before = Found::of(&client).await?;
        let mesh = before.mesh();
        ensure!(
            mesh.is_empty(),
            "the cluster of {} has a mesh, which the stories would change: {}; give a cluster without one",
            kubeconfig.display(),
            mesh.join(", ")
        );
        Ok(Self { client, before })
    }

    /// What is in the cluster now and was not before.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn left(&self) -> Result<Vec<String>> {
        Ok(Found::of(&self.client).await?.since(&self.before))
    }
}

impl Found {
    async fn of(client: &Client) -> Result<Self> {
        let of_revisions = ListParams::default().labels(REVISION);
        let mut webhooks = names::<MutatingWebhookConfiguration>(client, &of_revisions).await?;
        webhooks.extend(names::<ValidatingWebhookConfiguration>(client, &of_revisions).await?);
        Ok(Self {
            namespaces: names::<Namespace>(client, &ListParams::default()).await?,
            webhooks,
        })
    }

    /// What belongs to a mesh.
    fn mesh(&self) -> Vec<String> {
        let namespace = self.namespaces.get(MESH).map(|name| format!("namespace {name}"));
        let webhooks = self.webhooks.iter().cloned();
        namespace.into_iter().chain(webhooks).collect()
    }

    fn since(&self, before: &Self) -> Vec<String> {
        let namespaces = self.namespaces.difference(&before.namespaces);
        let webhooks = self.webhooks.difference(&before.webhooks).cloned();
        namespaces
            .map(|name| format!("namespace {name}"))
            .chain(webhooks)
            .collect()
    }
}

/// Names of the objects of a kind; those of webhooks with the kind.
async fn names<K>(client: &Client, which: &ListParams) -> Result<BTreeSet<String>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let kind = K::kind(&()).into_owned();
    let found = Api::<K>::all(client.clone()).list(which).await;
    let found = found.with_context(|| format!("cannot list the {} of the cluster", K::plural(&())))?;
    let name = |object: &K| match kind.as_str() {
        "Namespace" => object.name_any(),
        kind => format!("{kind} {}", object.name_any()),
    };
    Ok(found.items.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(namespaces: &[&str], webhooks: &[&str]) -> Found {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Found {
            namespaces: set(namespaces),
            webhooks: set(webhooks),
        }
    }

    #[test]
    fn a_mesh_is_its_namespace_or_a_webhook() {
        assert!(found(&["default", "shop"], &[]).mesh().is_empty());
        assert_eq!(
            found(&["default", "istio-system"], &[]).mesh(),
            ["namespace istio-system"]
        );
        let webhook = "MutatingWebhookConfiguration istio-revision-tag-default";
        assert_eq!(found(&["default"], &[webhook]).mesh(), [webhook]);
    }

    #[test]
    fn what_is_new_is_left() {
        let before = found(&["default", "shop"], &[]);
        let after = found(&["default", "istio-system"], &["ValidatingWebhookConfiguration v"]);
        assert_eq!(
            after.since(&before),
            ["namespace istio-system", "ValidatingWebhookConfiguration v"]
        );
    }
}
