//! When a cluster is ready: its node is, its DNS answers, and a pod can be made in the namespace `default`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use drydock_node::NodeConfig;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::net::UdpSocket;

const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Returns when the cluster is ready; `part` hears of each part.
pub async fn wait(client: &Client, config: &NodeConfig, part: impl Fn(&str, String)) {
    let account = async {
        named::<ServiceAccount>(Api::namespaced(client.clone(), "default"), "default", |_| true).await;
        part("controllers", String::new());
    };
    let node = async {
        named::<Node>(Api::all(client.clone()), &config.name, is_ready).await;
        part("node", format!("{} {}", config.name, config.pod_cidr));
        if config.serve_dns {
            dns_answers(config.node_ip(), &config.cluster_domain).await;
            part("DNS", config.dns_ip().to_string());
        }
    };
    tokio::join!(account, node);
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.type_ == "Ready")
        .any(|condition| condition.status == "True")
}

/// Waits for an object of that name for which `test` holds.
async fn named<K>(api: Api<K>, name: &str, test: impl Fn(&K) -> bool)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut objects = watcher(api, config).default_backoff().applied_objects().boxed();
    loop {
        match objects.try_next().await {
            Ok(Some(object)) if object.name_any() == name && test(&object) => return,
            Ok(Some(_)) => {}
            // A server that has just started may refuse at first; the watcher comes back.
            Ok(None) | Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    }
}

/// Asks for the API server's own name until there is an answer.
async fn dns_answers(server: Ipv4Addr, domain: &str) {
    let query = query(&format!("kubernetes.default.svc.{domain}"));
    loop {
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await
            && socket.send_to(&query, SocketAddr::from((server, 53))).await.is_ok()
        {
            let mut answer = [0; 512];
            let heard = tokio::time::timeout(BETWEEN_TRIES * 5, socket.recv_from(&mut answer)).await;
            // Same identity, the response bit, no error.
            if let Ok(Ok((length, from))) = heard
                && from.ip() == server
                && length > 12
                && answer[..2] == query[..2]
                && answer[2] & 0x80 != 0
                && answer[3] & 0x0f == 0
            {
                return;
            }
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// A question for the address of `name`.
fn query(name: &str) -> Vec<u8> {
    // Identity, recursion desired, one question.
    let mut message = vec![0x64, 0x64, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label);
    }
    message.extend([0, 0, 1, 0, 1]); // root, type A, class IN
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_is_encoded_by_labels() {
        let message = query("a.bc");
        assert_eq!(&message[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }
}
