//! `istioctl experimental describe pod|service`: what the mesh does for it, and what is in the way.

mod facts;

use std::time::Duration;

use clap::{Args, Subcommand};
use install::api_server::kind;
use install::object::{Id, Object};
use revision::decision::decide;

use self::facts::Facts;
use super::injection::name_and_namespace;
use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out;
use crate::sides;

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A pod: its revision, its ports, and the configuration that concerns it.
    #[command(visible_alias = "po")]
    Pod(Flags),
    /// A Service: its pods, and the configuration that concerns it.
    #[command(visible_alias = "svc")]
    Service(Flags),
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// `<name>[.<namespace>]`.
    name: String,
    /// How long the API server may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// Kinds that are looked at.
const KINDS: [(&str, &str, &str); 6] = [
    ("networking.istio.io", "v1", "VirtualService"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("security.istio.io", "v1", "PeerAuthentication"),
    ("security.istio.io", "v1", "AuthorizationPolicy"),
    ("security.istio.io", "v1", "RequestAuthentication"),
    ("networking.istio.io", "v1", "Sidecar"),
];

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let (flags, what) = match &command {
        Command::Pod(flags) => (flags, "Pod"),
        Command::Service(flags) => (flags, "Service"),
    };
    let (name, namespace) = name_and_namespace(&flags.name, cluster.namespace(global));
    let id = Id {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ..kind("", "v1", what)
    };
    let Some(object) = cluster.server.get(&id).await? else {
        return Err(Failure::new(format!(
            "there is no {} {name:?} in namespace {namespace:?}",
            what.to_lowercase()
        )));
    };
    let facts = read(&cluster, global, namespace, flags.timeout).await?;
    out::put(&match command {
        Command::Pod(_) => pod(&facts, &object),
        Command::Service(_) => service(&facts, &object),
    });
    Ok(())
}

async fn read(cluster: &Cluster, global: &Global, namespace: &str, limit: Duration) -> Result<Facts, Failure> {
    let inside = |name| Id {
        namespace: namespace.to_owned(),
        ..kind("", "v1", name)
    };
    let (pods, services) = (inside("Pod"), inside("Service"));
    let lists =
        KINDS.map(|(group, version, name)| async move { cluster.server.list(&kind(group, version, name), "").await });
    let (pods, services, sides, configuration) = futures::join!(
        cluster.server.list(&pods, ""),
        cluster.server.list(&services, ""),
        sides::read(cluster, &global.istio_namespace, Some(namespace), limit),
        futures::future::try_join_all(lists)
    );
    Ok(Facts {
        pods: pods?,
        services: services?,
        sides: sides?,
        configuration: configuration?.into_iter().flatten().collect(),
        system: global.istio_namespace.clone(),
    })
}

const LINE: &str = "--------------------\n";

/// A pod and the Services that lead to it.
fn pod(facts: &Facts, pod: &Object) -> String {
    let mut text = format!("Pod: {}.{}\n", pod.name(), pod.namespace());
    text.push_str(&revision_of(facts, pod));
    let ports = facts::ports(pod);
    text.push_str(&format!(
        "   Ports: {}\n",
        if ports.is_empty() { "none declared" } else { &ports }
    ));
    for label in ["app", "version"] {
        if pod.label(label).is_empty() && pod.label(&format!("app.kubernetes.io/{label}")).is_empty() {
            text.push_str(&format!(
                "   Without label {label:?}, metrics and graphs cannot name it.\n"
            ));
        }
    }
    let services: Vec<&Object> = facts
        .services
        .iter()
        .filter(|service| facts::selects(service, pod))
        .collect();
    if services.is_empty() {
        text.push_str("   No Service leads to it; sidecars reach it by address only.\n");
    }
    for service in services {
        text.push_str(LINE);
        text.push_str(&about_service(facts, service, Some(pod)));
    }
    text.push_str(LINE);
    text.push_str(&security(facts, pod));
    text
}

/// A Service and the pods behind it.
fn service(facts: &Facts, service: &Object) -> String {
    let mut text = about_service(facts, service, None);
    let pods: Vec<&Object> = facts.pods.iter().filter(|pod| facts::selects(service, pod)).collect();
    text.push_str(&format!("   Pods: {}\n", pods.len()));
    for pod in &pods {
        let ready = if install::ready::is_pod_ready(pod) {
            "ready"
        } else {
            "NOT READY"
        };
        let by = facts.side(pod).and_then(|side| side.now.clone());
        let by = by.map_or_else(|| "NO PROXY".to_owned(), |revision| format!("revision {revision}"));
        text.push_str(&format!("      {} ({ready}, {by})\n", pod.name()));
    }
    if let Some(first) = pods.first() {
        text.push_str(LINE);
        text.push_str(&security(facts, first));
    }
    text
}

