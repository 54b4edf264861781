//! Commands on an API server in this process: what they find there, and what they leave.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use clap::Parser as _;
use drydock_api::{Config, Handle, Server};
use install::api_server::{ApiServer, kind};
use install::object::{Id, Object};
use istioctl::cli::{Cli, Command, Experimental};
use istioctl::cluster::Cluster;
use istioctl::command::{
    analyze, check_inject, explain, injector, kube_inject, precheck, proxy_config, proxy_status, waypoint, workload,
};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use status::forward::PortForward;

/// Everything ends with it.
struct Api {
    config: kube::Config,
    client: Client,
    server: ApiServer,
    _handle: Handle,
    _data: tempfile::TempDir,
}

impl Api {
    async fn start(objects: &[Value]) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let data = tempfile::tempdir().unwrap();
        let handle = Server::start(Config::new(data.path())).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&handle.kubeconfig().unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let api = Self {
            config,
            server: ApiServer::new(client.clone()),
            client,
            _handle: handle,
            _data: data,
        };
        for object in objects {
            api.apply(object.clone()).await;
        }
        api
    }

    async fn apply(&self, object: Value) {
        self.server.apply(&Object(object), "test", false).await.unwrap();
    }

    async fn get(&self, group: &str, name: &str, namespace: &str, object: &str) -> Option<Value> {
        let id = Id {
            name: object.to_owned(),
            namespace: namespace.to_owned(),
            ..kind(group, "v1", name)
        };
        Some(self.server.get(&id).await.unwrap()?.0)
    }

    /// Runs a command: what it prints, then how it fails.
    async fn run(&self, line: &str) -> String {
        let mut cli = match Cli::try_parse_from(line.split(' ')) {
            Ok(cli) => cli,
            Err(error) => return error.to_string(),
        };
        let mut cluster = Cluster::with(
            self.client.clone(),
            Arc::new(PortForward::new(
                self.client.clone(),
                std::time::Duration::from_secs(15),
            )),
            "default",
        );
        cluster.version = self.client.apiserver_version().await.unwrap();
        cli.global.cluster = Some(cluster);
        let report = match cli.command {
            Command::Analyze(flags) => analyze::report(&cli.global, &flags).await,
            Command::Experimental(Experimental::Precheck(flags)) => precheck::report(&cli.global, &flags).await,
            Command::KubeInject(flags) => kube_inject::text(&cli.global, &flags).await.map(Into::into),
            Command::ProxyStatus(flags) => {
                proxy_status::report(&cli.global, &flags)
                    .await
                    .map(|report| analyze::Report {
                        text: report.text + &report.lost,
                        notes: report.notes,
                        failure: report.failure,
                    })
            }
            Command::Experimental(Experimental::Workload(workload::Command::Entry(workload::Entry::Configure(
                flags,
            )))) => {
                let files = workload::configure(&cli.global, &flags).await;
                files.map(|(files, _)| files["mesh.yaml"].clone().into())
            }
            Command::ProxyConfig(command) => proxy_config::text(&cli.global, command).await.map(Into::into),
            Command::Explain(command) => explain::text(&cli.global, command).await.map(Into::into),
            Command::Experimental(Experimental::CheckInject(flags)) => {
                check_inject::text(&cli.global, &flags).await.map(Into::into)
            }
            Command::Experimental(Experimental::Injector(command)) => {
                injector::text(&cli.global, command).await.map(Into::into)
            }
            Command::Waypoint(command) => waypoint::text(&cli.global, command).await.map(Into::into),
            other => panic!("{other:?}"),
        };
        let (text, failure) = match report {
            Ok(report) => {
                let notes: String = report.notes.iter().map(|note| format!("{note}\n")).collect();
                (report.text + &notes, report.failure)
            }
            Err(failure) => (String::new(), Some(failure)),
        };
        match failure {
            Some(failure) => format!("{text}Error: {}\n", failure.message()),
            None => text,
        }
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "istio-system"}, "data": data})
}

