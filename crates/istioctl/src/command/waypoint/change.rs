//! `istioctl waypoint generate|apply|delete`.

use std::time::Duration;

use api::names::label;
use clap::Args;
use install::api_server::{Effect, kind};
use install::object::{Id, Object};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{CLASS, programmed, waypoints};
use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::failure::Failure;

/// Name of a waypoint that is given none.
const NAME: &str = "waypoint";
/// Name that stands for no waypoint in the label of those that would use one.
const RESERVED: &str = "none";
/// Port of the tunnels that waypoints take traffic from.
const PORT: u16 = 15008;
/// Who writes it.
const MANAGER: &str = "istioctl";
/// Kinds of traffic that a waypoint may be for.
const TRAFFIC: [&str; 4] = ["all", "none", "service", "workload"];

/// Label: the kind of traffic that a waypoint is for.
const FOR: &str = "istio.io/waypoint-for";
/// Label: the waypoint that a namespace's traffic goes through.
const USE: &str = "istio.io/use-waypoint";

/// The waypoint that is wanted.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Name of the waypoint.
    #[arg(long, default_value = NAME)]
    name: String,
    /// Kind of traffic: all, none, service or workload; istiod's default unless given.
    #[arg(long = "for", value_name = "TRAFFIC")]
    traffic: Option<String>,
    /// Revision that serves it.
    #[arg(short, long)]
    revision: Option<String>,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub struct ApplyFlags {
    #[command(flatten)]
    wanted: Wanted,
    /// Label the namespace, so that its traffic goes through the waypoint.
    #[arg(long)]
    enroll_namespace: bool,
    /// Do so even if the namespace has another waypoint.
    #[arg(long)]
    overwrite: bool,
    /// Wait until the waypoint is ready.
    #[arg(short, long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    waypoint_timeout: Duration,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct DeleteFlags {
    /// Names of waypoints.
    names: Vec<String>,
    /// All of the namespace.
    #[arg(long)]
    all: bool,
    /// Those of a revision.
    #[arg(short, long)]
    revision: Option<String>,
}

impl Wanted {
    /// The Gateway as YAML; without a namespace unless one is given.
    pub fn yaml(&self, global: &Global) -> Result<String, Failure> {
        let gateway = self.gateway(global.namespace.as_deref().unwrap_or_default())?;
        Ok(format!("{}\n", install::yaml::to_sorted(&gateway).trim_end()))
    }

    fn name(&self) -> &str {
        if self.name.is_empty() { NAME } else { &self.name }
    }

    fn gateway(&self, namespace: &str) -> Result<Value, Failure> {
        let failed = |why: String| Failure::new(format!("failed to create gateway: {why}"));
        if self.name == RESERVED {
            return Err(failed(format!(
                "invalid name provided for waypoint, '{RESERVED}' is a reserved value"
            )));
        }
        let mut metadata = json!({"name": self.name()});
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        if let Some(traffic) = self.traffic.as_deref().filter(|traffic| !traffic.is_empty()) {
            if !TRAFFIC.contains(&traffic) {
                return Err(failed(format!(
                    "invalid traffic type: {traffic}. Valid options are: [{}]",
                    TRAFFIC.join(" ")
                )));
            }
            metadata["labels"][FOR] = traffic.into();
        }
        if let Some(revision) = self.revision.as_deref().filter(|revision| !revision.is_empty()) {
            metadata["labels"][label::REVISION] = revision.into();
        }
        Ok(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {
                "gatewayClassName": CLASS,
                "listeners": [{"name": "mesh", "port": PORT, "protocol": "HBONE"}],
            },
        }))
    }
}

