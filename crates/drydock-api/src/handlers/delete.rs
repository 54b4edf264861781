//! DELETE of one object and of a collection.

use drydock_store::{Error as StoreError, Expect};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Call, Response,
    create::store_error,
    options::{self, DeleteOptions},
    respond::encoded,
    update::MODIFIED,
};
use crate::{
    error::{ApiError, Subject},
    hooks::Operation,
    meta,
    resource::Removal,
    schema::time,
};

/// Attempts when somebody else keeps writing.
const ATTEMPTS: usize = 50;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete did.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; its last state.
    Removed(Value),
    /// The object stays until its finalizers or its grace period are over.
    Pending(Value),
}

impl Call {
    /// Deletes the object of the path.
    ///
    /// # Errors
    /// As the real server.
    pub async fn delete(&mut self) -> Result<Response, ApiError> {
        let options = options::delete_options(self)?;
        let name = self.name().to_owned();
        let unsaid = options.propagation.is_empty() && options.orphan.is_none();
        if unsaid && self.resource.plural == "jobs" && self.resource.group == "batch" {
            self.warnings.push("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning".into());
        }
        match self.delete_named(&name, &options).await? {
            Deleted::Pending(object) => self.object(200, object),
            Deleted::Removed(object) if self.resource.strategy.returns_deleted() => self.object(200, object),
            Deleted::Removed(object) => Ok(encoded(200, self.accept.format, &self.gone(&object))),
        }
    }

