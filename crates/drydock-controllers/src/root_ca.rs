//! The ConfigMap `kube-root-ca.crt` of each namespace: how pods know the API server's certificate authority.

/// Name of the ConfigMap.
pub const NAME: &str = "kube-root-ca.crt";
