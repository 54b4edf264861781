//! The behaviour of one version of a custom resource.

use super::{columns::Columns, convert, defaults, jsonpath::JsonPath, lists, node, prune, rules, selectable, validate};
use crate::{
    error::{ApiError, Subject},
    field::{Cause, FieldError},
    meta,
    objects::Objects,
    resource::{Column, ResourceInfo, Strategy, UpdateContext},
    schema::{self, Schema, builtin},
    table,
};
use serde_json::{Map, Value, json};

/// Where a Scale finds its numbers.
#[derive(Debug, Clone)]
struct ScalePaths {
    spec: JsonPath,
    status: JsonPath,
    selector: Option<JsonPath>,
}

/// One version of a custom resource.
#[derive(Debug)]
pub struct CustomKind {
    schema: Value,
    /// Schema of the version objects are stored in, if that is another one: it gives the defaults on reading.
    stored_schema: Option<Value>,
    structure: Schema,
    columns: Columns,
    selectable: Vec<(String, JsonPath)>,
    has_status: bool,
    scale: Option<ScalePaths>,
    has_rules: bool,
    definition: String,
}

impl CustomKind {
    /// Reads a `spec.versions[]` element of the definition called `definition`; `storage` is the one objects are stored in.
    #[must_use]
    pub fn new(definition: &str, version: &Value, storage: &Value) -> Self {
        let schema = version["schema"]["openAPIV3Schema"].clone();
        let scale = &version["subresources"]["scale"];
        let path = |key: &str| scale[key].as_str().and_then(|p| JsonPath::parse(p).ok());
        CustomKind {
            structure: convert::root(&schema),
            columns: Columns::new(&version["additionalPrinterColumns"]),
            selectable: selectable::labels(&version["selectableFields"]),
            has_status: version["subresources"]["status"].is_object(),
            scale: path("specReplicasPath")
                .zip(path("statusReplicasPath"))
                .map(|(spec, status)| ScalePaths {
                    spec,
                    status,
                    selector: path("labelSelectorPath"),
                }),
            has_rules: rules::present(&schema),
            definition: definition.to_owned(),
            stored_schema: (version["name"] != storage["name"]).then(|| storage["schema"]["openAPIV3Schema"].clone()),
            schema,
        }
    }

    /// Problems of `object`; `old` for an update. `status` narrows to the status subresource.
    fn problems(&self, object: &Value, old: Option<&Value>, status: bool) -> Vec<FieldError> {
        let mut out = if status {
            let schema = node::properties(&self.schema)
                .and_then(|p| p.get("status"))
                .unwrap_or(&Value::Null);
            match object.get("status") {
                Some(value) => validate::problems(schema, value, old.and_then(|o| o.get("status")), "status"),
                None => Vec::new(),
            }
        } else {
            let mut found = Vec::new();
            self.check_replicas(object, &mut found);
            found.extend(validate::problems(&self.schema, object, old, ""));
            found
        };
        if old.is_none_or(|o| o.get("spec") != object.get("spec")) {
            lists::duplicates(&self.schema, object, &mut out);
        }
        if !self.has_rules {
            return out;
        }
        if out.iter().any(|e| blocks_rules(e.cause)) {
            out.push(FieldError {
                cause: Cause::Invalid,
                field: "<nil>".into(),
                value: Some("null".into()),
                detail: "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".into(),
            });
        } else {
            out.extend(rules::broken(&self.schema, object, old));
        }
        out
    }

    fn check_replicas(&self, object: &Value, out: &mut Vec<FieldError>) {
        let Some(paths) = &self.scale else { return };
        if let Some(value) = paths.spec.find(object).first()
            && value.as_i64().is_some_and(|n| n < 0)
        {
            let detail = "should be a non-negative integer";
            out.push(FieldError::invalid(".spec.replicas", value, detail));
        }
    }

    /// Everything but metadata (and, with a status subresource, status): what counts as a new generation.
    fn specification(&self, object: &Value) -> Map<String, Value> {
        let mut out = object.as_object().cloned().unwrap_or_default();
        for field in ["metadata", "apiVersion", "kind"] {
            out.shift_remove(field);
        }
        if self.has_status {
            out.shift_remove("status");
        }
        out
    }
}

/// Errors after which CEL rules are not evaluated: they may rely on what is wrong.
fn blocks_rules(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::NotSupported | Cause::Required | Cause::TooLong | Cause::TooMany | Cause::TypeInvalid
    )
}

impl Strategy for CustomKind {
    fn schema(&self) -> Option<&Schema> {
        Some(&self.structure)
    }

    fn present(&self, resource: &ResourceInfo, object: &mut Value) {
        object["apiVersion"] = json!(resource.api_version());
        match &self.stored_schema {
            None => defaults::default(&self.schema, object),
            Some(stored) => {
                defaults::default(stored, object);
                prune::prune(&self.schema, object);
            }
        }
    }

    fn store_form(&self, resource: &ResourceInfo, object: &mut Value) {
        let group = &resource.group;
        object["apiVersion"] = json!(format!("{group}/{}", resource.storage_version));
    }

