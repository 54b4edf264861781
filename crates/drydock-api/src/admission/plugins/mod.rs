//! The server's own admission rules, in the order a default server runs them.

mod certificate;
mod namespace;
mod node;
mod pod;
mod protection;
mod service_account;

use crate::{Core, error::ApiError, hooks::AdmissionRequest};

/// Changes and checks that come before webhooks. Runs again when a webhook changed the object.
///
/// # Errors
/// 403 or 404 as the single rules say.
pub fn mutate(core: &Core, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
    namespace::lifecycle(core, request)?;
    pod::limits(core, request)?;
    service_account::admit(core, request)?;
    node::taint(request);
    pod::priority(core, request)?;
    pod::tolerations(request);
    protection::finalizers(request);
    Ok(())
}

/// Checks of the final object.
///
/// # Errors
/// 403 as the single rules say.
pub fn validate(core: &Core, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    crate::auth::escalation::admit(core, request)?;
    certificate::admit(core, request)?;
    node::admit(request)?;
    pod::limits_hold(core, request)?;
    pod::quota(core, request)
}

/// Whether this is the creation of a `group`/`plural` object itself.
fn creates(request: &AdmissionRequest<'_>, group: &str, plural: &str) -> bool {
    request.operation == crate::hooks::Operation::Create
        && request.subresource.is_none()
        && request.resource.group == group
        && request.resource.plural == plural
}
