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
    let text = sockets(&text, replaced);
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

/// `user:password@tcp(host:port)/base`, as drivers of MySQL take it.
fn sockets<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices('@') {
        if !["@tcp(", "@unix("].iter().any(|sign| text[at..].starts_with(sign)) {
            continue;
        }
        let before = &text[done..at];
        let start = before
            .rfind(|c: char| c.is_whitespace() || "\"'`<>\\".contains(c))
            .map_or(0, |last| last + last_len(before, last));
        let word = &before[start..];
        let Some(colon) = word.find(':') else { continue };
        let from = done + start + word[..colon].rfind('=').map_or(0, |sign| sign + 1);
        out.push_str(&text[done..from]);
        out.push_str(GONE);
        *replaced += 1;
        done = at;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// `password=…`, `password = …`, `"password": "…"`, `password: …` where that is a line of its own, `{password: …}` and
/// `map[password:…]`.
fn assignments<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let mut out = String::new();
    let mut done = 0;
    for (at, sign) in text.match_indices(['=', ':']) {
        if at < done {
            continue;
        }
        // `:=` is a sign, too.
        let is_gap = |c: char| matches!(c, ' ' | '\t') || (sign == "=" && c == ':');
        let before = text[..at].trim_end_matches(is_gap);
        let is_spaced = before.len() < at;
        let quoted = before.trim_end_matches(['"', '\'', '\\']);
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
        let line = text[..start].rsplit('\n').next().unwrap_or_default();
        let Some((skipped, length)) = extent(line, sign, is_spaced, gap, value) else {
            continue;
        };
        let secret = &value[skipped..skipped + length];
        if matches!(secret, "" | "true" | "false" | "null" | "nil" | ">" | GONE) {
            continue;
        }
        // What begins so without quotes is a structure, a comparison or the head of a block that is empty.
        let is_bare = skipped == 0;
        if is_bare && (secret.starts_with(['{', '[', '=']) || (sign == ":" && secret.starts_with(['|', '>']))) {
            continue;
        }
        let from = at + 1 + gap + skipped;
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

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where in `value` the secret begins, and how long it is. `line` is what stands before the name.
fn extent(line: &str, sign: &str, is_spaced: bool, gap: usize, value: &str) -> Option<(usize, usize)> {
    let is_alone = without_time(line).trim_start_matches([' ', '\t', '-']).is_empty();
    let slashes = value.len() - value.trim_start_matches('\\').len();
    let quote = value.as_bytes().get(slashes).copied();
    if let Some(quote @ (b'"' | b'\'')) = quote {
        let inner = &value[slashes + 1..];
        let length = quoted_len(inner, slashes, quote).unwrap_or_else(|| line_len(inner));
        return Some((slashes + 1, length));
    }
    if is_alone && sign == ":" {
        return block(value, line.len()).or_else(|| Some((0, line_len(value))));
    }
    if sign == "=" && (gap == 0 || (is_spaced && !is_alone)) {
        return Some((0, word_len(value)));
    }
    if is_alone {
        return Some((0, line_len(value)));
    }
    let place = if sign == ":" { open_bracket(line) } else { None };
    let before = line.trim_end_matches([' ', '"', '\'']);
    let end = match place? {
        b'{' if gap > 0 && before.ends_with(['{', ',']) => value.find([',', '}', '"', '\n', '\r']),
        b'{' | b'[' if gap == 0 => value.find(|c: char| c.is_whitespace() || ",]}\"'".contains(c)),
        _ => return None,
    };
    Some((0, end.unwrap_or(value.len())))
}

/// The beginning of a line without the time that Kubernetes puts before each line of a log.
fn without_time(line: &str) -> &str {
    let is_time = |word: &str| {
        let mut bytes = word.bytes();
        word.len() > 18 && word.contains('T') && bytes.all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte))
    };
    match line.split_once(' ') {
        Some((word, rest)) if is_time(word) => rest,
        _ => line,
    }
}

/// Up to the quote that closes a text. A text that is itself part of one has backslashes before its quotes (`slashes`);
/// more of them, and the quote is part of the text.
fn quoted_len(text: &str, slashes: usize, quote: u8) -> Option<usize> {
    let mut run = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte == quote && run % (2 * (slashes + 1)) == slashes {
            return Some(at - slashes);
        }
        run = if byte == b'\\' { run + 1 } else { 0 };
    }
    None
}

