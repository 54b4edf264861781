//! May a mesh be installed or upgraded here (revisions.md §7.1)? Facts in, messages out.

use serde::Deserialize;
use serde_json::Value;

use crate::analyzers::{self, Scope, definitions, skew};
use crate::message::{
    FUTURE_UNSUPPORTED_GATEWAY_API_VERSION, INJECTED_BY_DEFAULT, INSUFFICIENT_PERMISSIONS, Level, Message,
    NAMESPACE_NOT_INJECTED, POD_MISSING_PROXY, UNSUPPORTED_GATEWAY_API_VERSION, UNSUPPORTED_KUBERNETES_VERSION,
    UPDATE_INCOMPATIBILITY,
};
use crate::objects::Objects;

/// A kind of object that an installation creates.
#[derive(Debug)]
pub struct Needed {
    /// Group of the API.
    pub group: &'static str,
    /// Version of the API.
    pub version: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Is it created in the system namespace, or for the cluster?
    pub namespaced: bool,
}

const fn needed(group: &'static str, resource: &'static str, namespaced: bool) -> Needed {
    Needed {
        group,
        version: "v1",
        resource,
        namespaced,
    }
}

/// What an installation creates.
pub const NEEDED: &[Needed] = &[
    needed("", "namespaces", false),
    needed("rbac.authorization.k8s.io", "clusterroles", false),
    needed("rbac.authorization.k8s.io", "clusterrolebindings", false),
    needed("apiextensions.k8s.io", "customresourcedefinitions", false),
    needed("rbac.authorization.k8s.io", "roles", true),
    needed("rbac.authorization.k8s.io", "rolebindings", true),
    needed("", "serviceaccounts", true),
    needed("", "services", true),
    needed("apps", "deployments", true),
    needed("", "configmaps", true),
    needed("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    needed("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
];

/// Something the user may not do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Permission {
    /// Plural name of what cannot be created.
    pub resource: String,
    /// Why not.
    pub reason: String,
}

/// What was found out about a cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// Version of Kubernetes, as it says itself.
    pub kubernetes: String,
    /// Minor version, if it says one.
    pub minor: Option<u32>,
    /// Oldest minor version that is supported.
    pub oldest_minor: u32,
    /// What the user may not create.
    pub denied: Vec<Permission>,
    /// What is in the cluster.
    #[serde(skip)]
    pub objects: Objects,
    /// Look at what concerns the control plane?
    pub check_control_plane: bool,
    /// Minor version that is upgraded from.
    pub from: Option<u32>,
    /// A revision that is to be upgraded in place, and the version that it gets.
    pub upgrade: Option<Upgrade>,
    /// The one namespace whose objects are looked at.
    pub namespace: Option<String>,
}

/// An upgrade in place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Upgrade {
    /// The revision.
    pub revision: String,
    /// The version that it gets.
    pub version: String,
}

/// Checks of a mesh that is there: what is wrong with its revisions stays wrong, or gets worse, with one more.
const OF_REVISIONS: [&str; 8] = [
    "annotations.AlphaAnalyzer",
    "injection.Analyzer",
    "revision.Analyzer",
    "revision.CertificateAnalyzer",
    "revision.ControlPlaneAnalyzer",
    "revision.SkewAnalyzer",
    "revision.WebhookAnalyzer",
    "webhook.Analyzer",
];

/// Definitions of Gateway API: plural name, version, and what it means if the version is not served.
const GATEWAY_API: [(&str, &str, bool); 8] = [
    ("gateways", "v1beta1", true),
    ("gatewayclasses", "v1beta1", true),
    ("httproutes", "v1beta1", true),
    ("referencegrants", "v1beta1", true),
    ("gateways", "v1", false),
    ("gatewayclasses", "v1", false),
    ("httproutes", "v1", false),
    ("grpcroutes", "v1", false),
];

/// Checks: worst first, each message once.
pub fn check(facts: &Facts) -> Vec<Message> {
    let mut messages = Vec::new();
    if facts.check_control_plane {
        control_plane(facts, &mut messages);
        revisions(facts, &mut messages);
    }
    if let Some(from) = facts.from {
        changed_defaults(&facts.objects, from, &mut messages);
    }
    analyzers::sort(&mut messages);
    messages
}