fn revision_of(facts: &Facts, pod: &Object) -> String {
    let Some(side) = facts.side(pod) else {
        return "   Its namespace is never injected.\n".to_owned();
    };
    let mut text = match &side.now {
        Some(revision) => format!("   Revision: {revision}\n"),
        None => "   NO PROXY: the mesh does nothing for this pod.\n".to_owned(),
    };
    if side.carried {
        let next = side.next.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "   After its next restart: revision {next}, from its workload's template; istioctl kube-inject -r REVISION puts \
             another proxy there\n"
        ));
    } else if side.needs_restart() {
        let namespace = facts.sides.namespaces.get(pod.namespace()).cloned().unwrap_or_default();
        let decision = decide(&namespace, &pod.labels(), &facts.sides.injectors);
        let then = match (&side.next, decision.is_ambiguous()) {
            (Some(revision), _) => format!("injected by revision {revision}"),
            (None, true) => "injected by several webhooks at once (istioctl x check-inject names them)".to_owned(),
            (None, false) => "without a proxy (istioctl explain injection says why)".to_owned(),
        };
        text.push_str(&format!("   After its next restart: {then}\n"));
    }
    text
}

fn about_service(facts: &Facts, service: &Object, pod: Option<&Object>) -> String {
    let host = format!("{}.{}.svc.cluster.local", service.name(), service.namespace());
    let mut text = format!("Service: {}.{}\n", service.name(), service.namespace());
    for port in facts::service_ports(service) {
        text.push_str(&format!("   Port: {port}\n"));
    }
    for rule in facts.of_kind("DestinationRule") {
        if !facts::is_host(rule.text("/spec/host"), rule.namespace(), &host) {
            continue;
        }
        text.push_str(&format!("   DestinationRule: {}.{}\n", rule.name(), rule.namespace()));
        for line in facts::subsets(rule, pod) {
            text.push_str(&format!("      {line}\n"));
        }
    }
    for route in facts.of_kind("VirtualService") {
        for line in facts::routes(route, &host) {
            text.push_str(&format!(
                "   VirtualService: {}.{}: {line}\n",
                route.name(),
                route.namespace()
            ));
        }
    }
    text
}

fn security(facts: &Facts, pod: &Object) -> String {
    let (mode, from) = facts.mtls(pod);
    let mut text = format!("Mutual TLS: {mode} ({from})\n");
    for name in ["AuthorizationPolicy", "RequestAuthentication", "Sidecar"] {
        let names = facts.selecting(name, pod);
        if !names.is_empty() {
            text.push_str(&format!("{name}: {}\n", names.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn object(kind: &str, namespace: &str, name: &str, spec: serde_json::Value) -> Object {
        Object(json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}))
    }

    #[test]
    fn a_pod_with_all_that_concerns_it() {
        let pods = [Object(
            json!({"kind": "Pod", "metadata": {"name": "web-1", "namespace": "app",
            "labels": {"app": "web", "version": "v2"}, "annotations": {"sidecar.istio.io/status": "{\"revision\": \"old\"}"}},
            "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}, {"name": "istio-proxy"}]},
            "status": {"phase": "Running"}}),
        )];
        let namespaces = [Object(json!({"metadata": {"name": "app", "labels": {}}}))];
        let facts = Facts {
            sides: sides::build(&pods, &namespaces, Vec::new(), &Default::default()),
            pods: pods.to_vec(),
            services: vec![object(
                "Service",
                "app",
                "web",
                json!({"selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "raw", "port": 99}]}),
            )],
            configuration: vec![
                object(
                    "DestinationRule",
                    "app",
                    "web",
                    json!({"host": "web", "subsets": [
                    {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
                    "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
                ),
                object("DestinationRule", "other", "web", json!({"host": "web"})),
                object(
                    "VirtualService",
                    "app",
                    "web",
                    json!({"hosts": ["shop.example.com"], "gateways": ["edge"], "http": [
                    {"match": [{"uri": {"prefix": "/api"}}], "route": [
                        {"destination": {"host": "web", "subset": "v2"}, "weight": 90}, {"destination": {"host": "web", "subset": "v1"}, "weight": 10}]},
                    {"route": [{"destination": {"host": "elsewhere"}}]}]}),
                ),
                object(
                    "PeerAuthentication",
                    "istio-system",
                    "default",
                    json!({"mtls": {"mode": "PERMISSIVE"}}),
                ),
                object(
                    "PeerAuthentication",
                    "app",
                    "web",
                    json!({"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"}}),
                ),
                object(
                    "AuthorizationPolicy",
                    "app",
                    "others",
                    json!({"selector": {"matchLabels": {"app": "db"}}}),
                ),
                object("AuthorizationPolicy", "app", "all", json!({})),
            ],
            system: "istio-system".to_owned(),
        };
        insta::assert_snapshot!(format!(
            "{}\n===\n{}",
            pod(&facts, &facts.pods[0]),
            service(&facts, &facts.services[0])
        ));

        let mut facts = facts;
        let key = ("app".to_owned(), "web-1".to_owned());
        facts.sides.carry(&[(key, "old".to_owned())].into());
        let text = pod(&facts, &facts.pods[0]);
        let line = text.lines().find(|line| line.contains("restart")).unwrap();
        assert!(
            line.starts_with("   After its next restart: revision old, from its workload's template;"),
            "{line}"
        );
    }
}
