//! Validation of a pod's volumes.

use serde_json::Value;

use super::{list, names, text};
use crate::field::FieldError;

/// Collects the names of usable volumes.
pub(super) fn volumes<'a>(spec: &'a Value, root: &str, errors: &mut Vec<FieldError>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    let mut usable: Vec<&str> = Vec::new();
    for (index, volume) in list(spec, "/volumes").iter().enumerate() {
        let path = format!("{root}.volumes[{index}]");
        let before = errors.len();
        source(volume, &path, errors);
        let name = text(volume, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if let Some(problem) = names::dns_label(name) {
            errors.push(FieldError::invalid(format!("{path}.name"), &volume["name"], problem));
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &volume["name"]));
        }
        if errors.len() == before {
            usable.push(name);
        }
        seen.push(name);
    }
    usable
}

fn source(volume: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const ORDER: [&str; 12] = [
        "emptyDir",
        "hostPath",
        "gitRepo",
        "nfs",
        "secret",
        "iscsi",
        "persistentVolumeClaim",
        "configMap",
        "downwardAPI",
        "projected",
        "csi",
        "ephemeral",
    ];
    let mut count = 0;
    for name in ORDER {
        let one = &volume[name];
        if !one.is_object() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.push(FieldError::forbidden(
                format!("{path}.{name}"),
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        let mut required = |field: &str| {
            if text(one, &format!("/{field}")).is_empty() {
                errors.push(FieldError::required(format!("{path}.{name}.{field}"), ""));
            }
        };
        match name {
            "secret" => required("secretName"),
            "configMap" => required("name"),
            "hostPath" => required("path"),
            "persistentVolumeClaim" => required("claimName"),
            "projected" => projected(one, &format!("{path}.projected"), errors),
            _ => {}
        }
    }
}

fn projected(one: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, source) in list(one, "/sources").iter().enumerate() {
        let field = format!("{path}.sources[{index}]");
        let token = &source["serviceAccountToken"];
        if token.is_object() {
            let seconds = token["expirationSeconds"].as_i64().unwrap_or(3600);
            if seconds < 600 {
                errors.push(FieldError::invalid(
                    format!("{field}.serviceAccountToken.expirationSeconds"),
                    &token["expirationSeconds"],
                    "may not specify a duration less than 10 minutes",
                ));
            }
            let target = text(token, "/path");
            if target.is_empty() {
                errors.push(FieldError::required(format!("{field}.serviceAccountToken.path"), ""));
            } else if target.starts_with('/') {
                errors.push(FieldError::invalid(
                    format!("{path}.path"),
                    &token["path"],
                    "must be a relative path",
                ));
            }
        }
        for (name, given) in [("secret", &source["secret"]), ("configMap", &source["configMap"])] {
            if given.is_object() && text(given, "/name").is_empty() {
                errors.push(FieldError::required(format!("{field}.{name}.name"), ""));
            }
        }
    }
}