/// An injector of a revision, with or without a tag.
fn injector(revision: &str, tag: Option<&str>) -> Value {
    let name = tag.map_or(format!("istio-sidecar-injector-{revision}"), |tag| {
        format!("istio-revision-tag-{tag}")
    });
    let mut labels = json!({"istio.io/rev": revision});
    if let Some(tag) = tag {
        labels["istio.io/tag"] = tag.into();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": labels},
        "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": format!("istiod-{revision}"), "namespace": "istio-system"}},
            "namespaceSelector": {"matchLabels": {"istio.io/rev": tag.unwrap_or(revision)}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}]})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "istio-system"},
        "spec": {"ports": [{"name": "https-webhook", "port": 443}]}})
}

fn definition(group: &str, name: &str, plural: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = |version: &str, storage: bool| json!({"name": version, "served": true, "storage": storage, "subresources": {"status": {}}, "schema": schema});
    let versions = [version("v1", true), version("v1beta1", false)];
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "https://example.com"}},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions,
            "names": {"kind": name, "plural": plural, "singular": name.to_lowercase(), "listKind": format!("{name}List")}}})
}

#[tokio::test]
async fn the_mesh_configuration_is_that_of_the_revision() {
    let networks = |cluster: &str| format!("networks: {{n: {{endpoints: [{{fromRegistry: {cluster}}}]}}}}");
    let api = Api::start(&[
        namespace("default", json!({"istio.io/rev": "prod"})),
        namespace("istio-system", json!({})),
        map("istio", json!({"meshNetworks": networks("of-default")})),
        map("istio-canary", json!({"meshNetworks": networks("of-canary")})),
        service("istiod-canary"),
        injector("canary", None),
        injector("canary", Some("prod")),
    ])
    .await;
    let networks_of = |output: String| {
        let line = output.lines().find(|line| line.contains("IST0126")).map(str::to_owned);
        line.unwrap_or(output)
    };
    let all = "istioctl analyze -A";
    for (more, cluster) in [
        ("", "of-default"),
        (" -r canary", "of-canary"),
        (" -r prod", "of-canary"),
    ] {
        assert_eq!(
            networks_of(api.run(&format!("{all}{more}")).await),
            format!(
                "Error [IST0126] (MeshNetworks meshnetworks.istio-system) Unknown service registry {cluster} in network n"
            )
        );
    }
    let output = api.run("istioctl analyze -r gone").await;
    assert_eq!(
        output,
        "Error: there is no revision or tag \"gone\"; revisions here: canary; tags: prod\n"
    );
    let output = api.run("istioctl analyze -n nowhere").await;
    assert_eq!(output, "namespace \"nowhere\" not found\n");
}

#[tokio::test]
async fn without_a_name_the_default_revision_is_meant_and_a_tag_means_its_own() {
    let mut objects = vec![
        namespace("app", json!({})),
        namespace("istio-system", json!({})),
        service("istiod-canary"),
        service("istiod-old"),
        injector("canary", Some("default")),
        injector("old", Some("prod")),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vm", "namespace": "app"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": "app"},
            "data": {"root-cert.pem": ""}}),
    ];
    for revision in ["canary", "old"] {
        let template = format!("spec: {{containers: [{{name: istio-proxy, image: of-{revision}}}]}}");
        let config = json!({"policy": "enabled", "defaultTemplates": ["sidecar"], "templates": {"sidecar": template}});
        objects.push(map(&format!("istio-{revision}"), json!({"mesh": "{}"})));
        objects.push(map(
            &format!("istio-sidecar-injector-{revision}"),
            json!({"config": config.to_string(), "values": "{}"}),
        ));
    }
    let api = Api::start(&objects).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: web}]}\n";
    let group = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: vm, namespace: app}\n\
                 spec: {template: {serviceAccount: vm}}\n";
    let inject = format!("istioctl kube-inject -f {}", file("pod.yaml", pod));
    let configure = format!(
        "istioctl x workload entry configure --file {} --output {}",
        file("group.yaml", group),
        folder.path().display()
    );
    for (more, revision) in [
        ("", "canary"),
        (" -r prod", "old"),
        (" -r old", "old"),
        (" -r default", "canary"),
    ] {
        let output = api.run(&format!("{inject}{more}")).await;
        assert!(output.contains(&format!("image: of-{revision}")), "{more}: {output}");
        let output = api.run(&format!("{configure}{more}")).await;
        assert!(
            output.contains(&format!("istiod-{revision}.istio-system.svc")),
            "{more}: {output}"
        );
    }
    let output = api.run(&format!("{inject} -r gone")).await;
    assert_eq!(
        output,
        "Error: there is no revision or tag \"gone\"; revisions here: none; tags: default, prod\n"
    );
}