fn control_plane(facts: &Facts, messages: &mut Vec<Message>) {
    if facts.minor.is_some_and(|minor| minor < facts.oldest_minor) {
        messages.push(Message::of_cluster(
            UNSUPPORTED_KUBERNETES_VERSION,
            format!(
                "The Kubernetes Version {:?} is lower than the minimum version: 1.{}",
                facts.kubernetes, facts.oldest_minor
            ),
        ));
    }
    for Permission { resource, reason } in &facts.denied {
        messages.push(Message::of_cluster(
            INSUFFICIENT_PERMISSIONS,
            format!("Missing required permission to create resource {resource} ({reason})"),
        ));
    }
    for (resource, version, now) in GATEWAY_API {
        let name = format!("{resource}.gateway.networking.k8s.io");
        let Some(crd) = facts.objects.get("CustomResourceDefinition", "", &name) else {
            continue;
        };
        let served = served(crd);
        if !served.contains(&version) {
            let code = if now {
                UNSUPPORTED_GATEWAY_API_VERSION
            } else {
                FUTURE_UNSUPPORTED_GATEWAY_API_VERSION
            };
            let have = if served.is_empty() {
                "none".to_owned()
            } else {
                served.join(",")
            };
            let text = format!("The Gateway API CRD version {have} is lower than the minimum version: {version}");
            messages.push(Message::about(code, crd, text));
        }
    }
    // An installation brings them, so that nothing is wrong before it; a control plane that reads them already lacks them.
    let own = skew::parse(env!("CARGO_PKG_VERSION"));
    let is_here = skew::control_planes(&facts.objects)
        .values()
        .flatten()
        .any(|version| own.is_some_and(|own| *version >= own));
    let too_old = definitions::too_old(&facts.objects).into_iter();
    messages.extend(too_old.map(|message| if is_here { message } else { message.at(Level::Info) }));
}

fn revisions(facts: &Facts, messages: &mut Vec<Message>) {
    let only = OF_REVISIONS.map(str::to_owned);
    let scope = Scope {
        namespace: facts.namespace.as_deref(),
        only: &only,
    };
    let found = analyzers::run(&facts.objects, scope).messages;
    // Who is injected is the user's choice; only labels that contradict each other are a mistake.
    let choices = [NAMESPACE_NOT_INJECTED, POD_MISSING_PROXY, INJECTED_BY_DEFAULT];
    messages.extend(found.into_iter().filter(|message| !choices.contains(&message.code)));
    if let Some(upgrade) = &facts.upgrade {
        in_place(&facts.objects, upgrade, messages);
    }
}

/// An upgrade in place gives all proxies of the revision another control plane at once.
fn in_place(objects: &Objects, upgrade: &Upgrade, messages: &mut Vec<Message>) {
    let Some(to) = skew::parse(&upgrade.version) else {
        return;
    };
    for ((namespace, revision, version), pods) in skew::proxies(objects) {
        let complaint = skew::complaint(version, to).filter(|_| revision == upgrade.revision);
        if let (Some(complaint), Some(about)) = (complaint, objects.get("Namespace", "", namespace)) {
            let than = format!("what revision {revision} is to be upgraded to");
            messages.push(skew::skewed(about, &pods, version, complaint, &than, to));
        }
    }
}

/// Defaults that are not what they were in the version that is upgraded from.
fn changed_defaults(objects: &Objects, from: u32, messages: &mut Vec<Message>) {
    if from > 21 {
        return;
    }
    // Proxies sent their spans to this Service without being told to.
    if let Some(zipkin) = objects.get("Service", api::names::ROOT_NAMESPACE, "zipkin") {
        messages.push(Message::about(
            UPDATE_INCOMPATIBILITY,
            zipkin,
            "The configuration \"meshConfig.defaultConfig.tracer\" changed in release 1.21: tracing is no longer by \
             default enabled to send to 'zipkin.istio-system.svc'; follow \
             https://istio.io/latest/docs/tasks/observability/distributed-tracing/telemetry-api/. Or, install with \
             `--set compatibilityVersion=1.21` to retain the old default.",
        ));
    }
}

fn served(crd: &Value) -> Vec<&str> {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let mut served: Vec<&str> = versions
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true)
        .filter_map(|version| version["name"].as_str())
        .collect();
    served.sort_unstable();
    served
}

