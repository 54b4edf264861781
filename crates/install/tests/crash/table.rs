//! The truth table of revisions.md §2.5, asked of an API server: for every combination of labels of namespace and pod, the
//! webhooks that it calls, and what their istiod makes of the pod, are those that the decision names.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use install::object::Object;
use install::proof;
use revision::decision::{Injector, PodView, Policy, decide};
use revision::name::{Revision, Tag};
use revision::selector::Labels;
use revision::webhook::{Options, Precedence, of_revision, of_tag};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::injector::Injectors;

const INJECTION: [Option<&str>; 5] = [None, Some("enabled"), Some("disabled"), Some("Enabled"), Some("")];
const INJECT: [Option<&str>; 6] = [
    None,
    Some("true"),
    Some("false"),
    Some("other"),
    Some("False"),
    Some(""),
];
const REVISIONS: [Option<&str>; 7] = [
    None,
    Some("stable"),
    Some("canary"),
    Some("prod"),
    Some("default"),
    Some("unknown"),
    Some(""),
];
/// How many pods are tried at a time.
const AT_ONCE: usize = 8;

/// Revisions `stable` and `canary`, tags `prod→canary` and `default→stable`, each with its revision.
fn configurations(options: Options) -> Vec<Injector> {
    let revision = |name: &str| {
        let revision = Revision::parse(name).unwrap();
        Injector {
            config: revision.injector_webhook("istio-system"),
            revision: name.to_owned(),
            tag: None,
            webhooks: of_revision(&revision, options),
        }
    };
    let tag = |name: &str, target: &str| {
        let tag = Tag::parse(name).unwrap();
        Injector {
            config: tag.injector_webhook("istio-system"),
            revision: target.to_owned(),
            tag: Some(name.to_owned()),
            webhooks: of_tag(&tag, options),
        }
    };
    vec![
        revision("stable"),
        revision("canary"),
        tag("prod", "canary"),
        tag("default", "stable"),
    ]
}

fn installed(injector: &Injector, injectors: &Injectors) -> Object {
    let webhooks = injector.webhooks.iter().map(|webhook| {
        json!({
            "name": webhook.name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": injectors.url(&injector.revision), "caBundle": injectors.authority},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "namespaceSelector": webhook.namespaces.to_label_selector(),
            "objectSelector": webhook.objects.to_label_selector(),
        })
    });
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": injector.config, "labels": {"istio.io/rev": injector.revision}},
        "webhooks": webhooks.collect::<Vec<Value>>(),
    }))
}

fn labels(pairs: [(&str, Option<&str>); 2]) -> Labels {
    let given = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    given.collect()
}

/// Who injects, by the decision in both of its stages: every webhook that is called, each once.
fn decided(namespace: &str, labels: (&Labels, &Labels), injectors: &[Injector]) -> Option<String> {
    let policy = Policy {
        policy: "enabled".to_owned(),
        ..Policy::default()
    };
    let view = PodView {
        namespace,
        labels: labels.1,
        annotations: &Labels::new(),
        host_network: false,
    };
    policy.admits(view).ok()?;
    let matches = decide(labels.0, labels.1, injectors).matches;
    let revisions: Vec<String> = matches.into_iter().map(|found| found.revision).collect();
    (!revisions.is_empty()).then(|| revisions.join(","))
}

async fn check(precedence: Precedence) {
    let injectors = Injectors::start().await;
    let cluster = Cluster::start().await;
    let configurations = configurations(Options {
        automatic: false,
        precedence,
    });
    for configuration in &configurations {
        let object = installed(configuration, &injectors);
        cluster.server.apply(&object, "istio-operator", false).await.unwrap();
    }
    let mut cases = Vec::new();
    for (index, (injection, revision)) in product(&INJECTION, &REVISIONS).into_iter().enumerate() {
        let name = format!("app-{index}");
        let of_namespace = labels([("istio-injection", injection), ("istio.io/rev", revision)]);
        let metadata = json!({"name": name, "labels": of_namespace});
        let object = Object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
        cluster.server.apply(&object, "kubectl", false).await.unwrap();
        // A controller makes it as well, some time; without it no pod is let in.
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        cluster.server.apply(&Object(account), "kubectl", false).await.unwrap();
        for (inject, revision) in product(&INJECT, &REVISIONS) {
            let of_pod = labels([("sidecar.istio.io/inject", inject), ("istio.io/rev", revision)]);
            cases.push((name.clone(), of_namespace.clone(), of_pod));
        }
    }
    let count = cases.len();
    let tried = stream::iter(cases).map(async |(name, of_namespace, of_pod)| {
        let pod = Object(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": name, "labels": of_pod},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "app", "image": "app"}]},
        }));
        let answer = cluster.server.try_create(&pod).await?;
        assert_eq!(
            proof::injected_by(&answer),
            decided(&name, (&of_namespace, &of_pod), &configurations),
            "namespace {of_namespace:?}, pod {of_pod:?}, {precedence:?}"
        );
        Ok::<_, install::api_server::RequestError>(())
    });
    let answers: Vec<()> = tried.buffer_unordered(AT_ONCE).try_collect().await.unwrap();
    assert_eq!((answers.len(), count), (1470, 1470));
}

fn product<'a>(left: &[Option<&'a str>], right: &[Option<&'a str>]) -> Vec<(Option<&'a str>, Option<&'a str>)> {
    left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_calls_whom_the_decision_names() {
    check(Precedence::Namespace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_calls_whom_the_decision_names_where_the_pods_label_wins() {
    check(Precedence::Pod).await;
}
