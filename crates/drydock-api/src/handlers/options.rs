//! Checks of query parameters and delete options.

use serde_json::Value;

use super::Call;
use crate::{
    codec::{Document, protobuf::Envelope},
    error::{ApiError, Subject},
    field::FieldError,
    request::Options,
    schema,
};

fn invalid(kind: &str, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(
        Subject {
            group: "meta.k8s.io",
            resource: kind,
            name: "",
        },
        errors,
    )
}

/// Checks the options of a create, update or patch.
///
/// # Errors
/// 422.
pub fn check_write(options: &Options, kind: &str, apply: bool) -> Result<(), ApiError> {
    let mut errors = check_dry_run(&options.dry_run);
    if kind == "PatchOptions" {
        if apply && options.field_manager.is_empty() {
            errors.push(FieldError::required("fieldManager", "is required for apply patch"));
        }
        if !apply && options.force.is_some() {
            errors.push(FieldError::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
    }
    if options.field_manager.len() > 128 {
        errors.push(FieldError::too_long("fieldManager", 128));
    }
    if let Some((at, odd)) = options.field_manager.chars().enumerate().find(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
        let mut error = FieldError::invalid("fieldManager", &options.field_manager.clone().into(), detail);
        error.value = Some(go_quoted(&options.field_manager));
        errors.push(error);
    }
    if !matches!(options.field_validation.as_str(), "" | "Ignore" | "Strict" | "Warn") {
        errors.push(FieldError::not_supported(
            "fieldValidation",
            &options.field_validation.clone().into(),
            &["", "Ignore", "Strict", "Warn"],
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid(kind, &errors))
    }
}

/// A text in quotes, control characters as Go escapes them.
fn go_quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| {
            if c.is_control() {
                format!("\\x{:02x}", u32::from(c))
            } else {
                c.escape_debug().to_string()
            }
        })
        .collect();
    format!("\"{escaped}\"")
}

fn check_dry_run(values: &[String]) -> Vec<FieldError> {
    match values.iter().find(|value| *value != "All") {
        Some(_) => {
            let list = Value::from(values.to_vec());
            let Some(first) = list.get(0) else { return Vec::new() };
            let shown = if values.len() == 1 { first.clone() } else { list.clone() };
            vec![FieldError::not_supported("dryRun", &shown, &["All"])]
        }
        None => Vec::new(),
    }
}

/// Checks the options of a list or watch.
///
/// # Errors
/// 422.
pub fn check_list(options: &Options, watch: bool) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let matching = options.resource_version_match.as_str();
    let field = "resourceVersionMatch";
    if options.send_initial_events.is_some() && !watch {
        errors.push(FieldError::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if watch {
        if options.send_initial_events.is_some() {
            if matching != "NotOlderThan" {
                errors.push(FieldError::forbidden(
                    field,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            if !matching.is_empty() && matching != "NotOlderThan" {
                errors.push(FieldError::not_supported(field, &matching.into(), &["NotOlderThan"]));
            }
        } else if !matching.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    } else if !matching.is_empty() {
        if options.resource_version.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !options.continue_token.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if matching != "Exact" && matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(
                field,
                &matching.into(),
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if matching == "Exact" && options.resource_version == "0" {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(invalid("ListOptions", &errors))
    }
}

/// How to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds of grace; `None`: the kind's default.
    pub grace_period: Option<i64>,
    /// `Orphan`, `Background`, `Foreground` or empty.
    pub propagation: String,
    /// Older form of the propagation policy.
    pub orphan: Option<bool>,
    /// Required uid.
    pub uid: Option<String>,
    /// Required version.
    pub resource_version: Option<String>,
    /// Whether nothing is to be deleted.
    pub dry_run: bool,
    /// The options as they were given, for admission.
    pub raw: Value,
    /// Whether admission has seen the request already (an eviction).
    pub admitted: bool,
}

/// Reads the delete options of a request: its body, else its query.
///
/// # Errors
/// 400 for a body that is none, 422 for invalid ones.
pub fn delete_options(call: &Call) -> Result<DeleteOptions, ApiError> {
    let raw = if call.body.is_empty() {
        from_query(&call.options)
    } else {
        from_body(call)?
    };
    let text = |pointer: &str| raw.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let dry_run: Vec<String> = match raw["dryRun"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let options = DeleteOptions {
        grace_period: raw["gracePeriodSeconds"].as_i64(),
        propagation: text("/propagationPolicy").unwrap_or_default(),
        orphan: raw["orphanDependents"].as_bool(),
        uid: text("/preconditions/uid"),
        resource_version: text("/preconditions/resourceVersion"),
        dry_run: dry_run.iter().any(|value| value == "All"),
        raw: raw.clone(),
        admitted: false,
    };
    let mut errors = Vec::new();
    if options.orphan.is_some() && !options.propagation.is_empty() {
        errors.push(FieldError::invalid(
            "propagationPolicy",
            &options.propagation.clone().into(),
            "orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    if !matches!(
        options.propagation.as_str(),
        "" | "Foreground" | "Background" | "Orphan"
    ) {
        errors.push(FieldError::not_supported(
            "propagationPolicy",
            &options.propagation.clone().into(),
            &["Foreground", "Background", "Orphan", "nil"],
        ));
    }
    errors.extend(check_dry_run(&dry_run));
    if errors.is_empty() {
        return Ok(options);
    }
    let subject = Subject {
        group: "",
        resource: "DeleteOptions",
        name: "",
    };
    Err(ApiError::invalid(subject, &errors))
}

fn from_query(options: &Options) -> Value {
    let mut raw = serde_json::json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
    if let Some(grace) = options.grace_period {
        raw["gracePeriodSeconds"] = grace.into();
    }
    if !options.propagation.is_empty() {
        raw["propagationPolicy"] = options.propagation.clone().into();
    }
    if let Some(orphan) = options.orphan_dependents {
        raw["orphanDependents"] = orphan.into();
    }
    if !options.dry_run.is_empty() {
        raw["dryRun"] = options.dry_run.clone().into();
    }
    raw
}

fn from_body(call: &Call) -> Result<Value, ApiError> {
    let schema = schema::builtin("meta.v1.DeleteOptions");
    let mut value = match (call.content_type.as_str(), schema) {
        ("application/vnd.kubernetes.protobuf", Some(schema)) => Envelope::open(&call.body)
            .and_then(|envelope| envelope.object(schema))
            .map_err(ApiError::bad_request)?,
        ("application/yaml", _) => Document::from_yaml(&call.body).map_err(ApiError::bad_request)?.value,
        _ => Document::from_json(&call.body).map_err(ApiError::bad_request)?.value,
    };
    if let Some(schema) = schema {
        schema::decode(schema, "DeleteOptions", &mut value, &[]).map_err(|error| {
            ApiError::bad_request(format!(
                "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: {error}"
            ))
        })?;
    }
    let kind = value["kind"].as_str().unwrap_or_default();
    if !kind.is_empty() && kind != "DeleteOptions" {
        return Err(ApiError::bad_request(format!(
            "decoded object cannot be converted to DeleteOptions, it is a {kind}"
        )));
    }
    if value["apiVersion"] != "meta.k8s.io/v1"
        && let Some(map) = value.as_object_mut()
    {
        map.insert("kind".into(), "DeleteOptions".into());
        map.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    }
    Ok(value)
}
