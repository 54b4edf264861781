//! Answers in the form the client asked for.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::Call;
use crate::{
    codec::{Accept, Format, View, accept::to_yaml, protobuf},
    core::Body,
    error::ApiError,
    hooks::Attributes,
    meta,
    resource::ResourceInfo,
    schema, table,
};

/// A response.
pub type Response = http::Response<Body>;

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A response of any media type.
pub fn response(code: u16, media_type: &str, bytes: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub fn plain_response(code: u16, text: impl Into<String>) -> Response {
    response(code, "text/plain; charset=utf-8", text.into())
}

/// A value as JSON.
pub fn json_response(code: u16, value: &Value) -> Response {
    response(code, "application/json", value.to_string())
}

/// A value in a notation; kinds without a protobuf form answer JSON.
pub fn encoded(code: u16, format: Format, value: &Value) -> Response {
    match format {
        Format::Json => json_response(code, value),
        Format::Yaml => response(code, format.media_type(), to_yaml(value)),
        Format::Protobuf => {
            let text = |field: &str| value[field].as_str().unwrap_or_default();
            let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
            let name = if text("kind") == "Status" && text("apiVersion") == "v1" {
                "meta.v1.Status".to_owned()
            } else {
                schema::names(group, version, text("kind"))
            };
            match schema::builtin(&name) {
                Some(schema) => {
                    let bytes = protobuf::encode(schema, text("apiVersion"), text("kind"), value);
                    response(code, format.media_type(), bytes)
                }
                None => json_response(code, value),
            }
        }
    }
}

/// The answer to a failed request.
pub fn error_response(error: &ApiError, format: Format) -> Response {
    let mut response = match &error.plain {
        Some(text) => plain_response(error.code, text.clone()),
        None => encoded(error.code, format, &error.status()),
    };
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning` headers.
pub fn warn(response: &mut Response, warnings: &[String]) {
    let mut seen: Vec<&String> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let clean: String = warning.chars().filter(|c| !c.is_control()).take(2048).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// Only metadata.
pub fn partial(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// One object in the view of the request.
pub fn view(
    accept: &Accept,
    resource: &ResourceInfo,
    attributes: &Attributes,
    include: table::Include,
    object: Value,
) -> Result<Value, ApiError> {
    if attributes.info.subresource == "scale" || object["kind"] == "Status" {
        return Ok(object);
    }
    match &accept.view {
        View::Table(version) => {
            let version_text = meta::resource_version(&object).to_owned();
            let list_meta = json!({ "resourceVersion": version_text });
            Ok(table::render(resource, &[object], list_meta, version, include))
        }
        View::Partial(version) => Ok(partial(&object, version)),
        View::PartialList(_) => Err(ApiError::new(
            406,
            "NotAcceptable",
            format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                table::go_name(resource, &resource.kind)
            ),
        )),
        View::Full | View::Discovery(_) => Ok(object),
    }
}

impl Call {
    /// Checks what table rows shall carry.
    ///
    /// # Errors
    /// 400.
    pub fn check_include(&self) -> Result<(), ApiError> {
        match (&self.accept.view, self.options.get("includeObject")) {
            (View::Table(_), Some(wanted)) if !matches!(wanted, "" | "None" | "Metadata" | "Object") => {
                Err(ApiError::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {wanted:?}: must be 'Metadata', 'Object', 'None', or empty"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What table rows carry of the objects.
    pub fn include(&self) -> table::Include {
        match self.options.get("includeObject") {
            Some("None") => table::Include::None,
            Some("Object") => table::Include::Object,
            _ => table::Include::Metadata,
        }
    }

    /// Answers one object.
    ///
    /// # Errors
    /// 406 for a form the object does not have.
    pub fn object(&self, code: u16, object: Value) -> Result<Response, ApiError> {
        let value = view(&self.accept, &self.resource, &self.attributes, self.include(), object)?;
        Ok(encoded(code, self.accept.format, &value))
    }
}

/// A response without a body.
pub fn empty_response(code: u16) -> Response {
    let mut response = http::Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
