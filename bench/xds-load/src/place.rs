//! Where the benchmark's mesh lives, and how it is changed: files in a folder, or objects of a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config};
use serde_json::Value;

use crate::{Shape, mesh};

/// Writes that are under way to a cluster at once.
const AT_ONCE: usize = 32;
/// The owner of what is written to a cluster.
const MANAGER: &str = "xds-load";

/// A mesh that can be changed.
pub enum Place {
    /// YAML files that the control plane follows.
    Folder(PathBuf),
    /// A cluster that the control plane watches.
    Cluster { kubeconfig: PathBuf, client: Box<Client> },
}

impl Place {
    /// A cluster, by its kubeconfig.
    ///
    /// # Errors
    /// It names no cluster.
    pub async fn cluster(kubeconfig: &Path) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let unusable = || format!("{} names no usable cluster", kubeconfig.display());
        let file = Kubeconfig::read_from(kubeconfig).with_context(unusable)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options)
            .await
            .with_context(unusable)?;
        Ok(Self::Cluster {
            kubeconfig: kubeconfig.to_owned(),
            client: Box::new(Client::try_from(config)?),
        })
    }

    /// Brings the whole mesh there.
    pub async fn write(&self, shape: Shape) -> Result<()> {
        match self {
            Self::Folder(folder) => mesh::write(folder, shape),
            Self::Cluster { client, .. } => {
                // Namespaces before what is in them.
                for text in mesh::parts(shape) {
                    let objects = documents(&text)?;
                    let writes = objects.into_iter().map(|object| apply(client, object));
                    stream::iter(writes)
                        .buffer_unordered(AT_ONCE)
                        .try_collect::<()>()
                        .await?;
                }
                Ok(())
            }
        }
    }

    /// Makes the first `ready` pods of a service ready, and no other.
    pub async fn endpoints(&self, shape: Shape, service: usize, ready: usize) -> Result<()> {
        let text = mesh::slice(shape, service, ready);
        match self {
            Self::Folder(folder) => mesh::save(&mesh::endpoints_of(folder, service), &text),
            Self::Cluster { .. } => self.put(&text).await,
        }
    }

    /// Adds the one object that changes.
    pub async fn put(&self, text: &str) -> Result<()> {
        match self {
            Self::Folder(folder) => mesh::save(&folder.join("change.yaml"), text),
            Self::Cluster { client, .. } => {
                for object in documents(text)? {
                    apply(client, object).await?;
                }
                Ok(())
            }
        }
    }

    /// Takes it away again.
    pub async fn take(&self, text: &str) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let file = folder.join("change.yaml");
                std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
            }
            Self::Cluster { client, .. } => {
                for object in documents(text)? {
                    let name = object.metadata.name.clone().unwrap_or_default();
                    let gone = api(client, &object)?.delete(&name, &DeleteParams::default()).await;
                    gone.with_context(|| format!("cannot delete {name}"))?;
                }
                Ok(())
            }
        }
    }

    /// Refuses a cluster in which the mesh's namespaces exist: they may be somebody's.
    pub async fn is_free(&self, shape: Shape) -> Result<()> {
        let Self::Cluster { client, .. } = self else {
            return Ok(());
        };
        let kind = GroupVersionKind::gvk("", "v1", "Namespace");
        let namespaces: Api<DynamicObject> = Api::all_with((**client).clone(), &ApiResource::from_gvk(&kind));
        let there = namespaces.list_metadata(&ListParams::default()).await?;
        let ours: Vec<String> = (0..shape.namespaces).map(|index| format!("ns-{index}")).collect();
        let taken = there
            .items
            .into_iter()
            .filter_map(|item| item.metadata.name)
            .find(|name| ours.contains(name));
        ensure!(
            taken.is_none(),
            "namespace {} exists in the cluster already: take a cluster of its own for the benchmark",
            taken.unwrap_or_default()
        );
        Ok(())
    }
}

fn documents(text: &str) -> Result<Vec<DynamicObject>> {
    let documents = text.split("---\n").filter(|document| !document.trim().is_empty());
    documents
        .map(|document| Ok(serde_json::from_value(serde_saphyr::from_str::<Value>(document)?)?))
        .collect()
}

fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object without a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    Ok(match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Writes an object, and its status if it has one. Addresses of services are the cluster's to give.
async fn apply(client: &Client, mut object: DynamicObject) -> Result<()> {
    if let Some(spec) = object.data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
    }
    let name = object.metadata.name.clone().unwrap_or_default();
    let (api, parameters) = (api(client, &object)?, PatchParams::apply(MANAGER).force());
    let failed = || format!("cannot write {name}");
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(failed)?;
    if object.data.get("status").is_some() {
        api.patch_status(&name, &parameters, &Patch::Apply(&object))
            .await
            .with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mesh_is_objects_in_order() {
        let shape = Shape {
            services: 2,
            pods: 2,
            namespaces: 2,
        };
        let kinds: Vec<Vec<String>> = mesh::parts(shape)
            .iter()
            .map(|text| {
                documents(text)
                    .unwrap()
                    .into_iter()
                    .map(|object| object.types.unwrap().kind)
                    .collect()
            })
            .collect();
        assert_eq!(
            kinds,
            [
                vec!["Namespace"; 2],
                vec!["ServiceAccount"; 2],
                vec!["Service"; 2],
                vec!["Pod"; 4],
                vec!["EndpointSlice"; 2]
            ]
        );
    }
}
