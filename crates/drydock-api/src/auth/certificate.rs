//! Client certificates: the common name is the user, organizations are its groups.

use super::user::User;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user a verified client certificate stands for; `None` without a common name.
///
/// The chain must have been verified against the cluster's root by the TLS layer before.
#[must_use]
pub fn user_of(der: &[u8]) -> Option<User> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    if name.is_empty() {
        return None;
    }
    let groups = cert
        .subject()
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
    Some(User::authenticated(name, groups))
}
