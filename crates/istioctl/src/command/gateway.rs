//! `istioctl gateway revert`: puts gateways that were upgraded in place back on a revision.

use std::time::Duration;

use api::names::{label, object};
use clap::{Args, Subcommand};
use install::api_server::kind;
use install::apply::Installation;
use install::assets::Assets;
use install::component::{Kind, Rendering, render};
use install::input::{Input, resolve};
use install::inventory;
use install::object::Object;
use install::record::{self, Gateway, Memory};
use install::tag::Inventory;
use revision::name::Revision;
use serde_json::{Value, json};

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::command::program_version;
use crate::confirm::{self, Silence};
use crate::control_planes::{ControlPlanes, Discovery};
use crate::failure::Failure;
use crate::out::put;
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
    /// The revision that shall run the gateways, or a tag.
    #[arg(short, long)]
    revision: String,
    /// Do not ask.
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
    /// Ask the API server whether it would accept everything; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long a gateway may take to become ready.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    readiness_timeout: Duration,
}

/// Reverts.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::Revert(flags) = command;
    let cluster = Cluster::connect(global).await?;
    let namespace = &global.istio_namespace;
    let planes = ControlPlanes::find(&cluster, namespace, Some(&flags.revision), &Discovery::default()).await?;
    if planes.asked.is_empty() {
        return Err(planes.nobody());
    }
    let revision = Revision::parse(planes.revision().unwrap_or_default())?;
    let all = gateways(&cluster, namespace).await?;
    let is_there = |gateway: &Object| gateway.label(label::REVISION) == revision.label();
    let (there, elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(is_there);
    if elsewhere.is_empty() {
        put(&nothing_to_do(&there, revision.label(), namespace));
        return Ok(());
    }
    let record = record::read(&cluster.server, namespace, revision.value()).await?;
    let before = inventory::read(&cluster.server, namespace).await?;
    let (gateways, others): (Vec<_>, Vec<_>) = elsewhere
        .into_iter()
        .partition(|gateway| moves(gateway, &record, &before));
    for gateway in &others {
        anstream::eprintln!("❗ {}", left(gateway, revision.label()));
    }
    if gateways.is_empty() {
        put(&format!(
            "No gateway goes to revision {}: nothing was changed.\n",
            revision.label()
        ));
        return Ok(());
    }
    let values = merged(&record, &revision)?;
    let names: Vec<&str> = gateways.iter().map(Object::name).collect();
    let question = format!(
        "This puts {} on revision {}. Proceed? (y/N)",
        names.join(", "),
        revision.label()
    );
    if !flags.skip_confirmation && !flags.dry_run && !confirm::ask(&question, Silence::GoOn)? {
        return Err(Failure::cancelled());
    }
    let mut entries = Vec::new();
    for gateway in &gateways {
        let theirs = record::read(&cluster.server, namespace, gateway.label(label::REVISION)).await?;
        if let Some(note) = borrowed(gateway, &record, revision.label()) {
            anstream::eprintln!("❗ {note}");
        }
        entries.push((component(gateway), entry(gateway, &record, &theirs)));
    }
    let document = document(&revision, &values, &entries);
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
        dry_run: flags.dry_run,
        force: false,
        whole: false,
    };
    match installation.run(&cluster.server, &show).await {
        Ok(()) if flags.dry_run => {
            show.finish(&format!(
                "✔ Dry run complete: {} would go to revision {}; nothing was changed",
                with_revisions(&gateways),
                revision.label()
            ));
            Ok(())
        }
        Err(error) if flags.dry_run => {
            show.finish("✘ Dry run failed: the gateways could not be put back; nothing was changed");
            Err(Failure::new(error.to_string()))
        }
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

/// `istio-ingressgateway (on canary)`, for each.
fn with_revisions(gateways: &[Object]) -> String {
    let all = gateways
        .iter()
        .map(|gateway| format!("{} (on {})", gateway.name(), gateway.label(label::REVISION)));
    all.collect::<Vec<_>>().join(", ")
}

/// The values in it.
fn merged(record: &Object, revision: &Revision) -> Result<Value, Failure> {
    serde_json::from_str(record.text("/data/merged-values")).map_err(|_| {
        let name = object::values_config_map(revision.value());
        Failure::new(format!("ConfigMap {name} does not hold the values of the revision; put the gateways back with istioctl install --revision {revision} and its original options"))
    })
}

/// Deployments of the gateways that istioctl installed.
async fn gateways(cluster: &Cluster, namespace: &str) -> Result<Vec<Object>, Failure> {
    let selector = format!(
        "{} in ({},{}),{}={namespace},{}",
        label::OPERATOR_COMPONENT,
        Kind::IngressGateways.label(),
        Kind::EgressGateways.label(),
        label::OWNING_RESOURCE_NAMESPACE,
        label::REVISION
    );
    Ok(cluster
        .server
        .list(&kind("apps", "v1", "Deployment"), &selector)
        .await?)
}

/// Does a gateway of another revision go to this one? One that was made for its revision alone stays there as long as that
/// can serve it.
fn moves(gateway: &Object, record: &Object, before: &Inventory) -> bool {
    let is_unknown = Gateway::of(gateway).is_some_and(|of| record::memory(record, &of) == Memory::Nothing);
    !is_unknown || !before.is_ready(gateway.label(label::REVISION))
}

/// What is said of one that does not.
fn left(gateway: &Object, revision: &str) -> String {
    format!(
        "The gateway {}.{} stays on revision {}: revision {revision} was installed without a gateway of this name.",
        gateway.name(),
        gateway.namespace(),
        gateway.label(label::REVISION)
    )
}

/// What is said where no gateway runs on another revision.
fn nothing_to_do(there: &[Object], revision: &str, namespace: &str) -> String {
    if there.is_empty() {
        return format!(
            "There is no gateway that istioctl installed for the mesh of {namespace}, so that none can be put on revision \
             {revision}. istioctl install makes one; one of the Helm chart goes with: helm upgrade RELEASE \
             manifests/charts/gateway --reuse-values --set revision={revision}\n"
        );
    }
    let names: Vec<&str> = there.iter().map(Object::name).collect();
    let verb = if names.len() == 1 { "runs" } else { "run" };
    format!(
        "{} {verb} on revision {revision} already: nothing was changed.\n",
        names.join(", ")
    )
}

/// What is said of a gateway that the revision was installed without, as with the profile `minimal`.
fn borrowed(gateway: &Object, record: &Object, revision: &str) -> Option<String> {
    let (name, from) = (gateway.name(), gateway.label(label::REVISION));
    own_entry(gateway, record).is_none().then(|| {
        format!(
            "Revision {revision} remembers no gateway {name} of its own: it gets the one of revision {from}, with the images \
             of {revision}."
        )
    })
}

fn component(gateway: &Object) -> Kind {
    Gateway::of(gateway).map_or(Kind::IngressGateways, |of| of.kind())
}

/// What a revision was installed with of a gateway; a profile without gateways switches them off.
fn own_entry(gateway: &Object, record: &Object) -> Option<Value> {
    let gateway = Gateway::of(gateway)?;
    let entry = record::entry(record, &gateway);
    entry.filter(|_| record::memory(record, &gateway) == Memory::Had)
}

/// A gateway's entry in the specification: as the revision itself installed it, or as the one that has it now.
fn entry(gateway: &Object, own: &Object, theirs: &Object) -> Value {
    let mut entry = own_entry(gateway, own).unwrap_or_else(|| {
        let theirs = Gateway::of(gateway).and_then(|gateway| record::entry(theirs, &gateway));
        let mut entry = theirs.unwrap_or_else(|| json!({}));
        if let Some(fields) = entry.as_object_mut() {
            // Images are the revision's.
            fields.shift_remove("hub");
            fields.shift_remove("tag");
        }
        entry
    });
    entry["name"] = gateway.name().into();
    entry["namespace"] = gateway.namespace().into();
    entry["enabled"] = true.into();
    entry
}

/// An IstioOperator of just these gateways.
fn document(revision: &Revision, values: &Value, gateways: &[(Kind, Value)]) -> Value {
    let entries = |kind: Kind| -> Vec<&Value> {
        let of = gateways.iter().filter(|(of, _)| *of == kind);
        of.map(|(_, entry)| entry).collect()
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

    fn remembering(gateways: &Value) -> Object {
        Object(json!({"metadata": {"namespace": "istio-system"}, "data": {"gateways": gateways.to_string()}}))
    }

    #[test]
    fn a_gateway_of_a_revision_alone_stays_there_as_long_as_that_serves() {
        let gateway = Object(json!({"metadata": {"name": "gw-two", "namespace": "istio-system",
            "labels": {"operator.istio.io/component": "IngressGateways", "istio.io/rev": "two"}}}));
        let ready = Inventory {
            pods: vec![Object(json!({"metadata": {"labels": {"istio.io/rev": "two"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))],
            ..Inventory::default()
        };
        let own = remembering(&json!({"ingressGateways": [{"name": "istio-ingressgateway"}]}));
        assert!(!moves(&gateway, &own, &ready));
        assert!(moves(&gateway, &own, &Inventory::default()), "two does not serve it");
        let same = remembering(&json!({"ingressGateways": [{"name": "gw-two", "enabled": false}]}));
        assert!(moves(&gateway, &same, &ready));
        assert!(moves(&gateway, &Object(json!({})), &ready), "nobody knows");
        insta::assert_snapshot!(left(&gateway, "one"), @"The gateway gw-two.istio-system stays on revision two: revision one was installed without a gateway of this name.");
    }

    #[test]
    fn why_no_gateway_moves_is_said() {
        let gateway = Object(
            json!({"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system",
            "labels": {"operator.istio.io/component": "IngressGateways", "istio.io/rev": "canary"}}}),
        );
        let told = |there: &[Object]| nothing_to_do(there, "canary", "istio-system");
        insta::assert_snapshot!(told(std::slice::from_ref(&gateway)), @"istio-ingressgateway runs on revision canary already: nothing was changed.");
        insta::assert_snapshot!(told(&[]), @"There is no gateway that istioctl installed for the mesh of istio-system, so that none can be put on revision canary. istioctl install makes one; one of the Helm chart goes with: helm upgrade RELEASE manifests/charts/gateway --reuse-values --set revision=canary");
        let recorded = json!({"ingressGateways": [{"name": "istio-ingressgateway"}]});
        let own = remembering(&recorded);
        assert_eq!(borrowed(&gateway, &own, "old"), None);
        let minimal = json!({"ingressGateways": [{"name": "istio-ingressgateway", "enabled": false}]});
        let minimal = remembering(&minimal);
        insta::assert_snapshot!(borrowed(&gateway, &minimal, "old").unwrap(), @"Revision old remembers no gateway istio-ingressgateway of its own: it gets the one of revision canary, with the images of old.");
    }

    #[test]
    fn only_gateways_are_rendered_with_the_revisions_own_images() {
        let gateway = Object(
            json!({"metadata": {"name": "istio-ingressgateway", "namespace": "istio-system",
            "labels": {"operator.istio.io/component": "IngressGateways", "istio.io/rev": "canary"}}}),
        );
        let values = json!({"global": {"hub": "docker.io/trysail", "tag": "0.1.0"}, "meshConfig": {}});
        let entries =
            json!({"ingressGateways": [{"name": "istio-ingressgateway", "tag": "9", "k8s": {"replicaCount": 3}}]});
        let theirs = remembering(&entries);
        // The revision was installed without gateways.
        let minimal = json!({"ingressGateways": [{"name": "istio-ingressgateway", "enabled": false}]});
        let minimal = remembering(&minimal);
        let entry = entry(&gateway, &minimal, &theirs);
        let text = document(
            &Revision::parse("old").unwrap(),
            &values,
            &[(Kind::IngressGateways, entry)],
        )
        .to_string();
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
        assert_eq!(deployment.0.pointer("/spec/replicas"), Some(&json!(3)));
    }
}
