//! POST.

use drydock_store::{Error as StoreError, Expect};
use serde_json::Value;

use super::{Call, Response, options};
use crate::{error::ApiError, hooks::Operation, meta};

/// Attempts at finding a free generated name.
const NAME_ATTEMPTS: usize = 8;

impl Call {
    /// Creates an object from the body.
    ///
    /// # Errors
    /// As the real server.
    pub async fn create(&mut self) -> Result<Response, ApiError> {
        options::check_write(&self.options, "CreateOptions", false)?;
        let object = self.input()?;
        let created = self.create_object(object).await?;
        self.object(201, created)
    }

    /// Runs a decoded object through the rest of the pipeline and stores it.
    ///
    /// # Errors
    /// As the real server.
    pub async fn create_object(&mut self, object: Value) -> Result<Value, ApiError> {
        let object = self.prepare_new(object, false).await?;
        self.insert(object).await
    }

    /// As [`Call::create_object`], for an object whose field ownership is settled (server-side apply).
    ///
    /// # Errors
    /// As the real server.
    pub async fn create_applied(&mut self, object: Value) -> Result<Value, ApiError> {
        let object = self.prepare_new(object, true).await?;
        self.insert(object).await
    }

    /// Everything of a create but the write.
    async fn prepare_new(&mut self, mut object: Value, applied: bool) -> Result<Value, ApiError> {
        if self.attributes.info.verb != "create" {
            // An update or an apply that makes the object needs the permission to create it as well.
            self.api.authorize_as(&self.attributes, "create").await?;
        }
        self.check_namespace(&object)?;
        if self.resource.namespaced {
            meta::set(&mut object, "namespace", self.namespace());
        }
        self.complete(&mut object);
        let resource = self.resource.clone();
        if !applied {
            // The client owns what it sent; what admission and the server add later is nobody's.
            self.api
                .hooks
                .fields
                .update(&resource, self.subresource(), None, &mut object, &self.manager);
        }
        let mut object = self.mutate(Operation::Create, object, None).await?;
        self.recheck(&mut object)?;
        if !meta::resource_version(&object).is_empty() {
            return Err(ApiError::unclassified(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.complete(&mut object);
        meta::fill_new(&mut object, resource.namespaced, &self.attributes.info.namespace);
        resource.strategy.prepare_create(&self.context(), &mut object)?;
        resource.strategy.allocate(&self.context(), &mut object, None)?;
        self.normalize(&mut object);
        let mut errors = meta::validate(&resource, &object, "metadata");
        errors.extend(resource.strategy.validate(&self.context(), &object));
        if !errors.is_empty() {
            return Err(ApiError::invalid(self.kind_subject(meta::name(&object)), &errors));
        }
        self.warnings.extend(resource.strategy.warnings(&object, None));
        self.admit(Operation::Create, Some(&object), None).await?;
        Ok(object)
    }

    async fn insert(&mut self, mut object: Value) -> Result<Value, ApiError> {
        let generate = meta::text(&object, "generateName").to_owned();
        for attempt in 1.. {
            let name = meta::name(&object).to_owned();
            let key = self.resource.key(self.namespace(), &name);
            let stored = self.store_form(&object);
            if self.options.is_dry_run() {
                return match self.api.core.store.get(&key) {
                    Some(current) => Err(self.exists(&name, &current.value)),
                    None => Ok(object),
                };
            }
            match self.api.core.store.put(&key, Expect::Absent, stored).await {
                Ok(written) => {
                    self.resource.strategy.stored(&self.context(), &object);
                    let version = written.revision.to_string();
                    meta::set(&mut object, "resourceVersion", version);
                    return Ok(object);
                }
                Err(StoreError::Conflict { current, .. }) => {
                    let generated = !generate.is_empty() && name.starts_with(&generate) && name != generate;
                    if generated && attempt < NAME_ATTEMPTS {
                        meta::set(&mut object, "name", crate::kinds::names::generate(&generate));
                        continue;
                    }
                    let current = current.map(|stored| stored.value);
                    return Err(self.exists(&name, current.as_deref().unwrap_or(&Value::Null)));
                }
                Err(error) => return Err(store_error(&error)),
            }
        }
        Err(ApiError::internal("no name could be generated"))
    }

    fn exists(&self, name: &str, current: &Value) -> ApiError {
        let mut error = ApiError::already_exists(self.subject(name));
        if meta::is_deleting(current) {
            error.message = format!("object is being deleted: {}", error.message);
        }
        error
    }

    /// The namespace of the object must be that of the path.
    pub(super) fn check_namespace(&self, object: &Value) -> Result<(), ApiError> {
        let given = meta::namespace(object);
        if self.resource.namespaced && !given.is_empty() && given != self.namespace() {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    /// After a webhook's patch the object must still be of its kind.
    pub(super) fn recheck(&self, object: &mut Value) -> Result<(), ApiError> {
        if self.resource.custom {
            return self.resource.strategy.decode(&self.resource, object).map(|_| ());
        }
        match self.resource.strategy.schema() {
            Some(schema) => crate::schema::decode(schema, &self.resource.kind, object, &[])
                .map(|_| ())
                .map_err(ApiError::internal),
            None => Ok(()),
        }
    }
}

/// A store failure as an answer.
pub fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => ApiError::expired("The resourceVersion for the provided list is too old."),
        other => ApiError::internal(other.to_string()),
    }
}
