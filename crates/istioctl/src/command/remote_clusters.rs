//! `istioctl remote-clusters`: the clusters that each istiod is connected to.

use std::time::Duration;

use clap::Args;
use status::clusters::Member;
use status::forward::Forward;
use status::gather::{self, Answer};

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::control_planes::{ControlPlanes, Discovery};
use crate::failure::Failure;
use crate::out;
use crate::table::{columns, row};

/// Spaces between columns.
const PADDING: usize = 5;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Only control planes of this revision.
    #[arg(short, long)]
    revision: Option<String>,
    /// How long each istiod may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    discovery: Discovery,
}

/// Asks every istiod, and prints.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let planes = ControlPlanes::find(&cluster, system, flags.revision.as_deref(), &flags.discovery).await?;
    if planes.asked.is_empty() {
        return Err(planes.nobody());
    }
    let ask = Forward::new(cluster.reach.clone(), system);
    let answers = gather::clusters(&ask, &planes.asked, flags.timeout).await;
    out::put(&table(&answers));
    let mut silent = 0;
    for answer in &answers {
        if let Err(error) = &answer.result {
            silent += 1;
            anstream::eprintln!(
                "❗ {} does not say which clusters it knows: {error}",
                answer.instance.pod
            );
        }
    }
    if silent == answers.len() {
        return Err(Failure::new("no control plane answered"));
    }
    Ok(())
}

fn table(answers: &[Answer<Vec<Member>>]) -> String {
    let mut rows = vec![row(["NAME", "SECRET", "STATUS", "ISTIOD", "REVISION"])];
    for answer in answers {
        for member in answer.result.iter().flatten() {
            let Answer { instance, .. } = answer;
            rows.push(row([
                &member.id,
                &member.secret_name,
                &member.sync_status,
                &instance.pod,
                &instance.revision,
            ]));
        }
    }
    columns(&rows, PADDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use status::gather::Instance;

    #[test]
    fn each_istiod_has_its_clusters() {
        let instance = |pod: &str, revision: &str| Instance {
            pod: pod.to_owned(),
            revision: revision.to_owned(),
            component: "istiod".to_owned(),
        };
        let member = |id: &str, secret: &str, status: &str| Member {
            id: id.to_owned(),
            secret_name: secret.to_owned(),
            sync_status: status.to_owned(),
        };
        let answers = [
            Answer {
                instance: instance("istiod-a", "default"),
                result: Ok(vec![
                    member("Kubernetes", "", "synced"),
                    member("west", "istio-system/istio-remote-secret-west", "syncing"),
                ]),
            },
            Answer {
                instance: instance("istiod-b", "canary"),
                result: Err("connection refused".to_owned()),
            },
        ];
        assert_eq!(
            table(&answers),
            "NAME           SECRET                                    STATUS      ISTIOD       REVISION\n\
             Kubernetes                                               synced      istiod-a     default\n\
             west           istio-system/istio-remote-secret-west     syncing     istiod-a     default\n"
        );
    }
}
