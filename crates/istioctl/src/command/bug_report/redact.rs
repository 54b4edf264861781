//! Takes secrets out of what is handed on: by structure where there is one, by words in everything else.

mod addresses;
mod below;
mod cut;
mod name;
mod pairs;
mod scan;
mod words;

use serde_json::Value;

use self::name::{Name, is_public};

/// What stands in place of a secret.
pub const GONE: &str = "<removed>";

/// Written by clients, and repeats the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What only the API server needs.
const MANAGED_FIELDS: &str = "managedFields";
/// Fields that hold what a field above them is named after: `password: {inline_string: …}`, `x-api-key: {exact: …}`.
const HOLDERS: [&str; 10] = [
    "exact",
    "inlineBytes",
    "inlineString",
    "inline_bytes",
    "inline_string",
    "prefix",
    "regex",
    "string_value",
    "suffix",
    "value",
];
/// Fields that hold what the name beside them names.
const BESIDE: [&str; 5] = ["notValues", "rawValue", "raw_value", "value", "values"];
/// Fields of an object that say where a secret is or how old it gets, not what it is.
const WHEREABOUTS: [&str; 20] = [
    "@type",
    "aud",
    "audience",
    "defaultMode",
    "environmentVariable",
    "environment_variable",
    "expirationSeconds",
    "filename",
    "key",
    "kind",
    "lastUpdated",
    "last_updated",
    "name",
    "path",
    "secretName",
    "ttl",
    "typeUrl",
    "type_url",
    "versionInfo",
    "version_info",
];
/// The secret fields of a JSON Web Key, symmetric or private.
const KEY_PARTS: [&str; 7] = ["d", "dp", "dq", "k", "p", "q", "qi"];
/// Lists whose items are words of a command line.
const COMMAND_LINES: [&str; 2] = ["args", "command"];

/// What may be handed on, and how many values are missing in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted<T> {
    /// The rest.
    pub rest: T,
    /// Values that were replaced.
    pub replaced: usize,
}

/// A tree without values that may be secret, and without what only the API server needs.
pub fn tree(mut value: Value) -> Redacted<Value> {
    let mut replaced = 0;
    walk(&mut value, Above::default(), &mut replaced);
    Redacted { rest: value, replaced }
}

/// A text without private keys, tokens, passwords of addresses and credentials of requests; JSON as a tree.
pub fn text(text: &str) -> Redacted<String> {
    if let Some((found, changed)) = json(text) {
        let pretty = || serde_json::to_string_pretty(&found.rest).unwrap_or_default() + "\n";
        return Redacted {
            rest: if changed { pretty() } else { text.to_owned() },
            replaced: found.replaced,
        };
    }
    let mut replaced = 0;
    Redacted {
        rest: words::redact(text, &mut replaced),
        replaced,
    }
}

/// The tree of a JSON text, and whether anything in it was replaced or left out.
fn json(text: &str) -> Option<(Redacted<Value>, bool)> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let given: Value = serde_json::from_str(text).ok()?;
    let found = tree(given.clone());
    let changed = found.rest != given;
    Some((found, changed))
}

/// What the fields above are named after.
#[derive(Clone, Copy, Default)]
struct Above {
    /// One of them after a secret, or several.
    telling: bool,
    /// The nearest is.
    direct: bool,
}

