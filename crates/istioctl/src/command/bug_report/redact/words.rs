//! Secrets in running text: logs, pages, values of fields. Each kind is taken out for itself, one after the other.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::GONE;
use super::name::Name;

/// Fields that hold a text or a secret, in messages that quote a filter.
const HOLDERS_IN_TEXT: [&str; 4] = ["inlineBytes", "inlineString", "inline_bytes", "inline_string"];

/// A text without what looks like a secret; what was replaced is counted.
pub fn redact(text: &str, replaced: &mut usize) -> String {
    let text = keys(text, replaced);
    let text = addresses(&text, replaced);
    let text = assignments(&text, replaced);
    words(&text, replaced)
}

/// Private keys, however many lines they span.
fn keys<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    const BEGIN: &str = "-----BEGIN ";
    if !text.contains(BEGIN) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let head = block[BEGIN.len()..]
            .find("-----")
            .map_or("", |end| &block[BEGIN.len()..BEGIN.len() + end]);
        if !head.ends_with("PRIVATE KEY") {
            let (kept, after) = rest.split_at(start + BEGIN.len());
            out.push_str(kept);
            rest = after;
            continue;
        }
        out.push_str(&rest[..start]);
        out.push_str(GONE);
        *replaced += 1;
        let end = format!("-----END {head}-----");
        // One that was cut off is one, too.
        rest = block.find(&end).map_or("", |at| &block[at + end.len()..]);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `scheme://user:password@host`.