    fn decode(&self, resource: &ResourceInfo, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let mut unknown: Vec<String> = match (object.get_mut("metadata"), builtin("meta.v1.ObjectMeta")) {
            (Some(metadata), Some(fields)) => {
                let decoded = schema::decode(fields, "ObjectMeta", metadata, &[]).map_err(|problem| {
                    let (kind, version) = (&resource.kind, &resource.version);
                    ApiError::bad_request(format!(
                        "{kind} in version {version:?} cannot be handled as a {kind}: {problem}"
                    ))
                })?;
                decoded
                    .strict
                    .iter()
                    .map(|text| text.replacen("field \"", "field \"metadata.", 1))
                    .collect()
            }
            _ => Vec::new(),
        };
        let pruned = prune::prune(&self.schema, object);
        unknown.extend(pruned.into_iter().map(|path| format!("unknown field {path:?}")));
        unknown.sort();
        Ok(unknown)
    }

    fn default(&self, object: &mut Value) {
        defaults::default(&self.schema, object);
    }

    fn prepare_create(&self, ctx: &UpdateContext<'_>, object: &mut Value) -> Result<(), ApiError> {
        let definition = ctx.core.get(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "",
            &self.definition,
        );
        if definition.is_some_and(|d| meta::is_deleting(&d)) {
            let subject = Subject {
                group: &ctx.resource.group,
                resource: &ctx.resource.plural,
                name: meta::name(object),
            };
            return Err(ApiError::forbidden(
                subject,
                "create not allowed while custom resource definition is terminating",
            ));
        }
        if self.has_status
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
        meta::set(object, "generation", 1);
        Ok(())
    }

    fn prepare_update(&self, ctx: &UpdateContext<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
        if ctx.subresource == Some("status") {
            let status = object.get("status").cloned();
            let managed = object.pointer("/metadata/managedFields").cloned();
            *object = old.clone();
            if let Some(map) = object.as_object_mut() {
                match status {
                    Some(status) => map.insert("status".into(), status),
                    None => map.shift_remove("status"),
                };
            }
            meta::set(object, "managedFields", managed.unwrap_or(Value::Null));
            return Ok(());
        }
        if self.has_status
            && let Some(map) = object.as_object_mut()
        {
            match old.get("status") {
                Some(status) => map.insert("status".into(), status.clone()),
                None => map.shift_remove("status"),
            };
        }
        let generation = meta::generation(old);
        let changed = self.specification(object) != self.specification(old);
        meta::set(object, "generation", if changed { generation + 1 } else { generation });
        Ok(())
    }

    fn validate(&self, _: &UpdateContext<'_>, object: &Value) -> Vec<FieldError> {
        self.problems(object, None, false)
    }

    fn validate_update(&self, ctx: &UpdateContext<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        self.problems(object, Some(old), ctx.subresource == Some("status"))
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        let paths = self.scale.as_ref()?;
        let number = |path: &JsonPath| path.find(object).first().and_then(|v| v.as_i64()).unwrap_or(0);
        let mut status = json!({ "replicas": number(&paths.status) });
        if let Some(selector) = &paths.selector {
            let selector = selectable::value(selector, object);
            if !selector.is_empty() {
                status["selector"] = json!(selector);
            }
        }
        let metadata = &object["metadata"];
        let mut own = Map::new();
        for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = metadata.get(key) {
                own.insert(key.into(), value.clone());
            }
        }
        Some(json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": own,
            "spec": { "replicas": number(&paths.spec) },
            "status": status,
        }))
    }

    fn set_scale(&self, object: &mut Value, replicas: i64) {
        if let Some(paths) = &self.scale {
            paths.spec.set(object, json!(replicas));
        }
    }

    fn field(&self, object: &Value, label: &str) -> Option<String> {
        let (_, path) = self.selectable.iter().find(|(name, _)| name == label)?;
        Some(selectable::value(path, object))
    }

    fn field_labels(&self) -> Vec<String> {
        self.selectable.iter().map(|(label, _)| label.clone()).collect()
    }

    fn unknown_field_label(&self, label: &str) -> String {
        format!("field label not supported: {label}")
    }

    fn columns(&self) -> Option<Vec<Column>> {
        Some(self.columns.headings())
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        self.columns.cells(object, table::age_of)
    }

    fn open_api(&self) -> Option<Value> {
        let mut schema = self.schema.clone();
        if !schema.is_object() {
            schema = json!({ "type": "object" });
        }
        let properties = &mut schema["properties"];
        if !properties.is_object() {
            *properties = json!({});
        }
        let described = |about: &str| json!({ "type": "string", "description": about });
        properties["apiVersion"] =
            described("APIVersion defines the versioned schema of this representation of an object.");
        properties["kind"] = described("Kind is a string value representing the REST resource this object represents.");
        properties["metadata"] = json!({ "allOf": [{ "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" }], "default": {} });
        Some(schema)
    }
}
