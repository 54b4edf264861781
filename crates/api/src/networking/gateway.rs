//! Gateway: what a proxy at the edge listens on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Port;

/// Servers of a gateway workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// What it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// Labels of the workloads that serve it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
}

/// One port of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Address to listen on; all by default.
    pub bind: String,
    /// Hosts that are served, `namespace/host` allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Where traffic goes by default (not used).
    pub default_endpoint: String,
    /// Name, unique in the gateway.
    pub name: String,
}

/// TLS of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Redirects plain HTTP to HTTPS.
    pub https_redirect: bool,
    /// PASSTHROUGH, SIMPLE, MUTUAL, AUTO_PASSTHROUGH, ISTIO_MUTUAL or OPTIONAL_MUTUAL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// File with the server's certificate.
    pub server_certificate: String,
    /// File with the server's key.
    pub private_key: String,
    /// File with the authorities of clients.
    pub ca_certificates: String,
    /// File with the revocation list.
    pub ca_crl: String,
    /// Secret with certificate, key and authorities.
    pub credential_name: String,
    /// Secrets with certificates of different kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credential_names: Vec<String>,
    /// ConfigMap or Secret with the authorities of clients.
    pub ca_cert_credential_name: String,
    /// Files with certificates of different kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names that a client's certificate may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Hashes of public keys that a client's certificate may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verify_certificate_spki: Vec<String>,
    /// Hashes that a client's certificate may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verify_certificate_hash: Vec<String>,
    /// Lowest version: TLS_AUTO, TLSV1_0 … TLSV1_3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_protocol_version: Option<String>,
    /// Highest version: TLS_AUTO, TLSV1_0 … TLSV1_3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_protocol_version: Option<String>,
    /// Cipher suites.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
}

/// Files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCertificate {
    /// File with the certificate.
    pub server_certificate: String,
    /// File with the key.
    pub private_key: String,
    /// File with the authorities of clients.
    pub ca_certificates: String,
}
