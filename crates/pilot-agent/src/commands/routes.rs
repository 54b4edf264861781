//! What TPROXY and the IPv6 pass-through address need beside the rules, said to the kernel directly: the proxy's image
//! has no `ip`.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use capture::Config;
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

/// Source of the proxy's inbound pass-through connections. In IPv4 all of 127.0.0.0/8 is local without asking.
const PASSTHROUGH: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// Adds addresses, rules and routes that are not there yet.
///
/// # Errors
/// If the kernel refuses.
pub(super) async fn add(config: &Config) -> anyhow::Result<()> {
    if !config.enable_ipv6 && !config.is_tproxy() {
        return Ok(());
    }
    let (connection, netlink, _) = rtnetlink::new_connection().context("cannot speak netlink")?;
    tokio::spawn(connection);
    let link = netlink
        .link()
        .get()
        .match_name("lo".to_owned())
        .execute()
        .try_next()
        .await;
    let loopback = link
        .context("cannot look for lo")?
        .context("there is no lo")?
        .header
        .index;
    if config.enable_ipv6 {
        let added = netlink.address().add(loopback, PASSTHROUGH.into(), 128).execute().await;
        unless_there(added).context("cannot add ::6 to lo")?;
    }
    if config.is_tproxy() {
        let number = |text: &str| text.parse::<u32>().with_context(|| format!("{text:?} is no number"));
        let (mark, table) = (
            number(&config.inbound_tproxy_mark)?,
            number(&config.inbound_tproxy_route_table)?,
        );
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(Ipv4Addr::UNSPECIFIED, 0);
        let v4 = local(v4, table, loopback).build();
        marked_packets_to_loopback(&netlink, AddressFamily::Inet, v4, mark, table).await?;
        if config.enable_ipv6 {
            let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(Ipv6Addr::UNSPECIFIED, 0);
            let v6 = local(v6, table, loopback).build();
            marked_packets_to_loopback(&netlink, AddressFamily::Inet6, v6, mark, table).await?;
        }
    }
    Ok(())
}

/// `local default dev lo table …`
fn local<T>(route: RouteMessageBuilder<T>, table: u32, loopback: u32) -> RouteMessageBuilder<T> {
    route
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .output_interface(loopback)
        .table_id(table)
}

async fn marked_packets_to_loopback(
    netlink: &Handle,
    family: AddressFamily,
    route: RouteMessage,
    mark: u32,
    table: u32,
) -> anyhow::Result<()> {
    let version = if family == AddressFamily::Inet {
        IpVersion::V4
    } else {
        IpVersion::V6
    };
    let rules = netlink.rule().get(version).execute().try_collect::<Vec<_>>().await;
    // The kernel would take the same rule again, with another priority.
    let is_there = |rule: &RuleMessage| {
        let has = |attribute: RuleAttribute| rule.attributes.contains(&attribute);
        has(RuleAttribute::FwMark(mark)) && (u32::from(rule.header.table) == table || has(RuleAttribute::Table(table)))
    };
    if !rules.context("cannot list the routing rules")?.iter().any(is_there) {
        let mut rule = netlink
            .rule()
            .add()
            .fw_mark(mark)
            .table_id(table)
            .action(RuleAction::ToTable);
        rule.message_mut().header.family = family;
        unless_there(rule.execute().await).with_context(|| format!("cannot add the rule for mark {mark}"))?;
    }
    let added = netlink.route().add(route).execute().await;
    unless_there(added).with_context(|| format!("cannot add the route of table {table}"))
}

/// What is there already is not an error.
fn unless_there(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other,
    }
}
