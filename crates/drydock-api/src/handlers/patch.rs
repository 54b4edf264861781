//! PATCH in its four media types.

use serde_json::Value;

use super::{
    Call, Response,
    input::{Wanted, check},
    options,
    update::Change,
};
use crate::{
    codec::Document,
    error::{ApiError, Subject},
    field::FieldError,
    meta,
    patch::{self, JsonPatchError},
    request::FieldValidation,
    schema::{self, Schema},
};

/// A parsed patch.
#[derive(Debug, Clone)]
enum Patch {
    Json(Value),
    Merge(Document),
    Strategic(Document),
}

impl Call {
    /// Changes an object by the body.
    ///
    /// # Errors
    /// As the real server.
    pub async fn patch(&mut self) -> Result<Response, ApiError> {
        let media_type = self.content_type.clone();
        if media_type == "application/apply-patch+yaml" {
            options::check_write(&self.options, "PatchOptions", true)?;
            return self.apply().await;
        }
        let patch = self.parse_patch(&media_type)?;
        options::check_write(&self.options, "PatchOptions", false)?;
        if self.subresource() == Some("scale") {
            let schema = schema::builtin("autoscaling.v1.Scale");
            let scale = self
                .rescale(|call, current| {
                    let patched = call.apply_patch(&patch, current, schema)?;
                    let wanted = Wanted {
                        api_version: "autoscaling/v1",
                        kind: "Scale",
                        schema,
                        resource: None,
                    };
                    call.checked(wanted, patched, &patch)
                })
                .await?;
            return self.object(200, scale);
        }
        let resource = self.resource.clone();
        let updated = self
            .rewrite(|call, old| {
                let patched = call.apply_patch(&patch, old, resource.strategy.schema())?;
                let api_version = resource.api_version();
                let wanted = Wanted {
                    api_version: &api_version,
                    kind: &resource.kind,
                    schema: resource.strategy.schema(),
                    resource: Some(&resource),
                };
                let object = call.checked(wanted, patched, &patch)?;
                let (name, url) = (meta::name(&object), call.name());
                if name != url {
                    return Err(ApiError::bad_request(format!(
                        "the name of the object ({name}) does not match the name on the URL ({url})"
                    )));
                }
                call.check_namespace(&object)?;
                Ok(Change::Replace(object))
            })
            .await?;
        self.object(200, updated)
    }

    fn parse_patch(&self, media_type: &str) -> Result<Patch, ApiError> {
        let document = || {
            Document::from_json(&self.body)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
        };
        match media_type {
            "application/json-patch+json" => Ok(Patch::Json(document()?.value)),
            "application/merge-patch+json" => Ok(Patch::Merge(document()?)),
            "application/strategic-merge-patch+json"
                if self.resource.strategy.schema().is_some() && !self.resource.custom =>
            {
                Ok(Patch::Strategic(document()?))
            }
            _ => {
                let mut error = ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
                error.details = Some(serde_json::Map::new());
                Err(error)
            }
        }
    }

    fn apply_patch(&self, patch: &Patch, old: &Value, schema: Option<&Schema>) -> Result<Value, ApiError> {
        let mut object = old.clone();
        match patch {
            Patch::Json(operations) => patch::json(&mut object, operations).map_err(|error| match error {
                JsonPatchError::Malformed(message) => ApiError::bad_request(message),
                JsonPatchError::TooMany(_) => ApiError::new(413, "RequestEntityTooLarge", error.to_string()),
                JsonPatchError::Rejected => {
                    let mut rejected = ApiError::new(422, "Invalid", error.to_string());
                    rejected.details = Some(serde_json::Map::new());
                    rejected
                }
            })?,
            Patch::Merge(document) => patch::merge(&mut object, &document.value),
            Patch::Strategic(document) => {
                if let Some(schema) = schema {
                    patch::strategic_merge(schema, &mut object, &document.value).map_err(ApiError::unclassified)?;
                }
            }
        }
        Ok(object)
    }

    /// Checks the patched object's fields as a body's.
    fn checked(&mut self, wanted: Wanted<'_>, patched: Value, patch: &Patch) -> Result<Value, ApiError> {
        let text = patched.to_string();
        let duplicates = match patch {
            Patch::Merge(document) | Patch::Strategic(document) => document.duplicates.clone(),
            Patch::Json(_) => Vec::new(),
        };
        let document = Document {
            value: patched,
            duplicates,
            notation: None,
        };
        let validation = self.options.validation();
        let (object, warnings) = check(wanted, document, validation).map_err(|error| {
            let prefix = format!("cannot be handled as a {}: ", wanted.kind);
            match error.message.split_once(&prefix) {
                Some((_, problem)) => invalid_patch(&text, problem),
                None => error,
            }
        })?;
        self.warnings.extend(warnings);
        Ok(object)
    }

