//! What the containers of a pod share: network, host name, `/dev/shm`, and the files about names.

use super::{files, key};
use crate::agent::Node;
use crate::error::{Error, Result};
use crate::net;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The shared surroundings of one pod; remembered in `sandbox.json` so that a restarted node goes on with them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ip: Ipv4Addr,
    /// `None`: the pod lives in the host's network.
    pub(crate) netns: Option<PathBuf>,
    /// The host's end of the veth pair.
    link: String,
    pub(crate) started_at: jiff::Timestamp,
}

/// Set for every pod, as containerd does: ports below 1024 need no privilege in a network of one's own.
const SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

impl Sandbox {
    /// Makes the pod's folder, network and name files.
    pub(crate) async fn create(node: &Node, pod: &Pod, dir: &Path) -> Result<Self> {
        let (namespace, name, uid) = key(pod);
        for sub in ["etc", "shm"] {
            let path = dir.join(sub);
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let hash = crate::image::sha256(uid.as_bytes());
        let mut sandbox = Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            ip: node.config.node_ip(),
            netns: None,
            link: format!("{}-{}", node.config.bridge(), &hash[..6]),
            started_at: jiff::Timestamp::now(),
        };
        if !host_network {
            sandbox.ip = node.addresses.take()?;
            sandbox.netns = Some(node.config.run_dir().join("netns").join(uid));
        }
        if let Err(error) = sandbox.make(node, pod, dir).await {
            sandbox.remove(node, dir).await;
            return Err(error);
        }
        Ok(sandbox)
    }

    async fn make(&self, node: &Node, pod: &Pod, dir: &Path) -> Result<()> {
        if let Some(netns) = &self.netns {
            self.wire(node, pod, netns).await?;
        }
        let shm = dir.join("shm");
        nix::mount::mount(
            Some("shm"),
            &shm,
            Some("tmpfs"),
            nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV | nix::mount::MsFlags::MS_NOEXEC,
            Some("mode=1777,size=65536k"),
        )
        .map_err(Error::errno("mount", &shm))?;
        self.write_names(node, pod, dir)?;
        let file = dir.join("sandbox.json");
        let data = serde_json::to_vec(self).map_err(|e| Error::Pod(e.to_string()))?;
        std::fs::write(&file, data).map_err(Error::io("write", &file))
    }

    async fn wire(&self, node: &Node, pod: &Pod, netns: &Path) -> Result<()> {
        net::create(netns).await?;
        net::detach(&self.link).await?;
        let own = pod
            .spec
            .iter()
            .flat_map(|s| s.security_context.iter())
            .flat_map(|s| s.sysctls.iter().flatten());
        let defaults = SYSCTLS.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string()));
        let sysctls = defaults
            .chain(
                own.filter(|s| s.name.starts_with("net."))
                    .map(|s| (s.name.clone(), s.value.clone())),
            )
            .collect();
        net::attach(netns, &self.link, self.ip, node.config.node_ip(), sysctls).await
    }

    fn write_names(&self, node: &Node, pod: &Pod, dir: &Path) -> Result<()> {
        let host_resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let hosts = match &self.netns {
            Some(_) => files::hosts(pod, &self.ip.to_string(), &node.config.cluster_domain),
            None => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        };
        let resolv = files::resolv_conf(pod, &node.config, node.objects.dns_ip().as_deref(), &host_resolv);
        for (name, text) in [
            ("hosts", hosts),
            ("resolv.conf", resolv),
            ("hostname", format!("{}\n", self.hostname(node, pod))),
        ] {
            let path = dir.join("etc").join(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    pub(crate) fn hostname(&self, node: &Node, pod: &Pod) -> String {
        match &self.netns {
            Some(_) if pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true) => {
                files::fqdn(pod, &node.config.cluster_domain).unwrap_or_else(|| files::hostname(pod))
            }
            Some(_) => files::hostname(pod),
            None => node.config.name.clone(),
        }
    }

    /// The sandbox that an earlier node process left, if it is still whole (a reboot takes the network away).
    pub(crate) fn restore(dir: &Path) -> Option<Self> {
        let sandbox = Self::read(dir)?;
        let alive = match &sandbox.netns {
            Some(path) => nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type().0 == NSFS),
            None => true,
        };
        alive.then_some(sandbox)
    }

    pub(crate) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join("sandbox.json")).ok()?).ok()
    }

    /// Takes the network down and gives the address back.
    pub(crate) async fn remove(&self, node: &Node, dir: &Path) {
        if let Some(netns) = &self.netns {
            if let Err(error) = net::detach(&self.link).await {
                tracing::warn!(pod = %self.name, %error, "interface not removed");
            }
            net::remove(netns);
            node.addresses.release(self.ip);
        }
        let _ = nix::mount::umount2(&dir.join("shm"), nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(dir.join("sandbox.json"));
    }
}

/// `f_type` of a bound namespace (linux/magic.h).
const NSFS: nix::libc::c_long = 0x6e73_6673;
