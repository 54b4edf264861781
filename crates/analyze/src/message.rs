//! Findings (revisions.md §7.4).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// May go wrong.
    Warning,
    /// Is wrong.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(format!("{text:?} is no level: Info, Warning or Error")),
        }
    }
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `IST0123`.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
}

const fn code(code: &'static str, level: Level) -> Code {
    Code { code, level }
}

/// Something that is referred to is not there.
pub const REFERENCED_RESOURCE_NOT_FOUND: Code = code("IST0101", Level::Error);
/// A namespace says nothing of injection.
pub const NAMESPACE_NOT_INJECTED: Code = code("IST0102", Level::Info);
/// A pod of an injected namespace has no proxy.
pub const POD_MISSING_PROXY: Code = code("IST0103", Level::Warning);
/// A namespace carries labels that contradict each other.
pub const NAMESPACE_MULTIPLE_INJECTION_LABELS: Code = code("IST0123", Level::Warning);
/// A webhook points nowhere, or two answer for one pod.
pub const INVALID_WEBHOOK: Code = code("IST0139", Level::Error);
/// The user may not create what an installation consists of.
pub const INSUFFICIENT_PERMISSIONS: Code = code("IST0141", Level::Error);
/// Kubernetes is too old.
pub const UNSUPPORTED_KUBERNETES_VERSION: Code = code("IST0142", Level::Error);
/// A Gateway API definition does not serve a version that is needed.
pub const UNSUPPORTED_GATEWAY_API_VERSION: Code = code("IST0156", Level::Error);
/// Proxies run another image than would be injected now.
pub const PROXY_IMAGE_MISMATCH: Code = code("IST0158", Level::Warning);
/// A Gateway API definition does not serve a version that will be needed.
pub const FUTURE_UNSUPPORTED_GATEWAY_API_VERSION: Code = code("IST0172", Level::Warning);

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Which kind.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// `Kind name.namespace`, if it is about an object.
    pub origin: Option<String>,
    /// The file the object is from.
    pub file: Option<String>,
    /// What is wrong and what to do.
    pub text: String,
}

impl Message {
    /// A finding about no object in particular.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            level: code.level,
            origin: None,
            file: None,
            text: text.into(),
        }
    }

    /// A finding about an object.
    pub fn about(code: Code, object: &Value, text: impl Into<String>) -> Self {
        let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name, namespace) = (field("/kind"), field("/metadata/name"), field("/metadata/namespace"));
        let origin = if namespace.is_empty() {
            format!("{kind} {name}")
        } else {
            format!("{kind} {name}.{namespace}")
        };
        let file = field(crate::objects::FILE);
        let file = (!file.is_empty()).then(|| file.to_owned());
        Self {
            origin: Some(origin),
            file,
            ..Self::new(code, text)
        }
    }

    /// Does `CODE=Kind name` (with `*` for the rest of a name) name this finding?
    pub fn is_suppressed_by(&self, rule: &str) -> bool {
        let Some((code, object)) = rule.split_once('=') else {
            return false;
        };
        let origin = self.origin.as_deref().unwrap_or_default();
        code == self.code.code
            && match object.split_once('*') {
                Some((begin, end)) => {
                    origin.starts_with(begin) && origin.ends_with(end) && origin.len() >= begin.len() + end.len()
                }
                None => origin == object,
            }
    }
}

/// `Warning [IST0123] (Namespace test-ns) The namespace has …`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.level, self.code.code)?;
        match (&self.origin, &self.file) {
            (Some(origin), Some(file)) => write!(f, " ({origin} {file})")?,
            (Some(origin), None) => write!(f, " ({origin})")?,
            _ => {}
        }
        write!(f, " {}", self.text)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.code)?;
        let page = format!(
            "https://istio.io/latest/docs/reference/config/analysis/{}/",
            self.code.code.to_lowercase()
        );
        map.serialize_entry("documentationUrl", &page)?;
        map.serialize_entry("level", &self.level.to_string())?;
        map.serialize_entry("message", &self.text)?;
        if let Some(origin) = &self.origin {
            map.serialize_entry("origin", origin)?;
        }
        if let Some(file) = &self.file {
            map.serialize_entry("reference", file)?;
        }
        map.end()
    }
}
