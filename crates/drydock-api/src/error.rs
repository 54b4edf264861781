//! Kubernetes `Status` errors: what every failed request answers.

use serde_json::{Map, Value, json};

use crate::field::FieldError;

/// A failed request, carrying everything its `Status` body and headers say.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code, also `status.code`.
    pub code: u16,
    /// Machine-readable reason (`NotFound`, `Conflict`, …); empty where Kubernetes gives none.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// `status.details`, absent when `None`.
    pub details: Option<Map<String, Value>>,
    /// `Retry-After` header and `details.retryAfterSeconds`, seconds.
    pub retry_after: Option<u32>,
    /// A body that replaces the `Status` (a few answers of the real server are plain text).
    pub plain: Option<String>,
}

/// Names the object that an error is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Resource (plural) or kind, as the particular error wants it.
    pub resource: &'a str,
    /// Object name, may be empty.
    pub name: &'a str,
}

impl Subject<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        if !self.name.is_empty() {
            details.insert("name".into(), self.name.into());
        }
        if !self.group.is_empty() {
            details.insert("group".into(), self.group.into());
        }
        if !self.resource.is_empty() {
            details.insert("kind".into(), self.resource.into());
        }
        details
    }
}

impl ApiError {
    /// An error of any code and reason without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: None,
            retry_after: None,
            plain: None,
        }
    }

    /// A plain-text answer with the given code.
    pub fn plain(code: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            plain: Some(text.clone()),
            ..Self::new(code, "", text)
        }
    }

    /// The same error with details of `subject`.
    #[must_use]
    pub fn about(mut self, subject: Subject<'_>) -> Self {
        self.details = Some(subject.details());
        self
    }

    /// 400 `BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401 `Unauthorized`.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 `Forbidden` about an object; `cause` follows `is forbidden: `.
    pub fn forbidden(subject: Subject<'_>, cause: &str) -> Self {
        let message = if subject.resource.is_empty() {
            format!("forbidden: {cause}")
        } else if subject.name.is_empty() {
            format!("{} is forbidden: {cause}", subject.qualified())
        } else {
            format!("{} {:?} is forbidden: {cause}", subject.qualified(), subject.name)
        };
        Self::new(403, "Forbidden", message).about(subject)
    }

    /// 404 of an object that does not exist.
    pub fn not_found(subject: Subject<'_>) -> Self {
        let message = format!("{} {:?} not found", subject.qualified(), subject.name);
        Self::new(404, "NotFound", message).about(subject)
    }

    /// 404 of a path that names no resource.
    pub fn no_such_resource() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Map::new());
        error
    }

    /// 409 of a create whose object exists.
    pub fn already_exists(subject: Subject<'_>) -> Self {
        let message = format!("{} {:?} already exists", subject.qualified(), subject.name);
        Self::new(409, "AlreadyExists", message).about(subject)
    }

    /// 409 of a write that lost; `cause` is the text after the colon.
    pub fn conflict(subject: Subject<'_>, cause: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {cause}",
            subject.qualified(),
            subject.name
        );
        Self::new(409, "Conflict", message).about(subject)
    }

    /// 405 of a verb the resource does not have.
    pub fn method_not_allowed() -> Self {
        let mut error = Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        error.details = Some(Map::new());
        error
    }

    /// 410 of a version that is no longer held.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 422 with one cause per field error. `subject.resource` is the kind here.
    pub fn invalid(subject: Subject<'_>, errors: &[FieldError]) -> Self {
        let mut seen = Vec::new();
        for error in errors {
            let text = error.to_string();
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        let list = match seen.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {:?} is invalid: {list}", subject.qualified(), subject.name);
        let mut error = Self::new(422, "Invalid", message).about(subject);
        if let Some(details) = &mut error.details {
            details.insert("causes".into(), errors.iter().map(FieldError::cause).collect());
        }
        error
    }

    /// 500 `InternalError`.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let mut details = Map::new();
        details.insert("causes".into(), json!([{ "message": message }]));
        error.details = Some(details);
        error
    }

    /// 500 without a reason, as an unclassified Go error becomes.
    pub fn unclassified(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        status.insert("metadata".into(), json!({}));
        status.insert("status".into(), "Failure".into());
        if !self.message.is_empty() {
            status.insert("message".into(), self.message.clone().into());
        }
        if !self.reason.is_empty() {
            status.insert("reason".into(), self.reason.clone().into());
        }
        let mut details = self.details.clone();
        if let Some(seconds) = self.retry_after {
            details
                .get_or_insert_default()
                .insert("retryAfterSeconds".into(), seconds.into());
        }
        if let Some(details) = details {
            status.insert("details".into(), details.into());
        }
        status.insert("code".into(), self.code.into());
        Value::Object(status)
    }
}