    /// Server-side apply.
    async fn apply(&mut self) -> Result<Response, ApiError> {
        let document = Document::from_yaml(&self.body)
            .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
        let mut patch = document.value;
        if !patch.is_object() {
            return Err(ApiError::bad_request("error decoding YAML: the body is no object"));
        }
        if self.options.validation() == FieldValidation::Strict
            && let Some(notation) = document.notation
        {
            return Err(ApiError::bad_request(format!("error decoding YAML: {notation}")));
        }
        if self.subresource() == Some("scale") {
            return self.apply_scale(&patch).await;
        }
        self.check_applied(&mut patch)?;
        let name = self.name().to_owned();
        let force = self.options.force.unwrap_or(false);
        let (resource, manager) = (self.resource.clone(), self.manager.clone());
        let key = resource.key(self.namespace(), &name);
        if self.api.core.store.get(&key).is_none() {
            if !meta::text(&patch, "uid").is_empty() {
                let cause = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    meta::text(&patch, "uid")
                );
                return Err(ApiError::conflict(self.subject(&name), &cause));
            }
            let mut object = self
                .api
                .hooks
                .fields
                .apply(&resource, None, None, &patch, &manager, force)?;
            meta::set(&mut object, "resourceVersion", Value::Null);
            self.attributes.info.verb = "patch".into();
            match self.create_applied(object).await {
                // Somebody else made the object in the meantime; to apply is to change it then.
                Err(error) if error.reason == "AlreadyExists" && self.api.core.store.get(&key).is_some() => {}
                created => return self.object(201, created?),
            }
        }
        let updated = self
            .rewrite(|call, old| {
                let fields = call.api.hooks.fields.clone();
                let object = fields.apply(&resource, call.subresource(), Some(old), &patch, &manager, force)?;
                Ok(Change::Applied(object))
            })
            .await?;
        self.object(200, updated)
    }

    /// Server-side apply of a Scale: the replicas of the object, owned through the subresource.
    async fn apply_scale(&mut self, patch: &Value) -> Result<Response, ApiError> {
        let text = |field: &str| patch[field].as_str().unwrap_or_default();
        if (text("apiVersion"), text("kind")) != ("autoscaling/v1", "Scale") {
            let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
            return Err(ApiError::bad_request(format!(
                "invalid object type: {group}/{version}, Kind={}",
                text("kind")
            )));
        }
        let resource = self.resource.clone();
        let mut wanted = serde_json::json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": { "name": self.name() },
        });
        if let Some(replicas) = patch.pointer("/spec/replicas").and_then(Value::as_i64) {
            resource.strategy.set_scale(&mut wanted, replicas);
        }
        let (manager, force) = (self.manager.clone(), self.options.force.unwrap_or(false));
        let updated = self
            .rewrite(|call, old| {
                call.scale_of(old)?;
                let fields = call.api.hooks.fields.clone();
                let object = fields.apply(&resource, Some("scale"), Some(old), &wanted, &manager, force)?;
                Ok(Change::Applied(object))
            })
            .await?;
        let scale = self.scale_of(&updated)?;
        self.object(200, scale)
    }

    fn check_applied(&mut self, patch: &mut Value) -> Result<(), ApiError> {
        let wanted = self.resource.api_version();
        let text = |field: &str| patch[field].as_str().unwrap_or_default().to_owned();
        if text("apiVersion") != wanted || text("kind") != self.resource.kind {
            let given = text("apiVersion");
            let (group, version) = given.split_once('/').unwrap_or(("", &given));
            return Err(ApiError::bad_request(format!(
                "invalid object type: {group}/{version}, Kind={}",
                text("kind")
            )));
        }
        let name = meta::name(patch);
        if !name.is_empty() && name != self.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        self.check_namespace(patch)?;
        let name = self.name().to_owned();
        meta::set(patch, "name", name);
        Ok(())
    }
}

fn invalid_patch(text: &str, problem: &str) -> ApiError {
    let shown = FieldError::invalid("patch", &Value::from(text), problem);
    ApiError::invalid(
        Subject {
            group: "",
            resource: "",
            name: "",
        },
        &[shown],
    )
}
