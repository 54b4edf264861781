//! The istiods that a command asks: all, or those of one revision.

use std::collections::BTreeSet;

use clap::Args;
use status::gather::Instance;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::names::Named;

/// Flags by which Istio's program reaches istiods. Here they are asked through the API server's port-forward, so that most
/// of them have nothing to say.
#[derive(Clone, Debug, Default, Args)]
pub struct Discovery {
    /// Only control planes whose pods have these labels.
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub xds_label: Option<String>,
    /// Refused: nothing is reached by an address.
    #[arg(long, hide = true, value_parser = no_address)]
    pub xds_address: Option<String>,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub xds_port: Option<u16>,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub cert_dir: Option<String>,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub authority: Option<String>,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub insecure: bool,
    /// Accepted for Istio's sake; has no effect.
    #[arg(long, hide = true)]
    pub plaintext: bool,
}

fn no_address(_: &str) -> Result<String, String> {
    let way =
        "istiods are asked through the API server, not by an address; --kubeconfig and --context name another cluster";
    Err(way.to_owned())
}

/// Running control planes of a system namespace.
#[derive(Clone, Debug)]
pub struct ControlPlanes {
    /// Those of all revisions.
    pub all: Vec<Instance>,
    /// Those that are asked.
    pub asked: Vec<Instance>,
    /// What the command was told after `-r`.
    named: Option<Named>,
    /// Labels that it was told to go by.
    labels: Option<String>,
    system: String,
}

impl ControlPlanes {
    /// Finds them; with a name those of that revision or tag.
    pub async fn find(
        cluster: &Cluster,
        system: &str,
        name: Option<&str>,
        discovery: &Discovery,
    ) -> Result<Self, Failure> {
        let named = match name {
            Some(name) => Some(Named::read(cluster, system, Some(name)).await?),
            None => None,
        };
        let all = cluster.istiods(system, None).await?;
        let labelled = match &discovery.xds_label {
            Some(labels) => Some(cluster.running(system, labels).await?),
            None => None,
        };
        let is_asked = |instance: &&Instance| {
            named
                .as_ref()
                .is_none_or(|named| instance.revision == named.revision.label())
                && labelled.as_ref().is_none_or(|labelled| labelled.contains(instance))
        };
        Ok(Self {
            asked: all.iter().filter(is_asked).cloned().collect(),
            all,
            named,
            labels: discovery.xds_label.clone(),
            system: system.to_owned(),
        })
    }

    /// The revision that is asked about, if it is one.
    pub fn revision(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.revision.label())
    }

    /// Whether running ones were left out by their labels: what they know is not known then.
    pub fn leaves_out(&self) -> bool {
        self.labels.is_some() && self.asked.len() < self.all.len()
    }

    /// Why nobody is asked: there is no such revision, or none of its istiods runs.
    pub fn nobody(&self) -> Failure {
        let system = &self.system;
        let labels = self.labels.as_ref().map(|labels| format!(" with the labels {labels}"));
        let labels = labels.unwrap_or_default();
        let Some(named) = &self.named else {
            return Failure::new(format!("no running Istio pods{labels} in {system:?}"));
        };
        if let Some(absent) = &named.absent {
            return Failure::new(absent);
        }
        let running: BTreeSet<&str> = self.all.iter().map(|instance| instance.revision.as_str()).collect();
        let running = match running.into_iter().collect::<Vec<_>>().as_slice() {
            [] => "none of another, either".to_owned(),
            names => format!("running here: {}", names.join(", ")),
        };
        Failure::new(format!(
            "no running Istio pods of revision {:?}{labels} in {system:?}; {running}",
            named.revision.label()
        ))
    }
}
