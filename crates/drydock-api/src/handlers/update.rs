//! PUT, and the read-modify-write loop that PATCH and subresources share.

use drydock_store::{Error as StoreError, Expect};
use serde_json::Value;

use super::{Call, Response, create::store_error, options};
use crate::{error::ApiError, hooks::Operation, meta};

/// Attempts of a read-modify-write loop when somebody else keeps writing.
const ATTEMPTS: usize = 50;

/// What a new object is made of.
#[derive(Debug)]
pub enum Change {
    /// This object replaces the old one.
    Replace(Value),
    /// The new object and its field ownership are complete (server-side apply).
    Applied(Value),
    /// As `Replace`, for a subresource whose own body has been through admission.
    Admitted(Value),
}

impl Call {
    /// Replaces an object with the body.
    ///
    /// # Errors
    /// As the real server.
    pub async fn update(&mut self) -> Result<Response, ApiError> {
        options::check_write(&self.options, "UpdateOptions", false)?;
        let mut object = self.input()?;
        self.check_namespace(&object)?;
        if self.resource.namespaced {
            meta::set(&mut object, "namespace", self.namespace());
        }
        let name = meta::name(&object);
        if name.is_empty() {
            return Err(ApiError::bad_request("name must be provided"));
        }
        if name != self.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let key = self.resource.key(self.namespace(), self.name());
        if self.api.core.store.get(&key).is_none()
            && self.resource.strategy.creates_on_update()
            && self.subresource().is_none()
        {
            if !meta::resource_version(&object).is_empty() {
                return Err(ApiError::not_found(self.subject(self.name())));
            }
            let created = self.create_object(object).await?;
            return self.object(201, created);
        }
        let updated = self.rewrite(|_, _| Ok(Change::Replace(object.clone()))).await?;
        self.object(200, updated)
    }

    /// Reads the object, lets `change` make the new one, and writes it; again if another write came between
    /// and the new object names no version. Returns the stored object.
    ///
    /// # Errors
    /// As the real server.
    pub async fn rewrite(
        &mut self,
        mut change: impl FnMut(&mut Self, &Value) -> Result<Change, ApiError>,
    ) -> Result<Value, ApiError> {
        let name = self.name().to_owned();
        let warnings = self.warnings.len();
        for _ in 0..ATTEMPTS {
            self.warnings.truncate(warnings);
            let (revision, old) = self.stored(&name)?;
            let change = change(self, &old)?;
            match self.try_rewrite(revision, &old, change).await? {
                Some(object) => return Ok(object),
                None => continue,
            }
        }
        Err(ApiError::conflict(self.subject(&name), MODIFIED))
    }

    /// One attempt; `None` if the object changed meanwhile and it may be tried again.
    async fn try_rewrite(&mut self, revision: u64, old: &Value, change: Change) -> Result<Option<Value>, ApiError> {
        let resource = self.resource.clone();
        let (mut object, applied, admitted) = match change {
            Change::Replace(object) => (object, false, false),
            Change::Applied(object) => (object, true, false),
            Change::Admitted(object) => (object, false, true),
        };
        if self.attributes.info.verb == "patch" && meta::resource_version(&object) == meta::resource_version(old) {
            // The version that was read, not one that the client insists on: a lost race is tried again.
            meta::set(&mut object, "resourceVersion", Value::Null);
        }
        let pinned = self.check_preconditions(revision, old, &object)?;
        if self.attributes.info.verb == "patch" {
            // Admission sees what was patched: the object as it was read, its version included.
            meta::set(&mut object, "resourceVersion", revision.to_string());
        }
        self.complete(&mut object);
        if !applied {
            // The client owns what it sent; what admission and the server add later is nobody's.
            self.api
                .hooks
                .fields
                .update(&resource, self.subresource(), Some(old), &mut object, &self.manager);
        }
        if !admitted {
            object = self.mutate(Operation::Update, object, Some(old)).await?;
            self.recheck(&mut object)?;
        }
        self.complete(&mut object);
        meta::carry_over(&mut object, old);
        meta::set(&mut object, "resourceVersion", revision.to_string());
        resource.strategy.prepare_update(&self.context(), &mut object, old)?;
        resource.strategy.allocate(&self.context(), &mut object, Some(old))?;
        self.normalize(&mut object);
        let mut errors = meta::validate_update(&object, old, "metadata");
        if !resource.custom {
            // The real server looks at metadata once for all kinds and once more for each built-in one.
            errors.extend(errors.clone());
        }
        errors.extend(resource.strategy.validate_update(&self.context(), &object, old));
        if !errors.is_empty() {
            return Err(ApiError::invalid(self.kind_subject(meta::name(&object)), &errors));
        }
        self.warnings.extend(resource.strategy.warnings(&object, Some(old)));
        if !admitted {
            self.admit(Operation::Update, Some(&object), Some(old)).await?;
        }
        if self.options.is_dry_run() || same(&object, old) {
            return Ok(Some(if same(&object, old) { old.clone() } else { object }));
        }
        self.write(revision, object, pinned).await
    }