fn walk(value: &mut Value, above: Above, replaced: &mut usize) {
    match value {
        Value::Object(fields) => {
            fields.shift_remove(LAST_APPLIED);
            fields.shift_remove(MANAGED_FIELDS);
            let is_secret = fields.get("kind").is_some_and(|kind| kind == "Secret");
            // `{name: DB_PASSWORD, value: …}`, `{key: request.headers[x-api-key], values: […]}`
            let named = ["name", "key"]
                .iter()
                .filter_map(|field| fields.get(*field)?.as_str())
                .any(|name| Name(name).mentions_secret());
            let is_key = fields.contains_key("kty");
            for (field, inner) in fields.iter_mut() {
                let holds = named && (BESIDE.contains(&field.as_str()) || is_match(field));
                let is_holder = above.telling && HOLDERS.contains(&field.as_str());
                let is_data = is_secret && matches!(field.as_str(), "data" | "stringData");
                let is_part = is_key && KEY_PARTS.contains(&field.as_str());
                if holds || is_holder || is_data || is_part {
                    remove(inner, replaced);
                } else if is_public(field) {
                    walk(inner, Above::default(), replaced);
                } else if !is_structure(inner)
                    && (Name(field).is_secret() || (above.direct && !WHEREABOUTS.contains(&field.as_str())))
                {
                    // `credentials: {user: …, pass: …}`: each for itself, so that what is beside it hides none.
                    remove(inner, replaced);
                } else {
                    if COMMAND_LINES.contains(&field.as_str()) {
                        flags(inner, replaced);
                    }
                    let direct = Name(field).has_secrets();
                    let telling = above.telling || direct;
                    walk(inner, Above { telling, direct }, replaced);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(_) if above.telling => remove(item, replaced),
                    item => walk(item, above, replaced),
                }
            }
        }
        Value::String(text) => {
            if let Some((inner, changed)) = json(text) {
                *replaced += inner.replaced;
                if changed {
                    *text = inner.rest.to_string();
                }
            } else {
                *text = words::redact(text, replaced);
            }
        }
        _ => {}
    }
}

/// What Envoy compares the header or parameter beside it with: `string_match: {exact: …}`, `exact_match: …`. What a chain of
/// filters is chosen by is no secret.
fn is_match(field: &str) -> bool {
    (field.ends_with("_match") || field.ends_with("Match"))
        && !matches!(field, "filterChainMatch" | "filter_chain_match")
}

