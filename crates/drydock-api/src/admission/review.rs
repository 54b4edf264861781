//! The AdmissionReview message: what is sent, and what an answer may say.

use super::rules::{converted, word};
use crate::{error::ApiError, hooks::AdmissionRequest, resource::ResourceInfo};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The version of the review to speak: the first of `versions` that we know.
#[must_use]
pub fn version(versions: &Value) -> &'static str {
    let known = versions.as_array().and_then(|a| {
        a.iter()
            .filter_map(Value::as_str)
            .find(|v| matches!(*v, "v1" | "v1beta1"))
    });
    if known == Some("v1beta1") { "v1beta1" } else { "v1" }
}

/// The review for `request`, seen in the version of `seen_as`.
#[must_use]
pub fn build(request: &AdmissionRequest<'_>, seen_as: &ResourceInfo, uid: &str, version: &str) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": format!("admission.k8s.io/{version}"),
        "request": attributes(request, seen_as, uid, true),
    })
}

/// The `request` of the review, also a variable of policies (there without the objects).
#[must_use]
pub fn attributes(request: &AdmissionRequest<'_>, seen_as: &ResourceInfo, uid: &str, objects: bool) -> Value {
    let mut out = Map::new();
    if !uid.is_empty() {
        out.insert("uid".into(), json!(uid));
    }
    out.insert("kind".into(), kind(request, seen_as));
    out.insert("resource".into(), resource(seen_as));
    let sub = |key: &str, out: &mut Map<String, Value>| {
        if let Some(subresource) = request.subresource {
            out.insert(key.into(), json!(subresource));
        }
    };
    sub("subResource", &mut out);
    out.insert("requestKind".into(), kind(request, request.resource));
    out.insert("requestResource".into(), resource(request.resource));
    sub("requestSubResource", &mut out);
    for (key, text) in [("name", request.name), ("namespace", request.namespace)] {
        if !text.is_empty() {
            out.insert(key.into(), json!(text));
        }
    }
    out.insert("operation".into(), json!(word(request.operation)));
    out.insert("userInfo".into(), request.attributes.user.to_json());
    if objects {
        let seen = |object: Option<&Value>| match object {
            Some(object) if request.subresource.is_none_or(|s| s == "status") => {
                converted(request.resource, seen_as, object)
            }
            Some(object) => object.clone(),
            None => Value::Null,
        };
        out.insert("object".into(), seen(request.object.as_ref()));
        out.insert("oldObject".into(), seen(request.old_object));
    }
    out.insert("dryRun".into(), json!(request.dry_run));
    out.insert("options".into(), request.options.clone());
    Value::Object(out)
}

fn resource(r: &ResourceInfo) -> Value {
    json!({ "group": r.group, "version": r.version, "resource": r.plural })
}

/// The kind of the body: a subresource may have one of its own.
fn kind(request: &AdmissionRequest<'_>, seen_as: &ResourceInfo) -> Value {
    let own = request
        .subresource
        .and(request.object.as_ref())
        .and_then(|o| Some((o.get("apiVersion")?.as_str()?, o.get("kind")?.as_str()?)))
        .filter(|(_, kind)| *kind != seen_as.kind);
    match own {
        Some((api_version, kind)) => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            json!({ "group": group, "version": version, "kind": kind })
        }
        None => json!({ "group": seen_as.group, "version": seen_as.version, "kind": seen_as.kind }),
    }
}

/// What a webhook decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether it agrees.
    pub allowed: bool,
    /// Its own `Status` for a denial.
    pub status: Value,
    /// JSON patch operations, decoded.
    pub patch: Option<Vec<u8>>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
}

/// Reads the answer to the review `uid`.
///
/// # Errors
/// The text after `received invalid webhook response: `.
pub fn read(body: &Value, uid: &str, version: &str, mutating: bool) -> Result<Answer, String> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&body["apiVersion"]), text(&body["kind"]));
    let expected = format!("admission.k8s.io/{version}");
    if api_version != expected || kind != "AdmissionReview" {
        let group_version = if api_version.contains('/') {
            api_version
        } else {
            format!("/{api_version}")
        };
        return Err(format!(
            "expected webhook response of {expected}, Kind=AdmissionReview, got {group_version}, Kind={kind}"
        ));
    }
    let Some(response) = body.get("response").filter(|r| r.is_object()) else {
        return Err("webhook response was absent".into());
    };
    let got = text(&response["uid"]);
    if got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let patch = response["patch"].as_str().filter(|p| !p.is_empty());
    let patch_type = response["patchType"].as_str().unwrap_or_default();
    match (mutating, patch, patch_type) {
        (true, Some(_), "") => return Err("webhook returned response.patch but not response.patchType".into()),
        (true, None, kind) if !kind.is_empty() => {
            return Err("webhook returned response.patchType but not response.patch".into());
        }
        (true, Some(_), kind) if kind != "JSONPatch" => {
            return Err(format!("webhook returned invalid response.patchType of {kind:?}"));
        }
        (false, Some(_), _) => return Err("validating webhook may not return response.patch".into()),
        (false, None, kind) if !kind.is_empty() => {
            return Err("validating webhook may not return response.patchType".into());
        }
        _ => {}
    }
    let patch = match patch {
        Some(text) => Some(
            STANDARD
                .decode(text)
                .map_err(|e| format!("response.patch is not base64: {e}"))?,
        ),
        None => None,
    };
    Ok(Answer {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        status: response.get("status").cloned().unwrap_or(Value::Null),
        patch,
        warnings: response["warnings"]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

/// The error of a denial: the webhook's own status with its name in front of the message.
#[must_use]
pub fn denial(webhook: &str, status: &Value) -> ApiError {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status["code"]
        .as_u64()
        .and_then(|c| u16::try_from(c).ok())
        .filter(|c| (400..=599).contains(c));
    let mut error = ApiError::new(code.unwrap_or(400), text("reason"), message);
    error.details = status["details"].as_object().cloned();
    error
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(response: Value, mutating: bool, expected: &str) {
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        assert_eq!(read(&body, "u", "v1", mutating).unwrap_err(), expected);
    }

    #[test]
    fn bad_answers_are_named() {
        check(
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
            true,
            "webhook returned response.patch but not response.patchType",
        );
        check(
            json!({"uid": "wrong", "allowed": true}),
            true,
            r#"expected response.uid="u", got "wrong""#,
        );
        check(
            json!({"uid": "u", "patch": "W10=", "patchType": "JSONPatch"}),
            false,
            "validating webhook may not return response.patch",
        );
        check(Value::Null, true, "webhook response was absent");
        assert_eq!(
            read(&json!({}), "u", "v1", true).unwrap_err(),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
    }

    #[test]
    fn a_denial_keeps_code_and_reason() {
        let error = denial(
            "a.b.c",
            &json!({"message": "not today", "code": 418, "reason": "Because"}),
        );
        assert_eq!((error.code, error.reason.as_str()), (418, "Because"));
        assert_eq!(
            error.message,
            r#"admission webhook "a.b.c" denied the request: not today"#
        );
        assert_eq!(denial("a.b.c", &Value::Null).code, 400);
    }
}
