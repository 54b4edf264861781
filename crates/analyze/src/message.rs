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
/// A port's name says nothing of its protocol.
pub const PORT_NAME_CONVENTION: Code = code("IST0118", Level::Info);
/// A namespace carries labels that contradict each other.
pub const NAMESPACE_MULTIPLE_INJECTION_LABELS: Code = code("IST0123", Level::Warning);
/// A destination's TLS verifies nobody.
pub const NO_SERVER_VERIFICATION: Code = code("IST0128", Level::Warning);
/// A destination port's TLS verifies nobody.
pub const NO_SERVER_VERIFICATION_PORT: Code = code("IST0129", Level::Warning);
/// A VirtualService has a host that its gateway does not.
pub const HOST_NOT_FOUND_IN_GATEWAY: Code = code("IST0132", Level::Warning);
/// A ServiceEntry needs addresses to be told apart.
pub const ADDRESSES_REQUIRED: Code = code("IST0134", Level::Warning);
/// A webhook points nowhere, or two answer for one pod.
pub const INVALID_WEBHOOK: Code = code("IST0139", Level::Error);
/// The user may not create what an installation consists of.
pub const INSUFFICIENT_PERMISSIONS: Code = code("IST0141", Level::Error);
/// Kubernetes is too old.
pub const UNSUPPORTED_KUBERNETES_VERSION: Code = code("IST0142", Level::Error);
/// An application runs as the proxy's user, so its traffic is not captured.
pub const INVALID_APPLICATION_UID: Code = code("IST0144", Level::Warning);
/// Two gateways want the same port and host of the same proxies.
pub const CONFLICTING_GATEWAYS: Code = code("IST0145", Level::Error);
/// A namespace is injected because all are.
pub const INJECTED_BY_DEFAULT: Code = code("IST0148", Level::Info);
/// A port of an ExternalName service is taken for plain TCP.
pub const EXTERNAL_NAME_PORT: Code = code("IST0150", Level::Warning);
/// A Gateway API definition does not serve a version that is needed.
pub const UNSUPPORTED_GATEWAY_API_VERSION: Code = code("IST0156", Level::Error);
/// Proxies run another image than would be injected now.
pub const PROXY_IMAGE_MISMATCH: Code = code("IST0158", Level::Warning);
/// A gateway listens on a port that its Service does not have.
pub const GATEWAY_PORT_NOT_ON_SERVICE: Code = code("IST0162", Level::Warning);
/// A webhook of an external control plane has no usable host.
pub const INVALID_EXTERNAL_CONTROL_PLANE: Code = code("IST0163", Level::Warning);
/// A webhook of an external control plane has an IP address for a host.
pub const EXTERNAL_CONTROL_PLANE_ADDRESS: Code = code("IST0164", Level::Info);
/// A VirtualService names a gateway that is generated and may change.
pub const REFERENCED_INTERNAL_GATEWAY: Code = code("IST0165", Level::Warning);
/// A Gateway API definition does not serve a version that will be needed.
pub const FUTURE_UNSUPPORTED_GATEWAY_API_VERSION: Code = code("IST0172", Level::Warning);

/// The object that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Kind.
    pub kind: String,
    /// Namespace, empty if it has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// `Kind name.namespace`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        if self.namespace.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.namespace)
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Which kind.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// The object, if it is about one.
    pub origin: Option<Origin>,
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
        let origin = Origin {
            kind: field("/kind").to_owned(),
            namespace: field("/metadata/namespace").to_owned(),
            name: field("/metadata/name").to_owned(),
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
        let origin = self.origin.as_ref().map(Origin::to_string).unwrap_or_default();
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
            map.serialize_entry("origin", &origin.to_string())?;
        }
        if let Some(file) = &self.file {
            map.serialize_entry("reference", file)?;
        }
        map.end()
    }
}
