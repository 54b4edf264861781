//! Names of revisions and tags, and of the objects that belong to them (revisions.md §1.2, §2.1, §3.3).

use std::fmt;

/// Literal that stands for the unnamed revision wherever a value is needed (labels, annotations, flags).
pub const DEFAULT: &str = "default";

/// Namespace whose objects carry no namespace suffix in cluster-wide names.
pub const DEFAULT_SYSTEM_NAMESPACE: &str = "istio-system";

/// Longest DNS-1123 label.
const LONGEST: usize = 63;
/// The Service of a revision is named `istiod-<revision>` and must be a label too.
const LONGEST_REVISION: usize = LONGEST - "istiod-".len();
/// The Service of a tag is named `istiod-revision-tag-<tag>`.
const LONGEST_TAG: usize = LONGEST - "istiod-revision-tag-".len();

/// Why a text is no name of a revision or tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("a {what} name must not be empty")]
    Empty {
        /// `revision` or `tag`.
        what: &'static str,
    },
    /// The text is too long, for itself or for the Service that is named after it.
    #[error("{what} name {name:?} has {length} characters; at most {longest} are allowed")]
    TooLong {
        /// `revision` or `tag`.
        what: &'static str,
        /// The beginning of the text.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        longest: usize,
    },
    /// The text is no DNS-1123 label.
    #[error(
        "invalid {what} name {name:?}: use lower case letters, digits and '-', beginning and ending with a letter or digit (for version 1.22.1 write 1-22-1)"
    )]
    NotALabel {
        /// `revision` or `tag`.
        what: &'static str,
        /// The text.
        name: String,
    },
}

/// Checks that a text is a DNS-1123 label; `what` names it in the error.
pub fn check_label(what: &'static str, name: &str) -> Result<(), NameError> {
    check_label_of(what, name, LONGEST)
}

fn check_label_of(what: &'static str, name: &str, longest: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > longest {
        return Err(NameError::TooLong {
            what,
            name: name.chars().take(32).collect::<String>() + "…",
            length: name.len(),
            longest,
        });
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bytes = name.as_bytes();
    if !bytes.iter().copied().all(inner) || bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-' {
        return Err(NameError::NotALabel {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// A revision of the control plane. The unnamed revision is written `default` in labels and has no suffix in names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Revision(String);

impl Revision {
    /// Parses a name; the empty text and `default` are the unnamed revision.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name == DEFAULT {
            return Ok(Self::unnamed());
        }
        check_label_of("revision", name, LONGEST_REVISION)?;
        Ok(Self(name.to_owned()))
    }

    /// The unnamed revision.
    pub fn unnamed() -> Self {
        Self(DEFAULT.to_owned())
    }

    /// Whether this is the unnamed revision.
    pub fn is_unnamed(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The value of label `istio.io/rev`: the name, or `default`.
    pub fn label(&self) -> &str {
        &self.0
    }

    /// The value in chart values and in `REVISION`: the name, or nothing for the unnamed revision.
    pub fn value(&self) -> &str {
        if self.is_unnamed() { "" } else { &self.0 }
    }

    /// `base`, or `base-<revision>` for a named revision.
    pub fn suffixed(&self, base: &str) -> String {
        if self.is_unnamed() {
            base.to_owned()
        } else {
            format!("{base}-{}", self.0)
        }
    }

    /// Name of the control plane's Service, Deployment and ServiceAccount: `istiod[-rev]`.
    pub fn istiod(&self) -> String {
        self.suffixed("istiod")
    }

    /// Name of its injector webhook configuration in a system namespace.
    pub fn injector_webhook(&self, system_namespace: &str) -> String {
        in_namespace(self.suffixed("istio-sidecar-injector"), system_namespace)
    }

    /// Name of its validating webhook configuration: `istio-validator[-rev]-<ns>`.
    pub fn validator_webhook(&self, system_namespace: &str) -> String {
        format!("{}-{system_namespace}", self.suffixed("istio-validator"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stable name that points at a revision.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(String);

impl Tag {
    /// Parses a tag name.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        check_label_of("tag", name, LONGEST_TAG)?;
        Ok(Self(name.to_owned()))
    }

    /// Whether this is the tag `default`, which makes its revision the default one.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The tag's name, which is also the value of label `istio.io/tag`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of its injector webhook configuration.
    pub fn injector_webhook(&self, system_namespace: &str) -> String {
        in_namespace(format!("istio-revision-tag-{}", self.0), system_namespace)
    }

    /// Name of its Service in the system namespace.
    pub fn service(&self) -> String {
        format!("istiod-revision-tag-{}", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cluster-wide names get the namespace appended when the control plane is not in `istio-system`.
fn in_namespace(name: String, system_namespace: &str) -> String {
    if system_namespace == DEFAULT_SYSTEM_NAMESPACE {
        name
    } else {
        format!("{name}-{system_namespace}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(name: &str, expected: Result<&str, &str>) {
        let parsed = Revision::parse(name);
        match expected {
            Ok(istiod) => assert_eq!(parsed.unwrap().istiod(), istiod),
            Err(part) => {
                let message = parsed.unwrap_err().to_string();
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn revisions_are_dns_labels() {
        check("", Ok("istiod"));
        check("default", Ok("istiod"));
        check("1-22-1", Ok("istiod-1-22-1"));
        check("1.22.1", Err("write 1-22-1"));
        check("Canary", Err("lower case"));
        check("-canary", Err("beginning and ending"));
        let longest = "a".repeat(56);
        check(&longest, Ok(&format!("istiod-{longest}")));
        check(&"a".repeat(57), Err("at most 56"));
    }

    #[test]
    fn what_is_named_after_a_tag_is_a_dns_label() {
        assert_eq!(Tag::parse(&"a".repeat(43)).unwrap().service().len(), 63);
        let message = Tag::parse(&"a".repeat(44)).unwrap_err().to_string();
        assert!(message.contains("44 characters; at most 43"), "{message}");
    }

    #[test]
    fn cluster_wide_names_carry_a_foreign_namespace() {
        let canary = Revision::parse("canary").unwrap();
        assert_eq!(canary.injector_webhook("istio-system"), "istio-sidecar-injector-canary");
        assert_eq!(canary.injector_webhook("mesh"), "istio-sidecar-injector-canary-mesh");
        assert_eq!(
            canary.validator_webhook("istio-system"),
            "istio-validator-canary-istio-system"
        );
        assert_eq!(
            Tag::parse("prod").unwrap().injector_webhook("mesh"),
            "istio-revision-tag-prod-mesh"
        );
    }
}
