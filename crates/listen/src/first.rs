//! A connection is opened to ask for something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Whether somebody asked for something on a connection yet.
#[derive(Debug, Clone, Default)]
pub struct First(Arc<AtomicBool>);

impl First {
    /// The first request is here.
    pub fn seen(&self) {
        self.0.store(true, Relaxed);
    }

    /// Ends after `limit` if there was no request, and never if there was one.
    pub async fn missing(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.0.load(Relaxed) {
            std::future::pending().await
        }
    }
}
