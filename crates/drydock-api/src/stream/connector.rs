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
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use std::sync::Arc;

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
            Route::To(target) => tunnel::forward(&self.tls, &target, request).await,
        }
    }
}
