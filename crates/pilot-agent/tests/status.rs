//! The status server with an application behind it: probes, merged metrics, orders.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use pilot_agent::envoy::Admin;
use pilot_agent::fetch::{self, Target};
use pilot_agent::relay::Health;
use pilot_agent::status::{Order, Status, metrics::Metrics, probes::Probes, ready::Readiness};
use serde_json::json;
use tokio::sync::{mpsc, watch};

/// Serves `routes` on a free port of localhost.
async fn serve(routes: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    port
}

struct Agent {
    port: u16,
    orders: mpsc::Receiver<Order>,
    _workload: watch::Sender<Option<Arc<pilot_agent::workload::Workload>>>,
    _health: watch::Sender<Health>,
}

async fn agent(probers: serde_json::Value, envoy_port: u16, scrape: &str) -> Agent {
    let (workload, published) = watch::channel(None);
    let (health, istiod) = watch::channel(Health::default());
    let (_, ending) = watch::channel(false);
    let (send, orders) = mpsc::channel(4);
    let status = Status {
        readiness: Readiness::new(Admin::new("127.0.0.1", 1, true), istiod.clone(), ending),
        metrics: Metrics::new(envoy_port, scrape, 15020, published, istiod).unwrap(),
        probes: Probes::new(&probers.to_string(), "127.0.0.1").unwrap(),
        names: None,
        orders: send,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let routes = pilot_agent::status::router(Arc::new(status)).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Agent {
        port,
        orders,
        _workload: workload,
        _health: health,
    }
}

impl Agent {
    async fn get(&self, path: &str) -> (u16, String) {
        let target = Target::plain("127.0.0.1", self.port);
        let answer = fetch::get(&target, path, Duration::from_secs(10), 1 << 24)
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body()).into_owned(),
        )
    }

    async fn post(&self, path: &str) -> u16 {
        let request = http::Request::post(path)
            .header("host", "a")
            .body(Default::default())
            .unwrap();
        let target = Target::plain("127.0.0.1", self.port);
        fetch::fetch(&target, request, Duration::from_secs(10), 1 << 16)
            .await
            .unwrap()
            .status()
            .as_u16()
    }
}

#[tokio::test]
async fn probes_say_what_the_application_says() {
    let app = Router::new()
        .route(
            "/ok",
            get(|h: HeaderMap| async move {
                if h["x-own"] == "1" {
                    StatusCode::OK
                } else {
                    StatusCode::IM_A_TEAPOT
                }
            }),
        )
        .route(
            "/down",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "database is away") }),
        )
        .route("/here", get(|| async { Redirect::temporary("/down") }))
        .route(
            "/elsewhere",
            get(|| async { Redirect::temporary("http://example.com/") }),
        )
        .route("/loop", get(|| async { Redirect::temporary("/loop") }));
    let app = serve(app).await;
    let closed = testkit::free_port();
    let http =
        |path: &str| json!({"httpGet": {"path": path, "port": app, "httpHeaders": [{"name": "x-own", "value": "1"}]}});
    let agent = agent(
        json!({
            "/app-health/ok/livez": http("/ok"),
            "/app-health/down/livez": http("/down"),
            "/app-health/here/livez": http("/here"),
            "/app-health/elsewhere/livez": http("/elsewhere"),
            "/app-health/loop/livez": http("/loop"),
            "/app-health/tcp/readyz": {"tcpSocket": {"port": app}},
            "/app-health/closed/readyz": {"tcpSocket": {"port": closed}},
            "/app-health/grpc/startupz": {"grpc": {"port": app, "service": null}, "timeoutSeconds": 1},
            "/app-lifecycle/ok/prestopz": http("/ok"),
        }),
        1,
        "",
    )
    .await;
    let check = async |path: &str, status: u16, says: &str| {
        let (code, body) = agent.get(path).await;
        assert!(code == status && body.contains(says), "{path}: {code} {body}");
    };
    check("/app-health/ok/livez", 200, "").await;
    check("/app-health/down/livez", 503, "database is away").await;
    check("/app-health/here/livez", 503, "database is away").await;
    check("/app-health/elsewhere/livez", 200, "").await;
    check("/app-health/loop/livez", 500, "stopped after 10 redirects").await;
    check("/app-health/tcp/readyz", 200, "").await;
    check("/app-health/closed/readyz", 500, "refused").await;
    check("/app-health/grpc/startupz", 500, "").await;
    check("/app-lifecycle/ok/prestopz", 200, "").await;
    check("/app-health/other/livez", 404, "no such probe").await;
}

#[tokio::test]
async fn metrics_are_merged_and_one_source_does_not_hide_another() {
    let envoy = serve(Router::new().route("/stats/prometheus", get(|| async { "envoy_x 1\n" }))).await;
    let app = serve(Router::new().route("/metrics", get(|| async { "app_x 2\n# EOF\n" }))).await;
    let scrape = |port: u16| json!({"scrape": "true", "port": port.to_string()}).to_string();
    let both = agent(json!({}), envoy, &scrape(app)).await;
    let (status, page) = both.get("/stats/prometheus").await;
    assert_eq!(status, 200);
    assert!(page.contains("istio_agent_scrapes_total 1\n"), "{page}");
    assert!(page.contains("envoy_x 1\napp_x 2\n") && !page.contains("EOF"), "{page}");
    let closed = testkit::free_port();
    let one = agent(json!({}), envoy, &scrape(closed)).await;
    let (_, page) = one.get("/metrics").await;
    assert!(page.contains("envoy_x 1\n"), "{page}");
    assert!(
        page.contains("istio_agent_scrape_failures_total{type=\"application\"} 1\n"),
        "{page}"
    );
}

#[tokio::test]
async fn orders_are_posts() {
    let mut agent = agent(json!({}), 1, "").await;
    assert_eq!(agent.get("/quitquitquit").await.0, 405);
    assert_eq!(agent.post("/drain").await, 200);
    assert_eq!(agent.post("/quitquitquit").await, 200);
    assert_eq!(
        (agent.orders.recv().await, agent.orders.recv().await),
        (Some(Order::Drain), Some(Order::Quit))
    );
    let (status, why) = agent.get("/healthz/ready").await;
    assert!(
        status == 503 && why.contains("failed to get readiness stats"),
        "{status} {why}"
    );
}