    /// Writes the result, or removes the object if nothing holds it any longer.
    async fn write(&mut self, revision: u64, mut object: Value, pinned: bool) -> Result<Option<Value>, ApiError> {
        let key = self.resource.key(self.namespace(), self.name());
        let expect = Expect::Revision(revision);
        let stored = self.store_form(&object);
        let written = if self.resource.strategy.is_gone(&object) {
            let removed = self.api.core.store.remove(&key, expect).await;
            if removed.is_ok() {
                self.resource.strategy.removed(&self.context(), &object);
            }
            removed
        } else {
            self.api.core.store.put(&key, expect, stored).await
        };
        match written {
            Ok(written) => {
                self.resource.strategy.stored(&self.context(), &object);
                meta::set(&mut object, "resourceVersion", written.revision.to_string());
                Ok(Some(object))
            }
            Err(StoreError::Conflict { .. }) if pinned => Err(ApiError::conflict(self.subject(self.name()), MODIFIED)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(store_error(&error)),
        }
    }

    /// Checks the version and uid the new object asks for; whether it pins a version.
    fn check_preconditions(&self, revision: u64, old: &Value, object: &Value) -> Result<bool, ApiError> {
        let version = meta::resource_version(object);
        if version.is_empty() || version == "0" {
            if !self.resource.strategy.unconditional_update() && self.attributes.info.verb == "update" {
                let error = crate::field::FieldError::invalid(
                    "metadata.resourceVersion",
                    &0.into(),
                    "must be specified for an update",
                );
                let name = self.name();
                return Err(ApiError::invalid(self.subject(name), &[error]));
            }
        } else {
            let wanted: u64 = version.parse().map_err(|_| {
                ApiError::unclassified(format!("strconv.ParseUint: parsing {version:?}: invalid syntax"))
            })?;
            if wanted != revision {
                return Err(ApiError::conflict(self.subject(self.name()), MODIFIED));
            }
        }
        let (uid, old_uid) = (meta::text(object, "uid"), meta::text(old, "uid"));
        if !uid.is_empty() && uid != old_uid {
            let key = self.resource.key(self.namespace(), self.name());
            let key = key.trim_start_matches('/');
            let cause = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
            );
            return Err(ApiError::conflict(self.subject(self.name()), &cause));
        }
        Ok(!version.is_empty() && version != "0")
    }
}

/// Cause of a lost write.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Whether two objects differ in nothing but the times of field ownership.
fn same(new: &Value, old: &Value) -> bool {
    if new == old {
        return true;
    }
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(entries) = object
            .pointer_mut("/metadata/managedFields")
            .and_then(Value::as_array_mut)
        {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                entry.shift_remove("time");
            }
        }
        meta::of(&mut object)
            .retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
        object
    };
    strip(new) == strip(old)
}
