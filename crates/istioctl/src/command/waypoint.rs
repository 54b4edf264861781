//! `istioctl waypoint list|status`: waypoint gateways and whether they are programmed.

use std::time::Duration;

use clap::{Args, Subcommand};
use install::api_server::kind;
use install::object::{Id, Object};
use serde_json::Value;

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out;
use crate::table::{columns, row};

/// Class of waypoints.
const CLASS: &str = "istio-waypoint";
/// Spaces between columns.
const PADDING: usize = 5;
/// How often a gateway is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists waypoints.
    List(ListFlags),
    /// Waits until waypoints are programmed, and shows it.
    Status(StatusFlags),
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusFlags {
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    waypoint_timeout: Duration,
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    out::put(&text(global, command).await?);
    Ok(())
}

/// What a sub-command prints.
pub async fn text(global: &Global, command: Command) -> Result<String, Failure> {
    let cluster = Cluster::connect(global).await?;
    let all = match &command {
        Command::List(flags) => flags.all_namespaces,
        Command::Status(flags) => flags.all_namespaces,
    };
    let mut id = kind("gateway.networking.k8s.io", "v1", "Gateway");
    if !all {
        cluster.namespace(global).clone_into(&mut id.namespace);
    }
    let mut gateways = cluster.server.list(&id, "").await?;
    if gateways.is_empty() {
        return Ok("No waypoints found.\n".to_owned());
    }
    gateways.retain(|gateway| gateway.text("/spec/gatewayClassName") == CLASS);
    gateways.sort_by_key(|gateway| (gateway.namespace().to_owned(), gateway.name().to_owned()));
    match command {
        Command::List(_) => Ok(list(&gateways, all)),
        Command::Status(flags) => status(&cluster, &gateways, all, flags.waypoint_timeout).await,
    }
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn list(gateways: &[Object], all: bool) -> String {
    let header = row(["NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"]);
    let rows = gateways.iter().map(|gateway| {
        row([
            gateway.namespace(),
            gateway.name(),
            or(gateway.label("istio.io/rev"), "default"),
            or(gateway.label("istio.io/waypoint-for"), "none"),
            condition(gateway).map_or("False", |condition| field(condition, "status")),
        ])
    });
    narrow(std::iter::once(header).chain(rows).collect(), all)
}

/// Without the column of namespaces if there is just one.
fn narrow(mut rows: Vec<Vec<String>>, all: bool) -> String {
    if !all {
        rows.iter_mut().for_each(|row| drop(row.remove(0)));
    }
    columns(&rows, PADDING)
}

fn condition(gateway: &Object) -> Option<&Value> {
    let conditions = gateway.0["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Programmed")
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn status(cluster: &Cluster, gateways: &[Object], all: bool, timeout: Duration) -> Result<String, Failure> {
    let mut rows = vec![row(["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"])];
    for gateway in gateways {
        let id = gateway.id();
        let programmed = tokio::time::timeout(timeout, programmed(cluster, &id))
            .await
            .map_err(|_| {
                Failure::new(format!(
                    "failed to print waypoint status: timed out while retrieving status for waypoint\t{}/{}",
                    id.namespace, id.name
                ))
            })??;
        let condition = condition(&programmed).cloned().unwrap_or_default();
        rows.push(row([
            &id.namespace,
            &id.name,
            field(&condition, "status"),
            "Programmed",
            field(&condition, "reason"),
            field(&condition, "message"),
        ]));
    }
    Ok(narrow(rows, all))
}

async fn programmed(cluster: &Cluster, id: &Id) -> Result<Object, Failure> {
    loop {
        if let Some(gateway) = cluster.server.get(id).await?
            && condition(&gateway).is_some_and(|condition| condition["status"] == "True")
        {
            return Ok(gateway);
        }
        tokio::time::sleep(AGAIN).await;
    }
}
