//! What a kind demands of its objects.

use std::fmt;

use serde_json::Value;

use super::ResourceInfo;
use crate::{Core, auth::user::User, error::ApiError, field::FieldError, schema::Schema};

/// A table column of server-side printing.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Heading as in the Table (`Name`).
    pub name: String,
    /// `string`, `integer`, `date`, ….
    pub kind: String,
    /// `name` for the name column, else empty.
    pub format: String,
    /// Description.
    pub description: String,
    /// 0 always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// How a deleted object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// At once, unless finalizers hold it.
    Now,
    /// After so many seconds, or when the node says it has stopped.
    After(i64),
    /// When a controller finalizes it (namespaces).
    Held,
}

/// What a strategy may look at.
#[derive(Debug, Clone, Copy)]
pub struct UpdateContext<'a> {
    /// Shared state of the server.
    pub core: &'a Core,
    /// Resource of the request.
    pub resource: &'a ResourceInfo,
    /// Who asks.
    pub user: &'a User,
    /// `status`, `scale`, … or `None`.
    pub subresource: Option<&'a str>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// The behaviour of one kind. Objects are in the version of the request; defaults do nothing.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// Field structure: strict decoding, strategic merge, field ownership. `None`: anything goes.
    fn schema(&self) -> Option<&Schema> {
        None
    }

    /// Turns a stored object into the request's version.
    fn present(&self, _resource: &ResourceInfo, _object: &mut Value) {}

    /// Turns an object of the request's version into the stored one.
    fn store_form(&self, _resource: &ResourceInfo, _object: &mut Value) {}

    /// Checks raw input beyond the schema and prunes it; returns problems that `fieldValidation` governs
    /// (`unknown field "spec.x"`). Custom resources use this.
    ///
    /// # Errors
    /// 400/422 for input that no mode accepts.
    fn decode(&self, _resource: &ResourceInfo, _object: &mut Value) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    /// Fills defaults.
    fn default(&self, _object: &mut Value) {}

    /// Resets what a client may not set on create, sets what the server sets.
    ///
    /// # Errors
    /// When the server cannot provide it (no free address).
    fn prepare_create(&self, _ctx: &UpdateContext<'_>, _object: &mut Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Isolates status and spec, keeps what may not change, bumps `metadata.generation`.
    ///
    /// # Errors
    /// When the server cannot provide something.
    fn prepare_update(&self, _ctx: &UpdateContext<'_>, _object: &mut Value, _old: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Sets what only the server can give (cluster addresses, node ports), after field ownership is settled.
    /// `old` is `None` on create.
    ///
    /// # Errors
    /// When there is nothing left to give.
    fn allocate(&self, _ctx: &UpdateContext<'_>, _object: &mut Value, _old: Option<&Value>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Called after an object was written.
    fn stored(&self, _ctx: &UpdateContext<'_>, _object: &Value) {}

    /// Called after an object was removed.
    fn removed(&self, _ctx: &UpdateContext<'_>, _object: &Value) {}

    /// How an object goes when it is deleted; `grace` is what the client asked for, seconds.
    fn removal(&self, _object: &Value, _grace: Option<i64>) -> Removal {
        Removal::Now
    }

    /// An object removed at once, as the client gets to see it.
    fn last_state(&self, object: Value) -> Value {
        object
    }

    /// Changes an object whose deletion has just been noted.
    fn mark_deleted(&self, _object: &mut Value) {}

    /// Whether a written object is to be removed: deletion noted, no finalizers, no grace left.
    fn is_gone(&self, object: &Value) -> bool {
        crate::meta::is_deleting(object)
            && crate::meta::finalizers(object).is_empty()
            && object
                .pointer("/metadata/deletionGracePeriodSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(0)
                == 0
    }

    /// What happens to dependents if the client does not say: `Background` or `Orphan`.
    fn default_propagation(&self) -> &'static str {
        "Background"
    }

    /// The object's Scale, if it has one.
    fn scale(&self, _object: &Value) -> Option<Value> {
        None
    }

    /// Sets the replicas of an object.
    fn set_scale(&self, _object: &mut Value, _replicas: i64) {}

    /// Problems of a new object.
    fn validate(&self, _ctx: &UpdateContext<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Problems of a changed object.
    fn validate_update(&self, _ctx: &UpdateContext<'_>, _object: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Warnings about an accepted object.
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Whether a PUT on an absent name creates.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resourceVersion is allowed.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Whether delete answers the object instead of a Status.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// A selectable field beyond `metadata.name` and `metadata.namespace`; `None` if the label is not supported.
    fn field(&self, _object: &Value, _label: &str) -> Option<String> {
        None
    }

    /// Labels accepted in field selectors beyond `metadata.name` and `metadata.namespace`.
    fn field_labels(&self) -> Vec<String> {
        Vec::new()
    }

    /// The message for a label that [`Strategy::field_labels`] does not list.
    fn unknown_field_label(&self, label: &str) -> String {
        format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }

    /// What is wrong with a name; `None` if nothing. `prefix`: it is a `generateName`.
    fn name_problem(&self, name: &str, _prefix: bool) -> Option<String> {
        crate::kinds::names::dns_subdomain(name)
    }

    /// Columns and the function's cells for them; `None`: name and age.
    fn columns(&self) -> Option<Vec<Column>> {
        None
    }

    /// Cells of one row, as many as [`Strategy::columns`].
    fn cells(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }

    /// The OpenAPI v3 schema of the kind and those it refers to (`$ref: #/components/schemas/NAME`).
    fn open_api(&self) -> Option<Value> {
        None
    }
}

/// A kind without any behaviour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Strategy for Plain {}
