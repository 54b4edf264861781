//! From JSON, as the API server, a file or a test gives it, to objects.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Config, Object};
use crate::key::Kind;

/// Why JSON is no object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// `apiVersion`, `kind` or `metadata.name` is missing.
    #[error("an object needs apiVersion, kind and metadata.name")]
    Anonymous,
    /// A field has the wrong type.
    #[error("{kind} {namespace}/{name}: {source}; the object is ignored until it is corrected")]
    Content {
        /// Kind of the object.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    status: Option<Value>,
}

fn config<S: DeserializeOwned>(value: Value) -> Result<Arc<Config<S>>, serde_json::Error> {
    let raw: Raw = serde_json::from_value(value)?;
    let mut spec = raw.spec;
    api::lenient::strip_nulls(&mut spec);
    if spec.is_null() {
        spec = Value::Object(Default::default());
    }
    Ok(Arc::new(Config {
        meta: (&raw.metadata).into(),
        spec: serde_json::from_value(spec)?,
        status: raw.status,
    }))
}

fn typed<K: DeserializeOwned, T: for<'a> From<&'a K>>(value: Value) -> Result<Arc<T>, serde_json::Error> {
    let object: K = serde_json::from_value(value)?;
    Ok(Arc::new(T::from(&object)))
}

impl Object {
    /// Reads an object. `Ok(None)` means that it is of a kind that the mesh does not read.
    ///
    /// # Errors
    /// It has no name, or a field has the wrong type.
    pub fn from_json(value: Value) -> Result<Option<Self>, ObjectError> {
        use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let (Some(api_version), Some(kind_name), Some(name)) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"))
        else {
            return Err(ObjectError::Anonymous);
        };
        let namespace = text("/metadata/namespace").unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(kind) = Kind::find(group, &kind_name) else {
            return Ok(None);
        };
        let object = match kind {
            Kind::Namespace => typed::<v1::Namespace, _>(value).map(Self::Namespace),
            Kind::Node => typed::<v1::Node, _>(value).map(Self::Node),
            Kind::Pod => typed::<v1::Pod, _>(value).map(Self::Pod),
            Kind::Service => typed::<v1::Service, _>(value).map(Self::Service),
            Kind::EndpointSlice => typed::<discovery::EndpointSlice, _>(value).map(Self::EndpointSlice),
            Kind::Secret => typed::<v1::Secret, _>(value).map(Self::Secret),
            Kind::ConfigMap => typed::<v1::ConfigMap, _>(value).map(Self::ConfigMap),
            Kind::VirtualService => config(value).map(Self::VirtualService),
            Kind::DestinationRule => config(value).map(Self::DestinationRule),
            Kind::Gateway => config(value).map(Self::Gateway),
            Kind::ServiceEntry => config(value).map(Self::ServiceEntry),
            Kind::WorkloadEntry => config(value).map(Self::WorkloadEntry),
            Kind::Sidecar => config(value).map(Self::Sidecar),
            Kind::EnvoyFilter => config(value).map(Self::EnvoyFilter),
            Kind::ProxyConfig => config(value).map(Self::ProxyConfig),
            Kind::PeerAuthentication => config(value).map(Self::PeerAuthentication),
            Kind::RequestAuthentication => config(value).map(Self::RequestAuthentication),
            Kind::AuthorizationPolicy => config(value).map(Self::AuthorizationPolicy),
            Kind::Telemetry => config(value).map(Self::Telemetry),
            Kind::WasmPlugin => config(value).map(Self::WasmPlugin),
        };
        object.map(Some).map_err(|source| ObjectError::Content {
            kind,
            namespace,
            name,
            source,
        })
    }
}
