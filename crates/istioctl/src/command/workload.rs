//! `istioctl experimental workload`: WorkloadGroups, and the files that a virtual machine needs to join the mesh.

mod files;
pub mod group;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use install::api_server::{Effect, kind, root};
use install::object::{Id, Object};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use revision::name::Revision;
use serde_json::Value;

use self::files::Inputs;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::install::read;
use crate::failure::Failure;
use crate::out;

/// Gateway that machines outside of the cluster reach istiod by.
const GATEWAY: &str = "istio-eastwestgateway";

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Groups of workloads outside of Kubernetes.
    #[command(subcommand)]
    Group(Group),
    /// Workloads outside of Kubernetes.
    #[command(subcommand)]
    Entry(Entry),
}

/// Sub-commands of `group`.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Prints a WorkloadGroup: the template of WorkloadEntries that belong together.
    Create(group::Flags),
}

/// Sub-commands of `entry`.
#[derive(Debug, Subcommand)]
pub enum Entry {
    /// Writes the files that a virtual machine of a WorkloadGroup needs.
    Configure(Flags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// File with the WorkloadGroup; that of the cluster unless given.
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name of the WorkloadGroup in the cluster.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder for the files.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Identity of the cluster; that of the control plane unless given.
    #[arg(long = "clusterID", value_name = "ID")]
    cluster_id: Option<String>,
    /// Revision or tag of the control plane; the default revision unless given.
    #[arg(short, long)]
    revision: Option<String>,
    /// How long the token is valid, in seconds.
    #[arg(long = "tokenDuration", value_name = "SECONDS", default_value_t = 3600)]
    token_duration: i64,
    /// Gateway by which istiod is reached: `<service>[.<namespace>]`.
    #[arg(long = "ingressService", value_name = "NAME", default_value = GATEWAY)]
    ingress_service: String,
    /// Address by which istiod is reached.
    #[arg(long = "ingressIP", value_name = "ADDRESS", value_parser = address)]
    ingress_ip: Option<String>,
    /// Make a WorkloadEntry when the machine connects.
    #[arg(long)]
    autoregister: bool,
    /// Redirect DNS to the agent.
    #[arg(long = "capture-dns", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    capture_dns: bool,
    /// Address of the machine inside its network.
    #[arg(long = "internalIP", value_name = "ADDRESS", value_parser = address, conflicts_with = "external_ip")]
    internal_ip: Option<String>,
    /// Address of the machine as others see it.
    #[arg(long = "externalIP", value_name = "ADDRESS", value_parser = address)]
    external_ip: Option<String>,
}

impl Flags {
    fn folder(&self) -> Result<&Path, Failure> {
        let folder = self.output.as_deref();
        folder.ok_or_else(|| Failure::new("expecting an output directory"))
    }
}

/// An address, spelled as it is given.
fn address(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no IP address")),
    }
}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let flags = match command {
        Command::Group(Group::Create(flags)) => {
            out::put(&flags.yaml(global)?);
            return Ok(());
        }
        Command::Entry(Entry::Configure(flags)) => flags,
    };
    let (files, notes) = configure(global, &flags).await?;
    let folder = flags.folder()?;
    write(folder, &files)?;
    notes.iter().for_each(|note| anstream::eprintln!("Warning: {note}"));
    out::put(&format!(
        "Configuration generation into directory {} was successful\n",
        folder.display()
    ));
    Ok(())
}

/// Files by name, and what is to be said about them.
pub async fn configure(
    global: &Global,
    flags: &Flags,
) -> Result<(BTreeMap<&'static str, String>, Vec<String>), Failure> {
    if flags.file.is_none() && (flags.name.is_none() || global.namespace.is_none()) {
        return Err(Failure::new(
            "expecting a WorkloadGroup artifact file or the name and namespace of an existing WorkloadGroup",
        ));
    }
    let folder = flags.folder()?;
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let revision = cluster.revision(system, flags.revision.as_deref()).await?;
    let mut group = group(&cluster, global, flags).await?;
    if group.namespace().is_empty() {
        group.0["metadata"]["namespace"] = cluster.namespace(global).into();
    }
    let mesh_text = data(&cluster, system, &revision.suffixed("istio"), "mesh").await?;
    let mesh = install::yaml::document(&mesh_text)
        .map_err(|error| Failure::new(format!("mesh configuration of revision {}: {error}", revision.label())))?;
    let cluster_id = match &flags.cluster_id {
        Some(id) => id.clone(),
        None => cluster_name(&cluster, system, &revision).await?,
    };
    let inputs = Inputs {
        group: &group,
        mesh: &mesh,
        cluster_id: &cluster_id,
        istiod: format!("{}.{system}.svc", revision.istiod()),
        named_revision: !revision.is_unnamed(),
        internal: flags.internal_ip.as_deref(),
        external: flags.external_ip.as_deref(),
        capture_dns: flags.capture_dns,
        autoregister: flags.autoregister,
    };
    let mut files = inputs.files()?;
    let (namespace, account) = (group.namespace(), inputs.service_account());
    files.insert(
        "root-cert.pem",
        data(&cluster, namespace, "istio-ca-root-cert", "root-cert.pem").await?,
    );
    files.insert(
        "istio-token",
        token(&cluster, namespace, account, flags.token_duration).await?,
    );
    let mut notes = vec![format!(
        "a security token for namespace {namespace:?} and service account {account:?} has been generated and stored at {:?}",
        folder.join("istio-token")
    )];
    let hosts = match gateway(&cluster, system, flags).await? {
        Some(address) => format!("{address} {}\n", inputs.istiod),
        None => {
            notes.push(format!(
                "no address of {} is known; give --ingressIP, or the machine cannot reach {}",
                flags.ingress_service, inputs.istiod
            ));
            String::new()
        }
    };
    files.insert("hosts", hosts);
    Ok((files, notes))
}

