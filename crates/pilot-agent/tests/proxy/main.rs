//! The agent with a real Envoy and a small istiod: ready, certificate served and renewed, istiod lost and back, drained
//! on SIGTERM. Needs Envoy at `bin/envoy` or in `TRYSAIL_ENVOY`; without it the tests say so and pass.
#![allow(clippy::unwrap_used)]

mod istiod;
mod pod;

use std::time::Duration;

use istiod::{Issued, Istiod};
use pod::Pod;

#[tokio::test(flavor = "multi_thread")]
async fn becomes_ready_renews_survives_istiod_and_drains() {
    let Some(envoy) = pod::envoy() else { return };
    let mut istiod = Istiod::start(Duration::from_secs(8)).await;
    let mut pod = Pod::start(
        &envoy,
        &istiod,
        &[("SECRET_TTL", "8s"), ("SECRET_GRACE_PERIOD_RATIO", "0.7")],
    );
    pod.until("ready", || pod.is_ready()).await;

    // The listener that istiod sent serves the identity that the CA decided on.
    let first = pod.until_some("certificate", || pod.served(&istiod)).await;
    assert_eq!(first.identity, "spiffe://cluster.local/ns/test-ns/sa/sleep");
    let renewed = async || pod.served(&istiod).await.filter(|now| now.serial != first.serial);
    pod.until_some("renewed certificate", renewed).await;

    // istiod dies: the proxy goes on; it comes back with something new: the proxy gets it, in the same life of Envoy.
    let life = pod.envoy_uptime().await;
    istiod.stop();
    assert!(
        pod.is_ready().await && pod.served(&istiod).await.is_some(),
        "goes on without istiod"
    );
    istiod.answer("second");
    istiod.restart().await;
    pod.until("configuration of the new istiod", async || {
        pod.body(&istiod).await.as_deref() == Some("second")
    })
    .await;
    assert!(pod.envoy_uptime().await >= life, "Envoy was not restarted");
    let metrics = pod.metrics().await;
    assert!(metrics.contains("istio_agent_istiod_connected 1"), "{metrics}");
    assert!(metrics.contains("istio_agent_cert_expiry_seconds"), "{metrics}");
    assert!(metrics.contains("envoy_server_live"), "Envoy's metrics are merged");

    pod.terminate();
    pod.until("not ready while draining", async || !pod.is_ready().await)
        .await;
    assert!(
        pod.served(&istiod).await.is_some(),
        "connections are still served while draining"
    );
    assert!(pod.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_istiod_and_says_why_it_is_not_ready() {
    let Some(envoy) = pod::envoy() else { return };
    let mut istiod = Istiod::start(Duration::from_secs(3600)).await;
    istiod.stop();
    let mut pod = Pod::start(&envoy, &istiod, &[]);
    let why = pod.until_some("an answer", || pod.why_not_ready()).await;
    assert!(
        why.contains("is Istiod running?") || why.contains("readiness stats"),
        "{why}"
    );
    pod.until("the cause", async || {
        pod.why_not_ready().await.is_some_and(|w| w.contains("cannot connect"))
    })
    .await;
    istiod.restart().await;
    pod.until("ready", || pod.is_ready()).await;
    assert!(pod.quit().await, "/quitquitquit from localhost");
    assert!(pod.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_a_valid_token_gets_nothing() {
    let Some(envoy) = pod::envoy() else { return };
    let istiod = Istiod::start(Duration::from_secs(3600)).await;
    let mut pod = Pod::start_with_token(&envoy, &istiod, "stolen", &[]);
    pod.until("the refusal", async || {
        pod.why_not_ready().await.is_some_and(|w| w.contains("Unauthenticated"))
    })
    .await;
    assert_eq!(istiod.issued(), Issued::default(), "no certificate was signed");
    pod.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_order_ends_at_once_on_sigterm() {
    let Some(envoy) = pod::envoy() else { return };
    let istiod = Istiod::start(Duration::from_secs(3600)).await;
    let mut pod = Pod::start(&envoy, &istiod, &[]);
    pod.until("ready", || pod.is_ready()).await;
    assert!(pod.order_drain().await);
    let start = std::time::Instant::now();
    pod.terminate();
    assert!(pod.ended().await.success());
    // Without the order the drain alone takes terminationDrainDuration, 5 seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_exit_on_zero_connections_clients_finish_first() {
    let Some(envoy) = pod::envoy() else { return };
    let istiod = Istiod::start(Duration::from_secs(3600)).await;
    let env = [
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true"),
        ("MINIMUM_DRAIN_DURATION", "1s"),
    ];
    let mut pod = Pod::start(&envoy, &istiod, &env);
    pod.until("ready", || pod.is_ready()).await;
    let client = pod.until_some("connection", || pod.connect(&istiod)).await;
    pod.terminate();
    pod.until("draining", async || {
        pod.log().contains("there are still active connections open=1")
    })
    .await;
    drop(client);
    assert!(pod.ended().await.success());
    assert!(pod.log().contains("why=\"drained\""), "{}", pod.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_in_files_are_served_and_followed() {
    let Some(envoy) = pod::envoy() else { return };
    let istiod = Istiod::start(Duration::from_secs(3600)).await;
    let write = |directory: &std::path::Path, name: &str| istiod.write_certificate(&directory.join("etc/certs"), name);
    let mut pod = Pod::start_prepared(&envoy, &istiod, "", &[("FILE_MOUNTED_CERTS", "true")], |d| {
        write(d, "mounted")
    });
    let served = async |who: &str| {
        let identity = format!("spiffe://cluster.local/ns/test-ns/sa/{who}");
        pod.served(&istiod).await.is_some_and(|s| s.identity == identity)
    };
    // There is no token: the mounted certificate is also what proves the proxy to istiod.
    pod.until("the mounted certificate", async || served("mounted").await)
        .await;
    write(pod.directory(), "swapped");
    pod.until("the swapped certificate", async || served("swapped").await)
        .await;
    assert_eq!(istiod.issued(), Issued::default(), "the CA was not asked");
    pod.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_mesh_are_answered_in_the_pod() {
    let Some(envoy) = pod::envoy() else { return };
    let istiod = Istiod::start(Duration::from_secs(3600)).await;
    let dns = format!("127.0.0.1:{}", testkit::free_port());
    let env = [("ISTIO_META_DNS_CAPTURE", "true"), ("DNS_PROXY_ADDR", &dns)];
    let mut pod = Pod::start(&envoy, &istiod, &env);
    let server = dns.parse().unwrap();
    let answer = pod
        .until_some("an answer", || pod.resolve(server, "api.mesh.example."))
        .await;
    assert_eq!(answer, ["240.240.0.1"]);
    pod.until("ready", || pod.is_ready()).await;
    assert!(
        pod.name_table().await.contains("api.mesh.example"),
        "{}",
        pod.name_table().await
    );
    pod.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_of_the_mesh_is_taken_up_while_running() {
    let Some(envoy) = pod::envoy() else { return };
    let mut istiod = Istiod::start(Duration::from_secs(3600)).await;
    let mut pod = Pod::start(&envoy, &istiod, &[]);
    pod.until("ready", || pod.is_ready()).await;
    let life = pod.envoy_uptime().await;
    // istiod has another root. The agent does not trust it until the ConfigMap says so.
    istiod.stop();
    let old = istiod.authority.load().roots_pem();
    istiod.replace_root();
    istiod.restart().await;
    pod.until("distrust", async || pod.log().contains("istiod is not connected"))
        .await;
    pod.write(
        "var/run/secrets/istio/root-cert.pem",
        &(old + &istiod.authority.load().roots_pem()),
    );
    let served = pod
        .until_some("certificate under the new root", || pod.served(&istiod))
        .await;
    assert_eq!(served.identity, "spiffe://cluster.local/ns/test-ns/sa/sleep");
    assert!(pod.envoy_uptime().await >= life, "Envoy was not restarted");
    pod.kill().await;
}
