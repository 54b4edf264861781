//! The server behind `samples/`: one small binary that answers like httpbin and like Istio's helloworld.
//!
//! The first argument (or `SAMPLE`) picks the application: `httpbin`, `helloworld`, or one of bookinfo's
//! services (`productpage`, `details`, `reviews`, `ratings`). `PORT` sets the port; without it
//! httpbin listens on 8080 (as go-httpbin) and helloworld on 5000. bookinfo on 9080.
//! `SERVICE_VERSION` names the version of those that have several.

mod bookinfo;
mod client;
mod helloworld;
mod httpbin;

use std::net::SocketAddr;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sample-app: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), String> {
    let app = std::env::args()
        .nth(1)
        .or_else(|| std::env::var("SAMPLE").ok())
        .unwrap_or_else(|| "httpbin".into());
    let version = std::env::var("SERVICE_VERSION").unwrap_or_else(|_| "v1".into());
    let (router, default_port) = match app.as_str() {
        "httpbin" => (httpbin::router(), 8080),
        "helloworld" => (helloworld::router(version, instance()), 5000),
        other => match bookinfo::router(other, bookinfo::Peers::from_env(version, instance())) {
            Some(router) => (router, 9080),
            None => {
                return Err(format!(
                    "unknown application {other:?}: use httpbin, helloworld or a service of bookinfo"
                ));
            }
        },
    };
    let port = match std::env::var("PORT") {
        Ok(text) => text.parse().map_err(|e| format!("PORT={text:?} is not a port: {e}"))?,
        Err(_) => default_port,
    };
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", port))
        .await
        .map_err(|e| format!("port {port}: {e}"))?;
    println!("{app} listens on port {port}");
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(terminated())
        .await
        .map_err(|e| e.to_string())
}

/// The pod's name, which the node sets as host name.
fn instance() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".into(), |s| s.trim().to_string())
}

/// How long a server that was asked to end still takes new connections: clients learn of its end only after it.
const LAME_DUCK: std::time::Duration = std::time::Duration::from_secs(2);

/// As PID 1 a process ignores SIGTERM unless it handles it, and a pod would then always use up its grace period.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => return }
            tokio::select! { () = tokio::time::sleep(LAME_DUCK) => {}, _ = int.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
