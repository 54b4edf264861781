//! `cluster.json`: what was chosen when the cluster (or a node alone) was first started, and stays.

use std::fs;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::data_dir::{self, DataDir};
use crate::{network, parts};

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFile {
    /// Name of the one node.
    pub node: String,
    /// Number of the network (see [`network`]); none when a node alone was told its addresses.
    pub network: Option<u8>,
    /// Addresses of pods.
    pub pod_cidr: Ipv4Net,
    /// Addresses of services.
    pub service_cidr: Ipv4Net,
    /// Port of the API server; 0 until it has one.
    pub api_port: u16,
    /// For readers of the file: the interface, of whose name all names of the cluster on the machine are made.
    #[serde(default)]
    pub interface: String,
}

impl ClusterFile {
    /// A cluster on network `n`.
    #[must_use]
    pub fn new(n: u8) -> Self {
        ClusterFile {
            node: "drydock".into(),
            network: Some(n),
            pod_cidr: network::pods(n),
            service_cidr: network::services(n),
            api_port: 0,
            interface: String::new(),
        }
    }

    /// Whether this is a node of somebody else's cluster (`drydock node`).
    #[must_use]
    pub fn is_node_alone(&self) -> bool {
        self.network.is_none()
    }

    /// Reads it; `None` where no cluster has been started yet.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn read(dir: &DataDir) -> Result<Option<Self>> {
        let path = dir.cluster_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let file = serde_json::from_slice(&text);
        file.map(Some)
            .with_context(|| format!("{} is damaged: drydock reset makes a new cluster", path.display()))
    }

    /// As [`ClusterFile::read`], for who is to run the whole cluster.
    ///
    /// # Errors
    /// The directory is that of a node alone; and those of `read`.
    pub fn of_cluster(dir: &DataDir) -> Result<Option<Self>> {
        let file = Self::read(dir)?;
        if file.as_ref().is_some_and(ClusterFile::is_node_alone) {
            bail!(
                "{} holds a node of another cluster: give another --data-dir, or forget that node with drydock reset",
                dir.path().display()
            );
        }
        Ok(file)
    }

    /// Writes it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, dir: &DataDir) -> Result<()> {
        let file = ClusterFile {
            interface: parts::node_config(dir, self).bridge(),
            ..self.clone()
        };
        let text = serde_json::to_vec_pretty(&file).context("cannot encode cluster.json")?;
        data_dir::write(&dir.cluster_file(), &text)
    }
}
