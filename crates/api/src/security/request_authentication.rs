//! RequestAuthentication: which tokens a workload accepts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Selector, TargetRef};
use crate::lenient::Duration;

/// Tokens of workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAuthentication {
    /// Workloads that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Resource that it is for (older field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Resources that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// Issuers that are accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jwt_rules: Vec<JwtRule>,
}

/// An issuer and how its tokens are found and checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtRule {
    /// The issuer.
    pub issuer: String,
    /// Audiences that are accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Where its keys are found.
    pub jwks_uri: String,
    /// Its keys.
    pub jwks: String,
    /// Headers that carry a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that carry a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_params: Vec<String>,
    /// Cookies that carry a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_cookies: Vec<String>,
    /// Header that receives the payload.
    pub output_payload_to_header: String,
    /// Headers that receive claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token is sent on.
    pub forward_original_token: bool,
    /// Time to fetch the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Claims whose text is a list separated by spaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub space_delimited_claims: Vec<String>,
}

/// Header that carries a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtHeader {
    /// Name of the header.
    pub name: String,
    /// Text before the token.
    pub prefix: String,
}

/// Header that receives a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimToHeader {
    /// Name of the header.
    pub header: String,
    /// Claim.
    pub claim: String,
}
