//! Defaults and validation of a CustomResourceDefinition.

use super::{controller::FINALIZER, format, jsonpath::JsonPath, names, node, selectable, structural};
use crate::{field::FieldError, kinds::names as naming, meta, objects::text, schema::time};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Fills what a client may leave out: names, conversion.
pub fn default(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").filter(|s| s.is_object()) else {
        return;
    };
    if let Some(names) = spec.get_mut("names").filter(|n| n.is_object()) {
        let kind = text(names, &["kind"]).to_owned();
        if !kind.is_empty() {
            if text(names, &["singular"]).is_empty() {
                names["singular"] = json!(kind.to_lowercase());
            }
            if text(names, &["listKind"]).is_empty() {
                names["listKind"] = json!(format!("{kind}List"));
            }
        }
    }
    if !spec.get("conversion").is_some_and(Value::is_object) {
        spec["conversion"] = json!({ "strategy": "None" });
    }
    if let Some(service) = spec
        .pointer_mut("/conversion/webhook/clientConfig/service")
        .filter(|s| s.is_object())
        && service.get("port").is_none_or(Value::is_null)
    {
        service["port"] = json!(443);
    }
}

/// The status of a new definition.
pub fn prepare_create(definition: &mut Value) {
    let stored: Vec<Value> = versions(definition)
        .iter()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    definition["status"] = json!({
        "conditions": null,
        "acceptedNames": { "plural": "", "kind": "" },
        "storedVersions": if stored.is_empty() { Value::Null } else { json!(stored) },
    });
}

/// A new storage version joins the stored ones.
pub fn prepare_update(definition: &mut Value) {
    let storage = versions(definition)
        .iter()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone());
    let Some(name) = storage else { return };
    match &mut definition["status"]["storedVersions"] {
        Value::Array(list) if list.contains(&name) => {}
        Value::Array(list) => list.push(name),
        other => *other = json!([name]),
    }
}

/// A definition whose deletion was noted keeps its objects' cleanup in view.
pub fn mark_deleted(definition: &mut Value) {
    let mut finalizers = meta::finalizers(definition);
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
        meta::set(definition, "finalizers", json!(finalizers));
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    names::set_condition(
        &mut definition["status"],
        "Terminating",
        "True",
        "InstanceDeletionPending",
        message,
        &time::now(),
    );
}

fn versions(definition: &Value) -> &[Value] {
    definition["spec"]["versions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Problems of a definition whose defaults are filled in; `old` for an update.
#[must_use]
pub fn problems(definition: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &definition["spec"];
    if spec["preserveUnknownFields"] == true {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(FieldError::invalid("spec.preserveUnknownFields", &json!(true), detail));
    }
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    if meta::name(definition) != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        out.push(FieldError::invalid(
            "metadata.name",
            &json!(meta::name(definition)),
            detail,
        ));
    }
    if group.is_empty() {
        out.push(FieldError::required("spec.group", ""));
    } else if !group.contains('.') {
        let detail = "should be a domain with at least one dot";
        out.push(FieldError::invalid("spec.group", &spec["group"], detail));
    } else if let Some(problem) = naming::dns_subdomain(group) {
        out.push(FieldError::invalid("spec.group", &spec["group"], problem));
    }
    match spec.get("scope").filter(|s| !s.is_null()).map(|s| s.as_str()) {
        None | Some(Some("")) => out.push(FieldError::required("spec.scope", "")),
        Some(Some("Cluster" | "Namespaced")) => {}
        Some(_) => out.push(FieldError::not_supported(
            "spec.scope",
            &spec["scope"],
            &["Cluster", "Namespaced"],
        )),
    }
    check_names(&spec["names"], &mut out);
    check_conversion(&spec["conversion"], &mut out);
    check_versions(definition, &mut out);
    if let Some(old) = old {
        check_fixed(spec, &old["spec"], &mut out);
    }
    out
}

/// Warnings about an accepted definition: string formats that nothing checks.
#[must_use]
pub fn warnings(definition: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    for version in versions(definition) {
        unknown_formats(&version["schema"]["openAPIV3Schema"], &mut found, 0);
    }
    found
        .into_iter()
        .map(|format| format!("unrecognized format {format:?}"))
        .collect()
}

fn unknown_formats(node: &Value, found: &mut BTreeSet<String>, depth: usize) {
    if depth > node::MAX_DEPTH {
        return;
    }
    if let Some(name) = node["format"]
        .as_str()
        .filter(|f| !f.is_empty() && node::kind(node) == "string")
        && !format::is_known(name)
    {
        found.insert(name.to_owned());
    }
    let below = node::properties(node).into_iter().flat_map(|p| p.values());
    for part in below.chain(node::additional(node)).chain(node.get("items")) {
        unknown_formats(part, found, depth + 1);
    }
}

fn check_names(names: &Value, out: &mut Vec<FieldError>) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let value = text(names, &[key]);
        let field = format!("spec.names.{key}");
        if value.is_empty() {
            out.push(FieldError::required(field, ""));
            continue;
        }
        // Kinds are judged in lower case: they may have capitals.
        let judged = if key.ends_with("ind") {
            value.to_lowercase()
        } else {
            value.to_owned()
        };
        if let Some(problem) = dns1035(&judged) {
            out.push(FieldError::invalid(field, &names[key], problem));
        }
    }
    for key in ["shortNames", "categories"] {
        for (at, name) in names[key].as_array().into_iter().flatten().enumerate() {
            if let Some(problem) = dns1035(name.as_str().unwrap_or_default()) {
                out.push(FieldError::invalid(format!("spec.names.{key}[{at}]"), name, problem));
            }
        }
    }
    if !text(names, &["kind"]).is_empty() && names["kind"] == names["listKind"] {
        let detail = "kind and listKind may not be the same";
        out.push(FieldError::invalid("spec.names.listKind", &names["listKind"], detail));
    }
}

