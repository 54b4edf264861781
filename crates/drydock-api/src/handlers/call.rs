//! One request on its way through the pipeline.

use std::sync::Arc;

use bytes::Bytes;
use drydock_store::Stored;
use serde_json::{Value, json};

use super::Api;
use crate::{
    codec::Accept,
    error::{ApiError, Subject},
    hooks::{AdmissionRequest, Attributes, Operation},
    meta,
    request::Options,
    resource::{ResourceInfo, UpdateContext},
};

/// One authorized request to a resource.
#[derive(Debug)]
pub struct Call {
    /// The server.
    pub api: Arc<Api>,
    /// Who asks for what.
    pub attributes: Attributes,
    /// Query parameters.
    pub options: Options,
    /// The resource.
    pub resource: Arc<ResourceInfo>,
    /// Form of the answer.
    pub accept: Accept,
    /// Field manager: the parameter, else the first word of the user agent.
    pub manager: String,
    /// Media type of the body, without parameters.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
    /// Warnings for the client so far.
    pub warnings: Vec<String>,
}

impl Call {
    /// Subresource or `None`.
    pub fn subresource(&self) -> Option<&str> {
        Some(self.attributes.info.subresource.as_str()).filter(|name| !name.is_empty())
    }

    /// Namespace of the path.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced {
            &self.attributes.info.namespace
        } else {
            ""
        }
    }

    /// Name of the path.
    pub fn name(&self) -> &str {
        &self.attributes.info.name
    }

    /// The named object by resource, for errors.
    pub fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject {
            group: &self.resource.group,
            resource: &self.resource.plural,
            name,
        }
    }

    /// The named object by kind, for validation errors.
    pub fn kind_subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        // Events of either group are checked as the core kind.
        let group = if self.resource.kind == "Event" {
            ""
        } else {
            self.resource.group.as_str()
        };
        Subject {
            group,
            resource: &self.resource.kind,
            name,
        }
    }

    /// What strategies may look at.
    pub fn context(&self) -> UpdateContext<'_> {
        UpdateContext {
            core: &self.api.core,
            resource: &self.resource,
            user: &self.attributes.user,
            subresource: self.subresource(),
            dry_run: self.options.is_dry_run(),
        }
    }

    /// The stored object of the path, in the request's version.
    ///
    /// # Errors
    /// 404.
    pub fn stored(&self, name: &str) -> Result<(u64, Value), ApiError> {
        let key = self.resource.key(self.namespace(), name);
        let stored = self
            .api
            .core
            .store
            .get(&key)
            .ok_or_else(|| ApiError::not_found(self.subject(name)))?;
        Ok((stored.revision, self.present(&stored)))
    }

    /// A stored object in the request's version.
    pub fn present(&self, stored: &Stored) -> Value {
        present(&self.resource, &stored.value)
    }

    /// An object of the request's version as it is stored.
    pub fn store_form(&self, object: &Value) -> Value {
        let mut stored = object.clone();
        self.resource.strategy.store_form(&self.resource, &mut stored);
        stored
    }

    /// Applies defaults and brings the object into its encoded form.
    pub fn complete(&self, object: &mut Value) {
        self.resource.strategy.default(object);
        self.normalize(object);
    }

    /// Brings the object into its encoded form.
    pub fn normalize(&self, object: &mut Value) {
        if let Some(schema) = self.resource.strategy.schema()
            && !self.resource.custom
        {
            crate::schema::normalize(schema, object);
        }
    }

    /// The admission view of this call.
    pub fn review<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        object: Option<Value>,
        old: Option<&'a Value>,
    ) -> AdmissionRequest<'a> {
        let kind = match operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete | Operation::Connect => "DeleteOptions",
        };
        let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        if operation != Operation::Delete {
            if self.options.is_dry_run() {
                options["dryRun"] = json!(["All"]);
            }
            if !self.options.field_manager.is_empty() {
                options["fieldManager"] = json!(self.options.field_manager);
            }
            if !self.options.field_validation.is_empty() {
                options["fieldValidation"] = json!(self.options.field_validation);
            }
        }
        AdmissionRequest {
            attributes: &self.attributes,
            resource: &self.resource,
            subresource: self.subresource(),
            operation,
            name,
            namespace: self.namespace(),
            object,
            old_object: old,
            options,
            dry_run: self.options.is_dry_run(),
        }
    }

    /// Runs mutating admission over `object`.
    ///
    /// # Errors
    /// The denial.
    pub async fn mutate(
        &mut self,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut warnings = Vec::new();
        let name = if self.name().is_empty() {
            meta::name(&object).to_owned()
        } else {
            self.name().to_owned()
        };
        let mut review = self.review(operation, &name, Some(object), old);
        let result = self.api.hooks.admission.mutate(&mut review, &mut warnings).await;
        let object = review.object.take();
        self.warnings.append(&mut warnings);
        result?;
        object.ok_or_else(|| ApiError::internal("admission dropped the object"))
    }

    /// Runs validating admission.
    ///
    /// # Errors
    /// The denial.
    pub async fn admit(
        &mut self,
        operation: Operation,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let mut warnings = Vec::new();
        let name = match (self.name(), object) {
            ("", Some(object)) => meta::name(object).to_owned(),
            ("", None) => old.map(meta::name).unwrap_or_default().to_owned(),
            (name, _) => name.to_owned(),
        };
        let review = self.review(operation, &name, object.cloned(), old);
        let result = self.api.hooks.admission.validate(&review, &mut warnings).await;
        self.warnings.append(&mut warnings);
        result
    }
}

/// A stored object in a resource's version.
pub fn present(resource: &ResourceInfo, stored: &Value) -> Value {
    let mut object = stored.clone();
    resource.strategy.present(resource, &mut object);
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), resource.api_version().into());
        map.insert("kind".into(), resource.kind.clone().into());
    }
    object
}
