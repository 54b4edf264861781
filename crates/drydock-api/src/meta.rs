//! Object metadata: reading, setting, and what the server itself keeps in order.

use serde_json::{Map, Value, json};

use crate::{field::FieldError, kinds::names, resource::ResourceInfo, schema::time};

/// Annotations' total size limit, bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// A text in `metadata`, empty if absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|meta| meta.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// The metadata map, created if it is missing or no object.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(map) = object else {
        unreachable!("made an object above")
    };
    let meta = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    let Value::Object(meta) = meta else {
        unreachable!("made an object above")
    };
    meta
}

/// Sets a field of `metadata`; `Null` removes it.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let meta = of(object);
    match value.into() {
        Value::Null => {
            meta.shift_remove(field);
        }
        value => {
            meta.insert(field.to_owned(), value);
        }
    }
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// `metadata.generation`, 0 if absent.
pub fn generation(object: &Value) -> i64 {
    object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

/// Gives a new object its identity: uid, creation time, generated name; drops what clients may not set.
pub fn fill_new(object: &mut Value, namespaced: bool, namespace: &str) {
    let meta = of(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        meta.shift_remove(field);
    }
    meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".into(), time::now().into());
    if namespaced {
        meta.insert("namespace".into(), namespace.into());
    } else {
        meta.shift_remove("namespace");
    }
    let generate = meta
        .get("generateName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let unnamed = meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty();
    if unnamed && !generate.is_empty() {
        meta.insert("name".into(), names::generate(&generate).into());
    }
}

/// Carries over what an update may not change by itself.
pub fn carry_over(object: &mut Value, old: &Value) {
    let old_meta = old.get("metadata");
    let meta = of(object);
    for field in ["creationTimestamp", "uid"] {
        let given = meta.get(field).is_some_and(|value| !value.is_null());
        if let Some(value) = old_meta
            .and_then(|old| old.get(field))
            .filter(|_| !given || field == "uid")
        {
            meta.insert(field.into(), value.clone());
        }
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old_meta.and_then(|old| old.get(field)) {
            Some(value) => meta.insert(field.into(), value.clone()),
            None => meta.shift_remove(field),
        };
    }
    meta.shift_remove("selfLink");
    if let Some(namespace) = old_meta.and_then(|old| old.get("namespace")) {
        meta.insert("namespace".into(), namespace.clone());
    }
}

/// Problems of an object's metadata.
pub fn validate(resource: &ResourceInfo, object: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = &object["metadata"];
    let generate = text(object, "generateName");
    if !generate.is_empty() {
        let trimmed = generate
            .strip_suffix('-')
            .map_or(generate.to_owned(), |base| format!("{base}a"));
        if let Some(problem) = resource.strategy.name_problem(&trimmed, true) {
            errors.push(FieldError::invalid(
                format!("{root}.generateName"),
                &meta["generateName"],
                problem,
            ));
        }
    }
    if name(object).is_empty() {
        errors.push(FieldError::required(
            format!("{root}.name"),
            "name or generateName is required",
        ));
    } else if let Some(problem) = resource.strategy.name_problem(name(object), false) {
        errors.push(FieldError::invalid(format!("{root}.name"), &meta["name"], problem));
    }
    errors.extend(validate_body(object, root));
    errors
}

/// Problems of labels, annotations, finalizers, owners.
pub fn validate_body(object: &Value, root: &str) -> Vec<FieldError> {
    let meta = &object["metadata"];
    let mut errors = Vec::new();
    if meta["generation"].as_i64().is_some_and(|generation| generation < 0) {
        errors.push(FieldError::invalid(
            format!("{root}.generation"),
            &meta["generation"],
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(labels(&meta["labels"], &format!("{root}.labels")));
    errors.extend(annotations(&meta["annotations"], &format!("{root}.annotations")));
    errors.extend(owners(&meta["ownerReferences"], &format!("{root}.ownerReferences")));
    for (index, finalizer) in meta["finalizers"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{root}.finalizers[{index}]");
        let text = finalizer.as_str().unwrap_or_default();
        let problems = names::qualified_name(text);
        errors.extend(
            problems
                .iter()
                .map(|problem| FieldError::invalid(field.clone(), finalizer, problem.clone())),
        );
        let standard = matches!(text, "kubernetes" | "orphan" | "foregroundDeletion");
        if problems.is_empty() && !text.contains('/') && !standard {
            errors.push(FieldError::invalid(
                field,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

/// Problems of a label map.
pub fn labels(labels: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(
            names::qualified_name(key)
                .into_iter()
                .map(|problem| FieldError::invalid(root, &json!(key), problem)),
        );
        if let Some(problem) = names::label_value(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(root, value, problem));
        }
    }
    errors
}

fn annotations(annotations: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        let problems = names::qualified_name(&key.to_ascii_lowercase());
        errors.extend(
            problems
                .into_iter()
                .map(|problem| FieldError::invalid(root, &json!(key), problem)),
        );
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(root, MAX_ANNOTATIONS));
    }
    errors
}

fn owners(owners: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let version = owner["apiVersion"].as_str().unwrap_or_default();
        if version.rsplit('/').next().unwrap_or_default().is_empty() {
            errors.push(FieldError::invalid(
                format!("{root}.apiVersion"),
                &json!(version),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            let value = owner[field].as_str().unwrap_or_default();
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    format!("{root}.{field}"),
                    &json!(""),
                    "must not be empty",
                ));
            }
        }
        if owner["controller"] == true {
            let this = format!(
                "{}/{}",
                owner["kind"].as_str().unwrap_or_default(),
                owner["name"].as_str().unwrap_or_default()
            );
            match &controller {
                Some(first) => errors.push(FieldError::invalid(
                    root,
                    &ordered_owners(owners),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                )),
                None => controller = Some(this),
            }
        }
    }
    errors
}

/// Owner references with their fields in the order the real server prints them.
fn ordered_owners(owners: &Value) -> Value {
    let order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let list = owners.as_array().into_iter().flatten().map(|owner| {
        let fields = order
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), owner.get(*key)?.clone())));
        Value::Object(fields.collect())
    });
    Value::Array(list.collect())
}

/// Problems of changed metadata.
pub fn validate_update(object: &Value, old: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let immutable = "field is immutable";
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (text(object, field), text(old, field));
        if new != old {
            errors.push(FieldError::invalid(format!("{root}.{field}"), &json!(new), immutable));
        }
    }
    if is_deleting(old) {
        let before = finalizers(old);
        let mut added: Vec<String> = finalizers(object)
            .into_iter()
            .filter(|one| !before.contains(one))
            .collect();
        added.sort();
        if !added.is_empty() {
            let list = added
                .iter()
                .map(|one| format!("{one:?}"))
                .collect::<Vec<_>>()
                .join(", ");
            errors.push(FieldError::forbidden(
                format!("{root}.finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"),
            ));
        }
    }
    errors.extend(validate_body(object, root));
    errors
}
