//! All keys and certificates the server needs, kept in `pki/` of the data directory.

use super::{
    pki::{self, ClusterCa, Identity, PkiError},
    token::TokenKey,
    user::MASTERS,
};
use std::{path::Path, sync::Arc};

/// The server's keys.
#[derive(Debug)]
pub struct Keys {
    /// The cluster's root.
    pub ca: ClusterCa,
    /// Signs service account tokens.
    pub tokens: Arc<TokenKey>,
    /// The server as a client of nodes.
    pub node_client: Identity,
}

impl Keys {
    /// Loads the keys under `data_dir`, or makes them there.
    ///
    /// # Errors
    /// When files cannot be read or written, or hold something else.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, PkiError> {
        let dir = data_dir.join("pki");
        let ca = ClusterCa::load_or_create(&dir)?;
        let tokens = Arc::new(TokenKey::load_or_create(&dir)?);
        let node_client = ca.client("kube-apiserver-kubelet-client", MASTERS)?;
        Ok(Keys { ca, tokens, node_client })
    }

    /// The serving certificate for the given names, with those by which pods know the server.
    ///
    /// # Errors
    /// When a name is not a valid subject alternative name.
    pub fn serving(&self, extra: &[String]) -> Result<Identity, PkiError> {
        let usual = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "::1",
        ];
        let mut names: Vec<String> = usual.iter().map(|n| (*n).to_owned()).collect();
        names.extend(extra.iter().filter(|n| !usual.contains(&n.as_str())).cloned());
        self.ca.server("kube-apiserver", &names)
    }

    /// A kubeconfig of the administrator.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn admin_kubeconfig(&self, cluster: &str, server: &str) -> Result<String, PkiError> {
        self.kubeconfig(cluster, server, "kubernetes-admin", MASTERS)
    }

    /// A kubeconfig of the controllers.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn controllers_kubeconfig(&self, cluster: &str, server: &str) -> Result<String, PkiError> {
        self.kubeconfig(cluster, server, "system:kube-controller-manager", "")
    }

    /// A kubeconfig of the node called `node`.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn node_kubeconfig(&self, cluster: &str, server: &str, node: &str) -> Result<String, PkiError> {
        self.kubeconfig(cluster, server, &format!("system:node:{node}"), "system:nodes")
    }

    /// A kubeconfig of any user, in one group or none.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn kubeconfig(&self, cluster: &str, server: &str, user: &str, group: &str) -> Result<String, PkiError> {
        let identity = self.ca.client(user, group)?;
        Ok(pki::kubeconfig(cluster, server, self.ca.cert_pem(), user, &identity))
    }
}
