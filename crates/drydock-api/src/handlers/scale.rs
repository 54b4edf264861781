//! `/scale`: replicas of a workload as an `autoscaling/v1` Scale.

use serde_json::Value;

use super::{Call, Response, options, update::Change};
use crate::{error::ApiError, field::FieldError, meta};

impl Call {
    /// The Scale of an object.
    ///
    /// # Errors
    /// 404 if the kind has none.
    pub fn scale_of(&self, object: &Value) -> Result<Value, ApiError> {
        self.resource
            .strategy
            .scale(object)
            .ok_or_else(ApiError::no_such_resource)
    }

    /// Replaces the Scale with the body.
    ///
    /// # Errors
    /// As the real server.
    pub async fn update_scale(&mut self) -> Result<Response, ApiError> {
        options::check_write(&self.options, "UpdateOptions", false)?;
        let scale = self.input_of("autoscaling", "v1", "Scale")?;
        let name = meta::name(&scale);
        if name != self.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.name()
            )));
        }
        let scaled = self.rescale(|_, _| Ok(scale.clone())).await?;
        self.object(200, scaled)
    }

    /// Lets `change` make a new Scale from the current one, and stores its replicas.
    ///
    /// # Errors
    /// As the real server.
    pub async fn rescale(
        &mut self,
        mut change: impl FnMut(&mut Self, &Value) -> Result<Value, ApiError>,
    ) -> Result<Value, ApiError> {
        let updated = self
            .rewrite(|call, old| {
                let current = call.scale_of(old)?;
                let scale = change(call, &current)?;
                let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
                if replicas < 0 && call.resource.custom {
                    let detail = "should be a non-negative integer";
                    let error = FieldError::invalid(".spec.replicas", &replicas.into(), detail);
                    return Err(ApiError::invalid(call.kind_subject(meta::name(old)), &[error]));
                }
                if replicas < 0 {
                    let error =
                        FieldError::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
                    let subject = crate::error::Subject {
                        group: "autoscaling",
                        resource: "Scale",
                        name: meta::name(old),
                    };
                    return Err(ApiError::invalid(subject, &[error]));
                }
                let mut object = old.clone();
                call.resource.strategy.set_scale(&mut object, replicas);
                let mut version = meta::resource_version(&scale).to_owned();
                if call.attributes.info.verb == "patch" && version == meta::resource_version(&current) {
                    // The version that was read, not one that the client insists on: a lost race is tried again.
                    version.clear();
                }
                meta::set(&mut object, "resourceVersion", version);
                Ok(Change::Replace(object))
            })
            .await?;
        self.scale_of(&updated)
    }
}
