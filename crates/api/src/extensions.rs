//! `extensions.istio.io`: extensions of the proxy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient::{I32, Opaque};
use crate::security::{Selector, TargetRef};

/// A WebAssembly module that proxies load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WasmPlugin {
    /// Workloads that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Resource that it is for (older field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Resources that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// Where the module is.
    pub url: String,
    /// SHA-256 of the module.
    pub sha256: String,
    /// When the module is fetched: UNSPECIFIED_POLICY, IfNotPresent, Always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Secret to fetch it with.
    pub image_pull_secret: String,
    /// Key to check it with.
    pub verification_key: String,
    /// Configuration handed to the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_config: Option<Opaque>,
    /// Name handed to the module.
    pub plugin_name: String,
    /// Place among the filters: UNSPECIFIED_PHASE, AUTHN, AUTHZ, STATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Order within its phase, higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<I32>,
    /// What happens when it fails: FAIL_CLOSE, FAIL_OPEN, FAIL_RELOAD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_strategy: Option<String>,
    /// Environment of its virtual machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_config: Option<Opaque>,
    /// Traffic that it sees.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Opaque>,
    /// UNSPECIFIED_PLUGIN_TYPE, HTTP or NETWORK.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub plugin_type: Option<String>,
}

/// An extension of any sort (WebAssembly or Lua); kept as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TrafficExtension(pub Opaque);