fn is_structure(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// Removes every value below. Switches say nothing, and an empty text is no secret.
fn remove(value: &mut Value, replaced: &mut usize) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|inner| remove(inner, replaced)),
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, replaced)),
        Value::String(text) if matches!(text.as_str(), "" | "true" | "false" | GONE) => {}
        Value::String(_) | Value::Number(_) => {
            *value = GONE.into();
            *replaced += 1;
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// `--password=…`, and `--password` with what follows it.
fn flags(list: &mut Value, replaced: &mut usize) {
    let mut follows = false;
    for item in list.as_array_mut().into_iter().flatten() {
        let Some(text) = item.as_str() else { continue };
        let flag = text.strip_prefix('-').map(|flag| flag.trim_start_matches('-'));
        if follows && flag.is_none() {
            remove(item, replaced);
            follows = false;
            continue;
        }
        follows = flag.is_some_and(|flag| !flag.contains('=') && Name(flag).is_secret());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `expected` has `#` in place of what is removed.
    fn check(given: Value, expected: &Value) {
        let text = expected.to_string();
        let expected: Value = serde_json::from_str(&text.replace('#', GONE)).unwrap_or_default();
        let found = tree(given);
        assert_eq!(found.rest, expected);
        assert_eq!(found.replaced, text.matches('#').count(), "{text}");
        // A second time changes nothing.
        assert_eq!(
            tree(found.rest.clone()),
            Redacted {
                rest: found.rest,
                replaced: 0
            }
        );
    }

    #[test]
    fn values_go_by_what_they_are_named_after() {
        // Variables and headers.
        check(
            json!({"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "PORT", "value": "80"},
                {"name": "STRIPE_KEY", "value": "y"}, {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "token"}}},
                {"name": "REQUIRE_AUTHORIZATION", "value": "true"}, {"name": "DSN", "value": "postgres://app:pw@db/x"}]}),
            &json!({"env": [{"name": "DB_PASSWORD", "value": "#"}, {"name": "PORT", "value": "80"},
                {"name": "STRIPE_KEY", "value": "#"}, {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "token"}}},
                {"name": "REQUIRE_AUTHORIZATION", "value": "true"}, {"name": "DSN", "value": "postgres://#@db/x"}]}),
        );
        check(
            json!({"request_headers_to_add": [{"header": {"key": "x-api-key", "value": "x"}}],
                "match": [{"headers": {"authorization": {"exact": "x"}, "x-user": {"exact": "y"}}}],
                "when": [{"key": "request.headers[x-token]", "values": ["a", "b"]}, {"key": "source.ip", "values": ["10.0.0.1"]}]}),
            &json!({"request_headers_to_add": [{"header": {"key": "x-api-key", "value": "#"}}],
                "match": [{"headers": {"authorization": {"exact": "#"}, "x-user": {"exact": "y"}}}],
                "when": [{"key": "request.headers[x-token]", "values": ["#", "#"]}, {"key": "source.ip", "values": ["10.0.0.1"]}]}),
        );
        // What Envoy makes of them, and how it chooses a chain of filters.
        check(
            json!({"headers": [{"name": "x-api-key", "string_match": {"exact": "x", "ignore_case": true}},
                    {"name": "x-token", "exact_match": "x"}, {"name": "cookie", "safe_regex_match": {"regex": "x"}},
                    {"name": "authorization", "present_match": true}, {"name": ":path", "stringMatch": {"prefix": "/a"}}],
                "query_parameters": [{"name": "token", "stringMatch": {"safeRegex": {"regex": "x"}}}],
                "append": [{"header": {"key": "x-token", "raw_value": "eA=="}}],
                "chain": {"name": "token", "filter_chain_match": {"transport_protocol": "tls"}, "match": {"prefix": "/"}}}),
            &json!({"headers": [{"name": "x-api-key", "string_match": {"exact": "#", "ignore_case": true}},
                    {"name": "x-token", "exact_match": "#"}, {"name": "cookie", "safe_regex_match": {"regex": "#"}},
                    {"name": "authorization", "present_match": true}, {"name": ":path", "stringMatch": {"prefix": "/a"}}],
                "query_parameters": [{"name": "token", "stringMatch": {"safeRegex": {"regex": "#"}}}],
                "append": [{"header": {"key": "x-token", "raw_value": "#"}}],
                "chain": {"name": "token", "filter_chain_match": {"transport_protocol": "tls"}, "match": {"prefix": "/"}}}),
        );
        // Maps of secrets, and what says where one is.
        check(
            json!({"credentials": {"user": "a", "pass": "b"}, "secrets": {"db": "x"}, "dbPass": "x", "smtpPwd": "x",
                "sds": {"token": {"aud": "ca"}},
                "volumes": [{"secret": {"secretName": "a", "defaultMode": 420}}, {"serviceAccountToken": {"path": "t", "audience": "b"}}],
                "private_key": {"filename": "/etc/key.pem"}, "httpCookie": {"name": "user", "ttl": "0s"},
                "sds_secret": {"sds_config": {"ads": {}, "resource_api_version": "V3"}},
                "jwks": "{\"keys\":[{\"kty\":\"oct\",\"k\":\"eA\"},{\"kty\":\"RSA\",\"n\":\"eA\",\"e\":\"AQAB\"}]}"}),
            &json!({"credentials": {"user": "#", "pass": "#"}, "secrets": {"db": "#"}, "dbPass": "#", "smtpPwd": "#",
                "sds": {"token": {"aud": "ca"}},
                "volumes": [{"secret": {"secretName": "a", "defaultMode": 420}}, {"serviceAccountToken": {"path": "t", "audience": "b"}}],
                "private_key": {"filename": "/etc/key.pem"}, "httpCookie": {"name": "user", "ttl": "0s"},
                "sds_secret": {"sds_config": {"ads": {}, "resource_api_version": "V3"}},
                "jwks": "{\"keys\":[{\"kty\":\"oct\",\"k\":\"#\"},{\"kty\":\"RSA\",\"n\":\"eA\",\"e\":\"AQAB\"}]}"}),
        );
        // What is beside a text does not hide it, nor does a list.
        check(
            json!({"credentials": {"user": "a", "pass": "b", "pin": 1, "tls": {}, "opts": {"mode": "c"}}, "credential": {"name": "a", "pass": "b"},
                "secrets": [{"name": "a"}, {"user": "a", "pass": "b"}], "dynamic_active_secrets": [{"name": "a", "version_info": "1", "last_updated": "now"}]}),
            &json!({"credentials": {"user": "#", "pass": "#", "pin": "#", "tls": {}, "opts": {"mode": "c"}}, "credential": {"name": "a", "pass": "#"},
                "secrets": [{"name": "a"}, {"user": "#", "pass": "#"}], "dynamic_active_secrets": [{"name": "a", "version_info": "1", "last_updated": "now"}]}),
        );
        // Command lines.
        check(
            json!({"args": ["--password=x", "--db-password", "y", "--token-file", "/a", "proxy"],
                "command": ["sh", "-c", "PGPASSWORD=x psql -h db"]}),
            &json!({"args": ["--password=#", "--db-password", "#", "--token-file", "/a", "proxy"],
                "command": ["sh", "-c", "PGPASSWORD=# psql -h db"]}),
        );
        // Filters.
        check(
            json!({"typed_config": {"redis": {"auth_password": {"inline_string": "x"}, "username": "app"}, "apiKey": "y",
                "hmac_secret": {"name": "hmac", "sds_config": {}}, "credentials": {"token_secret": {"inlineBytes": "eA=="}},
                "passwords": [{"inline_string": "x"}], "tokens": ["y"], "max_tokens": 9, "body": {"inline_string": "hello"}, "secretName": "a", "credentialName": "b"}}),
            &json!({"typed_config": {"redis": {"auth_password": {"inline_string": "#"}, "username": "app"}, "apiKey": "#",
                "hmac_secret": {"name": "hmac", "sds_config": {}}, "credentials": {"token_secret": {"inlineBytes": "#"}},
                "passwords": [{"inline_string": "#"}], "tokens": ["#"], "max_tokens": 9, "body": {"inline_string": "hello"}, "secretName": "a", "credentialName": "b"}}),
        );
        // What Envoy has of a secret; certificates are public.
        check(
            json!({"secret": {"name": "default", "tls_certificate": {"certificate_chain": {"inline_bytes": "Yw=="},
                "private_key": {"inline_bytes": "eA=="}}}}),
            &json!({"secret": {"name": "default", "tls_certificate": {"certificate_chain": {"inline_bytes": "Yw=="},
                "private_key": {"inline_bytes": "#"}}}}),
        );
    }

    #[test]
    fn what_repeats_an_object_is_no_way_around() {
        let inner = json!({"spec": {"password": "x", "host": "a"}}).to_string();
        let cleaned = json!({"spec": {"password": "#", "host": "a"}}).to_string();
        check(
            json!({"metadata": {"managedFields": [1], "annotations": {LAST_APPLIED: "{}", "tool/last": inner, "a/api-key": "x", "b": "c"}},
                "spec": {"template": {"metadata": {"annotations": {LAST_APPLIED: "{}"}}}}}),
            &json!({"metadata": {"annotations": {"tool/last": cleaned, "a/api-key": "#", "b": "c"}},
                "spec": {"template": {"metadata": {"annotations": {}}}}}),
        );
        check(
            json!({"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "x"}, "type": "Opaque"}),
            &json!({"kind": "Secret", "data": {"a": "#"}, "stringData": {"b": "#"}, "type": "Opaque"}),
        );
        // What an object has no longer may stand in what was applied last.
        let dropped =
            json!({"metadata": {"annotations": {LAST_APPLIED: "{\"spec\":{\"password\":\"x\"}}"}}}).to_string();
        let left = json!({"metadata": {"annotations": {}}});
        assert_eq!(
            json(&text(&dropped).rest).map(|(found, _)| found.rest),
            Some(left.clone())
        );
        check(
            json!({"data": {"a": dropped}}),
            &json!({"data": {"a": left.to_string()}}),
        );
        let key = "-----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY-----\n";
        check(
            json!({"kind": "ConfigMap", "data": {"tls.pem": format!("before\n{key}"), "app.properties": "db.password=x\nport=80\n",
                "app.yaml": "db:\n  password: x\n  host: a\n"}}),
            &json!({"kind": "ConfigMap", "data": {"tls.pem": "before\n#\n", "app.properties": "db.password=#\nport=80\n",
                "app.yaml": "db:\n  password: #\n  host: a\n"}}),
        );
    }

    #[test]
    fn a_page_is_a_tree_if_it_is_json() {
        let found = text("{\"password\": \"x\"}");
        assert_eq!(found.rest, "{\n  \"password\": \"<removed>\"\n}\n");
        let untouched = "{\"a\":  1}";
        assert_eq!(text(untouched).rest, untouched);
        let log = "{\"level\":\"info\",\"token\":\"x\"}\n{\"level\":\"info\"}\n";
        assert_eq!(
            text(log).rest,
            "{\"level\":\"info\",\"token\":\"<removed>\"}\n{\"level\":\"info\"}\n"
        );
    }
}
