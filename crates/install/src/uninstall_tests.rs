#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn object(kind: &str, name: &str, labels: serde_json::Value) -> Object {
    let api_version = match kind {
        "Deployment" => "apps/v1",
        "Service" | "Pod" | "Namespace" | "ConfigMap" => "v1",
        _ => "admissionregistration.k8s.io/v1",
    };
    Object(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels}}))
}

fn owned(kind: &str, name: &str, revision: &str, component: &str) -> Object {
    object(
        kind,
        name,
        json!({
            "istio.io/rev": revision,
            "operator.istio.io/component": component,
            "install.operator.istio.io/owning-resource-namespace": "istio-system",
        }),
    )
}

fn ready_pod(revision: &str) -> Object {
    let mut pod = object("Pod", "istiod", json!({"app": "istiod", "istio.io/rev": revision}));
    pod.0["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    pod
}

/// Two revisions, the tag `default` on the old one, a user's tag on either, a gateway upgraded to the canary.
fn cluster() -> (Vec<Object>, Inventory) {
    let owned = vec![
        owned("Deployment", "istiod-old", "old", "Pilot"),
        owned(
            "MutatingWebhookConfiguration",
            "istio-sidecar-injector-old",
            "old",
            "Pilot",
        ),
        owned("Deployment", "istiod-canary", "canary", "Pilot"),
        owned(
            "MutatingWebhookConfiguration",
            "istio-sidecar-injector-canary",
            "canary",
            "Pilot",
        ),
        owned("Deployment", "istio-ingressgateway", "canary", "IngressGateways"),
        owned("Service", "istio-ingressgateway", "canary", "IngressGateways"),
        owned("ServiceAccount", "istio-reader-service-account", "canary", "Base"),
    ];
    let tag = |name: &str, revision: &str| {
        object(
            "MutatingWebhookConfiguration",
            &format!("istio-revision-tag-{name}"),
            json!({"istio.io/rev": revision, "istio.io/tag": name}),
        )
    };
    let mut webhooks: Vec<Object> = owned
        .iter()
        .filter(|o| o.kind() == "MutatingWebhookConfiguration")
        .cloned()
        .collect();
    webhooks.extend([tag("default", "old"), tag("stable", "old"), tag("next", "canary")]);
    let inventory = Inventory {
        webhooks,
        pods: vec![ready_pod("old"), ready_pod("canary")],
        namespaces: vec![
            object("Namespace", "a", json!({"istio.io/rev": "stable"})),
            object("Namespace", "b", json!({"istio-injection": "enabled"})),
            object("Namespace", "c", json!({"istio.io/rev": "canary"})),
        ],
        ..Inventory::default()
    };
    (owned, inventory)
}

fn check(revision: &str) -> Plan {
    let (owned, inventory) = cluster();
    plan(
        &Scope::Revision(revision.to_owned()),
        "istio-system",
        &owned,
        &inventory,
    )
}

fn names(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(Object::name).collect()
}

#[test]
fn exactly_one_revision_goes_webhooks_first() {
    let plan = check("old");
    assert_eq!(
        names(&plan.remove),
        ["istio-revision-tag-stable", "istio-sidecar-injector-old", "istiod-old"]
    );
    assert_eq!(plan.default_moves_to.as_deref(), Some("canary"));
    assert_eq!(
        (plan.tags, plan.namespaces),
        (vec!["stable".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn a_gateway_upgraded_in_place_stays_and_is_named() {
    let plan = check("canary");
    assert_eq!(
        names(&plan.remove),
        [
            "istio-revision-tag-next",
            "istio-sidecar-injector-canary",
            "istiod-canary"
        ]
    );
    assert_eq!(gateways(&plan), ["istio-ingressgateway may go to old"]);
    assert_eq!(
        (plan.others, plan.namespaces),
        (vec!["old".to_owned()], vec!["c".to_owned()])
    );
}

/// Gateways that stay, each with the revision that it may go to.
fn gateways(plan: &Plan) -> Vec<String> {
    let verb = |gateway: &Gateway| if gateway.had { "goes back" } else { "may go" };
    let all = plan.gateways.iter();
    all.map(|gateway| format!("{} {} to {}", gateway.id.name, verb(gateway), gateway.to))
        .collect()
}

#[test]
fn a_gateway_goes_with_its_revision_unless_another_knows_it() {
    let check = |records: &[(&str, &str)], goes: bool, stays: &[&str]| {
        let (mut owned, mut inventory) = cluster();
        for (revision, _) in records.iter().filter(|(revision, _)| *revision != "old") {
            let name = format!("istio-sidecar-injector-{revision}");
            let webhook = self::owned("MutatingWebhookConfiguration", &name, revision, "Pilot");
            inventory.webhooks.push(webhook);
        }
        for object in &mut owned {
            object.0["metadata"]["namespace"] = "istio-system".into();
        }
        for (revision, gateways) in records {
            let mut record = self::owned("ConfigMap", &format!("values-{revision}"), revision, "Pilot");
            record.0["metadata"]["namespace"] = "istio-system".into();
            record.0["data"] = json!({"gateways": gateways});
            owned.push(record);
        }
        let scope = Scope::Revision("canary".to_owned());
        let plan = plan(&scope, "istio-system", &owned, &inventory);
        let removed = plan
            .remove
            .iter()
            .filter(|object| object.name() == "istio-ingressgateway");
        // The Deployment and its Service, or neither.
        assert_eq!(removed.count(), if goes { 2 } else { 0 }, "{records:?}");
        assert_eq!(gateways(&plan), stays, "{records:?}");
    };
    let own = r#"{"ingressGateways": [{"name": "edge"}]}"#;
    let same = r#"{"ingressGateways": [{"name": "istio-ingressgateway"}]}"#;
    let off = r#"{"ingressGateways": [{"name": "istio-ingressgateway", "enabled": false}]}"#;
    check(&[("old", own)], true, &[]);
    check(&[("old", same)], false, &["istio-ingressgateway goes back to old"]);
    check(&[("old", off)], false, &["istio-ingressgateway may go to old"]);
    // Nobody knows.
    check(&[], false, &["istio-ingressgateway may go to old"]);
    // It goes back to who had it, although another is the default, or ready.
    let back = ["istio-ingressgateway goes back to another"];
    check(&[("old", own), ("another", same)], false, &back);
}

#[test]
fn the_last_revision_takes_its_gateways_along() {
    let (mut owned, mut inventory) = cluster();
    owned.retain(|o| o.label("istio.io/rev") != "old");
    inventory.webhooks.retain(|o| o.label("istio.io/rev") != "old");
    let plan = plan(&Scope::Revision("canary".into()), "istio-system", &owned, &inventory);
    assert!(names(&plan.remove).contains(&"istio-ingressgateway") && plan.gateways.is_empty());
}

#[test]
fn the_default_tag_is_not_moved_to_a_revision_that_cannot_serve() {
    let (owned, mut inventory) = cluster();
    inventory.pods.retain(|pod| pod.label("istio.io/rev") == "old");
    let plan = plan(&Scope::Revision("old".into()), "istio-system", &owned, &inventory);
    assert_eq!(plan.default_moves_to, None);
    assert_eq!(plan.tags, ["default", "stable"]);
}

#[test]
fn purge_takes_everything() {
    let (mut owned, mut inventory) = cluster();
    owned[0].0["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "istiod-old", "meta.helm.sh/release-namespace": "istio-system"});
    let labels = [
        ("a", json!({"istio-injection": "enabled"})),
        ("b", json!({"istio.io/rev": "stable"})),
        ("c", json!({"istio.io/rev": "canary"})),
        ("d", json!({"istio.io/rev": "nobody"})),
    ];
    inventory.namespaces = labels.map(|(name, labels)| object("Namespace", name, labels)).to_vec();
    let plan = plan(&Scope::Purge, "istio-system", &owned, &inventory);
    assert_eq!(plan.remove.len(), owned.len() + 3);
    // It is said whose that is.
    assert_eq!(plan.releases, ["istiod-old -n istio-system"]);
    assert_eq!(plan.namespaces, ["a", "b", "c"]);
}

#[test]
fn a_revision_of_another_namespace_is_left_alone() {
    let (owned, mut inventory) = cluster();
    inventory.strangers = std::mem::take(&mut inventory.webhooks);
    let plan = plan(&Scope::Revision("old".into()), "elsewhere", &owned, &inventory);
    assert_eq!((plan.remove, plan.tags), (vec![], Vec::<String>::new()));
}

#[test]
fn a_release_that_loses_its_tags_is_named() {
    let (owned, mut inventory) = cluster();
    let told = |inventory: &Inventory| plan(&Scope::Revision("old".into()), "istio-system", &owned, inventory).bereft;
    assert_eq!(told(&inventory), [""; 0]);
    let mut other = inventory.webhooks[0].clone();
    other.set_label("istio.io/tag", "kept");
    other.set_label("istio.io/rev", "canary");
    inventory.webhooks.push(other);
    for webhook in inventory
        .webhooks
        .iter_mut()
        .filter(|w| !w.label("istio.io/tag").is_empty())
    {
        webhook.set_label("helm.sh/chart", "revisiontags-0.2.0");
        webhook.0["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": "istio-tags", "meta.helm.sh/release-namespace": "istio-system"});
    }
    insta::assert_snapshot!(told(&inventory).join("\n"), @r#"Helm release istio-tags -n istio-system still asks for the tags that it made, and would bring them back: default, stable. Afterwards, take them out of it: helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set-json 'revisionTags=["kept","next"]'"#);
}

#[test]
fn what_helm_installed_is_left_to_helm() {
    let (mut owned, inventory) = cluster();
    for object in owned.iter_mut().filter(|o| o.label("istio.io/rev") == "old") {
        let labels = object.0["metadata"]["labels"].as_object_mut().unwrap();
        labels.shift_remove("install.operator.istio.io/owning-resource-namespace");
        object.0["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": "istiod-old", "meta.helm.sh/release-namespace": "istio-system"});
        object.0["metadata"]["namespace"] = "istio-system".into();
    }
    let check = |owned: &[Object]| {
        let plan = plan(&Scope::Revision("old".into()), "istio-system", owned, &inventory);
        assert_eq!(
            (plan.releases, plan.remove, plan.tags),
            (vec!["istiod-old -n istio-system".to_owned()], vec![], vec![])
        );
    };
    check(&owned);
    // What istiod writes itself is not Helm's, and makes the revision nobody else's.
    owned.push(self::owned("ConfigMap", "istio-handover-old", "old", "Pilot"));
    check(&owned);
    // The same name in another mesh is another control plane.
    let elsewhere = plan(&Scope::Revision("old".into()), "elsewhere", &owned, &inventory);
    assert_eq!(elsewhere.releases, [""; 0]);
}

/// `helm template | kubectl apply`: nobody marked the objects as his own, so that they are known by their revision, and
/// where they do not say it, by the names that the charts give them.
#[test]
fn what_was_applied_as_manifests_goes_too_and_is_told_from_what_was_installed() {
    let (mut owned, inventory) = cluster();
    let applied = |kind: &str, name: &str, labels: serde_json::Value| {
        let mut object = object(kind, name, labels);
        object.set_label("app.kubernetes.io/part-of", "istio");
        object.0["metadata"]["managedFields"] = json!([{"manager": "kubectl-client-side-apply"},
            {"manager": "istiod-old"}, {"manager": "kube-controller-manager", "subresource": "status"}]);
        if matches!(kind, "Deployment" | "ServiceAccount") {
            object.0["metadata"]["namespace"] = "istio-system".into();
        }
        object
    };
    let pilot = || json!({"istio.io/rev": "old", "operator.istio.io/component": "Pilot"});
    owned.retain(|object| object.label("istio.io/rev") != "old");
    owned.extend([
        applied("Deployment", "istiod-old", pilot()),
        applied("MutatingWebhookConfiguration", "istio-sidecar-injector-old", pilot()),
        applied(
            "ValidatingWebhookConfiguration",
            "istio-validator-old-istio-system",
            json!({"istio.io/rev": "old"}),
        ),
        applied("ClusterRole", "istiod-clusterrole-old-istio-system", json!({})),
        applied("ServiceAccount", "istiod-old", json!({})),
        // Of another revision, of another namespace, and what all share.
        applied("ClusterRole", "istiod-clusterrole-istio-system", json!({})),
        applied("ClusterRole", "istiod-clusterrole-old-elsewhere", json!({})),
        applied("ServiceAccount", "istio-reader-service-account", json!({})),
        // What istiod writes itself looks like an installer's.
        self::owned("ConfigMap", "istio-handover-old", "old", "Pilot"),
    ]);
    let plan = plan(&Scope::Revision("old".into()), "istio-system", &owned, &inventory);
    assert_eq!(
        names(&plan.remove),
        [
            "istio-revision-tag-stable",
            "istio-sidecar-injector-old",
            "istio-validator-old-istio-system",
            "istiod-old",
            "istio-handover-old",
            "istiod-clusterrole-old-istio-system",
            "istiod-old",
        ]
    );
    assert_eq!(plan.applied_by, ["kubectl-client-side-apply"]);
    assert_eq!(check("canary").applied_by, Vec::<String>::new(), "istioctl's own");
}

#[test]
fn a_gateway_goes_to_the_default_revision_if_that_can_serve() {
    let check = |default: &str, asleep: &str, expected: &str| {
        let (mut owned, mut inventory) = cluster();
        owned.push(self::owned("Deployment", "istiod-another", "another", "Pilot"));
        let another = self::owned(
            "MutatingWebhookConfiguration",
            "istio-sidecar-injector-another",
            "another",
            "Pilot",
        );
        inventory.webhooks.push(another);
        inventory.pods.push(ready_pod("another"));
        inventory.pods.retain(|pod| pod.label("istio.io/rev") != asleep);
        for webhook in inventory
            .webhooks
            .iter_mut()
            .filter(|w| w.label("istio.io/tag") == "default")
        {
            webhook.set_label("istio.io/rev", default);
        }
        let plan = plan(&Scope::Revision("canary".into()), "istio-system", &owned, &inventory);
        assert_eq!(
            plan.successor(&inventory),
            Some(expected),
            "{default}, without {asleep}"
        );
    };
    check("old", "", "old");
    check("another", "", "another");
    check("old", "old", "another");
    check("canary", "", "another");
}

#[test]
fn nothing_is_advised_to_go_to_a_revision_of_which_only_the_injector_is_left() {
    let (owned, mut inventory) = cluster();
    inventory.pods.retain(|pod| pod.label("istio.io/rev") != "canary");
    let service = json!({"name": "istiod-canary", "namespace": "istio-system"});
    let injector = json!([{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {"service": service}}]);
    let is_canary = |webhook: &&mut Object| webhook.name() == "istio-sidecar-injector-canary";
    for webhook in inventory.webhooks.iter_mut().filter(is_canary) {
        webhook.0["webhooks"] = injector.clone();
    }
    let others = |inventory: &Inventory| {
        let plan = plan(&Scope::Revision("old".into()), "istio-system", &owned, inventory);
        (plan.successor(inventory).map(str::to_owned), plan.others)
    };
    assert_eq!(others(&inventory), (None, Vec::new()));
    // One that is only asleep may wake up.
    let labels = json!({"istio.io/rev": "canary", "app": "istiod"});
    inventory.services.push(object("Service", "istiod-canary", labels));
    assert_eq!(
        others(&inventory),
        (Some("canary".to_owned()), vec!["canary".to_owned()])
    );
}

#[test]
fn half_of_a_revision_goes_like_a_whole() {
    // Only the webhook is left, and nothing answers it; or only the rest.
    for gone in ["Deployment", "MutatingWebhookConfiguration"] {
        let (mut owned, mut inventory) = cluster();
        let is_gone =
            |o: &Object| o.kind() == gone && o.label("istio.io/rev") == "old" && o.label("istio.io/tag").is_empty();
        owned.retain(|o| !is_gone(o));
        inventory.webhooks.retain(|o| !is_gone(o));
        inventory.pods.retain(|pod| pod.label("istio.io/rev") != "old");
        let plan = plan(&Scope::Revision("old".into()), "istio-system", &owned, &inventory);
        assert!(names(&plan.remove).iter().any(|name| name.ends_with("-old")), "{gone}");
        assert_eq!(plan.default_moves_to.as_deref(), Some("canary"), "{gone}");
    }
}

#[test]
fn gateways_ask_for_a_revision_by_name_or_tag() {
    let gateway = |name: &str, wanted: &str| object("Gateway", name, json!({"istio.io/rev": wanted}));
    let gateways = [gateway("a", "old"), gateway("b", "stable"), gateway("c", "canary")];
    let asking = deployed("old", &["stable".to_owned()], &gateways);
    assert_eq!(asking.iter().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_validator_of_helm_never_leads_to_who_is_gone() {
    let check = |revision: &str, leads_to: &str, ready: &[&str], expected: Option<Stays>| {
        let (owned, mut inventory) = cluster();
        inventory
            .webhooks
            .retain(|webhook| webhook.label("istio.io/tag") != DEFAULT_REVISION);
        inventory.pods.retain(|pod| pod.label("app") != "istiod");
        inventory.pods.extend(ready.iter().map(|revision| ready_pod(revision)));
        let labels = json!({"istio.io/rev": leads_to, "app.kubernetes.io/managed-by": "Helm"});
        let mut validator = object(
            "ValidatingWebhookConfiguration",
            api::names::object::DEFAULT_VALIDATOR,
            labels,
        );
        let service = json!({"name": format!("istiod-{leads_to}"), "namespace": "istio-system"});
        validator.0["webhooks"] = json!([{"name": "validation.istio.io", "clientConfig": {"service": service}}]);
        inventory.validators.push(validator);
        let scope = Scope::Revision(revision.to_owned());
        let plan = plan(&scope, "istio-system", &owned, &inventory);
        assert_eq!(
            plan.validator, expected,
            "{revision} goes, {leads_to} validates, {ready:?} are ready"
        );
    };
    check("old", "old", &["canary"], Some(Stays::With("canary".to_owned())));
    check("old", "old", &[], Some(Stays::Open));
    check("old", "canary", &["canary"], None);
}
