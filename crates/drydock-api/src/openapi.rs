//! OpenAPI v3 documents: what kubectl validates with and explains.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    handlers::{Response, json_response, typed_response},
    resource::{Registry, ResourceInfo, api_version},
    schema::{self, ListType, Schema, Type},
};

/// Longest chain of references followed.
const MAX_STRUCTS: usize = 2000;

/// Answers a path below `/openapi`; `None` if it is another path.
pub fn answer(registry: &Registry, path: &str, accept: Option<&str>) -> Option<Response> {
    match path {
        "/openapi/v2" => Some(second_version(accept)),
        "/openapi/v3" | "/openapi/v3/" => Some(typed_response(
            200,
            "text/plain; charset=utf-8",
            index(registry).to_string(),
        )),
        _ => {
            let name = path.strip_prefix("/openapi/v3/")?;
            let (group, version) = match name.split('/').collect::<Vec<_>>().as_slice() {
                ["api", version] => (String::new(), (*version).to_owned()),
                ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
                _ => return Some(crate::handlers::empty_response(404)),
            };
            let resources: Vec<_> = registry
                .all()
                .into_iter()
                .filter(|resource| resource.group == group && resource.version == version)
                .collect();
            if resources.is_empty() {
                return Some(crate::handlers::empty_response(404));
            }
            Some(json_response(200, &document(&resources)))
        }
    }
}

/// The older form: kubectl asks for it when the newer one knows nothing of a kind. Everything is in the newer one,
/// so this one is a document without definitions.
fn second_version(accept: Option<&str>) -> Response {
    // Clients ask with an `@`, which is no valid media type; the answer names it with a dot.
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accept = accept.unwrap_or("*/*");
    if accept.contains("protobuf") {
        return typed_response(200, PROTOBUF, empty_document());
    }
    if accept.contains("json") || accept.contains("*/*") {
        let info = json!({ "title": "Kubernetes", "version": crate::discovery::GIT_VERSION });
        return json_response(
            200,
            &json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} }),
        );
    }
    crate::handlers::empty_response(406)
}

/// The empty document in protobuf: `swagger` is field 1, `info` 2 (`title` 1, `version` 2), `paths` 8.
fn empty_document() -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap_or(0);
        [&[number << 3 | 2, length], bytes].concat()
    }
    let info = [
        field(1, b"Kubernetes"),
        field(2, crate::discovery::GIT_VERSION.as_bytes()),
    ]
    .concat();
    [field(1, b"2.0"), field(2, &info), field(8, b"")].concat()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// Paths of the documents, each with a hash that changes with its content.
