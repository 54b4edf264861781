//! Living beside a container engine: docker sets the policy for forwarded packets to DROP, and an accept in our own
//! table does not overrule a drop in another. So the cluster's interfaces are let through where that has happened.

use crate::config::NodeConfig;
use tokio::process::Command;

const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// The rules of one cluster: from and to its interfaces (`name+` is iptables' wildcard).
fn rules(config: &NodeConfig) -> [[String; 2]; 2] {
    let interfaces = format!("{}+", config.bridge());
    [["-i".into(), interfaces.clone()], ["-o".into(), interfaces]]
}

async fn iptables(args: &[&str]) -> Option<std::process::Output> {
    let run = Command::new("iptables")
        .args(["-w", "5"])
        .args(args)
        .env("PATH", PATH)
        .kill_on_drop(true)
        .output();
    run.await.ok()
}

/// Lets forwarded packets of this cluster through if they would be dropped.
pub(crate) async fn allow(config: &NodeConfig) {
    let policy = iptables(&["-S", "FORWARD"]).await;
    let drops = policy.is_some_and(|o| String::from_utf8_lossy(&o.stdout).contains("-P FORWARD DROP"));
    if !drops {
        return;
    }
    for [flag, interface] in rules(config) {
        let known = iptables(&["-C", "FORWARD", &flag, &interface, "-j", "ACCEPT"]).await;
        if !known.is_some_and(|o| o.status.success()) {
            iptables(&["-I", "FORWARD", &flag, &interface, "-j", "ACCEPT"]).await;
        }
    }
}

/// Removes what [`allow`] has added.
pub(crate) async fn forget(config: &NodeConfig) {
    for [flag, interface] in rules(config) {
        iptables(&["-D", "FORWARD", &flag, &interface, "-j", "ACCEPT"]).await;
    }
}
