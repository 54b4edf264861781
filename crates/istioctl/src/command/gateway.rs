//! `istioctl gateway revert`: puts gateways that were upgraded in place back on a revision.

use std::time::Duration;

use api::names::{label, object};
use clap::{Args, Subcommand};
use install::api_server::kind;
use install::apply::Installation;
use install::assets::Assets;
use install::component::{Kind, Rendering, render};
use install::input::{Input, resolve};
use install::object::Object;
use revision::name::Revision;
use serde_json::{Value, json};

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::command::program_version;
use crate::confirm::{self, Silence};
use crate::failure::Failure;
use crate::show::Show;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Puts gateways that another revision upgraded in place back on a revision, with its images and settings.
    Revert(Flags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The revision that shall run the gateways.
    #[arg(short, long)]
    revision: String,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// How long a gateway may take to become ready.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    readiness_timeout: Duration,
}

/// Reverts.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::Revert(flags) = command;
    let revision = Revision::parse(&flags.revision)?;
    let cluster = Cluster::connect(global).await?;
    let namespace = &global.istio_namespace;
    if cluster.istiods(namespace, Some(revision.label())).await?.is_empty() {
        let label = revision.label();
        return Err(Failure::new(format!(
            "revision {label:?} has no running istiod: install it first, then revert"
        )));
    }
    let values = values(&cluster, namespace, &revision).await?;
    let gateways = gateways(&cluster, namespace, revision.label()).await?;
    if gateways.is_empty() {
        anstream::println!("No gateway runs on another revision than {}.", revision.label());
        return Ok(());
    }
    let names: Vec<&str> = gateways.iter().map(Object::name).collect();
    let question = format!(
        "This puts {} on revision {}. Proceed? (y/N)",
        names.join(", "),
        revision.label()
    );
    if !flags.skip_confirmation && !confirm::ask(&question, Silence::Stop)? {
        return Err(Failure::cancelled());
    }
    let document = document(&revision, &values, &gateways);
    let assets = Assets::embedded();
    let input = Input {
        files: vec![("gateways".to_owned(), document.to_string())],
        ..Input::default()
    };
    let operator = resolve(&input, &assets)?;
    let version = program_version();
    let components = render(
        &operator,
        &assets,
        &Rendering {
            version: Some(&version),
            is_upgrade: false,
        },
    )?;
    let show = Show::default();
    let installation = Installation {
        operator: &operator,
        components,
        version: &version,
        timeout: flags.readiness_timeout,
        dry_run: false,
        force: false,
        whole: false,
    };
    match installation.run(&cluster.server, &show).await {
        Ok(()) => {
            show.finish(&format!("✔ {} on revision {}", names.join(", "), revision.label()));
            Ok(())
        }
        Err(error) => {
            show.finish("✘ Not all gateways are back; running the command again goes on from there");
            Err(Failure::new(error.to_string()))
        }
    }
}

/// The values that a revision was installed with.
async fn values(cluster: &Cluster, namespace: &str, revision: &Revision) -> Result<Value, Failure> {
    let mut id = kind("", "v1", "ConfigMap");
    namespace.clone_into(&mut id.namespace);
    id.name = object::values_config_map(revision.value());
    let found = cluster.server.get(&id).await?;
    let text = found
        .as_ref()
        .map(|object| object.text("/data/merged-values"))
        .unwrap_or_default();
    serde_json::from_str(text).map_err(|_| {
        Failure::new(format!("{} does not hold the values of the revision; put the gateways back with istioctl install --revision {revision} and its original options", id.path()))
    })
}

/// Deployments of gateways on other revisions.
async fn gateways(cluster: &Cluster, namespace: &str, revision: &str) -> Result<Vec<Object>, Failure> {
    let mut id = kind("apps", "v1", "Deployment");
    namespace.clone_into(&mut id.namespace);
    let selector = format!(
        "{} in ({},{}),{}!={revision}",
        label::OPERATOR_COMPONENT,
        Kind::IngressGateways.label(),
        Kind::EgressGateways.label(),
        label::REVISION
    );
    Ok(cluster.server.list(&id, &selector).await?)
}

/// An IstioOperator of just these gateways.
fn document(revision: &Revision, values: &Value, gateways: &[Object]) -> Value {
    let entries = |kind: Kind| -> Vec<Value> {
        let of = gateways
            .iter()
            .filter(|gateway| gateway.label(label::OPERATOR_COMPONENT) == kind.label());
        of.map(|gateway| json!({"name": gateway.name(), "namespace": gateway.namespace(), "enabled": true}))
            .collect()
    };
    json!({
        "apiVersion": api::install::API_VERSION,
        "kind": api::install::KIND,
        "spec": {
            "profile": "empty",
            "revision": revision.value(),
            "components": {"ingressGateways": entries(Kind::IngressGateways), "egressGateways": entries(Kind::EgressGateways)},
            "values": {"global": values["global"], "meshConfig": values["meshConfig"], "gateways": values["gateways"]},
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_gateways_are_rendered_with_the_revisions_own_images() {
        let gateway = Object(
            json!({"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system",
            "labels": {"operator.istio.io/component": "IngressGateways", "istio.io/rev": "canary"}}}),
        );
        let values = json!({"global": {"hub": "docker.io/trysail", "tag": "0.1.0"}, "meshConfig": {}});
        let text = document(&Revision::parse("old").unwrap(), &values, &[gateway]).to_string();
        let assets = Assets::embedded();
        let input = Input {
            files: vec![("gateways".to_owned(), text)],
            ..Input::default()
        };
        let operator = resolve(&input, &assets).unwrap();
        let components = render(&operator, &assets, &Rendering::default()).unwrap();
        assert_eq!(
            components.iter().map(|c| c.kind).collect::<Vec<_>>(),
            [Kind::IngressGateways]
        );
        let deployment = components[0].objects.iter().find(|o| o.kind() == "Deployment").unwrap();
        assert_eq!(
            deployment.text("/spec/template/spec/containers/0/image"),
            "docker.io/trysail/proxyv2:0.1.0"
        );
        assert!(deployment.0.to_string().contains("istiod-old.istio-system.svc:15012"));
    }
}
