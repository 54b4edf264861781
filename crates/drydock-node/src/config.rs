//! What a node must be told, and every name it derives from that.

use crate::error::{Error, Result};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A certificate and its key.
#[derive(Clone)]
pub struct Serving {
    /// Certificate chain, leaf first, PEM.
    pub cert_pem: Vec<u8>,
    /// Private key, PEM.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

/// Configuration of one node. Two nodes with different `data_dir` and different networks run side by side on one machine.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of the Node object; also the host name of `hostNetwork` pods.
    pub name: String,
    /// Everything that must survive a restart: images, pods, container roots, logs. The node uses `<data_dir>/node`.
    pub data_dir: PathBuf,
    /// Pods get their addresses from here; the first address is the node's own (`status.addresses` InternalIP).
    pub pod_cidr: Ipv4Net,
    /// ClusterIPs; the tenth address is the cluster DNS.
    pub service_cidr: Ipv4Net,
    /// Cluster domain, usually `cluster.local`.
    pub cluster_domain: String,
    /// Port of the kubelet server on the node's address; 0 takes a free one.
    pub kubelet_port: u16,
    /// PEM certificates of the authority that signs the API server's client certificate (the cluster CA). What the API
    /// server publishes in `kube-system/extension-apiserver-authentication` counts too.
    pub client_ca_pem: Vec<u8>,
    /// PEM certificates of the authority that signs the API server's own certificate: it counts as that of its clients
    /// where none is published.
    pub server_ca_pem: Vec<u8>,
    /// Answer callers of the kubelet port that show neither certificate nor token: for an API server that was given
    /// none, on a network where nobody else reaches the port.
    pub allow_anonymous: bool,
    /// The Node carries the role `control-plane`: the API server runs beside it.
    pub control_plane: bool,
    /// What the kubelet server shows; `None`: the node asks the cluster for a certificate, and shows a self-signed one
    /// as long as it gets none (enough for an API server that does not verify its nodes).
    pub serving: Option<Serving>,
    /// Serve cluster DNS (and own `kube-system/kube-dns`). Off where the cluster brings its own DNS.
    pub serve_dns: bool,
    /// Program and arguments that run [`crate::shim::main`]; the node appends its own arguments.
    /// `None`: this executable with the argument `shim`.
    pub shim_command: Option<Vec<String>>,
    /// The OCI runtime; `None` takes `runc` or `crun`, whichever is on the path.
    pub runtime: Option<PathBuf>,
}

impl NodeConfig {
    /// A configuration with the usual values: DNS on, a free kubelet port, domain `cluster.local`.
    pub fn new(
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        pod_cidr: Ipv4Net,
        service_cidr: Ipv4Net,
    ) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            pod_cidr,
            service_cidr,
            cluster_domain: "cluster.local".into(),
            kubelet_port: 0,
            client_ca_pem: Vec::new(),
            server_ca_pem: Vec::new(),
            allow_anonymous: false,
            control_plane: false,
            serving: None,
            serve_dns: true,
            shim_command: None,
            runtime: None,
        }
    }

    /// The node's address on the pod network: the first of `pod_cidr`. It is the gateway of every pod, the node's
    /// InternalIP, where LoadBalancer services answer, and where cluster DNS listens. Being inside the cluster's own
    /// range it never collides with a second cluster on the same machine.
    pub fn node_ip(&self) -> Ipv4Addr {
        nth(self.pod_cidr, 1)
    }

    /// ClusterIP of `kube-system/kube-dns`: the tenth address of `service_cidr`.
    pub fn dns_ip(&self) -> Ipv4Addr {
        nth(self.service_cidr, 10)
    }

    /// Folder of the image store.
    pub fn image_dir(&self) -> PathBuf {
        self.node_dir().join("images")
    }

    pub(crate) fn node_dir(&self) -> PathBuf {
        self.data_dir.join("node")
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.node_dir().join("pods")
    }

    /// Sockets, network namespaces and the runtime's state: gone after a reboot, as what they describe.
    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new("/run/drydock").join(self.id())
    }

    /// Eight characters that tell this cluster's interfaces, tables and cgroups from another's.
    pub(crate) fn id(&self) -> String {
        let path = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_os_str().as_encoded_bytes());
        digest
            .as_ref()
            .iter()
            .take(3)
            .map(|b| format!("{b:02x}"))
            .fold("dd".to_string(), |acc, hex| acc + &hex)
    }

    /// Interface that holds the node's address. Pod interfaces are called `<this>-…`.
    pub fn bridge(&self) -> String {
        self.id()
    }

    /// Name of the nftables table (family `ip`).
    pub fn nft_table(&self) -> String {
        format!("drydock_{}", self.id())
    }

    pub(crate) fn shim(&self) -> Result<Vec<String>> {
        if let Some(command) = &self.shim_command {
            return Ok(command.clone());
        }
        let exe = std::env::current_exe().map_err(Error::io("find", Path::new("/proc/self/exe")))?;
        // A rebuilt binary leaves "… (deleted)" behind; the new file at the same place serves as well.
        let exe = exe.to_string_lossy().trim_end_matches(" (deleted)").to_string();
        Ok(vec![exe, "shim".into()])
    }

    pub(crate) fn runtime(&self) -> Result<PathBuf> {
        if let Some(path) = &self.runtime {
            return Ok(path.clone());
        }
        let dirs: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|p| std::env::split_paths(&p).collect())
            .unwrap_or_default();
        let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let candidates = ["runc", "crun"]
            .into_iter()
            .flat_map(|name| dirs.iter().chain(&sbin).map(move |d| d.join(name)));
        candidates
            .into_iter()
            .find(|p| p.is_file())
            .ok_or_else(|| Error::Command {
                command: "runc".into(),
                message: "neither runc nor crun is on the path: install one (apt-get install runc)".into(),
            })
    }
}

/// The n-th address of a network, counted from its base; stays inside for any prefix the node accepts.
pub(crate) fn nth(net: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits().saturating_add(n).min(net.broadcast().to_bits()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_follow_from_the_data_folder() {
        let config = |dir: &str| {
            NodeConfig::new(
                "n",
                dir,
                "10.244.3.0/24".parse().unwrap(),
                "10.96.0.0/16".parse().unwrap(),
            )
        };
        let (a, b) = (config("/tmp/a"), config("/tmp/b"));
        assert_eq!(a.bridge().len(), 8);
        assert_ne!(a.bridge(), b.bridge());
        assert_eq!(a.nft_table(), format!("drydock_{}", a.bridge()));
        assert_eq!(
            (a.node_ip().to_string(), a.dns_ip().to_string()),
            ("10.244.3.1".into(), "10.96.0.10".into())
        );
    }
}