fn index(registry: &Registry) -> Value {
    let mut groups: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for resource in registry.all() {
        groups
            .entry(path_of(&resource.group, &resource.version))
            .or_default()
            .push(resource);
    }
    let paths: Map<String, Value> = groups
        .into_iter()
        .map(|(path, resources)| {
            let mut hash = Sha256::new();
            for resource in &resources {
                hash.update(resource.kind.as_bytes());
                hash.update(resource.plural.as_bytes());
                if resource.custom {
                    hash.update(resource.strategy.open_api().unwrap_or_default().to_string().as_bytes());
                }
            }
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// Full name of a built-in struct, `io.k8s.api.core.v1.Pod`.
fn full_name(name: &str) -> String {
    let group = name.split('.').next().unwrap_or_default();
    match group {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.{name}"),
        "apiextensions" => format!("io.k8s.apiextensions-apiserver.pkg.apis.{name}"),
        "apiregistration" => format!("io.k8s.kube-aggregator.pkg.apis.{name}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", full_name(name)) })
}

/// Structs on their way into a document.
#[derive(Default)]
struct Components {
    schemas: BTreeMap<String, Value>,
    waiting: Vec<String>,
    seen: BTreeSet<String>,
}

impl Components {
    fn want(&mut self, name: &str) {
        if self.seen.len() < MAX_STRUCTS && self.seen.insert(name.to_owned()) {
            self.waiting.push(name.to_owned());
        }
    }

    fn add_all(&mut self) {
        while let Some(name) = self.waiting.pop() {
            if let Some(schema) = schema::builtin(&name) {
                let value = self.object(&name, schema);
                self.schemas.insert(full_name(&name), value);
            }
        }
    }

    fn object(&mut self, name: &str, schema: &Schema) -> Value {
        let descriptions = crate::explain::descriptions(&full_name(name));
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, schema) in &schema.fields {
            let mut property = self.property(schema);
            if let Some(text) = descriptions.fields.get(field) {
                property["description"] = text.clone().into();
            }
            if schema.required {
                required.push(field.clone());
            }
            properties.insert(field.clone(), property);
        }
        let mut object = json!({ "type": "object" });
        if !descriptions.own.is_empty() {
            object["description"] = descriptions.own.into();
        }
        if !required.is_empty() {
            object["required"] = required.into();
        }
        object["properties"] = properties.into();
        if schema.atomic {
            object["x-kubernetes-map-type"] = "atomic".into();
        }
        object
    }

    fn property(&mut self, schema: &Schema) -> Value {
        let mut property = match (&schema.reference, schema.ty) {
            (Some(name), _) => {
                self.want(name);
                json!({ "allOf": [reference(name)] })
            }
            (None, Type::List) => {
                let items = schema
                    .items
                    .as_deref()
                    .map_or_else(|| json!({}), |items| self.property(items));
                json!({ "type": "array", "items": items })
            }
            (None, Type::Map) => {
                let items = schema
                    .items
                    .as_deref()
                    .map_or_else(|| json!({}), |items| self.property(items));
                json!({ "type": "object", "additionalProperties": items })
            }
            (None, ty) => scalar(ty),
        };
        if let Some(default) = &schema.default {
            property["default"] = default.clone();
        }
        if !schema.allowed.is_empty() {
            property["enum"] = schema.allowed.clone().into();
        }
        if schema.ty == Type::List {
            match &schema.list_type {
                ListType::Atomic if schema.patch_merge => {}
                ListType::Atomic => property["x-kubernetes-list-type"] = "atomic".into(),
                ListType::Set => property["x-kubernetes-list-type"] = "set".into(),
                ListType::Map(keys) => {
                    property["x-kubernetes-list-map-keys"] = keys.clone().into();
                    property["x-kubernetes-list-type"] = "map".into();
                }
            }
        } else if schema.atomic {
            property["x-kubernetes-map-type"] = "atomic".into();
        }
        if let Some(key) = &schema.merge_key {
            property["x-kubernetes-patch-merge-key"] = key.clone().into();
        }
        let strategies: Vec<&str> = [
            (schema.patch_merge, "merge"),
            (schema.retain_keys, "retainKeys"),
            (schema.patch_replace, "replace"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
        if !strategies.is_empty() {
            property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        property
    }
}

fn scalar(ty: Type) -> Value {
    match ty {
        Type::Boolean => json!({ "type": "boolean" }),
        Type::Int32 => json!({ "type": "integer", "format": "int32" }),
        Type::Int64 => json!({ "type": "integer", "format": "int64" }),
        Type::Number => json!({ "type": "number", "format": "double" }),
        Type::String => json!({ "type": "string" }),
        Type::Bytes => json!({ "type": "string", "format": "byte" }),
        Type::Time | Type::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Type::IntOrString => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        Type::Quantity => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Type::Any | Type::Object | Type::List | Type::Map => json!({ "type": "object" }),
    }
}

fn document(resources: &[std::sync::Arc<ResourceInfo>]) -> Value {
    let mut components = Components::default();
    let mut paths = Map::new();
    for name in [
        "meta.v1.DeleteOptions",
        "meta.v1.Status",
        "meta.v1.ObjectMeta",
        "meta.v1.ListMeta",
    ] {
        components.want(name);
    }
    components.add_all();
    let mut extra: BTreeMap<String, Value> = BTreeMap::new();
    for resource in resources {
        let name = if resource.custom {
            custom(resource, &mut extra)
        } else {
            let short = schema::names(&resource.group, &resource.version, &resource.kind);
            components.want(&short);
            components.add_all();
            full_name(&short)
        };
        let kind = gvk(&resource.group, &resource.version, &resource.kind);
        let schema = components.schemas.entry(name.clone()).or_insert_with(|| {
            extra.remove(&name).unwrap_or_else(|| {
                json!({ "type": "object", "properties": {
                    "apiVersion": { "type": "string" },
                    "kind": { "type": "string" },
                    "metadata": { "allOf": [reference("meta.v1.ObjectMeta")] },
                } })
            })
        });
        schema["x-kubernetes-group-version-kind"] = json!([kind]);
        let list = format!("{name}List");
        components.schemas.insert(
            list.clone(),
            json!({
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": { "type": "string" },
                    "items": { "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } },
                    "kind": { "type": "string" },
                    "metadata": { "allOf": [reference("meta.v1.ListMeta")] },
                },
                "x-kubernetes-group-version-kind": [gvk(&resource.group, &resource.version, &resource.list_kind)],
            }),
        );
        operations(resource, &name, &list, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": crate::discovery::GIT_VERSION },
        "paths": paths,
        "components": { "schemas": components.schemas },
    })
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

/// Adds a custom resource's schema; returns its name, `com.example.v1.Gear`.
fn custom(resource: &ResourceInfo, extra: &mut BTreeMap<String, Value>) -> String {
    let mut parts: Vec<&str> = resource.group.split('.').collect();
    parts.reverse();
    let name = format!("{}.{}.{}", parts.join("."), resource.version, resource.kind);
    let mut schema = resource
        .strategy
        .open_api()
        .unwrap_or_else(|| json!({ "type": "object" }));
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    for (field, text) in [
        (
            "apiVersion",
            "APIVersion defines the versioned schema of this representation of an object.",
        ),
        (
            "kind",
            "Kind is a string value representing the REST resource this object represents.",
        ),
    ] {
        schema["properties"][field] = json!({ "type": "string", "description": text });
    }
    schema["properties"]["metadata"] =
        json!({ "description": "Standard object's metadata.", "allOf": [reference("meta.v1.ObjectMeta")] });
    extra.insert(name.clone(), schema);
    name
}

/// Parameters that tell clients what a write understands.
fn write_parameters() -> Value {
    let parameter = |name: &str, text: &str| json!({ "name": name, "in": "query", "description": text, "schema": { "type": "string", "uniqueItems": true } });
    json!([
        parameter(
            "dryRun",
            "When present, indicates that modifications should not be persisted."
        ),
        parameter(
            "fieldManager",
            "A name associated with the actor or entity that is making these changes."
        ),
        parameter(
            "fieldValidation",
            "What the server does with unknown or duplicate fields: Ignore, Warn or Strict."
        ),
    ])
}

fn operations(resource: &ResourceInfo, name: &str, list: &str, paths: &mut Map<String, Value>) {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let place = if resource.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!(
        "{root}/{}{place}/{}",
        api_version(&resource.group, &resource.version),
        resource.plural
    );
    let kind = gvk(&resource.group, &resource.version, &resource.kind);
    let content =
        |name: &str| json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } });
    let operation = |action: &str, answer: &str, body: bool| {
        let mut operation = json!({
            "responses": { "200": { "description": "OK", "content": content(answer) } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        });
        if body {
            operation["parameters"] = write_parameters();
            operation["requestBody"] = json!({ "content": content(name), "required": true });
        }
        operation
    };
    let mut on_collection = json!({});
    let mut on_object = json!({});
    for (verb, method, action, object, body) in [
        ("list", "get", "list", false, false),
        ("create", "post", "post", false, true),
        ("deletecollection", "delete", "deletecollection", false, false),
        ("get", "get", "get", true, false),
        ("update", "put", "put", true, true),
        ("patch", "patch", "patch", true, true),
        ("delete", "delete", "delete", true, false),
    ] {
        if resource.allows(verb) {
            let answer = if verb == "list" { list } else { name };
            let target = if object { &mut on_object } else { &mut on_collection };
            target[method] = operation(action, answer, body);
        }
    }
    paths.insert(collection.clone(), on_collection);
    paths.insert(format!("{collection}/{{name}}"), on_object);
}
