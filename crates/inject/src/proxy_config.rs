//! A pod's own proxy configuration, annotation `proxy.istio.io/config`: is it what [`api::proxy_config`] says?
//!
//! As in Istio, a value of the wrong type refuses the pod, and a field that does not exist is ignored. It is not ignored
//! silently: whoever mistyped a name is told. Both of protobuf's spellings are read, `drainDuration` and `drain_duration`.

use std::collections::BTreeSet;

use api::nearest::nearest;
use api::proxy_config::Holds::{
    self, Address, Anything, Duration, Fields, Flag, List, OneOf, Port, Text, Texts, Whole,
};
use api::proxy_config::{FIELDS, whole};
use serde_json::Value;

/// Bytes of all annotations of an object that the API server takes, which it counts only after injection.
const LARGEST: usize = 256 << 10;
/// Fields that are told of: an answer has an end, however many of them there are.
const MOST: usize = 10;
/// Letters of a name or value that are repeated to whoever wrote it.
const SHOWN: usize = 64;

/// Reads the annotation: fields have the names that the rest of the program knows, and whole numbers are written as such.
///
/// # Errors
/// It is no YAML.
pub fn read(text: &str) -> Result<Value, String> {
    let mut config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Some(fields) = config.as_object_mut() else {
        return Ok(config);
    };
    respell(fields, FIELDS.iter().map(|(field, _)| *field));
    for (name, holds) in FIELDS {
        match (holds, fields.get_mut(*name)) {
            (Fields(known), Some(Value::Object(inner))) => respell(inner, known.iter().copied()),
            (Whole | Port, Some(value)) if value.is_f64() => {
                if let Some(number) = whole(value) {
                    *value = number.into();
                }
            }
            _ => {}
        }
    }
    Ok(config)
}

/// Names known fields that are spelled with underscores as they are known.
fn respell(fields: &mut serde_json::Map<String, Value>, known: impl Iterator<Item = &'static str>) {
    let known: BTreeSet<&str> = known.collect();
    let spelled: Vec<(String, String)> = fields
        .keys()
        .filter(|name| name.contains('_'))
        .map(|name| (name.clone(), camel(name)))
        .filter(|(_, camel)| known.contains(camel.as_str()) && !fields.contains_key(camel))
        .collect();
    for (name, camel) in spelled {
        if let Some(value) = fields.remove(&name) {
            fields.insert(camel, value);
        }
    }
}

/// `drainDuration` of `drain_duration`.
fn camel(name: &str) -> String {
    name.split('_').enumerate().fold(String::new(), |text, (index, part)| {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if index > 0 => text + &first.to_uppercase().collect::<String>() + letters.as_str(),
            _ => text + part,
        }
    })
}

/// Values that nobody could use.
///
/// # Errors
/// The first of them, with its field.
pub fn validate(text: &str) -> Result<(), String> {
    if text.len() > LARGEST {
        return Err(format!(
            "it has {} bytes, and all annotations of an object may have {LARGEST}",
            text.len()
        ));
    }
    let config = read(text)?;
    if config.is_null() {
        return Ok(());
    }
    let fields = config.as_object().ok_or("a mapping is expected")?;
    for (name, holds) in FIELDS {
        let Some(value) = fields.get(*name).filter(|value| !value.is_null()) else {
            continue;
        };
        fit(*holds, value).map_err(|wants| format!("{name}: wants {wants}, has {}", shown(&value.to_string())))?;
    }
    Ok(())
}

/// Fields that do not exist, each in a sentence with the one that was probably meant, and in a last one how many more
/// there are. The text is one that [`validate`] takes.
pub fn unknown(text: &str) -> Vec<String> {
    let config = read(text).unwrap_or_default();
    let mut found = Vec::new();
    let mut more = 0_usize;
    let mut tell = |sentence: &dyn Fn() -> String| {
        if found.len() < MOST {
            found.push(sentence());
        } else {
            more += 1;
        }
    };
    for (name, value) in config.as_object().into_iter().flatten() {
        match FIELDS.iter().find(|(field, _)| field == name) {
            None => tell(&|| sentence("", name, FIELDS.iter().map(|(field, _)| *field))),
            Some((_, Fields(known))) => {
                let inner = value.as_object().into_iter().flat_map(|fields| fields.keys());
                for field in inner.filter(|field| !known.contains(&field.as_str())) {
                    tell(&|| sentence(&format!("{name}."), field, known.iter().copied()));
                }
            }
            Some(_) => {}
        }
    }
    if more > 0 {
        found.push(format!("… and {more} more"));
    }
    found
}

fn sentence<'a>(path: &str, field: &str, known: impl Iterator<Item = &'a str>) -> String {
    if field.chars().nth(SHOWN).is_some() {
        return format!("unknown field {path}{} is ignored", shown(field));
    }
    let hint = nearest(&camel(field), known).map(|name| format!(" (did you mean {path}{name}?)"));
    format!("unknown field {path}{field} is ignored{}", hint.unwrap_or_default())
}

