//! YAML, JSON, base64 and hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gotmpl::{Template, Value};
use sha2::{Digest, Sha256};

use super::{last, string, text, wrong};
use crate::json::escaped;
use crate::{from_json, json_text, to_json, to_yaml};

pub(super) fn add(template: Template) -> Template {
    template
        .func("toYaml", |arguments| {
            Ok(string(to_yaml(&to_json(last("toYaml", arguments)?))))
        })
        .func("toJson", |arguments| {
            Ok(string(json_text(&to_json(last("toJson", arguments)?))))
        })
        .func("toRawJson", |arguments| {
            Ok(string(to_json(last("toRawJson", arguments)?).to_string()))
        })
        .func("toPrettyJson", |arguments| {
            let json = to_json(last("toPrettyJson", arguments)?);
            serde_json::to_string_pretty(&json)
                .map(|text| string(escaped(&text)))
                .map_err(|error| wrong("toPrettyJson", error))
        })
        .func("fromYaml", |arguments| {
            parse_yaml("fromYaml", last("fromYaml", arguments)?)
        })
        .func("fromYamlArray", |arguments| {
            parse_yaml("fromYamlArray", last("fromYamlArray", arguments)?)
        })
        .func("fromJson", |arguments| {
            let json = serde_json::from_str(&text("fromJson", last("fromJson", arguments)?)?);
            json.map(|json| from_json(&json))
                .map_err(|error| wrong("fromJson", error))
        })
        .func("b64enc", |arguments| {
            Ok(string(BASE64.encode(&*text("b64enc", last("b64enc", arguments)?)?)))
        })
        .func("b64dec", |arguments| {
            let bytes = BASE64.decode(&*text("b64dec", last("b64dec", arguments)?)?);
            let bytes = bytes.map_err(|error| wrong("b64dec", error))?;
            Ok(string(String::from_utf8_lossy(&bytes)))
        })
        .func("sha256sum", |arguments| {
            let digest = Sha256::digest(text("sha256sum", last("sha256sum", arguments)?)?.as_bytes());
            Ok(string(
                digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            ))
        })
}

fn parse_yaml(function: &str, value: &Value) -> Result<Value, gotmpl::TemplateError> {
    let json: serde_json::Value =
        serde_saphyr::from_str(&text(function, value)?).map_err(|error| wrong(function, error))?;
    Ok(from_json(&json))
}
