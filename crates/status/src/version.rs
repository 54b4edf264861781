//! Versions of control planes: `/version` (revisions.md §6.7).

use serde::{Deserialize, Serialize};

/// What an istiod says of its build. Unknown fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Version number.
    pub version: String,
    /// Commit.
    pub revision: String,
    /// Version of Go, for tools that expect it; empty if it is not built with it.
    pub golang_version: String,
    /// State of the tree it was built from.
    pub status: String,
    /// Tag.
    pub tag: String,
}

/// Reads an answer: JSON, or the short text `<version>-<commit>-<status>` that Istio serves.
pub fn parse(answer: &[u8]) -> Build {
    if let Ok(build) = serde_json::from_slice::<Build>(answer) {
        return build;
    }
    let text = String::from_utf8_lossy(&answer[..answer.len().min(256)])
        .trim()
        .to_owned();
    let parts: Vec<&str> = text.rsplitn(3, '-').collect();
    match parts.as_slice() {
        [status, revision, version] => Build {
            version: (*version).to_owned(),
            revision: (*revision).to_owned(),
            status: (*status).to_owned(),
            ..Build::default()
        },
        _ => Build {
            version: text,
            ..Build::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse(br#"{"version":"0.2.0","golang_version":""}"#).version, "0.2.0");
        assert_eq!(parse(b"1.30.0-86c9f01-Clean\n").version, "1.30.0");
        assert_eq!(parse(b"dev").version, "dev");
    }
}