/// The beginning of a text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What belongs there, if this does not.
fn fit(holds: Holds, value: &Value) -> Result<(), String> {
    let wants = |fits: bool, what: &str| if fits { Ok(()) } else { Err(what.to_owned()) };
    match holds {
        Anything => Ok(()),
        Text => wants(value.is_string(), "text"),
        Whole => wants(whole(value).is_some(), "a whole number"),
        Port => wants(
            whole(value).is_some_and(|port| (1..=65535).contains(&port)),
            "a port between 1 and 65535",
        ),
        Flag => wants(value.is_boolean(), "true or false"),
        Duration => wants(
            value
                .as_str()
                .is_some_and(|text| text.parse::<api::lenient::Duration>().is_ok()),
            "a duration with its unit, for example 5s",
        ),
        Address => {
            let port = value.as_str().and_then(|text| text.rsplit_once(':'));
            let fits = port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
            wants(fits || value == "", "an address with its port, for example host:15012")
        }
        OneOf(choices) => wants(
            value.as_str().is_some_and(|text| choices.contains(&text)) || value.is_number(),
            &format!("one of {}", choices.join(", ")),
        ),
        Texts => {
            let fields = value.as_object();
            let fits = fields.is_some_and(|fields| fields.values().all(Value::is_string));
            wants(fits, "a map of texts (put numbers, true and false into quotes)")
        }
        List => wants(value.is_array(), "a list"),
        Fields(_) => wants(value.is_object(), "a map"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, refused: Option<&str>, ignored: &[&str]) {
        assert_eq!(validate(text).err().as_deref(), refused, "{text}");
        assert_eq!(unknown(text), ignored, "{text}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_what_is_not_known_is_told() {
        check("", None, &[]);
        check("concurrency: 2\nproxyMetadata: {A: b}\ndrainDuration: 1m30s", None, &[]);
        check(
            "{\"concurrency\": \"2\", \"image\": {\"imageType\": \"debug\"}}",
            None,
            &[],
        );
        check("nonsense", Some("a mapping is expected"), &[]);
        check(
            "concurrency: lots",
            Some("concurrency: wants a whole number, has \"lots\""),
            &[],
        );
        check(
            "proxyMetadata: {ISTIO_META_DNS_CAPTURE: true}",
            Some(
                "proxyMetadata: wants a map of texts (put numbers, true and false into quotes), has {\"ISTIO_META_DNS_CAPTURE\":true}",
            ),
            &[],
        );
        check(
            "statusPort: 0",
            Some("statusPort: wants a port between 1 and 65535, has 0"),
            &[],
        );
        check(
            "discoveryAddress: istiod",
            Some("discoveryAddress: wants an address with its port, for example host:15012, has \"istiod\""),
            &[],
        );
        check("extraStatTags: a", Some("extraStatTags: wants a list, has \"a\""), &[]);
        check(
            "drainDuration: 5",
            Some("drainDuration: wants a duration with its unit, for example 5s, has 5"),
            &[],
        );
        check(
            "interceptionMode: tproxy",
            Some("interceptionMode: wants one of REDIRECT, TPROXY, NONE, has \"tproxy\""),
            &[],
        );
        check(
            "concurency: 2\nhold_application_until_proxy_start: true\nimage: {type: debug}\nfoo: 1",
            None,
            &[
                "unknown field concurency is ignored (did you mean concurrency?)",
                "unknown field hold_application_until_proxy_start is ignored (did you mean holdApplicationUntilProxyStarts?)",
                "unknown field image.type is ignored",
                "unknown field foo is ignored",
            ],
        );
    }

    #[test]
    fn both_spellings_and_all_whole_numbers_are_read() {
        let text = "hold_application_until_proxy_starts: true\nconcurrency: 2.0\nimage: {image_type: debug}\n\
                    gateway_topology: {num_trusted_proxies: 1}\nproxyMetadata: {a_b: c}\nmesh_id: old\nmeshId: new";
        check(text, None, &["unknown field mesh_id is ignored (did you mean meshId?)"]);
        assert_eq!(
            read(text),
            Ok(
                serde_json::json!({"holdApplicationUntilProxyStarts": true, "concurrency": 2, "image": {"imageType": "debug"},
                "gatewayTopology": {"numTrustedProxies": 1}, "proxyMetadata": {"a_b": "c"}, "mesh_id": "old", "meshId": "new"})
            )
        );
        check(
            "concurrency: 2.5",
            Some("concurrency: wants a whole number, has 2.5"),
            &[],
        );
        check(
            "status_port: 0",
            Some("statusPort: wants a port between 1 and 65535, has 0"),
            &[],
        );
    }

    #[test]
    fn what_is_told_has_an_end() {
        let odd: String = (0..12).map(|number| format!("f{number:02}: 1\n")).collect();
        let told = unknown(&odd);
        assert_eq!(told.len(), 11);
        assert_eq!(told[9..], ["unknown field f09 is ignored", "… and 2 more"]);
        let (long, start) = ("é".repeat(99), "é".repeat(64));
        check(
            &format!("{long}: 1\nimage: {{{long}: 1}}"),
            None,
            &[
                &format!("unknown field {start}… is ignored"),
                &format!("unknown field image.{start}… is ignored"),
            ],
        );
        let wants = format!("concurrency: wants a whole number, has \"{}…", &start[2..]);
        check(&format!("concurrency: {long}"), Some(wants.as_str()), &[]);
        let refused = "it has 262145 bytes, and all annotations of an object may have 262144";
        assert_eq!(validate(&"#".repeat((256 << 10) + 1)), Err(refused.to_owned()));
        assert_eq!(validate(&"#".repeat(256 << 10)), Ok(()));
    }
}
