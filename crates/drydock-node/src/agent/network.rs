//! Services and DNS follow the objects: rules and zone are rebuilt when something changed, at once and then at most
//! every few milliseconds.

use super::Node;
use crate::dns::{self, Forward, Zone};
use crate::error::Result;
use crate::services::{self, Here, Table};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Changes that come closer together than this are taken together.
const GATHER: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);
/// The node registers itself at the same time.
const UNTIL_REGISTERED: Duration = Duration::from_millis(20);
const DNS_PORT: u16 = 53;

/// Binds the DNS port and returns the task that keeps everything up to date.
pub(super) async fn start(node: Arc<Node>) -> Result<impl Future<Output = ()>> {
    let (zone_tx, zone) = watch::channel(None);
    let dns = if node.config.serve_dns {
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let address = SocketAddr::new(node.config.node_ip().into(), DNS_PORT);
        let forward = Forward::from_resolv_conf(&host, IpAddr::V4(node.config.dns_ip()));
        Some(dns::serve(address, zone, forward).await?)
    } else {
        None
    };
    Ok(async move {
        let serving = async {
            match dns {
                Some(server) => {
                    tokio::join!(server, own_service(&node));
                }
                None => std::future::pending().await,
            }
        };
        tokio::join!(serving, follow(&node, &zone_tx));
    })
}

async fn follow(node: &Node, zone: &watch::Sender<Option<Arc<Zone>>>) {
    node.objects.network_known().await;
    let mut applied: Option<Table> = None;
    loop {
        let (services, slices) = (node.objects.services(), node.objects.slices());
        zone.send_replace(Some(Arc::new(Zone::build(
            &node.config.cluster_domain,
            &services,
            &slices,
        ))));
        let pods: Vec<Arc<Pod>> = node.workers().iter().filter_map(|h| h.pod.borrow().clone()).collect();
        let table = Table::build(
            &services,
            &slices,
            &pods,
            &Here {
                node: node.config.name.clone(),
                addresses: node_ips(node),
            },
        );
        if applied.as_ref() != Some(&table) {
            match services::apply(&node.config, &table).await {
                Ok(()) => applied = Some(table),
                Err(error) => {
                    tracing::warn!(%error, "service rules not applied");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        node.objects.network.notified().await;
        tokio::time::sleep(GATHER).await;
    }
}

/// The node's own address, and the one under which others on the network know the machine.
fn node_ips(node: &Node) -> Vec<Ipv4Addr> {
    let mut out = vec![node.config.node_ip()];
    // Connecting a datagram socket sends nothing; it only asks the kernel which address it would use.
    let outside =
        std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("198.51.100.1:9").and_then(|()| s.local_addr()));
    if let Ok(SocketAddr::V4(address)) = outside
        && !address.ip().is_loopback()
        && !out.contains(address.ip())
    {
        out.push(*address.ip());
    }
    out
}

/// `kube-system/kube-dns`, whose endpoints are the nodes that serve DNS: each answers its own pods.
async fn own_service(node: &Node) {
    while let Err(error) = write_service(node).await {
        tracing::debug!(%error, "kube-dns not written yet");
        tokio::time::sleep(UNTIL_REGISTERED).await;
    }
    std::future::pending().await
}

async fn write_service(node: &Node) -> Result<(), kube::Error> {
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"});
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": node.config.dns_ip(), "internalTrafficPolicy": "Local", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": DNS_PORT}, {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": DNS_PORT}]},
    }))
    .map_err(kube::Error::SerdeError)?;
    let services: Api<Service> = Api::namespaced(node.client.clone(), "kube-system");
    // Asked first: a second create would be refused for its address before it is refused for its name.
    match services.get_opt("kube-dns").await? {
        None => drop(services.create(&PostParams::default(), &service).await?),
        Some(found) if found.spec.as_ref().is_some_and(|s| s.selector.is_some()) => {
            tracing::info!("the cluster has a DNS of its own: this node's is not added to kube-system/kube-dns");
            return Ok(());
        }
        Some(_) => {}
    }
    // Goes with the Node object.
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(node.client.clone());
    let owner = nodes.get(&node.config.name).await?.owner_ref(&());
    let name = format!("kube-dns-{}", node.config.name);
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "kube-system", "ownerReferences": owner.into_iter().collect::<Vec<_>>(), "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "drydock-node"}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": DNS_PORT, "protocol": "UDP"}, {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [node.config.node_ip()], "conditions": {"ready": true}, "nodeName": node.config.name}],
    }))
    .map_err(kube::Error::SerdeError)?;
    let slices: Api<EndpointSlice> = Api::namespaced(node.client.clone(), "kube-system");
    if unless_there(slices.create(&PostParams::default(), &slice).await)? {
        let patch = Patch::Merge(
            json!({"metadata": {"ownerReferences": slice.metadata.owner_references}, "endpoints": slice.endpoints, "ports": slice.ports}),
        );
        slices.patch(&name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// `true` if the object was there already.
fn unless_there<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(false),
        Err(kube::Error::Api(e)) if e.code == 409 => Ok(true),
        Err(error) => Err(error),
    }
}
