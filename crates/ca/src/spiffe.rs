//! SPIFFE identities of workloads, as Istio shapes them.

use std::fmt;
use std::str::FromStr;

/// A SPIFFE id is at most this long (SPIFFE ID specification §2.3), in bytes.
pub const MAX_LEN: usize = 2048;
/// A Kubernetes name or namespace is at most this long, in bytes.
const MAX_NAME: usize = 253;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` (control-plane.md §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// Why a string is no workload identity of this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Longer than [`MAX_LEN`].
    #[error("SPIFFE id of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
    /// Not of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Shape(String),
    /// One of the three parts is empty, too long, or has a character that is not allowed.
    #[error(
        "{part} {value:?} of a SPIFFE id may hold only letters, digits, '-', '.' and '_', and at most {MAX_NAME} of them"
    )]
    Part {
        /// Which part.
        part: &'static str,
        /// Its value.
        value: String,
    },
}

impl SpiffeId {
    /// Checks the three parts and joins them.
    ///
    /// # Errors
    /// [`SpiffeError::Part`] if a part is empty, too long, or holds a character outside `[A-Za-z0-9._-]`.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeError> {
        for (part, value) in [
            ("trust domain", trust_domain),
            ("namespace", namespace),
            ("service account", service_account),
        ] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if value.is_empty() || value.len() > MAX_NAME || !value.chars().all(allowed) {
                return Err(SpiffeError::Part {
                    part,
                    value: value.chars().take(MAX_NAME).collect(),
                });
            }
        }
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }

    /// Trust domain, for example `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(s: &str) -> Result<Self, SpiffeError> {
        if s.len() > MAX_LEN {
            return Err(SpiffeError::TooLong(s.len()));
        }
        let shape = || SpiffeError::Shape(s.to_owned());
        let rest = s.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            [trust_domain, "ns", namespace, "sa", service_account] => {
                Self::new(trust_domain, namespace, service_account)
            }
            _ => Err(shape()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_what_it_prints() {
        let id: SpiffeId = "spiffe://cluster.local/ns/test-ns/sa/sleep".parse().unwrap();
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.service_account()),
            ("cluster.local", "test-ns", "sleep")
        );
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/test-ns/sa/sleep");
    }

    #[test]
    fn refuses_other_shapes() {
        for bad in [
            "",
            "spiffe://",
            "https://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/a%2fb/sa/b",
            "spiffe://cluster.local/sa/b/ns/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        assert_eq!("x".repeat(3000).parse::<SpiffeId>(), Err(SpiffeError::TooLong(3000)));
    }

    proptest! {
        #[test]
        fn any_input_parses_to_itself_or_not_at_all(s in "spiffe://[a-z./]{0,40}") {
            if let Ok(id) = s.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), s);
            }
        }
    }
}