/// Writes a waypoint, and has the namespace use it if that is asked for.
pub(super) async fn apply(global: &Global, flags: &ApplyFlags, put: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let namespace = cluster.namespace(global);
    let object = Object(flags.wanted.gateway(namespace)?);
    let enrolled = self::namespace(&cluster, namespace).await?;
    if flags.enroll_namespace {
        if !flags.overwrite && !enrolled.label(USE).is_empty() {
            put(&format!(
                "⚠️ Warning: namespace ({namespace}) already has an enrolled Waypoint. Consider adding the `--overwrite` \
                 flag to your apply command.\n"
            ));
            return Ok(());
        }
        if enrolled.label(label::DATAPLANE_MODE) != "ambient" {
            put(&format!(
                "⚠️ Warning: namespace is not enrolled in ambient. Consider running\t`kubectl label namespace {namespace} \
                 istio.io/dataplane-mode=ambient`\n"
            ));
        }
    }
    write(&cluster, &object).await?;
    let id = object.id();
    put(&format!("✅ waypoint {namespace}/{} applied\n", id.name));
    if flags.wait {
        if programmed(&cluster, &id, flags.waypoint_timeout).await?.is_none() {
            return Err(Failure::new(format!(
                "timed out while waiting for waypoint\t{namespace}/{}",
                id.name
            )));
        }
        put(&format!("✅ waypoint {namespace}/{} is ready!\n", id.name));
    }
    if flags.enroll_namespace {
        enroll(&cluster, namespace, &id.name).await?;
        put(&format!(
            "✅ namespace {namespace} labeled with \"{USE}: {}\"\n",
            id.name
        ));
    }
    Ok(())
}

/// Fields that somebody else set to other values are a conflict that is told, not taken over.
async fn write(cluster: &Cluster, object: &Object) -> Result<(), Failure> {
    let id = object.id();
    let apply = async |client| {
        let api: Api<DynamicObject> = Api::namespaced_with(client, &id.namespace, &id.resource());
        let patch = Patch::Apply(&object.0);
        api.patch(&id.name, &PatchParams::apply(MANAGER), &patch).await
    };
    match cluster.server.ask(Effect::Writes, apply).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(Failure::new(format!(
            "missing Kubernetes Gateway CRDs need to be installed before applying a waypoint: {}",
            status.message
        ))),
        Err(error) => Err(Failure::new(format!(
            "cannot apply waypoint {}/{}: {}",
            id.namespace,
            id.name,
            install::api_server::root(&error)
        ))),
    }
}

async fn namespace(cluster: &Cluster, name: &str) -> Result<Object, Failure> {
    let id = Id {
        name: name.to_owned(),
        ..kind("", "v1", "Namespace")
    };
    let found = cluster.server.get(&id).await?;
    found.ok_or_else(|| Failure::new(format!("namespace: {name} not found")))
}

async fn enroll(cluster: &Cluster, name: &str, waypoint: &str) -> Result<(), Failure> {
    let mut object = namespace(cluster, name).await?;
    object.0["metadata"]["labels"][USE] = waypoint.into();
    cluster
        .server
        .replace(&object, MANAGER, false)
        .await
        .map_err(|error| Failure::new(format!("failed to label namespace with waypoint: {error}")))
}

/// Deletes waypoints of a namespace; gateways of other classes stay, whatever they are called.
pub(super) async fn delete(global: &Global, flags: &DeleteFlags, put: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let by_rule = flags.all || flags.revision.is_some();
    if by_rule && !flags.names.is_empty() {
        return Err(Failure::new(
            "cannot specify waypoint names when deleting all waypoints",
        ));
    }
    if !by_rule && flags.names.is_empty() {
        return Err(Failure::new(
            "must specify a waypoint name or delete all using --all or delete specific revision using --revision",
        ));
    }
    let cluster = Cluster::connect(global).await?;
    let namespace = cluster.namespace(global);
    let found = waypoints(&cluster, global, false).await?.unwrap_or_default();
    for name in flags
        .names
        .iter()
        .filter(|name| found.iter().all(|w| w.name() != *name))
    {
        put(&format!("waypoint {namespace}/{name} not found\n"));
    }
    let is_meant = |waypoint: &&Object| match &flags.revision {
        Some(revision) => waypoint.label(label::REVISION) == revision,
        None => flags.all || flags.names.iter().any(|name| name == waypoint.name()),
    };
    for waypoint in found.iter().filter(is_meant) {
        let id = waypoint.id();
        let what = if cluster.server.delete(&id).await? {
            "deleted"
        } else {
            "not found"
        };
        put(&format!("waypoint {namespace}/{} {what}\n", id.name));
    }
    Ok(())
}
