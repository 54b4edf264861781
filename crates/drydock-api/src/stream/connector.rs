//! The connector of the request pipeline.

use super::{
    target::{self, Route},
    tunnel::{self, Tls},
};
use crate::{
    Core,
    core::Body,
    error::ApiError,
    hooks::{Attributes, Connector},
};
use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use std::sync::Arc;

/// Most bytes of what a node says against a request.
const LONGEST_REFUSAL: usize = 64 << 10;

/// Forwards streams to nodes, pods and services.
#[derive(Debug, Clone)]
pub struct NodeConnector {
    /// Where pods, nodes and services are stored.
    pub core: Arc<Core>,
    /// How to talk to them.
    pub tls: Tls,
}

#[async_trait]
impl Connector for NodeConnector {
    async fn connect(&self, attributes: &Attributes, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        match target::route(self.core.as_ref(), &attributes.info, &query)? {
            Route::Nothing => {
                let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            Route::To(target) => {
                let response = tunnel::forward(&self.tls, &target, request).await?;
                if attributes.info.subresource == "log" && !response.status().is_success() {
                    return Err(log_refusal(response).await);
                }
                Ok(response)
            }
        }
    }
}

/// What a node says against showing a log, as the answer that clients of the API understand.
async fn log_refusal(response: Response<Body>) -> ApiError {
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned());
    let text = text.unwrap_or_default();
    match status {
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::NOT_FOUND => ApiError::new(404, "NotFound", text),
        _ => ApiError::internal(text),
    }
}
