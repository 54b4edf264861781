//! A connection to istiod: whom to trust, what to prove, how to notice that it is gone (control-plane.md §4.4, §4.5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::workload::Workload;

/// Token of the pod's service account, for audience `istio-ca`.
pub const TOKEN: &str = "./var/run/secrets/tokens/istio-token";
/// Roots of the mesh, from the ConfigMap `istio-ca-root-cert`.
pub const ROOT: &str = "./var/run/secrets/istio/root-cert.pem";

/// How to reach one of istiod's services.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// `host:port`.
    pub address: String,
    /// Name to expect in the certificate; by default the host.
    pub server_name: String,
    /// No TLS: port 15010 or `controlPlaneAuthPolicy: NONE`.
    pub plaintext: bool,
    /// File with the roots.
    pub root: PathBuf,
    /// File with the token; it need not be there.
    pub token: PathBuf,
    /// `ClusterID` header.
    pub cluster_id: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The roots cannot be read.
    #[error("cannot read the mesh's roots {}: {why}; the ConfigMap istio-ca-root-cert is mounted there", path.display())]
    Root {
        /// File.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The address is not one.
    #[error("{address:?} is not host:port: {why}")]
    Address {
        /// As configured.
        address: String,
        /// What the parser said.
        why: String,
    },
    /// Nobody there, or the handshake failed.
    #[error("cannot connect to {address}: {why}")]
    Transport {
        /// `host:port`.
        address: String,
        /// The whole chain of causes.
        why: String,
    },
}

impl ControlPlane {
    /// For `address`, with TLS unless it is the plaintext port.
    pub fn new(address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let server_name = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            address: address.to_owned(),
            // istiod's certificate names its service; on a developer's machine it is reached as localhost.
            server_name: if server_name == "localhost" {
                "istiod.istio-system.svc"
            } else {
                server_name
            }
            .to_owned(),
            plaintext: port == "15010",
            root: PathBuf::from(ROOT),
            token: PathBuf::from(TOKEN),
            cluster_id: String::new(),
            headers: BTreeMap::new(),
        }
    }

    /// Connects. With `workload`, and if there is no token to present, its certificate is the proof.
    ///
    /// # Errors
    /// If the roots cannot be read, or the connection or handshake fails.
    pub async fn connect(&self, workload: Option<&Workload>) -> Result<Channel, ConnectError> {
        let scheme = if self.plaintext { "http" } else { "https" };
        let address = |why: String| ConnectError::Address {
            address: self.address.clone(),
            why,
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|e| address(e.to_string()))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            // A half-open connection is noticed within this time, whatever the network swallowed.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(2 * 1024 * 1024);
        if !self.plaintext {
            let roots = read_bounded(&self.root).await.map_err(|why| ConnectError::Root {
                path: self.root.clone(),
                why,
            })?;
            let mut tls = ClientTlsConfig::new()
                .domain_name(self.server_name.clone())
                .ca_certificate(Certificate::from_pem(roots));
            if let Some(workload) = workload.filter(|_| !self.token.exists()) {
                tls = tls.identity(Identity::from_pem(&workload.chain_pem, workload.key_pem()));
            }
            endpoint = endpoint.tls_config(tls).map_err(|e| address(causes(&e)))?;
        }
        let transport = |e| ConnectError::Transport {
            address: self.address.clone(),
            why: causes(&e),
        };
        endpoint.connect().await.map_err(transport)
    }

    /// Headers of a call: token (read afresh, because the kubelet renews it), cluster, and configured ones.
    pub async fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        if let Ok(token) = read_bounded(&self.token).await
            && let Ok(mut value) = MetadataValue::try_from(format!("Bearer {}", String::from_utf8_lossy(&token).trim()))
        {
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        let cluster = (!self.cluster_id.is_empty()).then_some(("clusterid", self.cluster_id.as_str()));
        for (key, value) in cluster
            .into_iter()
            .chain(self.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())))
        {
            let key = MetadataKey::from_bytes(key.to_ascii_lowercase().as_bytes());
            match (key, MetadataValue::try_from(value)) {
                (Ok(key), Ok(value)) => drop(metadata.insert(key, value)),
                _ => tracing::warn!("a configured header of the discovery stream is malformed and is left out"),
            }
        }
        metadata
    }
}

/// Roots and tokens are small; anything longer is a mistake.
async fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    const MAX: u64 = 1024 * 1024;
    let length = tokio::fs::metadata(path).await?.len();
    if length > MAX {
        return Err(std::io::Error::other(format!(
            "{length} bytes are more than the {MAX} allowed"
        )));
    }
    tokio::fs::read(path).await
}

/// An error with everything that caused it; outer layers of a transport say little.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports() {
        let check = |address: &str, name: &str, plaintext: bool| {
            let plane = ControlPlane::new(address);
            assert_eq!(
                (plane.server_name.as_str(), plane.plaintext),
                (name, plaintext),
                "{address}"
            );
        };
        check(
            "istiod-canary.istio-system.svc:15012",
            "istiod-canary.istio-system.svc",
            false,
        );
        check("istiod.istio-system.svc:15010", "istiod.istio-system.svc", true);
        check("localhost:15012", "istiod.istio-system.svc", false);
        check("[::1]:15012", "::1", false);
    }
}
