//! `istioctl waypoint`: gateways of class `istio-waypoint`, and whether they are programmed.

pub mod change;

use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};
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
    /// Prints the Gateway of a waypoint.
    Generate(change::Wanted),
    /// Writes the Gateway of a waypoint into the cluster.
    Apply(change::ApplyFlags),
    /// Deletes waypoints.
    Delete(change::DeleteFlags),
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
    /// Wait until they are programmed.
    #[arg(short, long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    waypoint_timeout: Duration,
}

/// Runs a sub-command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    say(global, command, &mut |text| out::put(text)).await
}

/// What a sub-command prints.
pub async fn text(global: &Global, command: Command) -> Result<String, Failure> {
    let mut all = String::new();
    say(global, command, &mut |text| all.push_str(text)).await?;
    Ok(all)
}

async fn say(global: &Global, command: Command, put: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    match command {
        Command::Generate(wanted) => put(&wanted.yaml(global)?),
        Command::Apply(flags) => change::apply(global, &flags, put).await?,
        Command::Delete(flags) => change::delete(global, &flags, put).await?,
        Command::List(flags) => {
            let cluster = Cluster::connect(global).await?;
            put(&match waypoints(&cluster, global, flags.all_namespaces).await? {
                Some(gateways) => list(&gateways, flags.all_namespaces),
                None => NONE.to_owned(),
            });
        }
        Command::Status(flags) => {
            let cluster = Cluster::connect(global).await?;
            put(&match waypoints(&cluster, global, flags.all_namespaces).await? {
                Some(gateways) => status(&cluster, &gateways, &flags).await?,
                None => NONE.to_owned(),
            });
        }
    }
    Ok(())
}

/// Said if there is no gateway at all.
const NONE: &str = "No waypoints found.\n";

/// Waypoints by namespace and name; nothing if there is no gateway of any class.
async fn waypoints(cluster: &Cluster, global: &Global, all: bool) -> Result<Option<Vec<Object>>, Failure> {
    let mut id = kind("gateway.networking.k8s.io", "v1", "Gateway");
    if !all {
        cluster.namespace(global).clone_into(&mut id.namespace);
    }
    let mut gateways = cluster.server.list(&id, "").await?;
    if gateways.is_empty() {
        return Ok(None);
    }
    gateways.retain(|gateway| gateway.text("/spec/gatewayClassName") == CLASS);
    gateways.sort_by_key(|gateway| (gateway.namespace().to_owned(), gateway.name().to_owned()));
    Ok(Some(gateways))
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

async fn status(cluster: &Cluster, gateways: &[Object], flags: &StatusFlags) -> Result<String, Failure> {
    let mut rows = vec![row(["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"])];
    for gateway in gateways {
        let id = gateway.id();
        let shown = if flags.wait {
            let (namespace, name) = (&id.namespace, &id.name);
            programmed(cluster, &id, flags.waypoint_timeout).await?.ok_or_else(|| {
                Failure::new(format!(
                    "failed to print waypoint status: timed out while retrieving status for waypoint\t{namespace}/{name}"
                ))
            })?
        } else {
            gateway.clone()
        };
        let last = || shown.0["status"]["conditions"].as_array()?.last();
        let condition = condition(&shown).or_else(last).cloned().unwrap_or_default();
        rows.push(row([
            &id.namespace,
            &id.name,
            field(&condition, "status"),
            field(&condition, "type"),
            field(&condition, "reason"),
            field(&condition, "message"),
        ]));
    }
    Ok(narrow(rows, flags.all_namespaces))
}

/// The gateway once it is programmed; nothing if it is not in time.
async fn programmed(cluster: &Cluster, id: &Id, timeout: Duration) -> Result<Option<Object>, Failure> {
    let wait = async {
        loop {
            if let Some(gateway) = cluster.server.get(id).await?
                && condition(&gateway).is_some_and(|condition| condition["status"] == "True")
            {
                return Ok(gateway);
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(timeout, wait).await.ok().transpose()
}