    fn gone(&self, object: &Value) -> Value {
        let mut details = json!({ "name": meta::name(object) });
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.clone().into();
        }
        details["kind"] = self.resource.plural.clone().into();
        details["uid"] = meta::text(object, "uid").into();
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
    }

    /// Deletes one object by name.
    ///
    /// # Errors
    /// As the real server.
    pub async fn delete_named(&mut self, name: &str, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let key = self.resource.key(self.namespace(), name);
        for _ in 0..ATTEMPTS {
            let (revision, object) = self.stored(name)?;
            self.check_delete(name, &object, options)?;
            if !options.admitted {
                self.admit_delete(name, &object, options).await?;
            }
            let expect = Expect::Revision(revision);
            let dry_run = options.dry_run || self.options.is_dry_run();
            let written = match self.plan(&object, options) {
                Plan::Nothing => return Ok(Deleted::Pending(object)),
                Plan::Remove if dry_run => return Ok(Deleted::Removed(self.resource.strategy.last_state(object))),
                Plan::Remove => match self.api.core.store.remove(&key, expect).await {
                    Ok(written) => {
                        self.resource.strategy.removed(&self.context(), &object);
                        let mut object = self.resource.strategy.last_state(object);
                        meta::set(&mut object, "resourceVersion", written.revision.to_string());
                        return Ok(Deleted::Removed(object));
                    }
                    Err(error) => Err(error),
                },
                Plan::Mark(marked) if dry_run => return Ok(Deleted::Pending(marked)),
                Plan::Mark(marked) => {
                    let stored = self.store_form(&marked);
                    self.api
                        .core
                        .store
                        .put(&key, expect, stored)
                        .await
                        .map(|written| (written, marked))
                }
            };
            match written {
                Ok((written, mut marked)) => {
                    self.resource.strategy.stored(&self.context(), &marked);
                    meta::set(&mut marked, "resourceVersion", written.revision.to_string());
                    return Ok(Deleted::Pending(marked));
                }
                Err(StoreError::Conflict { .. }) => continue,
                Err(error) => return Err(store_error(&error)),
            }
        }
        Err(ApiError::conflict(self.subject(name), MODIFIED))
    }

    async fn admit_delete(&mut self, name: &str, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
        let mut warnings = Vec::new();
        let mut review = self.review(Operation::Delete, name, None, Some(object));
        review.options = options.raw.clone();
        review.dry_run |= options.dry_run;
        let mut result = self.api.hooks.admission.mutate(&mut review, &mut warnings).await;
        if result.is_ok() {
            result = self.api.hooks.admission.validate(&review, &mut warnings).await;
        }
        self.warnings.append(&mut warnings);
        result
    }

    fn check_delete(&self, name: &str, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
        let subject = Subject {
            group: &self.resource.group,
            resource: &self.resource.kind,
            name,
        };
        if let Some(uid) = &options.uid {
            let record = meta::text(object, "uid");
            if uid != record {
                return Err(ApiError::conflict(
                    subject,
                    &format!(
                        "the UID in the precondition ({uid}) does not match the UID in record ({record}). The object might have been deleted and then recreated"
                    ),
                ));
            }
        }
        if let Some(version) = &options.resource_version {
            let record = meta::resource_version(object);
            if version != record {
                return Err(ApiError::conflict(
                    subject,
                    &format!(
                        "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({record}). The object might have been modified"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn plan(&self, object: &Value, options: &DeleteOptions) -> Plan {
        let mut finalizers = meta::finalizers(object);
        let before = finalizers.clone();
        finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
        let propagation = match (options.propagation.as_str(), options.orphan) {
            ("", Some(true)) => "Orphan",
            ("", Some(false)) => "Background",
            ("", None) if before.iter().any(|one| one == ORPHAN) => "Orphan",
            ("", None) if before.iter().any(|one| one == FOREGROUND) => "Foreground",
            ("", None) => self.resource.strategy.default_propagation(),
            (given, _) => given,
        };
        match propagation {
            "Orphan" => finalizers.push(ORPHAN.into()),
            "Foreground" => finalizers.push(FOREGROUND.into()),
            _ => {}
        }
        let removal = self.resource.strategy.removal(object, options.grace_period);
        let grace = match removal {
            Removal::Now => 0,
            Removal::After(seconds) => seconds,
            Removal::Held => {
                if meta::is_deleting(object) {
                    return Plan::Nothing;
                }
                return Plan::Mark(self.marked(object, &before, None));
            }
        };
        let deleting = meta::is_deleting(object);
        if grace > 0 {
            let current = object
                .pointer("/metadata/deletionGracePeriodSeconds")
                .and_then(Value::as_i64);
            if deleting && current.is_some_and(|current| grace >= current) {
                return Plan::Nothing;
            }
            return Plan::Mark(self.marked(object, &finalizers, Some(grace)));
        }
        if finalizers.is_empty() {
            return Plan::Remove;
        }
        if deleting && finalizers == before {
            return Plan::Nothing;
        }
        Plan::Mark(self.marked(object, &finalizers, Some(0)))
    }

    /// The object with its deletion noted.
    fn marked(&self, object: &Value, finalizers: &[String], grace: Option<i64>) -> Value {
        let mut marked = object.clone();
        let list = Value::from(finalizers.to_vec());
        meta::set(
            &mut marked,
            "finalizers",
            if finalizers.is_empty() { Value::Null } else { list },
        );
        let was_deleting = meta::is_deleting(object);
        let shortened = grace.is_some_and(|grace| grace > 0) && was_deleting;
        if !was_deleting || shortened {
            let start = if shortened {
                original_deletion(object)
            } else {
                Timestamp::now()
            };
            let end = start
                .checked_add(SignedDuration::from_secs(grace.unwrap_or(0)))
                .unwrap_or(start);
            meta::set(&mut marked, "deletionTimestamp", time::seconds(end));
        }
        if let Some(grace) = grace {
            meta::set(&mut marked, "deletionGracePeriodSeconds", grace);
        }
        let generation = meta::generation(object);
        if generation > 0 && !was_deleting {
            meta::set(&mut marked, "generation", generation + 1);
        }
        self.resource.strategy.mark_deleted(&mut marked);
        marked
    }

    /// Deletes all objects a list request would show.
    ///
    /// # Errors
    /// The first failure.
    pub async fn delete_collection(&mut self) -> Result<Response, ApiError> {
        let options = options::delete_options(self)?;
        let listed = self.matching()?;
        let mut items = Vec::new();
        for object in listed.items {
            let name = meta::name(&object).to_owned();
            let namespace = meta::namespace(&object).to_owned();
            let path = std::mem::replace(&mut self.attributes.info.namespace, namespace);
            let result = self.delete_named(&name, &options).await;
            self.attributes.info.namespace = path;
            match result {
                Ok(_) => items.push(object),
                Err(error) if error.code == 404 => items.push(object),
                Err(error) => return Err(error),
            }
        }
        self.list_of(items, json!({ "resourceVersion": listed.revision.to_string() }))
    }
}

/// When a deletion under way began.
fn original_deletion(object: &Value) -> Timestamp {
    let end = meta::text(object, "deletionTimestamp")
        .parse()
        .unwrap_or_else(|_| Timestamp::now());
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    end.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(end)
}

enum Plan {
    Nothing,
    Remove,
    Mark(Value),
}
