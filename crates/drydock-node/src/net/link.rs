//! Interfaces, addresses and routes, over netlink.

use super::namespace::enter;
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use futures::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;

fn failed(what: impl std::fmt::Display) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |e| Error::Network(format!("{what}: {e}"))
}

/// "Exists already" is what a second run should find.
fn unless_there(result: std::result::Result<(), rtnetlink::Error>) -> std::result::Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other,
    }
}

fn connect() -> Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| Error::Network(format!("netlink: {e}")))?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index(handle: &Handle, name: &str) -> Result<Option<u32>> {
    match handle
        .link()
        .get()
        .match_name(name.to_string())
        .execute()
        .try_next()
        .await
    {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(e) => Err(failed(name)(e)),
    }
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    index(handle, name)
        .await?
        .ok_or_else(|| Error::Network(format!("interface {name} is not there")))
}

async fn up(handle: &Handle, index: u32) -> Result<()> {
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .map_err(failed("set up"))
}

/// The node's own address, the route for services, and forwarding.
pub(crate) async fn host_up(config: &NodeConfig) -> Result<()> {
    let (handle, name) = (connect()?, config.bridge());
    unless_there(handle.link().add(LinkBridge::new(&name).build()).execute().await)
        .map_err(failed(format!("create {name} (are we root?)")))?;
    let bridge = index_of(&handle, &name).await?;
    unless_there(
        handle
            .address()
            .add(bridge, config.node_ip().into(), 32)
            .execute()
            .await,
    )
    .map_err(failed(&name))?;
    up(&handle, bridge).await?;
    let services = config.service_cidr;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(services.network(), services.prefix_len())
        .output_interface(bridge)
        .pref_source(config.node_ip())
        .scope(RouteScope::Link)
        .build();
    // Local processes connect to ClusterIPs even where the machine has no default route. Another node of the cluster on
    // this machine may have the route already: to take it over would be to take it away with this node.
    unless_there(handle.route().add(route).execute().await).map_err(failed(format!("route {services}")))?;
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    std::fs::write(forward, "1").map_err(Error::io("write", forward))
}

/// Removes every interface of this cluster; routes and addresses go with them.
pub(crate) async fn host_down(config: &NodeConfig) -> Result<()> {
    let (handle, prefix) = (connect()?, config.bridge());
    let links: Vec<_> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(failed("list"))?;
    for link in links {
        let ours = link
            .attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::IfName(n) if n.starts_with(&prefix)));
        if ours {
            // One end of a pair may already be gone with the other.
            let _ = handle.link().del(link.header.index).execute().await;
        }
    }
    Ok(())
}

/// Wires a pod's namespace to the host: `eth0` inside with `ip`, `name` outside with a route to it.
pub(crate) async fn attach(
    netns: &Path,
    name: &str,
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
    sysctls: Vec<(String, String)>,
) -> Result<()> {
    let host = File::open("/proc/self/ns/net").map_err(Error::io("open", Path::new("/proc/self/ns/net")))?;
    let outside = name.to_string();
    enter(netns, move || {
        for (key, value) in sysctls {
            let path = Path::new("/proc/sys").join(key.replace('.', "/"));
            if let Err(error) = std::fs::write(&path, value) {
                tracing::debug!(%error, path = %path.display(), "sysctl not set");
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::Network(format!("cannot start a runtime: {e}")))?;
        runtime.block_on(inside(&outside, ip, gateway, host))
    })
    .await?;
    let handle = connect()?;
    let link = index_of(&handle, name).await?;
    up(&handle, link).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(ip, 32)
        .output_interface(link)
        .pref_source(gateway)
        .scope(RouteScope::Link)
        .build();
    handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(failed(format!("route {ip}")))
}

async fn inside(outside: &str, ip: Ipv4Addr, gateway: Ipv4Addr, host: File) -> Result<()> {
    let handle = connect()?;
    let lo = index_of(&handle, "lo").await?;
    up(&handle, lo).await?;
    handle
        .link()
        .add(LinkVeth::new("eth0", outside).build())
        .execute()
        .await
        .map_err(failed(outside))?;
    let peer = index_of(&handle, outside).await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(peer).setns_by_fd(host.as_raw_fd()).build())
        .execute()
        .await
        .map_err(failed(outside))?;
    let eth0 = index_of(&handle, "eth0").await?;
    handle
        .address()
        .add(eth0, ip.into(), 32)
        .execute()
        .await
        .map_err(failed(ip))?;
    up(&handle, eth0).await?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway, 32)
        .output_interface(eth0)
        .scope(RouteScope::Link)
        .build();
    handle
        .route()
        .add(to_gateway)
        .execute()
        .await
        .map_err(failed("route to the node"))?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .output_interface(eth0)
        .build();
    handle
        .route()
        .add(default)
        .execute()
        .await
        .map_err(failed("default route"))
}

/// Removes the host's end (and with it the pod's).
pub(crate) async fn detach(name: &str) -> Result<()> {
    let handle = connect()?;
    match index(&handle, name).await? {
        Some(link) => handle.link().del(link).execute().await.map_err(failed(name)),
        None => Ok(()),
    }
}
