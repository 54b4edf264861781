//! A client that dies: after a number of writes nothing it asks for happens any more, as if its process were killed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, Layer, Service};

/// Counts writes, and lets `allowed` of them through.
#[derive(Clone)]
pub struct Mortal {
    allowed: usize,
    writes: Arc<AtomicUsize>,
}

impl Mortal {
    pub fn new(allowed: usize) -> Self {
        Self {
            allowed,
            writes: Arc::default(),
        }
    }

    /// Writes that were tried.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    pub fn client(&self, config: &kube::Config) -> Client {
        ClientBuilder::try_from(config.clone())
            .unwrap()
            .with_layer(self)
            .build()
    }
}

impl<S> Layer<S> for Mortal {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            mortal: self.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    mortal: Mortal,
}

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Answer<B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer<B> {
        let is_write = request.method() != Method::GET;
        let before = if is_write {
            self.mortal.writes.fetch_add(1, Ordering::Relaxed)
        } else {
            self.mortal.writes()
        };
        if before >= self.mortal.allowed && (is_write || before > self.mortal.allowed) {
            return Box::pin(async { Err("killed".into()) });
        }
        Box::pin(self.inner.call(request))
    }
}