fn line_len(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// A word with everything in it, up to what looks like the next assignment: `&page=2`.
fn word_len(text: &str) -> usize {
    let end = text
        .find(|c: char| c.is_whitespace() || "\"'`".contains(c))
        .unwrap_or(text.len());
    let word = &text[..end];
    let is_assignment = |rest: &str| {
        let after = rest.trim_start_matches(is_name);
        after.len() < rest.len() && after.starts_with('=')
    };
    let mut signs = word.match_indices(['&', ';', ',']).map(|(at, _)| at);
    let cut = signs.find(|at| is_assignment(&word[at + 1..])).unwrap_or(end);
    word[..cut].trim_end_matches([')', ']', '}', '&', ';', ',']).len()
}

/// The content of a block of YAML (`|`, `>-`), whose lines stand deeper than `column`.
fn block(value: &str, column: usize) -> Option<(usize, usize)> {
    let (head, below) = value.split_once('\n')?;
    let marks = head.strip_prefix(['|', '>'])?.split('#').next().unwrap_or_default();
    let is_mark = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-');
    if !marks.trim_end().bytes().all(is_mark) {
        return None;
    }
    let is_deeper = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start_matches(' ').len() > column;
    let lines = below.split_inclusive('\n').take_while(is_deeper);
    let content = below[..lines.map(str::len).sum::<usize>()].trim_end();
    let indent = content.len() - content.trim_start().len();
    Some((head.len() + 1 + indent, content.len() - indent))
}

/// The bracket that is open at the end, if it is not far.
fn open_bracket(line: &str) -> Option<u8> {
    const FAR: usize = 512;
    let mut closed = 0;
    for byte in line.bytes().rev().take(FAR) {
        match byte {
            b']' | b'}' | b')' => closed += 1,
            b'[' | b'{' | b'(' if closed > 0 => closed -= 1,
            b'[' | b'{' | b'(' => return Some(byte),
            _ => {}
        }
    }
    None
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
            // Blanks around the sign: files of settings, and Lua.
            ("password = x y\nport = 1\n", "password = #\nport = 1\n"),
            ("password : x\n", "password : #\n"),
            ("local api_key = \"x\" -- y", "local api_key = \"#\" -- y"),
            ("set token = x; port = 1", "set token = #; port = 1"),
            ("token := x", "token := #"),
            (
                "if token == nil or token ~= other then",
                "if token == nil or token ~= other then",
            ),
            // Lines of logs.
            (
                "2026-11-26T19:00:00.123456789Z password: x y\n2026-11-26T19:00:01Z a token: refused\n",
                "2026-11-26T19:00:00.123456789Z password: #\n2026-11-26T19:00:01Z a token: refused\n",
            ),
            (
                "got map[password:x user:y token:z]",
                "got map[password:# user:y token:#]",
            ),
            ("got {User:y Password:x Port:80}", "got {User:y Password:# Port:80}"),
            ("db: {password: x y, host: a}", "db: {password: #, host: a}"),
            ("db: {host: a, password: x}", "db: {host: a, password: #}"),
            (
                "{\"msg\":\"no token: refused\",\"token\":null}",
                "{\"msg\":\"no token: refused\",\"token\":null}",
            ),
            // Quotes in a quoted text.
            (
                "{\"password\": \"a\\\"b\", \"c\": 1}",
                "{\"password\": \"#\", \"c\": 1}",
            ),
            ("{\"password\": \"a\\\\\", \"c\": 1}", "{\"password\": \"#\", \"c\": 1}"),
            (
                "{\\\"token\\\":\\\"a\\\\\\\"b\\\",\\\"c\\\":1}",
                "{\\\"token\\\":\\\"#\\\",\\\"c\\\":1}",
            ),
            ("password: \"{=x}\"\n", "password: \"#\"\n"),
            // Blocks.
            ("password: |\n  x\n\n  y\nhost: a\n", "password: |\n  #\nhost: a\n"),
            (
                "  - token: >-\n      x\n    host: a\n",
                "  - token: >-\n      #\n    host: a\n",
            ),
            ("token: |\nhost: a\n", "token: |\nhost: a\n"),
            ("token: |\n  <removed>\nhost: a\n", "token: |\n  <removed>\nhost: a\n"),
            // Signs in a password.
            ("password=ab,cd next", "password=# next"),
            ("(password=a)b,user=c)", "(password=#,user=c)"),
            ("[password=a&b] next", "[password=#] next"),
            ("dsn=app:p/w@tcp(db:3306)/x", "dsn=#@tcp(db:3306)/x"),
            ("db_pass=x bypass=y", "db_pass=# bypass=y"),
        ] {
            check(given, expected);
        }
    }
}
