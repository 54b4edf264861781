//! No request is waited for longer than this, watches aside: an API server that has stopped to answer would otherwise hold
//! up whoever asks it for as long as the client allows, which is longer than any watch lasts.

use std::time::Duration;

use kube::{Error, Result};

/// How long the API may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The answer to a request, or an error if there is none in time. A write may have been done all the same.
pub(crate) async fn timely<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::Service(format!("no answer within {} s", DEADLINE.as_secs()).into());
    tokio::time::timeout(DEADLINE, request)
        .await
        .unwrap_or_else(|elapsed| Err(late(elapsed)))
}