async fn group(cluster: &Cluster, global: &Global, flags: &Flags) -> Result<Object, Failure> {
    if let Some(file) = &flags.file {
        let document =
            install::yaml::document(&read(file)?).map_err(|error| Failure::new(format!("{file}: {error}")))?;
        let object = Object(document);
        if object.kind() != "WorkloadGroup" || object.name().is_empty() {
            return Err(Failure::new(format!("{file}: wants one WorkloadGroup with a name")));
        }
        return Ok(object);
    }
    let name = flags.name.as_deref().unwrap_or_default();
    let id = Id {
        name: name.to_owned(),
        namespace: cluster.namespace(global).to_owned(),
        ..kind("networking.istio.io", "v1", "WorkloadGroup")
    };
    let missing = || {
        Failure::new(format!(
            "workloadgroup {name} not found in namespace {}; make it (istioctl x workload group create … | kubectl apply -f \
             -), or give its file with --file",
            id.namespace
        ))
    };
    cluster.server.get(&id).await?.ok_or_else(missing)
}

/// A value of a ConfigMap.
async fn data(cluster: &Cluster, namespace: &str, name: &str, key: &str) -> Result<String, Failure> {
    let id = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind("", "v1", "ConfigMap")
    };
    let found = cluster.server.get(&id).await?;
    let value = found.as_ref().and_then(|map| map.0["data"][key].as_str());
    value.map(str::to_owned).ok_or_else(|| {
        Failure::new(format!(
            "configmap {name} with {key} was not found in namespace {namespace}"
        ))
    })
}

async fn cluster_name(cluster: &Cluster, system: &str, revision: &Revision) -> Result<String, Failure> {
    let unknown = || Failure::new("failed to automatically determine the --clusterID; give it");
    let values = data(cluster, system, &revision.suffixed("istio-sidecar-injector"), "values").await;
    let values: Value = serde_json::from_str(&values.map_err(|_| unknown())?).map_err(|_| unknown())?;
    let name = values
        .pointer("/global/multiCluster/clusterName")
        .and_then(Value::as_str);
    // An installation that names none calls it as the injector does.
    let name = name.filter(|name| !name.is_empty()).unwrap_or(api::names::CLUSTER_ID);
    Ok(name.to_owned())
}

async fn token(cluster: &Cluster, namespace: &str, account: &str, seconds: i64) -> Result<String, Failure> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![api::names::TOKEN_AUDIENCE.to_owned()],
            expiration_seconds: Some(seconds),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let ask = async |client| {
        let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
        accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
    };
    let answer = cluster.server.ask(Effect::Tries, ask).await;
    let answer = answer.map_err(|error| {
        let way = match &error {
            kube::Error::Api(status) if status.code == 404 => {
                format!("; make it: kubectl create serviceaccount {account} -n {namespace}")
            }
            _ => String::new(),
        };
        Failure::new(format!(
            "could not create a token under service account {account} in namespace {namespace}: {}{way}",
            root(&error)
        ))
    })?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

async fn gateway(cluster: &Cluster, system: &str, flags: &Flags) -> Result<Option<String>, Failure> {
    if let Some(address) = &flags.ingress_ip {
        return Ok(Some(address.clone()));
    }
    let (name, namespace) = flags
        .ingress_service
        .split_once('.')
        .unwrap_or((&flags.ingress_service, system));
    let id = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind("", "v1", "Service")
    };
    let found = cluster.server.get(&id).await?;
    let address = found.as_ref().and_then(|service| {
        ["/status/loadBalancer/ingress/0/ip", "/spec/externalIPs/0"]
            .iter()
            .find_map(|pointer| service.0.pointer(pointer)?.as_str())
    });
    Ok(address.map(str::to_owned))
}

/// Only the user may read them: one is a token.
fn write(folder: &Path, files: &BTreeMap<&'static str, String>) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let failed = |path: &Path, error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in files {
        let path = folder.join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).map_err(|error| failed(&path, error))?;
        // The mode above is for new files only.
        let private = std::fs::Permissions::from_mode(0o600);
        file.set_permissions(private).map_err(|error| failed(&path, error))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_user_may_read_a_token_also_in_a_file_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("istio-token");
        std::fs::write(&there, "an older and longer token").unwrap();
        std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o644)).unwrap();
        let files = BTreeMap::from([("istio-token", "token".to_owned()), ("mesh.yaml", String::new())]);
        write(folder.path(), &files).unwrap();
        for (name, text) in &files {
            let path = folder.path().join(name);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(
                (mode, std::fs::read_to_string(&path).unwrap()),
                (0o600, text.clone()),
                "{name}"
            );
        }
    }
}
