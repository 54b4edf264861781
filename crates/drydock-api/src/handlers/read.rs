//! GET of one object.

use std::time::Duration;

use serde_json::Value;

use super::{Call, Response};
use crate::error::ApiError;

/// How long a read waits for a version that is not there yet.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

impl Call {
    /// Answers the object of the path.
    ///
    /// # Errors
    /// 404, 406.
    pub async fn get(&mut self) -> Result<Response, ApiError> {
        self.check_include()?;
        let version = self.options.resource_version.clone();
        if !version.is_empty() {
            let wanted = parse_version(&version)?;
            self.wait_for(wanted).await?;
        }
        let name = self.name().to_owned();
        let (_, object) = self.stored(&name)?;
        if self.subresource() == Some("scale") {
            let scale = self.scale_of(&object)?;
            return self.object(200, scale);
        }
        self.object(200, object)
    }

    /// Waits until the store has reached `revision`.
    ///
    /// # Errors
    /// 504 if it does not within three seconds.
    pub async fn wait_for(&self, revision: u64) -> Result<(), ApiError> {
        let store = &self.api.core.store;
        if store.revision() >= revision {
            return Ok(());
        }
        let mut watch = store
            .watch("", None)
            .map_err(|error| super::create::store_error(&error))?;
        let reached = tokio::time::timeout(FUTURE_WAIT, async {
            while store.revision() < revision {
                if watch.next().await.is_none() {
                    return;
                }
            }
        })
        .await;
        if reached.is_ok() {
            return Ok(());
        }
        let current = store.revision();
        let mut error = ApiError::new(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {revision}, current: {current}"),
        );
        error.retry_after = Some(1);
        error.details = Some(
            serde_json::json!({ "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }] })
                .as_object()
                .cloned()
                .unwrap_or_default(),
        );
        Err(error)
    }
}

/// A `resourceVersion` parameter.
///
/// # Errors
/// 500 for text that is no number, as the real server.
pub fn parse_version(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::unclassified(format!(
            "resourceVersion: Invalid value: {0}: strconv.ParseUint: parsing {0}: invalid syntax",
            Value::from(text)
        ))
    })
}