fn dns1035(label: &str) -> Option<String> {
    let good = !label.is_empty()
        && label.len() <= 63
        && label.starts_with(|c: char| c.is_ascii_lowercase())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.ends_with('-');
    (!good).then(|| {
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".to_owned()
    })
}

fn check_conversion(conversion: &Value, out: &mut Vec<FieldError>) {
    let field = "spec.conversion";
    match text(conversion, &["strategy"]) {
        "None" => {}
        "Webhook" => {
            let webhook = &conversion["webhook"];
            if webhook["conversionReviewVersions"].as_array().is_none_or(Vec::is_empty) {
                out.push(FieldError::required(format!("{field}.conversionReviewVersions"), ""));
            }
            let client = &webhook["clientConfig"];
            let here = format!("{field}.webhookClientConfig");
            if !client.is_object() {
                out.push(FieldError::required(here, "required when strategy is set to Webhook"));
            } else if client["url"].is_string() == client["service"].is_object() {
                out.push(FieldError::required(here, "exactly one of url or service is required"));
            }
        }
        _ => {
            out.push(FieldError::not_supported(
                format!("{field}.strategy"),
                &conversion["strategy"],
                &["None", "Webhook"],
            ));
        }
    }
}

fn check_versions(definition: &Value, out: &mut Vec<FieldError>) {
    let all = versions(definition);
    let mut seen = BTreeSet::new();
    let same = all
        .windows(2)
        .all(|pair| pair[0].get("schema") == pair[1].get("schema"));
    for (at, version) in all.iter().enumerate() {
        let path = format!("spec.versions[{at}]");
        let name = text(version, &["name"]);
        if let Some(problem) = dns1035(name) {
            out.push(FieldError::invalid(format!("{path}.name"), &version["name"], problem));
        }
        if !seen.insert(name) {
            out.push(FieldError::invalid(
                format!("{path}.name"),
                &version["name"],
                "must be unique",
            ));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            out.push(FieldError::required(format!("{path}.schema.openAPIV3Schema"), ""));
            continue;
        }
        // Equal schemas are kept once in the internal form, and messages name that place.
        if same && at > 0 {
            continue;
        }
        let place = if same {
            "spec.validation.openAPIV3Schema".to_owned()
        } else {
            format!("{path}.schema.openAPIV3Schema")
        };
        structural::check(schema, &place, out);
        let field = if same {
            "spec.selectableFields".to_owned()
        } else {
            format!("{path}.selectableFields")
        };
        selectable::problems(&field, &version["selectableFields"], schema, out);
        check_columns(&path, same, version, out);
        check_subresources(&path, same, version, out);
    }
    let storage = all.iter().filter(|v| v["storage"] == true).count();
    if storage != 1 {
        let printed: Vec<Value> = all.iter().map(internal).collect();
        let detail = "must have exactly one version marked as storage version";
        out.push(FieldError::invalid("spec.versions", &json!(printed), detail));
    }
    if all.is_empty() {
        out.push(FieldError::invalid(
            "spec.versions",
            &json!([]),
            "must have exactly one version marked as storage version",
        ));
    }
    check_stored(definition, &seen, out);
}

