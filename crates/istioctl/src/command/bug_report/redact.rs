//! Takes secrets out of what is handed on.

use serde_json::Value;

/// What stands in place of a secret.
const GONE: &str = "<removed>";
/// Words in the name of a variable or argument whose value is nobody's business.
const TELLING: [&str; 8] = [
    "PASSWORD",
    "PASSWD",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "PRIVATE",
];

/// An object without values that may be secret, and without what only the API server needs.
pub fn object(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    environment(&mut object);
    object
}

/// `{name: DB_PASSWORD, value: …}` wherever it stands.
fn environment(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(environment),
        Value::Object(fields) => {
            let telling = fields.get("name").and_then(Value::as_str).is_some_and(is_telling);
            if telling && fields.get("value").is_some_and(Value::is_string) {
                fields.insert("value".to_owned(), GONE.into());
            }
            fields.values_mut().for_each(environment);
        }
        _ => {}
    }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TELLING.iter().any(|word| name.contains(word))
}

/// Text without private keys, tokens and credentials of requests.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        // Keys span lines in files, and stand in one line in JSON.
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----") {
            in_key = !line.contains("-----END");
            out.push_str(GONE);
            out.push('\n');
        } else if in_key {
            in_key = !line.contains("-----END");
        } else {
            words(line, &mut out);
        }
    }
    out
}

/// Copies a line, but tokens: `eyJ….….…`, and what follows `Bearer` or `Basic`.
fn words(line: &str, out: &mut String) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/');
    let mut rest = line;
    let mut follows = false;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let is_token = word.starts_with("eyJ") && word.matches('.').count() == 2 && word.len() > 40;
        out.push_str(if is_token || (follows && word.len() > 7) {
            GONE
        } else {
            word
        });
        let gap = tail.find(is_word).unwrap_or(tail.len());
        out.push_str(&tail[..gap]);
        rest = &tail[gap..];
        if !word.is_empty() {
            follows = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_taken_out() {
        let token = format!("eyJ{}.{}.{}", "a".repeat(20), "b".repeat(20), "c".repeat(20));
        for (given, expected) in [
            (
                "plain text, 10.0.0.1:80\n".to_owned(),
                "plain text, 10.0.0.1:80\n".to_owned(),
            ),
            (format!("token={token} end\n"), "token=<removed> end\n".to_owned()),
            (format!("a \"{token}\"\n"), "a \"<removed>\"\n".to_owned()),
            (
                "authorization: Bearer abcdefgh12\n".to_owned(),
                "authorization: Bearer <removed>\n".to_owned(),
            ),
            (
                "before\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nafter\n".to_owned(),
                "before\n<removed>\nafter\n".to_owned(),
            ),
            (
                "{\"k\": \"-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----\"}\nafter\n".to_owned(),
                "<removed>\nafter\n".to_owned(),
            ),
        ] {
            assert_eq!(text(&given), expected);
        }
    }

    #[test]
    fn variables_that_sound_secret_lose_their_value() {
        let pod = json!({"metadata": {"managedFields": [], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
            "spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "PORT", "value": "80"},
                {"name": "API_TOKEN", "valueFrom": {}}]}]}});
        assert_eq!(
            object(pod),
            json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": "<removed>"},
                {"name": "PORT", "value": "80"}, {"name": "API_TOKEN", "valueFrom": {}}]}]}})
        );
    }
}