#[tokio::test]
async fn proxies_of_a_mesh_without_a_control_plane_are_shown() {
    let pod = |name: &str, revision: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "app", "annotations": {"istio.io/rev": revision}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "proxyv2:0.2.0"}]}})
    };
    let api = Api::start(&[namespace("app", json!({})), namespace("istio-system", json!({}))]).await;
    insta::assert_snapshot!(api.run("istioctl ps").await, @r#"Error: no running Istio pods in "istio-system""#);
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "app"}});
    let tag = injector("canary", Some("prod"));
    for object in [
        account,
        service("istiod-canary"),
        tag,
        pod("web", "canary"),
        pod("db", "old"),
    ] {
        api.apply(object).await;
    }
    insta::assert_snapshot!(api.run("istioctl ps").await, @r#"

    NOT CONNECTED     REVISION     READY     WHY
    db.app            old          no        no istiod of revision old runs: bring it back, or move the namespace to another and restart the pod
    web.app           canary       no        no istiod of revision canary runs: bring it back, or move the namespace to another and restart the pod
    Error: no running Istio pods in "istio-system"
    "#);
    insta::assert_snapshot!(api.run("istioctl ps -r prod").await, @r#"

    NOT CONNECTED     REVISION     READY     WHY
    web.app           canary       no        no istiod of revision canary runs: bring it back, or move the namespace to another and restart the pod
    Error: no running Istio pods of revision "canary" in "istio-system"; none of another, either
    "#);
    insta::assert_snapshot!(api.run("istioctl ps -r old").await, @r#"

    NOT CONNECTED     REVISION     READY     WHY
    db.app            old          no        no istiod of revision old runs: bring it back, or move the namespace to another and restart the pod
    Error: there is no revision or tag "old"; revisions here: none; tags: prod
    "#);
}

#[tokio::test]
async fn a_namespace_is_looked_at_alone_and_must_be_there() {
    let account = |namespace: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
    let pod = |name: &str, namespace: &str, revision: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace,
            "annotations": {"sidecar.istio.io/status": json!({"revision": revision}).to_string()}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "proxyv2:0.2.0"}]}})
    };
    let api = Api::start(&[
        namespace("app", json!({"istio.io/rev": "canary"})),
        namespace("istio-system", json!({})),
        namespace("other", json!({"istio.io/rev": "canary"})),
        account("app"),
        account("other"),
        pod("web", "app", "canary"),
        pod("db", "other", "canary"),
        service("istiod-canary"),
        injector("canary", None),
    ])
    .await;
    let list = api.run("istioctl x injector list -n app").await;
    assert!(
        list.contains("app       canary         canary: 1") && !list.contains("other"),
        "{list}"
    );
    for command in ["ps", "x injector list", "x check-inject web", "explain injection web"] {
        let output = api.run(&format!("istioctl {command} -n nope")).await;
        let says = [
            "namespace \"nope\" does not exist",
            "pod/web does not exist in namespace \"nope\"",
        ];
        assert!(
            says.iter().any(|says| output == format!("Error: {says}\n")),
            "{command}: {output}"
        );
    }
    let output = api.run("istioctl ps -n app").await;
    assert!(output.contains("web.app"), "{output}");
    let output = api.run("istioctl pc cluster db -n app").await;
    assert_eq!(
        output,
        "Error: unable to retrieve Pod: pods \"db\" not found in namespace \"app\"; one of another namespace is db.NAMESPACE, \
         one of a workload TYPE/NAME\n"
    );
    let output = api.run("istioctl pc cluster svc/web -n app").await;
    assert_eq!(
        output,
        "Error: \"svc/web\" does not refer to a pod: there is no Service \"web\" in namespace \"app\"\n"
    );
}

