//! Where a pod lives: everything that its containers, hooks and probes need to know about their surroundings.

use super::fields::Addresses;
use super::sandbox::Sandbox;
use crate::agent::Node;
use crate::runtime::Place;
use crate::volumes::Volumes;
use k8s_openapi::api::core::v1::Pod;
use std::path::PathBuf;
use std::sync::Arc;

/// Shared and cheap to clone.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) node: Arc<Node>,
    /// `<data dir>/node/pods/<uid>`
    pub(crate) dir: PathBuf,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) volumes: Arc<Volumes>,
    /// The pod as it was when it came: for events.
    pub(crate) pod: Arc<Pod>,
}

impl Site {
    pub(crate) fn place(&self, container: &str, attempt: u32) -> Place {
        Place::new(
            &self.dir,
            &self.node.config.run_dir(),
            &self.sandbox.uid,
            container,
            attempt,
        )
    }

    /// The control group above those of the pod's containers.
    pub(crate) fn pod_cgroup(&self) -> String {
        format!("/{}/{}", self.node.config.bridge(), self.sandbox.uid)
    }

    pub(crate) fn cgroup(&self, container: &str, attempt: u32) -> String {
        let place = self.place(container, attempt);
        format!("{}/{}", self.pod_cgroup(), &place.id[..16])
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            pod: self.sandbox.ip.to_string(),
            host: self.node.config.node_ip().to_string(),
        }
    }

    /// A normal event about a container, or about the pod.
    pub(crate) fn event(&self, container: Option<&str>, reason: &str, message: String) {
        self.node.events.pod(&self.pod, container, "Normal", reason, message);
    }

    /// A warning.
    pub(crate) fn warn(&self, container: Option<&str>, reason: &str, message: String) {
        self.node.events.pod(&self.pod, container, "Warning", reason, message);
    }
}
