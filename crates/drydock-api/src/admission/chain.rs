//! Everything admission does with one request, in order.

use super::{plugins, policy, webhooks};
use crate::{
    Core,
    error::ApiError,
    hooks::{Admission, AdmissionRequest},
};
use async_trait::async_trait;
use std::sync::Arc;

/// The admission of the pipeline.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Where configurations, policies, namespaces and accounts are stored.
    pub core: Arc<Core>,
}

#[async_trait]
impl Admission for Chain {
    async fn mutate(&self, request: &mut AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError> {
        let core = self.core.as_ref();
        let mut rounds = webhooks::Rounds::default();
        plugins::mutate(core, request)?;
        webhooks::mutate(core, request, &mut rounds, false, warnings).await?;
        if rounds.changed {
            let before = request.object.clone();
            plugins::mutate(core, request)?;
            if request.object != before {
                rounds.everything_due();
            }
            webhooks::mutate(core, request, &mut rounds, true, warnings).await?;
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError> {
        let core = self.core.as_ref();
        plugins::validate(core, request)?;
        policy::validate(core, request, warnings)?;
        webhooks::validate(core, request, warnings).await
    }
}