#[tokio::test]
async fn a_label_that_names_nothing_is_told_by_whoever_explains_injection() {
    let api = Api::start(&[
        namespace("app", json!({"istio.io/rev": "gone"})),
        namespace("istio-system", json!({})),
        service("istiod-canary"),
        injector("canary", None),
    ])
    .await;
    let warning = "WARNING: namespace app has label istio.io/rev=gone, but there is no revision or tag \"gone\"; revisions here: \
                   canary. No webhook answers, and new pods start without a proxy.";
    for command in ["explain injection namespace/app", "x check-inject -n app -l app=web"] {
        let output = api.run(&format!("istioctl {command}")).await;
        assert!(output.contains(warning), "{command}: {output}");
    }
}

#[tokio::test]
async fn without_a_mesh_kube_inject_says_what_is_missing() {
    let api = Api::start(&[namespace("app", json!({}))]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pod.yaml");
    std::fs::write(&file, "kind: Pod\n").unwrap();
    let output = api.run(&format!("istioctl kube-inject -f {}", file.display())).await;
    insta::assert_snapshot!(output, @r#"Error: revision "default" is not installed in namespace "istio-system": there is no ConfigMap "istio"; revisions here: none. Name another with -r, install one with istioctl install, or give --meshConfigFile, --injectConfigFile and --valuesFile"#);
}

#[tokio::test]
async fn what_may_not_be_read_is_not_said_to_be_fine() {
    let mut api = Api::start(&[namespace("app", json!({}))]).await;
    let mut config = api.config.clone();
    config.auth_info.impersonate = Some("nobody".to_owned());
    api.client = Client::try_from(config).unwrap();
    for command in ["analyze -n app", "x precheck"] {
        let output = api.run(&format!("istioctl {command}")).await;
        assert!(
            output.starts_with(
                "Error: nothing of the cluster could be read, so nothing was looked at: no Namespace, Pod, Service"
            ),
            "{output}"
        );
        assert!(output.contains("namespaces is forbidden"), "{output}");
    }

    // Whoever may read something is told what is missing.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "some"},
        "rules": [{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "some"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "some"}});
    for object in [role, binding] {
        api.apply(object).await;
    }
    let output = api.run("istioctl analyze -n app").await;
    assert!(
        output.contains("objects of kind Namespace are not looked at: namespaces is forbidden"),
        "{output}"
    );
    assert!(
        output.ends_with("\nNo validation issues found when analyzing namespace: app, as far as it could be read.\n"),
        "{output}"
    );
}

#[tokio::test]
async fn precheck_tells_what_is_wrong_with_revisions() {
    let system = namespace("istio-system", json!({}));
    let api = Api::start(std::slice::from_ref(&system)).await;
    insta::assert_snapshot!(api.run("istioctl x precheck").await, @r"
    ✔ No issues found when checking the cluster. Istio is safe to install or upgrade!
      To get started, check out https://istio.io/latest/docs/setup/getting-started/
    ");
    for object in [
        namespace("app", json!({"istio-injection": "enabled", "istio.io/rev": "canary"})),
        namespace("lost", json!({"istio.io/rev": "gone"})),
        injector("canary", None),
        injector("removed", Some("prod")),
        service("zipkin"),
    ] {
        api.apply(object).await;
    }
    insta::assert_snapshot!(api.run("istioctl x precheck --from-version 1.21").await);
    let absent = "there is no revision or tag \"typo\"; revisions here: canary; tags: prod; \
                  without -r, precheck says whether a new one may be installed\n";
    assert_eq!(api.run("istioctl x precheck -r typo").await, format!("Error: {absent}"));
    assert!(
        api.run("istioctl x precheck -r typo --from-version 1.22")
            .await
            .contains(absent)
    );
    assert!(
        !api.run("istioctl x precheck -r prod")
            .await
            .contains("there is no revision")
    );
    insta::assert_snapshot!(api.run("istioctl x precheck --from-version 2.1").await, @"Error: --from-version 2.1: expected major version 1, got 2.1; write major and minor version, for example 1.22");
    for (version, why) in [
        ("abc", "invalid version abc, expected format like '1.0'"),
        ("1.22.1", "minor version is not a number: 22.1"),
    ] {
        let says = format!("Error: --from-version {version}: {why}; write major and minor version, for example 1.22\n");
        assert_eq!(
            api.run(&format!("istioctl x precheck --from-version {version}")).await,
            says
        );
    }
}

#[tokio::test]
async fn waypoints_are_written_used_and_deleted() {
    let gateway = "gateway.networking.k8s.io";
    let api = Api::start(&[namespace("app", json!({}))]).await;
    insta::assert_snapshot!(api.run("istioctl waypoint generate --for service -r canary").await, @r"
    apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata:
      labels:
        istio.io/rev: canary
        istio.io/waypoint-for: service
      name: waypoint
    spec:
      gatewayClassName: istio-waypoint
      listeners:
      - name: mesh
        port: 15008
        protocol: HBONE
    ");
    let output = api.run("istioctl waypoint apply -n app").await;
    assert!(
        output.starts_with("Error: missing Kubernetes Gateway CRDs need to be installed"),
        "{output}"
    );
    api.apply(definition(gateway, "Gateway", "gateways")).await;
    assert_eq!(api.run("istioctl waypoint list -n app").await, "No waypoints found.\n");
    for (line, says) in [
        ("apply -n app --for all", "✅ waypoint app/waypoint applied\n"),
        ("apply -n nowhere", "Error: namespace: nowhere not found\n"),
        (
            "apply -n app --name none",
            "Error: failed to create gateway: invalid name provided for waypoint, 'none' is a reserved value\n",
        ),
        (
            "generate --for pods",
            "Error: failed to create gateway: invalid traffic type: pods. Valid options are: [all none service workload]\n",
        ),
        (
            "apply -n app --name canary -r canary --enroll-namespace",
            "⚠️ Warning: namespace is not enrolled in ambient. Consider running\t`kubectl label namespace app \
             istio.io/dataplane-mode=ambient`\n✅ waypoint app/canary applied\n✅ namespace app labeled with \
             \"istio.io/use-waypoint: canary\"\n",
        ),
        (
            "apply -n app --enroll-namespace",
            "⚠️ Warning: namespace (app) already has an enrolled Waypoint. Consider adding the `--overwrite` flag to your \
             apply command.\n",
        ),
        (
            "apply -n app -w --waypoint-timeout 1ms",
            "Error: timed out while waiting for waypoint\tapp/waypoint\n",
        ),
        (
            "list -n app",
            "NAME         REVISION     TRAFFIC TYPE     PROGRAMMED\ncanary       canary       none             False\n\
             waypoint     default      none             False\n",
        ),
        (
            "delete -n app",
            "Error: must specify a waypoint name or delete all using --all or delete specific revision using --revision\n",
        ),
        (
            "delete waypoint -n app --all",
            "Error: cannot specify waypoint names when deleting all waypoints\n",
        ),
    ] {
        assert_eq!(api.run(&format!("istioctl waypoint {line}")).await, says, "{line}");
    }
    let enrolled = api.get("", "Namespace", "", "app").await.unwrap();
    assert_eq!(enrolled["metadata"]["labels"]["istio.io/use-waypoint"], "canary");
    // A gateway of another class is no waypoint.
    api.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": "app"}, "spec": {"gatewayClassName": "istio"}}))
        .await;
    for (line, says) in [
        (
            "delete edge gone -n app",
            "waypoint app/edge not found\nwaypoint app/gone not found\n",
        ),
        ("delete -r canary -n app", "waypoint app/canary deleted\n"),
        ("delete waypoint -n app", "waypoint app/waypoint deleted\n"),
        ("delete --all -n app", ""),
    ] {
        assert_eq!(api.run(&format!("istioctl waypoint {line}")).await, says, "{line}");
    }
    assert!(api.get(gateway, "Gateway", "app", "edge").await.is_some());
    assert!(api.get(gateway, "Gateway", "app", "waypoint").await.is_none());
}
