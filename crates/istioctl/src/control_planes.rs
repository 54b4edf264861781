//! The istiods that a command asks: all, or those of one revision.

use std::collections::BTreeSet;

use status::gather::Instance;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::names::Named;

/// Running control planes of a system namespace.
#[derive(Clone, Debug)]
pub struct ControlPlanes {
    /// Those of all revisions.
    pub all: Vec<Instance>,
    /// Those that are asked.
    pub asked: Vec<Instance>,
    /// What the command was told after `-r`.
    named: Option<Named>,
    system: String,
}

impl ControlPlanes {
    /// Finds them; with a name those of that revision or tag.
    pub async fn find(cluster: &Cluster, system: &str, name: Option<&str>) -> Result<Self, Failure> {
        let named = match name {
            Some(name) => Some(Named::read(cluster, system, Some(name)).await?),
            None => None,
        };
        let all = cluster.istiods(system, None).await?;
        let is_asked = |instance: &&Instance| {
            named
                .as_ref()
                .is_none_or(|named| instance.revision == named.revision.label())
        };
        Ok(Self {
            asked: all.iter().filter(is_asked).cloned().collect(),
            all,
            named,
            system: system.to_owned(),
        })
    }

    /// The revision that is asked about, if it is one.
    pub fn revision(&self) -> Option<&str> {
        self.named.as_ref().map(|named| named.revision.label())
    }

    /// Why nobody is asked: there is no such revision, or none of its istiods runs.
    pub fn nobody(&self) -> Failure {
        let system = &self.system;
        let Some(named) = &self.named else {
            return Failure::new(format!("no running Istio pods in {system:?}"));
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
            "no running Istio pods of revision {:?} in {system:?}; {running}",
            named.revision.label()
        ))
    }
}
