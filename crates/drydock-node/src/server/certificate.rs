//! The certificate that the kubelet server shows.
//!
//! It is given by whoever starts the node, or the node asks the cluster for one, as kubelet does with
//! `serverTLSBootstrap`: a signing request for `kubernetes.io/kubelet-serving`. Until that is signed (an API server that
//! does not verify its nodes needs nothing signed) it shows one of its own making.

use crate::agent::Node;
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long the signer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until another try when it did not sign: the API server may be starting, or have no signer at all.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(600);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// Asked for: a day, renewed when two thirds of it are over.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// The certificate of the moment.
#[derive(Debug)]
pub(super) struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Shown {
    /// What was given, or a self-signed one.
    pub(super) fn first(config: &NodeConfig) -> Result<Self> {
        let key = match &config.serving {
            Some(given) => certified(&given.cert_pem, &given.key_pem)?,
            None => {
                let own = rcgen::generate_simple_self_signed(names(config)).map_err(failed)?;
                certified(own.cert.pem().as_bytes(), own.signing_key.serialize_pem().as_bytes())?
            }
        };
        Ok(Self(RwLock::new(Arc::new(key))))
    }

    /// Keeps a certificate of the cluster, if none was given and the cluster signs one.
    pub(super) async fn keep(&self, node: &Node) {
        if node.config.serving.is_some() {
            return std::future::pending().await;
        }
        let mut retry = FIRST_RETRY;
        loop {
            let pause = match request(node).await {
                Ok(key) => {
                    retry = FIRST_RETRY;
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    LIFETIME.mul_f64(2.0 / 3.0)
                }
                Err(error) => {
                    tracing::debug!(%error, "no serving certificate from the cluster");
                    let pause = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn names(config: &NodeConfig) -> Vec<String> {
    vec![config.name.clone(), config.node_ip().to_string()]
}

fn certified(cert_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey> {
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(failed)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(failed)?;
    Ok(CertifiedKey::new(chain.map_err(failed)?, key))
}

/// Has a new key signed by the cluster. The request is approved at once where the node's credentials allow it (an
/// administrator's do); elsewhere an administrator approves it, and a later try finds it signed.
async fn request(node: &Node) -> Result<CertifiedKey> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names(&node.config)).map_err(failed)?;
    let subject = &mut params.distinguished_name;
    subject.remove(DnType::CommonName);
    subject.push(DnType::OrganizationName, "system:nodes");
    subject.push(DnType::CommonName, format!("system:node:{}", node.config.name));
    let pem = params.serialize_request(&key).and_then(|r| r.pem()).map_err(failed)?;
    let api: Api<CertificateSigningRequest> = Api::all(node.client.clone());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".into()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["digital signature".into(), "server auth".into()]),
            expiration_seconds: i32::try_from(LIFETIME.as_secs()).ok(),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let created = api.create(&PostParams::default(), &object).await?;
    let name = created.metadata.name.unwrap_or_default();
    let approval = json!({"status": {"conditions": [{
        "type": "Approved", "status": "True", "reason": "DrydockNode", "message": "the node's own serving certificate",
    }]}});
    api.patch_approval(&name, &PatchParams::default(), &Patch::Merge(approval))
        .await?;
    let signed = tokio::time::timeout(PATIENCE, async {
        loop {
            let now = api.get(&name).await?;
            if let Some(cert) = now.status.and_then(|s| s.certificate).filter(|c| !c.0.is_empty()) {
                return Ok::<_, Error>(cert.0);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    });
    let cert = signed
        .await
        .map_err(|_| Error::Tls(format!("{name} was not signed within {PATIENCE:?}")))??;
    let _ = api.delete(&name, &DeleteParams::default()).await;
    certified(&cert, key.serialize_pem().as_bytes())
}
