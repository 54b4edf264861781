//! What is in a configMap, secret, downwardAPI or projected volume.

use super::token::Tokens;
use super::{File, Files};
use crate::error::{Error, Result};
use crate::pod::{FieldAddresses, all_containers, field, key, resource};
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Objects of the pod's namespace, by name.
#[async_trait::async_trait]
pub(crate) trait Sources: Send + Sync {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>>;
}

/// What filling volumes needs besides the pod.
pub(crate) struct Context<'a> {
    pub(crate) sources: &'a dyn Sources,
    pub(crate) tokens: &'a Tokens,
    pub(crate) addresses: &'a FieldAddresses,
    /// The node's CPUs and memory (bytes).
    pub(crate) node: (i128, i128),
}

const DEFAULT_MODE: i32 = 0o644;

/// Whether a volume's content comes from objects of the API.
pub(super) fn is_projected(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Names of ConfigMaps that the pod's volumes show.
pub(crate) fn config_maps(pod: &Pod) -> BTreeSet<String> {
    let volumes = || pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let projected = volumes()
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten())
        .filter_map(|s| s.config_map.as_ref())
        .map(|c| c.name.clone());
    volumes()
        .filter_map(|v| v.config_map.as_ref())
        .map(|c| c.name.clone())
        .chain(projected)
        .collect()
}

/// Names of Secrets that the pod's volumes show.
pub(crate) fn secrets(pod: &Pod) -> BTreeSet<String> {
    let volumes = || pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let projected = volumes()
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten())
        .filter_map(|s| s.secret.as_ref())
        .map(|s| s.name.clone());
    volumes()
        .filter_map(|v| v.secret.as_ref())
        .filter_map(|s| s.secret_name.clone())
        .chain(projected)
        .collect()
}

/// All files of a volume.
pub(super) async fn files(pod: &Pod, volume: &Volume, context: &Context<'_>) -> Result<Files> {
    let namespace = key(pod).0;
    let mut out = Files::new();
    if let Some(source) = &volume.config_map {
        let map = context.sources.config_map(namespace, &source.name).await?;
        let data = map.map(|m| config_map_data(&m));
        pick(
            &mut out,
            data,
            ("configmap", &source.name),
            source.items.as_deref(),
            source.optional,
            source.default_mode,
        )?;
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let secret = context.sources.secret(namespace, &name).await?;
        let data = secret.map(|s| secret_data(&s));
        pick(
            &mut out,
            data,
            ("secret", &name),
            source.items.as_deref(),
            source.optional,
            source.default_mode,
        )?;
    }
    if let Some(source) = &volume.downward_api {
        downward(
            &mut out,
            pod,
            source.items.as_deref().unwrap_or_default(),
            source.default_mode,
            context,
        )?;
    }
    let Some(projected) = &volume.projected else {
        return Ok(out);
    };
    for source in projected.sources.iter().flatten() {
        if let Some(s) = &source.config_map {
            let data = context
                .sources
                .config_map(namespace, &s.name)
                .await?
                .map(|m| config_map_data(&m));
            pick(
                &mut out,
                data,
                ("configmap", &s.name),
                s.items.as_deref(),
                s.optional,
                projected.default_mode,
            )?;
        }
        if let Some(s) = &source.secret {
            let data = context
                .sources
                .secret(namespace, &s.name)
                .await?
                .map(|s| secret_data(&s));
            pick(
                &mut out,
                data,
                ("secret", &s.name),
                s.items.as_deref(),
                s.optional,
                projected.default_mode,
            )?;
        }
        if let Some(s) = &source.downward_api {
            downward(
                &mut out,
                pod,
                s.items.as_deref().unwrap_or_default(),
                projected.default_mode,
                context,
            )?;
        }
        if let Some(s) = &source.service_account_token {
            let token = context
                .tokens
                .get(pod, s.audience.as_deref(), s.expiration_seconds.unwrap_or(3600))
                .await?;
            put(&mut out, &s.path, token.into_bytes(), projected.default_mode)?;
        }
    }
    Ok(out)
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    text.chain(map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())))
        .collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect()
}