fn addresses<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    if !text.contains("://") || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + "://".len());
        out.push_str(before);
        let whole = after
            .find(|c: char| c.is_whitespace() || "\"'`<>\\".contains(c))
            .unwrap_or(after.len());
        let authority = after[..whole].find(['/', '?', '#']).unwrap_or(whole);
        // A password may have a slash that nobody escaped; a port is a number.
        let is_odd = after[..authority].split_once(':').is_some_and(|(host, port)| {
            !host.starts_with('[') && !host.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let user = after[..authority]
            .rfind('@')
            .or_else(|| after[..whole].rfind('@').filter(|_| is_odd))
            .unwrap_or(0);
        if user > 0 && &after[..user] != GONE {
            out.push_str(GONE);
            *replaced += 1;
        } else {
            out.push_str(&after[..user]);
        }
        rest = &after[user..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `password=…`, `"password": "…"`, and `password: …` where that is a line of its own.
fn assignments<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::new();
    let mut done = 0;
    for (at, sign) in text.match_indices(['=', ':']) {
        if at < done {
            continue;
        }
        let quoted = text[..at].trim_end_matches(['"', '\'', '\\']);
        let start = quoted
            .rfind(|c| !is_name(c))
            .map_or(0, |last| last + last_len(quoted, last));
        let name = &quoted[start..];
        let shouts = name.chars().all(|c| !c.is_ascii_lowercase());
        // In a message of Envoy nobody sees what is around it.
        let is_inline = HOLDERS_IN_TEXT.contains(&name);
        if !(is_inline || Name(name).is_secret() || (shouts && sign == "=" && Name(name).mentions_secret())) {
            continue;
        }
        let after = &text[at + 1..];
        let gap = after.len() - after.trim_start_matches([' ', '\t']).len();
        let value = &after[gap..];
        let mark: String = value
            .chars()
            .take_while(|c| matches!(c, '"' | '\'' | '\\'))
            .take(2)
            .collect();
        let mark = if mark.starts_with('\\') {
            mark.as_str()
        } else {
            mark.get(..1).unwrap_or("")
        };
        let line = text[..start].rsplit('\n').next().unwrap_or_default();
        let alone = line.trim_start_matches([' ', '-']).is_empty();
        let length = if !mark.is_empty() {
            value[mark.len()..].find(mark).unwrap_or(value.len() - mark.len())
        } else if sign == "=" && gap == 0 {
            value
                .find(|c: char| c.is_whitespace() || "&;,\"'`)]}".contains(c))
                .unwrap_or(value.len())
        } else if alone {
            value.find(['\n', '\r']).unwrap_or(value.len())
        } else {
            continue;
        };
        let secret = &value[mark.len()..mark.len() + length];
        if matches!(secret, "" | "true" | "false" | "|" | ">" | GONE) || secret.starts_with(['{', '[', '=']) {
            continue;
        }
        let from = at + 1 + gap + mark.len();
        out.push_str(&text[done..from]);
        out.push_str(GONE);
        *replaced += 1;
        done = from + length;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// Bytes of the character at a place.
fn last_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}

/// Tokens (`eyJ….….…`), keys in base64, and what follows `Bearer` or `Basic`.
fn words(text: &str, replaced: &mut usize) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut follows = false;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let is_token = word.starts_with("eyJ") && word.matches('.').count() == 2 && word.len() > 40;
        if is_token || (follows && word.len() > 7) || is_key(word) {
            out.push_str(GONE);
            *replaced += 1;
        } else {
            out.push_str(word);
        }
        let gap = tail.find(is_word).unwrap_or(tail.len());
        out.push_str(&tail[..gap]);
        rest = &tail[gap..];
        if !word.is_empty() {
            // `<removed>` is no word that something follows.
            let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
            follows = is_scheme && !tail[..gap].contains('<');
        }
    }
    out
}

/// A private key in base64, which is how Kubernetes shows one.
fn is_key(word: &str) -> bool {
    const BEGINS: &str = "LS0tLS1CRUdJTi";
    // Enough for the line that says what it is.
    const HEAD: usize = 64;
    word.starts_with(BEGINS)
        && word.get(..HEAD).is_some_and(|head| {
            BASE64
                .decode(head)
                .is_ok_and(|head| String::from_utf8_lossy(&head).contains("PRIVATE KEY-----"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: &str) {
        let mut replaced = 0;
        assert_eq!(redact(given, &mut replaced), expected.replace('#', GONE), "{given}");
        assert_eq!(replaced, expected.matches('#').count(), "{given}");
    }

    #[test]
    fn secrets_are_taken_out() {
        let token = format!("eyJ{}.{}.{}", "a".repeat(20), "b".repeat(20), "c".repeat(20));
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIabcdefghijklmnopqrstuvwxyz\n-----END RSA PRIVATE KEY-----";
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIabcdefghijklmnopqrstuvwxyz\n-----END CERTIFICATE-----";
        check("plain text, 10.0.0.1:80\n", "plain text, 10.0.0.1:80\n");
        check(&format!("a \"{token}\"\n"), "a \"#\"\n");
        check(&format!("authorization: Bearer {token}"), "authorization: #");
        check("sent Bearer abcdefgh12 to it\n", "sent Bearer # to it\n");
        check(&format!("before\n{pem}\nafter\n"), "before\n#\nafter\n");
        check(&format!("x: |\n  {certificate}\n"), &format!("x: |\n  {certificate}\n"));
        check("cut -----BEGIN PRIVATE KEY-----\nMII", "cut #");
        check(
            "\"-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----\"",
            "\"#\"",
        );
        check(&format!("key: {} end", BASE64.encode(pem)), "key: #== end");
        let public = BASE64.encode(certificate);
        check(&public, &public);
        for (given, expected) in [
            ("https://user:pw@host/a?b=c", "https://#@host/a?b=c"),
            ("redis://:pw@cache:6379", "redis://#@cache:6379"),
            ("postgres://u:p/w@db/x", "postgres://#@db/x"),
            (
                "http://host:80/~user@x spiffe://cluster.local/ns/a",
                "http://host:80/~user@x spiffe://cluster.local/ns/a",
            ),
            ("a=1 https://tok@git and mail@host", "a=1 https://#@git and mail@host"),
            ("?api_key=abc&page=2", "?api_key=#&page=2"),
            ("password='a b' next", "password='#' next"),
            ("host=db password=x port=1", "host=db password=# port=1"),
            (
                "{\"client_secret\": \"x\", \"a\": 1}",
                "{\"client_secret\": \"#\", \"a\": 1}",
            ),
            ("{\\\"token\\\":\\\"x\\\"}", "{\\\"token\\\":\\\"#\\\"}"),
            ("password: x\n  - token: \"y\"\n", "password: #\n  - token: \"#\"\n"),
            (
                "failed to get token: connection refused",
                "failed to get token: connection refused",
            ),
            ("SECRET_KEY_BASE=x secretName=y", "SECRET_KEY_BASE=# secretName=y"),
            (
                "rejected: {\\n  inline_string: \\\"a b\\\"\\n}",
                "rejected: {\\n  inline_string: \\\"#\\\"\\n}",
            ),
            (
                "17:40 inline_bytes: \"eA==\"\n17:41 }",
                "17:40 inline_bytes: \"#\"\n17:41 }",
            ),
            ("if password == \"\" {", "if password == \"\" {"),
            ("ünïcode token=x ü", "ünïcode token=# ü"),
        ] {
            check(given, expected);
        }
    }
}