/// The minor version of `--from-version`.
///
/// # Errors
/// What is wrong with it.
pub fn minor_version(text: &str) -> Result<u32, String> {
    let (major, minor) = text
        .split_once('.')
        .ok_or_else(|| format!("invalid version {text}, expected format like '1.0'"))?;
    if major != "1" {
        return Err(format!("expected major version 1, got {text}"));
    }
    minor
        .parse()
        .map_err(|_| format!("minor version is not a number: {minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(facts: Facts, expected: &[&str]) {
        let messages: Vec<String> = super::check(&facts).iter().map(ToString::to_string).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let facts = Facts {
            kubernetes: "v1.33.1".into(),
            minor: Some(33),
            oldest_minor: 32,
            check_control_plane: true,
            ..Facts::default()
        };
        check(facts.clone(), &[]);
        check(
            Facts {
                kubernetes: "v1.28.3".into(),
                minor: Some(28),
                ..facts.clone()
            },
            &[r#"Error [IST0142] (Cluster) The Kubernetes Version "v1.28.3" is lower than the minimum version: 1.32"#],
        );
        let denied = vec![Permission {
            resource: "namespaces".into(),
            reason: "permission denied".into(),
        }];
        check(
            Facts {
                denied,
                ..facts.clone()
            },
            &[
                "Error [IST0141] (Cluster) Missing required permission to create resource namespaces (permission denied)",
            ],
        );
        let mut objects = Objects::default();
        objects.add(
            json!({"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.gateway.networking.k8s.io"},
            "spec": {"versions": [{"name": "v1alpha2", "served": true}]}}),
        );
        check(
            Facts {
                objects,
                ..facts.clone()
            },
            &[
                "Error [IST0156] (CustomResourceDefinition gateways.gateway.networking.k8s.io) The Gateway API CRD version v1alpha2 is lower than the minimum version: v1beta1",
                "Warning [IST0172] (CustomResourceDefinition gateways.gateway.networking.k8s.io) The Gateway API CRD version v1alpha2 is lower than the minimum version: v1",
            ],
        );
    }

    #[test]
    fn what_is_wrong_with_revisions_is_told_before_there_is_one_more() {
        let mut objects = Objects::default();
        let pod = |name: &str, image: &str, revision: &str| {
            json!({"kind": "Pod", "metadata": {"name": name, "namespace": "a", "annotations": {"istio.io/rev": revision}},
                "spec": {"containers": [{"name": "istio-proxy", "image": image}]}})
        };
        for object in [
            json!({"kind": "Namespace", "metadata": {"name": "a", "labels": {"istio-injection": "enabled", "istio.io/rev": "x"}}}),
            pod("old", "proxyv2:1.26.1", "x"),
            pod("other", "proxyv2:1.26.1", "y"),
        ] {
            objects.add(object);
        }
        let facts = Facts {
            check_control_plane: true,
            objects,
            upgrade: Some(Upgrade {
                revision: "x".into(),
                version: "1.30.0".into(),
            }),
            ..Facts::default()
        };
        check(
            facts,
            &[
                "Warning [IST0123] (Namespace a) The namespace has more than one type of injection labels \
                 [istio-injection=enabled istio.io/rev=x], which may lead to undefined behavior. Make sure only one injection \
                 label exists.",
                "Warning [TRY0001] (Namespace a) Proxies of version 1.26 are more than two minor versions older than what \
                 revision x is to be upgraded to (1.30): [old]. Restart these pods, so that they get the version of their \
                 control plane, before it goes further.",
            ],
        );
    }

    /// What precheck tells of these objects: level, code and object.
    fn told(objects: &[Value]) -> Vec<String> {
        let mut facts = Facts {
            check_control_plane: true,
            ..Facts::default()
        };
        // A month before the end of the certificate that the page of the message shows.
        let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_796_860_800 - 20 * 86_400);
        facts.objects.set_now(now);
        objects.iter().cloned().for_each(|object| facts.objects.add(object));
        let short = |message: Message| message.to_string().split(") ").next().unwrap_or_default().to_owned();
        super::check(&facts).into_iter().map(short).collect()
    }

    #[test]
    fn every_trouble_of_revisions_is_found() {
        let webhook = |name: &str, revision: &str, tag: Option<&str>, selects: &str| {
            let mut labels = json!({"istio.io/rev": revision});
            if let Some(tag) = tag {
                labels["istio.io/tag"] = tag.into();
            }
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels}, "webhooks": [{
                "name": "rev.namespace.sidecar-injector.istio.io", "namespaceSelector": {"matchLabels": {"istio.io/rev": selects}},
                "clientConfig": {"service": {"name": "istiod-a", "namespace": "istio-system"}}}]})
        };
        let service = json!({"kind": "Service", "metadata": {"name": "istiod-a", "namespace": "istio-system"}});
        let istiod = |version: &str| {
            json!({"kind": "Pod", "metadata": {"name": "istiod-a-1", "namespace": "istio-system",
                "labels": {"app": "istiod", "istio.io/rev": "a"}},
                "spec": {"containers": [{"name": "discovery", "image": format!("istiod:{version}")}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let namespace = |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "app", "labels": labels}});
        let proxy = json!({"kind": "Pod", "metadata": {"name": "web", "namespace": "app", "annotations": {"istio.io/rev": "a"}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "proxyv2:9.9.0"}]}});
        let definition = json!({"kind": "CustomResourceDefinition", "metadata": {"name": "wasmplugins.extensions.istio.io"},
            "spec": {"versions": []}});
        let own = env!("CARGO_PKG_VERSION");
        let sound = [
            webhook("istio-sidecar-injector-a", "a", None, "a"),
            service,
            istiod(own),
        ];
        let bundle = {
            use base64::Engine as _;
            let page = crate::pages::page(&crate::message::CERTIFICATE_EXPIRES).unwrap_or_default();
            let (_, rest) = page.split_once("-----BEGIN").unwrap_or_default();
            let (body, _) = rest.split_once("-----END").unwrap_or_default();
            let lines: String = format!("-----BEGIN{body}-----END CERTIFICATE-----")
                .lines()
                .map(|l| format!("{}\n", l.trim()))
                .collect();
            base64::prelude::BASE64_STANDARD.encode(lines)
        };
        let mut expiring = webhook("istio-revision-tag-soon", "a", Some("soon"), "soon");
        expiring["webhooks"][0]["clientConfig"]["caBundle"] = bundle.into();

        for (title, trouble, expected) in [
            ("nothing", namespace(json!({"istio.io/rev": "a"})), &[][..]),
            (
                "both labels",
                namespace(json!({"istio.io/rev": "a", "istio-injection": "enabled"})),
                &["Warning [IST0123] (Namespace app"],
            ),
            (
                "a tag that points nowhere",
                webhook("istio-revision-tag-prod", "gone", Some("prod"), "prod"),
                &["Error [IST0101] (MutatingWebhookConfiguration istio-revision-tag-prod"],
            ),
            (
                "two webhooks for one pod",
                webhook("istio-revision-tag-prod", "a", Some("prod"), "a"),
                &[
                    "Error [IST0139] (MutatingWebhookConfiguration istio-revision-tag-prod",
                    "Error [IST0139] (MutatingWebhookConfiguration istio-sidecar-injector-a",
                ],
            ),
            ("skew", proxy, &["Warning [TRY0001] (Namespace app"]),
            (
                "an expiring certificate",
                expiring,
                &["Warning [TRY0002] (MutatingWebhookConfiguration istio-revision-tag-soon"],
            ),
            (
                "definitions that are older than the revision needs",
                definition.clone(),
                &["Warning [TRY0003] (CustomResourceDefinition wasmplugins.extensions.istio.io"],
            ),
        ] {
            let mut objects = sound.to_vec();
            objects.push(trouble);
            let found = told(&objects);
            assert_eq!(found, expected, "{title}");
        }
        // Before a control plane of this version is there, its installation brings them.
        let found = told(&[istiod("0.0.1"), definition]);
        assert_eq!(
            found,
            ["Info [TRY0003] (CustomResourceDefinition wasmplugins.extensions.istio.io"]
        );
    }

    #[test]
    fn from_version_is_major_and_minor() {
        assert_eq!(minor_version("1.28"), Ok(28));
        assert!(minor_version("XX").is_err() && minor_version("2.1").is_err() && minor_version("1.22.1").is_err());
    }
}