fn pick(
    out: &mut Files,
    data: Option<BTreeMap<String, Vec<u8>>>,
    (kind, name): (&str, &str),
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: Option<i32>,
) -> Result<()> {
    let optional = optional == Some(true);
    let Some(data) = data else {
        return if optional {
            Ok(())
        } else {
            Err(Error::Pod(format!("{kind} \"{name}\" not found")))
        };
    };
    match items.filter(|i| !i.is_empty()) {
        None => data.into_iter().try_for_each(|(k, v)| put(out, &k, v, mode)),
        Some(items) => items.iter().try_for_each(|item| match data.get(&item.key) {
            Some(value) => put(out, &item.path, value.clone(), item.mode.or(mode)),
            None if optional => Ok(()),
            None => Err(Error::Pod(format!("references non-existent {kind} key: {}", item.key))),
        }),
    }
}

fn downward(
    out: &mut Files,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: Option<i32>,
    context: &Context<'_>,
) -> Result<()> {
    for item in items {
        let value = if let Some(reference) = &item.field_ref {
            field(pod, &reference.field_path, context.addresses)
        } else if let Some(selector) = &item.resource_field_ref {
            let container = selector
                .container_name
                .as_ref()
                .and_then(|n| all_containers(pod).find(|c| &c.name == n));
            container.and_then(|c| resource(c, selector, context.node))
        } else {
            None
        };
        let value =
            value.ok_or_else(|| Error::Pod(format!("downwardAPI item {} names no field of the pod", item.path)))?;
        put(out, &item.path, value.into_bytes(), item.mode.or(mode))?;
    }
    Ok(())
}

fn put(out: &mut Files, path: &str, data: Vec<u8>, mode: Option<i32>) -> Result<()> {
    let plain = std::path::Path::new(path)
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        return Err(Error::Pod(format!("path {path:?} leaves the volume")));
    }
    let mode = u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0o644) & 0o777;
    out.insert(path.to_string(), File { data, mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    struct Fixed;
    #[async_trait::async_trait]
    impl Sources for Fixed {
        async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>> {
            Ok((name == "cm").then(|| {
                Arc::new(serde_json::from_value(json!({"data": {"a": "1"}, "binaryData": {"b": "Mg=="}})).unwrap())
            }))
        }
        async fn secret(&self, _: &str, _: &str) -> Result<Option<Arc<Secret>>> {
            Ok(None)
        }
    }

    async fn shown(volume: serde_json::Value) -> Result<String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "labels": {"x": "y"}}})).unwrap();
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let context = Context {
            sources: &Fixed,
            tokens: &Tokens::none(),
            addresses: &FieldAddresses::default(),
            node: (1, 1),
        };
        let files = files(&pod, &volume, &context).await?;
        Ok(files
            .iter()
            .map(|(k, f)| format!("{k}={} {:o}", String::from_utf8_lossy(&f.data), f.mode))
            .collect::<Vec<_>>()
            .join(", "))
    }

    #[tokio::test]
    async fn sources() {
        assert_eq!(
            shown(json!({"configMap": {"name": "cm"}})).await.unwrap(),
            "a=1 644, b=2 644"
        );
        assert_eq!(
            shown(json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "d/e", "mode": 256}]}}))
                .await
                .unwrap(),
            "d/e=1 400"
        );
        let projected = json!({"projected": {"defaultMode": 420, "sources": [{"configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}}, {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}});
        assert_eq!(shown(projected).await.unwrap(), "a=1 644, labels=x=\"y\" 644");
    }

    #[tokio::test]
    async fn what_is_missing() {
        assert_eq!(
            shown(json!({"secret": {"secretName": "s", "optional": true}}))
                .await
                .unwrap(),
            ""
        );
        assert_eq!(
            shown(json!({"secret": {"secretName": "s"}}))
                .await
                .unwrap_err()
                .to_string(),
            "secret \"s\" not found"
        );
        assert!(
            shown(json!({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}))
                .await
                .is_err()
        );
        assert!(
            shown(json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../z"}]}}))
                .await
                .is_err()
        );
    }
}
