//! Uninstallations, killed after each write.

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
