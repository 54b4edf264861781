//! The object in a request's body.

use serde_json::Value;

use super::Call;
use crate::{
    codec::{Document, protobuf::Envelope},
    error::ApiError,
    request::FieldValidation,
    resource::ResourceInfo,
    schema::{self, Schema},
};

/// What kind a body must hold.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `v1` or `group/version`.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Its fields.
    pub schema: Option<&'a Schema>,
    /// The resource, for custom decoding; `None` for bodies of another kind (Scale, Eviction).
    pub resource: Option<&'a ResourceInfo>,
}

impl Call {
    /// Decodes the body as an object of the resource.
    ///
    /// # Errors
    /// 400, 415, 422 as the real server.
    pub fn input(&mut self) -> Result<Value, ApiError> {
        let resource = self.resource.clone();
        let wanted = Wanted {
            api_version: &resource.api_version(),
            kind: &resource.kind,
            schema: resource.strategy.schema(),
            resource: Some(&resource),
        };
        self.input_as(wanted)
    }

    /// Decodes the body as an object of a built-in kind other than the resource's.
    ///
    /// # Errors
    /// As [`Call::input`].
    pub fn input_of(&mut self, group: &str, version: &str, kind: &str) -> Result<Value, ApiError> {
        let api_version = crate::resource::api_version(group, version);
        let schema = schema::builtin(&schema::names(group, version, kind));
        self.input_as(Wanted {
            api_version: &api_version,
            kind,
            schema,
            resource: None,
        })
    }

    fn input_as(&mut self, wanted: Wanted<'_>) -> Result<Value, ApiError> {
        let document = self.document(wanted)?;
        let validation = self.options.validation();
        let (object, warnings) = check(wanted, document, validation)?;
        self.warnings.extend(warnings);
        Ok(object)
    }

    fn document(&self, wanted: Wanted<'_>) -> Result<Document, ApiError> {
        let unrecognized = |error: String| {
            ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {error} ({})",
                wanted.kind,
                summary(&self.body)
            ))
        };
        match self.content_type.as_str() {
            "application/json" | "" => Document::from_json(&self.body)
                .map_err(|error| unrecognized(format!("couldn't get version/kind; json parse error: {error}")))
                .and_then(|document| match &document.value {
                    Value::Object(_) => Ok(document),
                    other => Err(unrecognized(format!(
                        "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
                        kind_of(other)
                    ))),
                }),
            "application/yaml" => Document::from_yaml(&self.body).map_err(ApiError::bad_request),
            "application/vnd.kubernetes.protobuf" if wanted.schema.is_some() => {
                let Some(schema) = wanted.schema else { return Err(unsupported()) };
                let envelope = Envelope::open(&self.body).map_err(unrecognized)?;
                let value = envelope.object(schema).map_err(unrecognized)?;
                Ok(Document { value, ..Document::default() })
            }
            _ => Err(unsupported()),
        }
    }
}

fn unsupported() -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The start of a body as error messages show it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let (shown, more) = match body.get(..SHOWN) {
        Some(start) if body.len() > SHOWN => (start, " ..."),
        _ => (body, ""),
    };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => format!(
            "{}{more}",
            shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        ),
    }
}

/// Checks version, kind and fields; returns the object and the warnings about it.
pub fn check(
    wanted: Wanted<'_>,
    document: Document,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let mut object = document.value;
    let version = wanted.api_version.rsplit('/').next().unwrap_or_default();
    {
        let Some(map) = object.as_object_mut() else {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {})",
                wanted.kind
            )));
        };
        let given = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (given("apiVersion"), given("kind"));
        if !api_version.is_empty() && api_version != wanted.api_version {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API version ({})",
                wanted.api_version
            )));
        }
        if !kind.is_empty() && kind != wanted.kind {
            let group = wanted.api_version.split_once('/').map_or("core", |(group, _)| group);
            let short = group.split('.').next().unwrap_or(group);
            return Err(ApiError::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {0}: converting ({version}.{kind}) to ({short}.{0}): unknown conversion",
                wanted.kind
            )));
        }
        map.insert("apiVersion".into(), wanted.api_version.into());
        map.insert("kind".into(), wanted.kind.into());
    }
    let unhandled = |error: &str| {
        ApiError::bad_request(format!(
            "{0} in version {version:?} cannot be handled as a {0}: {error}",
            wanted.kind
        ))
    };
    let mut strict: Vec<String> = document.notation.into_iter().collect();
    match wanted.resource {
        Some(resource) if resource.custom => {
            strict.extend(
                document
                    .duplicates
                    .iter()
                    .map(|path| format!("duplicate field {path:?}")),
            );
            strict.extend(resource.strategy.decode(resource, &mut object)?);
        }
        _ => {
            if let Some(schema) = wanted.schema {
                let decoded = schema::decode(schema, wanted.kind, &mut object, &document.duplicates)
                    .map_err(|error| unhandled(&error))?;
                strict.extend(decoded.strict);
            }
        }
    }
    if strict.is_empty() {
        return Ok((object, Vec::new()));
    }
    match validation {
        FieldValidation::Strict => Err(unhandled(&format!("strict decoding error: {}", strict.join(", ")))),
        FieldValidation::Warn => Ok((object, strict)),
        FieldValidation::Ignore => Ok((object, Vec::new())),
    }
}
