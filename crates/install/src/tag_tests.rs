#![allow(clippy::unwrap_used)]
use super::*;

fn webhook(name: &str, revision: &str, tag: Option<&str>, service: &str) -> Object {
    let mut labels =
        json!({"istio.io/rev": revision, "app": "sidecar-injector", "operator.istio.io/component": "Pilot"});
    if let Some(tag) = tag {
        labels["istio.io/tag"] = tag.into();
    }
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": labels},
        "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {
            "service": {"name": service, "namespace": "istio-system", "path": "/inject", "port": 443}, "caBundle": "Y2E="}}],
    }))
}

fn ready(revision: &str) -> Object {
    Object(
        json!({"metadata": {"name": "istiod", "labels": {"app": "istiod", "istio.io/rev": revision}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    )
}

fn inventory() -> Inventory {
    Inventory {
        webhooks: vec![
            webhook("istio-sidecar-injector", "default", None, "istiod"),
            webhook("istio-sidecar-injector-1-22-1", "1-22-1", None, "istiod-1-22-1"),
            webhook("istio-sidecar-injector-1-23-1", "1-23-1", None, "istiod-1-23-1"),
            webhook(
                "istio-revision-tag-prod-stable",
                "1-22-1",
                Some("prod-stable"),
                "istiod-1-22-1",
            ),
            webhook("istio-revision-tag-default", "1-22-1", Some("default"), "istiod-1-22-1"),
        ],
        pods: ["default", "1-22-1", "1-23-1", "half"].map(ready).to_vec(),
        namespaces: ["app-ns-1", "app-ns-2"]
            .map(|name| Object(json!({"metadata": {"name": name, "labels": {"istio.io/rev": "prod-stable"}}})))
            .to_vec(),
        ..Inventory::default()
    }
}

fn request(tag: &str, revision: &str, overwrite: bool) -> Request {
    Request {
        tag: Tag::parse(tag).unwrap(),
        revision: Revision::parse(revision).unwrap(),
        namespace: "istio-system".into(),
        overwrite,
        force: false,
        take_over: false,
        automatic: false,
        webhook_name: None,
        labels: BTreeMap::new(),
    }
}

#[test]
fn a_tag_is_a_webhook_configuration_and_a_service() {
    let built = build(&request("prod-canary", "1-23-1", false), &inventory(), false).unwrap();
    assert_eq!(built.previous, None);
    assert_eq!(built.deactivate, None);
    let [mutating, service] = built.apply.as_slice() else {
        panic!("{built:?}")
    };
    assert_eq!(mutating.name(), "istio-revision-tag-prod-canary");
    assert_eq!(
        (mutating.label("istio.io/tag"), mutating.label("istio.io/rev")),
        ("prod-canary", "1-23-1")
    );
    assert_eq!(
        mutating.label("operator.istio.io/component"),
        "",
        "a user's tag is not the installer's"
    );
    assert_eq!(mutating.0["webhooks"].as_array().unwrap().len(), 2);
    assert_eq!(mutating.text("/webhooks/0/clientConfig/service/name"), "istiod-1-23-1");
    assert_eq!(mutating.text("/webhooks/0/clientConfig/caBundle"), "Y2E=");
    assert_eq!(service.name(), "istiod-revision-tag-prod-canary");
    assert_eq!(
        service.label("app"),
        "",
        "`kubectl get svc -l app=istiod` lists control planes only"
    );
}

#[test]
fn the_tag_default_also_validates_and_switches_the_unnamed_revision_off() {
    let built = build(&request("default", "1-23-1", false), &inventory(), false).unwrap();
    assert_eq!(
        built.previous.as_deref(),
        Some("1-22-1"),
        "it moves without --overwrite"
    );
    let kinds: Vec<_> = built.apply.iter().map(Object::kind).collect();
    assert_eq!(
        kinds,
        [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
            "Service"
        ]
    );
    assert_eq!(built.apply[0].0["webhooks"].as_array().unwrap().len(), 4);
    assert_eq!(
        built.apply[1].text("/webhooks/0/clientConfig/service/name"),
        "istiod-1-23-1"
    );
    assert_eq!(built.apply[1].text("/webhooks/0/failurePolicy"), "Ignore");
    assert!(is_deactivated(&built.deactivate.unwrap()));
}

#[test]
fn a_closed_validator_stays_istiods() {
    let mut inventory = inventory();
    inventory.validators = vec![Object(json!({"metadata": {"name": "istiod-default-validator"},
        "webhooks": [{"name": "random"}, {"name": "validation.istio.io", "failurePolicy": "Fail"}]}))];
    let built = build(&request("default", "1-23-1", false), &inventory, false).unwrap();
    assert_eq!(built.apply[1].0.pointer("/webhooks/0/failurePolicy"), None);
}

#[test]
fn what_is_not_allowed() {
    let check = |tag: &str, revision: &str, expected: TagError| {
        assert_eq!(
            build(&request(tag, revision, false), &inventory(), false),
            Err(expected)
        );
    };
    check("prod-stable", "1-23-1", TagError::Exists("prod-stable".into()));
    check("1-22-1", "1-23-1", TagError::IsRevision("1-22-1".into()));
    check("prod", "absent", TagError::NoRevision("absent".into()));
    check("prod", "half", TagError::Unfinished("half".into()));
    // Begun with other settings, it would go on as something else.
    assert!(
        TagError::Unfinished("half".into())
            .to_string()
            .ends_with("--revision half, with the same profile, settings and files as then")
    );
    check("prod", "prod-stable", TagError::NoRevision("prod-stable".into()));
    assert_eq!(
        build(&request("1-22-1", "1-23-1", true), &inventory(), false),
        Err(TagError::IsRevision("1-22-1".into())),
        "nothing is there that could be overwritten but the revision itself"
    );
    let mut starting = inventory();
    starting.pods.retain(|pod| pod.label("istio.io/rev") != "1-23-1");
    let mut request = request("prod", "1-23-1", false);
    assert_eq!(
        build(&request, &starting, false),
        Err(TagError::NotReady("1-23-1".into()))
    );
    request.force = true;
    assert!(build(&request, &starting, false).is_ok());
}

#[test]
fn a_tag_moves_when_it_is_said_so_and_remembers_where_it_was() {
    let moved = build(&request("prod-stable", "1-23-1", true), &inventory(), false).unwrap();
    assert_eq!(moved.previous.as_deref(), Some("1-22-1"));

    let mut after = inventory();
    after
        .webhooks
        .retain(|webhook| webhook.label("istio.io/tag") != "prod-stable");
    after.webhooks.push(moved.apply[0].clone());
    assert_eq!(after.previous("prod-stable"), Some("1-22-1"));
    let again = build(&request("prod-stable", "1-23-1", true), &after, false).unwrap();
    assert_eq!(again.apply[0], moved.apply[0], "the same move again changes nothing");
    let back = build(&request("prod-stable", "1-22-1", true), &after, false).unwrap();
    assert_eq!(
        back.apply[0].text("/metadata/annotations/trysail.dev~1previous-revision"),
        "1-23-1"
    );
}

#[test]
fn a_tag_keeps_the_name_of_its_webhook_configuration() {
    let mut inventory = inventory();
    let of = |name: &str, tag: &str| webhook(name, "1-22-1", Some(tag), "istiod-1-22-1");
    inventory.webhooks.push(of("custom", "prod"));
    inventory.strangers.push(of("theirs", "shared"));
    let check = |tag: &str, name: Option<&str>, generate: bool, expected: Result<&str, &str>| {
        let mut request = request(tag, "1-23-1", true);
        request.webhook_name = name.map(str::to_owned);
        let built = build(&request, &inventory, generate);
        let named = built.map(|built| built.apply[0].name().to_owned());
        assert_eq!(
            named.map_err(|error| error.to_string()),
            expected.map(str::to_owned).map_err(str::to_owned)
        );
    };
    check("prod", None, false, Ok("custom"));
    check("prod", Some("custom"), false, Ok("custom"));
    let refused = "cannot modify tag: the webhook configuration of tag \"prod\" is \"custom\", and beside \"other\" both \
                   would inject; leave --webhook-name out, or remove the tag first: istioctl tag remove prod";
    check("prod", Some("other"), false, Err(refused));
    // Text to be kept elsewhere does not depend on the tag that is there.
    check("prod", None, true, Ok("istio-revision-tag-prod"));
    check("new", Some("mine"), false, Ok("mine"));
    check("new", None, false, Ok("istio-revision-tag-new"));
    check("shared", None, false, Ok("istio-revision-tag-shared"));
    // Nobody else's configuration is written over.
    inventory.strangers.push(webhook("mine", "1-22-1", None, "theirs"));
    let mut request = request("new", "1-23-1", true);
    request.webhook_name = Some("mine".to_owned());
    assert_eq!(
        build(&request, &inventory, false),
        Err(TagError::NameTaken("mine".into()))
    );
    // Nor the revision's own.
    request.webhook_name = Some("istio-sidecar-injector-1-23-1".to_owned());
    let own = TagError::NameTaken("istio-sidecar-injector-1-23-1".into());
    assert_eq!(build(&request, &inventory, false), Err(own));
}

#[test]
fn tags_are_listed_as_on_the_upgrade_page() {
    let rows = list(&inventory());
    let text: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {}", row.tag, row.revision, row.namespaces.join(",")))
        .collect();
    assert_eq!(
        text,
        [
            "default 1-22-1 ",
            "prod-stable 1-22-1 app-ns-1,app-ns-2",
            " 1-23-1 ",
            " default "
        ]
    );
}

#[test]
fn a_tag_has_the_precedence_of_its_revision_and_stays_automatic() {
    let mut inventory = inventory();
    let webhooks = |inventory: &Inventory| {
        let built = build(&request("default", "1-23-1", true), inventory, false).unwrap();
        webhook_names(&built.apply[0])
            .map(|name| name.trim_end_matches("sidecar-injector.istio.io").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(webhooks(&inventory), "rev.namespace. rev.object. namespace. object.");
    for configuration in &mut inventory.webhooks {
        let prefix = match configuration.name() {
            "istio-sidecar-injector-1-23-1" => "rev.object.enabled",
            "istio-revision-tag-default" => "auto",
            _ => continue,
        };
        let further = json!({"name": format!("{prefix}.sidecar-injector.istio.io")});
        configuration.0["webhooks"].as_array_mut().unwrap().push(further);
    }
    assert_eq!(
        webhooks(&inventory),
        "rev.namespace. rev.object. rev.object.enabled. namespace. object. auto."
    );
}

fn released(mut object: Object, chart: &str) -> Object {
    object.0["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "istio-tags", "meta.helm.sh/release-namespace": "istio-system"});
    object.set_label("helm.sh/chart", chart);
    object
}

#[test]
fn a_tag_of_helm_is_helms_to_move_or_to_let_go() {
    let mut inventory = inventory();
    let refused = |inventory: &Inventory, revision| {
        let refused = build(&request("prod-stable", revision, true), inventory, false);
        refused.map(drop).unwrap_err().to_string()
    };
    let mut other = webhook("istio-revision-tag-other", "1-22-1", Some("other"), "istiod-1-22-1");
    other = released(other, "revisiontags-0.2.0");
    inventory.webhooks.push(other);
    inventory.webhooks[3] = released(inventory.webhooks[3].clone(), "revisiontags-0.2.0");
    insta::assert_snapshot!(refused(&inventory, "1-23-1"), @r#"cannot modify tag: "prod-stable" belongs to Helm release istio-tags -n istio-system, which would move it back. It and the other tags of that release move with: helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set revision=1-23-1. Or pass --force to take it over, once 1-23-1 has proved that it answers; then take it out of the release, which leaves it alone: helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set-json 'revisionTags=["other"]'"#);
    assert!(refused(&inventory, "default").contains("--set revision=. Or pass --force"));
    let mut taken = request("prod-stable", "1-23-1", true);
    taken.take_over = true;
    assert!(build(&taken, &inventory, false).is_ok());
    assert!(build(&request("prod-stable", "1-23-1", true), &inventory, true).is_ok());
    inventory.webhooks.pop();
    inventory.webhooks[3] = released(inventory.webhooks[3].clone(), "istiod-0.2.0");
    // Make before break: the tag is taken over first, and then leaves the release.
    insta::assert_snapshot!(refused(&inventory, "1-23-1"), @r#"cannot modify tag: "prod-stable" belongs to Helm release istio-tags -n istio-system, which would move it back. Pass --force to take it over, once 1-23-1 has proved that it answers; then take it out of the release, which leaves it alone: helm upgrade istio-tags manifests/charts/istiod -n istio-system --reuse-values --set-json 'revisionTags=[]'"#);
    inventory.pods.clear();
    assert_eq!(
        build(&taken, &inventory, false),
        Err(TagError::NotTaken("1-23-1".into()))
    );
}

#[test]
fn of_helms_validator_only_the_way_is_the_tags() {
    let mut inventory = inventory();
    let validator = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istiod-default-validator"},
        "webhooks": [{"name": "validation.istio.io", "failurePolicy": "Ignore"}]});
    inventory.validators = vec![released(Object(validator), "base-0.2.0")];
    let built = build(&request("default", "1-23-1", false), &inventory, false).unwrap();
    let validator = &built.apply[1].0;
    assert_eq!(validator["metadata"]["labels"], json!({"istio.io/rev": "1-23-1"}));
    let webhook = validator["webhooks"][0].as_object().unwrap();
    assert_eq!(
        webhook.keys().collect::<Vec<_>>(),
        ["name", "clientConfig", "objectSelector"]
    );
    assert_eq!(webhook["clientConfig"]["service"]["name"], "istiod-1-23-1");
}

#[test]
fn a_namespace_with_both_labels_follows_the_other() {
    let namespace =
        |name: &str, labels: Value| Object(json!({"kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
    let inventory = Inventory {
        namespaces: vec![
            namespace("named", json!({"istio.io/rev": "canary"})),
            namespace("both", json!({"istio.io/rev": "canary", "istio-injection": "enabled"})),
            namespace("off", json!({"istio.io/rev": "canary", "istio-injection": ""})),
        ],
        ..Inventory::default()
    };
    assert_eq!(inventory.namespaces_of("canary"), ["named"]);
}

#[test]
fn another_mesh_keeps_its_validator() {
    let mut inventory = inventory();
    let validator = |namespace: &str| {
        Object(
            json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istiod-default-validator"},
            "webhooks": [{"name": "validation.istio.io",
                "clientConfig": {"service": {"name": "istiod", "namespace": namespace}}}]}),
        )
    };
    let written = |inventory: &Inventory| {
        let built = build(&request("default", "1-23-1", false), inventory, false).unwrap();
        let is_written = built
            .apply
            .iter()
            .any(|object| object.name() == "istiod-default-validator");
        (is_written, built.not_validated())
    };
    inventory.validators = vec![validator("istio-system")];
    assert_eq!(written(&inventory), (true, None));
    inventory.validators = vec![validator("mesh-a")];
    let (is_written, told) = written(&inventory);
    assert!(!is_written);
    insta::assert_snapshot!(told.unwrap(), @r#"istiod-default-validator stays with the mesh of namespace "mesh-a", whose istiod goes on checking configuration that names no revision. If that mesh is gone: kubectl delete validatingwebhookconfiguration istiod-default-validator, and make the tag again"#);
}

#[test]
fn of_a_validator_that_is_not_the_tags_only_the_way_is_written() {
    let validator = validator_of(&Revision::parse("1-23-1").unwrap(), "istio-system", &inventory()).unwrap();
    assert_eq!(validator.0["metadata"]["labels"], json!({"istio.io/rev": "1-23-1"}));
    let webhook = validator.0["webhooks"][0].as_object().unwrap();
    assert_eq!(
        webhook.keys().collect::<Vec<_>>(),
        ["name", "clientConfig", "objectSelector"]
    );
    assert_eq!(webhook["clientConfig"]["service"]["name"], "istiod-1-23-1");
}

#[test]
fn the_default_goes_with_its_validator_and_leaves_that_of_another_mesh() {
    let mut inventory = inventory();
    let validator = |namespace: &str| {
        Object(
            json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istiod-default-validator",
            "labels": {"istio.io/tag": "default"}},
            "webhooks": [{"clientConfig": {"service": {"name": "istiod", "namespace": namespace}}}]}),
        )
    };
    let removed = |inventory: &Inventory| {
        let found = removal(inventory, "default");
        found.map(|found| {
            found
                .into_iter()
                .map(|object| object.name().to_owned())
                .collect::<Vec<_>>()
        })
    };
    let tag = "istio-revision-tag-default".to_owned();
    inventory.validators = vec![validator("istio-system")];
    assert_eq!(
        removed(&inventory),
        Ok(vec![tag.clone(), "istiod-default-validator".to_owned()])
    );
    inventory.validators = vec![validator("elsewhere")];
    assert_eq!(removed(&inventory), Ok(vec![tag]));
    inventory.webhooks.pop();
    assert_eq!(removed(&inventory), Err(TagError::NoTag("default".into())));
}
