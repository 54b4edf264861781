//! Istio's helloworld: says its version and the pod that answered.

use axum::Router;
use axum::routing::get;

/// `/hello` prints `Hello version: V, instance: POD`; `/health` answers 200.
pub fn router(version: String, instance: String) -> Router {
    let text = format!("Hello version: {version}, instance: {instance}\n");
    Router::new()
        .route("/hello", get(move || async move { text }))
        .route("/health", get(|| async { "Helloworld is healthy\n" }))
}