/// A version as the real server prints it in messages: its internal form.
fn internal(version: &Value) -> Value {
    let flag = |key: &str| version[key].as_bool().unwrap_or(false);
    json!({
        "Name": version["name"],
        "Served": flag("served"),
        "Storage": flag("storage"),
        "Deprecated": flag("deprecated"),
        "DeprecationWarning": version["deprecationWarning"],
        "Schema": null,
        "Subresources": null,
        "AdditionalPrinterColumns": null,
        "SelectableFields": null,
    })
}

fn check_stored(definition: &Value, names: &BTreeSet<&str>, out: &mut Vec<FieldError>) {
    let stored = &definition["status"]["storedVersions"];
    let field = "status.storedVersions";
    let list = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        out.push(FieldError::invalid(
            field,
            &Value::Null,
            "must have at least one stored version",
        ));
    }
    for (at, version) in list.iter().enumerate() {
        if !version.as_str().is_some_and(|v| names.contains(v)) {
            let detail = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions";
            let detail = detail.replace("v1", version.as_str().unwrap_or_default());
            out.push(FieldError::invalid(format!("{field}[{at}]"), version, detail));
        }
    }
}

fn check_columns(path: &str, same: bool, version: &Value, out: &mut Vec<FieldError>) {
    let field = if same {
        "spec.additionalPrinterColumns".to_owned()
    } else {
        format!("{path}.additionalPrinterColumns")
    };
    for (at, column) in version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let here = format!("{field}[{at}]");
        if text(column, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{here}.name"), ""));
        }
        let kinds = ["boolean", "date", "integer", "number", "string"];
        match text(column, &["type"]) {
            "" => out.push(FieldError::required(
                format!("{here}.type"),
                format!("must be one of {}", kinds.join(",")),
            )),
            kind if !kinds.contains(&kind) => {
                let detail = format!("must be one of {}", kinds.join(","));
                out.push(FieldError::invalid(format!("{here}.type"), &column["type"], detail));
            }
            _ => {}
        }
        match text(column, &["jsonPath"]) {
            "" => out.push(FieldError::required(format!("{here}.JSONPath"), "")),
            json_path => {
                if let Err(problem) = JsonPath::parse(json_path) {
                    let detail = format!("is an invalid JSON path: {problem}");
                    out.push(FieldError::invalid(
                        format!("{here}.JSONPath"),
                        &column["jsonPath"],
                        detail,
                    ));
                }
            }
        }
    }
}

fn check_subresources(path: &str, same: bool, version: &Value, out: &mut Vec<FieldError>) {
    let scale = &version["subresources"]["scale"];
    if !scale.is_object() {
        return;
    }
    let field = if same {
        "spec.subresources.scale".to_owned()
    } else {
        format!("{path}.subresources.scale")
    };
    for (key, under) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        match text(scale, &[key]) {
            "" => out.push(FieldError::required(format!("{field}.{key}"), "")),
            value if !value.starts_with(under) => {
                let detail = format!("should be a json path under {}", under.trim_end_matches('.'));
                out.push(FieldError::invalid(format!("{field}.{key}"), &scale[key], detail));
            }
            _ => {}
        }
    }
}

fn check_fixed(spec: &Value, old: &Value, out: &mut Vec<FieldError>) {
    for (field, path) in [
        ("spec.group", &["group"][..]),
        ("spec.names.plural", &["names", "plural"]),
        ("spec.scope", &["scope"]),
        ("spec.names.kind", &["names", "kind"]),
    ] {
        if text(spec, path) != text(old, path) {
            out.push(FieldError::invalid(
                field,
                &json!(text(spec, path)),
                "field is immutable",
            ));
        }
    }
}
