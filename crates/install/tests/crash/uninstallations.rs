//! Uninstallations, killed after each write.

use std::time::Duration;

use install::api_server::{ApiServer, kind};
use install::component::Kind;
use install::object::Object;
use serde_json::json;

use super::{OLD, Wanted, both, check, has, remove};

/// The older revision has its gateway back before the newer one goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_uninstallation_is_finished_by_the_next() {
    let (old, new) = (Wanted::new(&["revision=old"]), Wanted::new(&["revision=new"]));
    check(
        "an uninstallation",
        &OLD,
        async |server| {
            both(server, &old, &new).await;
            old.install(server).await.unwrap();
        },
        async |server| remove(server, "new").await,
        |names| {
            assert!(names.iter().all(|name| !name.contains("-new")), "{names:?}");
            assert!(has(names, "Deployment/istio-system/istio-ingressgateway"), "{names:?}");
        },
    )
    .await;
}

/// The only revision, as `helm template | kubectl apply` makes it; the validator of the chart `base` stays, open and with
/// its label, although istiod closes what bears that as long as it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_uninstallation_of_applied_manifests_is_finished_by_the_next() {
    let wanted = Wanted::new(&["profile=minimal"]);
    check(
        "an uninstallation of applied manifests",
        &[],
        async |server| apply(server, &wanted).await,
        async |server| {
            let complete = remove(server, "default").await;
            if complete {
                let validator = validator(server).await;
                assert_eq!(validator.label("istio.io/rev"), "default");
                assert_eq!(validator.text(POLICY), "Ignore");
            }
            complete
        },
        |names| {
            let validator = "ValidatingWebhookConfiguration/istiod-default-validator";
            assert!(has(names, validator), "{names:?}");
            let istiod = "Deployment/istio-system/istiod";
            assert!(!has(names, istiod), "{names:?}");
        },
    )
    .await;
}

const POLICY: &str = "/webhooks/0/failurePolicy";

/// Applies manifests as they are, and waits until istiod serves and has closed the validator.
async fn apply(server: &ApiServer, wanted: &Wanted) {
    let control_plane = wanted
        .components
        .iter()
        .filter(|component| matches!(component.kind, Kind::Base | Kind::Pilot));
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}});
    server.apply(&Object(namespace), "kubectl", false).await.unwrap();
    let validator_of_base = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "istiod-default-validator", "labels": {"istio.io/rev": "default"}},
        "webhooks": [{
            "name": "validation.istio.io", "failurePolicy": "Ignore", "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system", "path": "/validate"}},
        }],
    });
    server
        .apply(&Object(validator_of_base), "kubectl", false)
        .await
        .unwrap();
    for object in control_plane.flat_map(|component| &component.objects) {
        server.apply(object, "kubectl", false).await.unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while validator(server).await.text(POLICY) != "Fail" {
        assert!(std::time::Instant::now() < deadline, "nobody closes the validator");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn validator(server: &ApiServer) -> Object {
    let mut id = kind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
    id.name = "istiod-default-validator".to_owned();
    server.get(&id).await.unwrap().unwrap()
}
