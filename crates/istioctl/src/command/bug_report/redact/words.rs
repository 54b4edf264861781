//! Secrets in running text: logs, pages, values of fields. Each kind is taken out for itself, one after the other.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::GONE;
use super::addresses::{addresses, last_len, sockets};
use super::below::{is_nothing, lines, time_len};
use super::cut::Cut;
use super::name::Name;
use super::pairs::pairs;
use super::scan::{find, looked, rfind};

/// Fields that hold a text or a secret, in messages that quote a filter.
const HOLDERS_IN_TEXT: [&str; 4] = ["inlineBytes", "inlineString", "inline_bytes", "inline_string"];

/// A text without what looks like a secret; what was replaced is counted.
pub fn redact(text: &str, replaced: &mut usize) -> String {
    let text = keys(text, replaced);
    let text = addresses(&text, replaced);
    let text = sockets(&text, replaced);
    let text = lines(&text, replaced);
    let text = assignments(&text, replaced);
    let text = pairs(&text, replaced);
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

/// `password=…`, `password = …`, `"password": "…"`, `password:…` where that is a line of its own, `{password: …}` and
/// `map[password:…]`.
fn assignments<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let mut cut = Cut::new(text);
    let mut line = Line::default();
    for (at, sign) in text.match_indices(['=', ':']) {
        if at < cut.done() {
            continue;
        }
        // `:=` is a sign, too.
        let is_gap = |c: char| matches!(c, ' ' | '\t') || (sign == "=" && c == ':');
        let before = text[..at].trim_end_matches(is_gap);
        let is_spaced = before.len() < at;
        let quoted = before.trim_end_matches(['"', '\'', '\\']);
        let start = rfind(quoted, |c| !is_name(c)).map_or(0, |last| last + last_len(quoted, last));
        let name = &quoted[start..];
        let shouts = name.chars().all(|c| !c.is_ascii_lowercase());
        // In a message of Envoy nobody sees what is around it.
        let is_inline = HOLDERS_IN_TEXT.contains(&name);
        let is_secret = is_inline || Name(name).is_secret() || (shouts && sign == "=" && Name(name).mentions_secret());
        if !is_secret {
            continue;
        }
        let after = &text[at + 1..];
        let gap = after.len() - after.trim_start_matches([' ', '\t']).len();
        let value = &after[gap..];
        // A structure, or a comparison.
        if value.starts_with(['{', '[', '=']) {
            continue;
        }
        line.reach(text, start);
        let place = Place {
            line: &line,
            before: &text[line.start..start],
            column: start,
            sign,
            is_spaced,
            gap,
        };
        let Some((skipped, length)) = extent(&place, value) else {
            continue;
        };
        let secret = value[skipped..skipped + length].trim_end().trim_end_matches(',');
        let length = secret.len();
        if is_nothing(secret) {
            continue;
        }
        // The head of a block, which is gone already.
        if skipped == 0 && sign == ":" && secret.starts_with(['|', '>']) {
            continue;
        }
        let from = at + 1 + gap + skipped;
        cut.out(from, from + length, replaced);
    }
    cut.finish()
}

/// The line of the last name. It may be the whole text, so that it is gone through once for all names in it.
#[derive(Debug, Default)]
struct Line {
    /// Where it begins.
    start: usize,
    /// Where its first word begins.
    word: usize,
    /// Up to where the text was gone through.
    seen: usize,
}

impl Line {
    /// Goes on to the line of a place.
    fn reach(&mut self, text: &str, place: usize) {
        let Some(end) = (place > self.seen).then(|| rfind(&text[self.seen..place], |c| c == '\n')) else {
            return;
        };
        if end.is_some() || self.seen == 0 {
            self.start = end.map_or(0, |end| self.seen + end + 1);
            let line = &text[self.start..];
            let begin = self.start + time_len(line);
            let words = &text[begin..];
            let is_before = |c: char| matches!(c, ' ' | '\t' | '-' | '"' | '\'');
            self.word = begin + find(words, |c| !is_before(c)).unwrap_or(words.len());
        }
        self.seen = place;
    }
}

/// Where a name stands, and what is between it and its value.
struct Place<'a> {
    line: &'a Line,
    /// What stands before the name in its line.
    before: &'a str,
    /// Where the name begins.
    column: usize,
    sign: &'a str,
    is_spaced: bool,
    gap: usize,
}

impl Place<'_> {
    /// Whether the name is the first word of its line.
    fn is_alone(&self) -> bool {
        self.line.word >= self.column
    }
}

pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where in `value` the secret begins, and how long it is.
fn extent(place: &Place<'_>, value: &str) -> Option<(usize, usize)> {
    let Place { sign, gap, .. } = *place;
    let is_alone = place.is_alone();
    let slashes = value.len() - value.trim_start_matches('\\').len();
    let quote = value.as_bytes().get(slashes).copied();
    if let Some(quote @ (b'"' | b'\'')) = quote {
        let inner = &value[slashes + 1..];
        let length = quoted_len(inner, slashes, quote).unwrap_or_else(|| line_len(inner));
        return Some((slashes + 1, length));
    }
    if sign == "=" && (gap == 0 || (place.is_spaced && !is_alone)) {
        return Some((0, word_len(value)));
    }
    if is_alone {
        return Some((0, line_len(value)));
    }
    let bracket = if sign == ":" { open_bracket(place.before) } else { None };
    let before = place.before.trim_end_matches([' ', '"', '\'']);
    let end = match bracket? {
        b'{' if gap > 0 && before.ends_with(['{', ',']) => find(value, |c| ",}\"\n\r".contains(c)),
        b'{' | b'[' if gap == 0 => find(value, |c| c.is_whitespace() || ",]}\"'".contains(c)),
        _ => return None,
    };
    Some((0, end.unwrap_or(value.len())))
}

/// Up to the quote that closes a text. A text that is itself part of one has backslashes before its quotes (`slashes`);
/// more of them, and the quote is part of the text.
pub(super) fn quoted_len(text: &str, slashes: usize, quote: u8) -> Option<usize> {
    let mut run = 0;
    let closing = text.bytes().position(|byte| {
        let closes = byte == quote && run % (2 * (slashes + 1)) == slashes;
        run = if byte == b'\\' { run + 1 } else { 0 };
        closes
    });
    looked(closing.unwrap_or(text.len()));
    closing.map(|at| at - slashes)
}

pub(super) fn line_len(text: &str) -> usize {
    find(text, |c| matches!(c, '\n' | '\r')).unwrap_or(text.len())
}

/// A word with everything in it, up to what looks like the next assignment: `&page=2`.
fn word_len(text: &str) -> usize {
    let is_sign = |c: char| matches!(c, '&' | ';' | ',');
    let is_assignment = |rest: &str| {
        let name = find(rest, |c| !is_name(c)).unwrap_or(rest.len());
        name > 0 && rest[name..].starts_with('=')
    };
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let stop = find(rest, |c| c.is_whitespace() || "\"'`".contains(c) || is_sign(c));
        let Some(stop) = stop else {
            end = text.len();
            break;
        };
        end += stop;
        if !text[end..].starts_with(is_sign) || is_assignment(&text[end + 1..]) {
            break;
        }
        end += 1;
    }
    text[..end].trim_end_matches([')', ']', '}', '&', ';', ',']).len()
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
    use super::super::scan;
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
            ("db: {host: a, password: x }", "db: {host: a, password: # }"),
            ("{forwardOriginalToken: true }", "{forwardOriginalToken: true }"),
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
            // A name in quotes, as some write YAML; and JSON in lines.
            ("\"password\": x y\nhost: a\n", "\"password\": #\nhost: a\n"),
            ("- 'password': x\n", "- 'password': #\n"),
            (
                "  \"token\": true,\n  \"password\": null,\n",
                "  \"token\": true,\n  \"password\": null,\n",
            ),
            // Blocks.
            ("password: |\n  x\n\n  y\nhost: a\n", "password: |\n  #\nhost: a\n"),
            (
                "  - token: >-\n      x\n    host: a\n",
                "  - token: >-\n      #\n    host: a\n",
            ),
            ("token: |\nhost: a\n", "token: |\nhost: a\n"),
            ("token: |\n  <removed>\nhost: a\n", "token: |\n  <removed>\nhost: a\n"),
            (
                "2026-11-26T19:00:00.1Z password: |\n2026-11-26T19:00:00.1Z   x\n2026-11-26T19:00:00.2Z   y\n2026-11-26T19:00:00.2Z host: a\n",
                "2026-11-26T19:00:00.1Z password: |\n2026-11-26T19:00:00.1Z   #\n2026-11-26T19:00:00.2Z host: a\n",
            ),
            // Maps and lists of secrets.
            (
                "credentials:\n  user: a\n  pass: \"b c\"\nhost: d\n",
                "credentials:\n  user: #\n  pass: \"#\"\nhost: d\n",
            ),
            (
                "2026-11-26T19:00:00.1Z credentials:\n2026-11-26T19:00:00.1Z   pass: b\n2026-11-26T19:00:00.2Z port: 1\n",
                "2026-11-26T19:00:00.1Z credentials:\n2026-11-26T19:00:00.1Z   pass: #\n2026-11-26T19:00:00.2Z port: 1\n",
            ),
            ("tokens:\n- a\n- 'b'\nhost: c\n", "tokens:\n- #\n- '#'\nhost: c\n"),
            // What is beside a text does not hide it: nothing, a structure, what says where a secret is.
            (
                "credentials:\n  user: bob\n  pass: hunter2\n  token:\nhost: a\n",
                "credentials:\n  user: #\n  pass: #\n  token:\nhost: a\n",
            ),
            (
                "credentials:\n  user: bob\n  opts:\n    tls: true\n    mode: a\n    password: b\n  pass: hunter2\n",
                "credentials:\n  user: #\n  opts:\n    tls: true\n    mode: a\n    password: #\n  pass: #\n",
            ),
            (
                "credentials:\n  name: bob\n  pass: hunter2\n",
                "credentials:\n  name: bob\n  pass: #\n",
            ),
            (
                "credentials:\n  pass: hunter2\n    hunter3\n  pin: |\n    1\n    2\n  phrase:\n    a\n  \"db\": 'b'\nhost: a\n",
                "credentials:\n  pass: #\n  pin: |\n    #\n  phrase:\n    #\n  \"db\": '#'\nhost: a\n",
            ),
            (
                "credentials:\n- user: bob\n  pass: hunter2\n  opts:\n    mode: a\n- hunter3\nhost: a\n",
                "credentials:\n- user: #\n  pass: #\n  opts:\n    mode: a\n- #\nhost: a\n",
            ),
            (
                "\"credentials\": {\n  \"user\": \"bob\",\n  \"pin\": 1234,\n  \"tls\": {}\n},\n\"host\": \"a\"\n",
                "\"credentials\": {\n  \"user\": \"#\",\n  \"pin\": #,\n  \"tls\": {}\n},\n\"host\": \"a\"\n",
            ),
            (
                "tls:\n  token: a\n    b\n  example.com/api-key: c\n",
                "tls:\n  token: #\n  example.com/api-key: #\n",
            ),
            (
                "credentials:\n  secretName: a\n  key: b\n",
                "credentials:\n  secretName: a\n  key: b\n",
            ),
            (
                "credentials:\n  db:\n    password: x\n    host: a\n",
                "credentials:\n  db:\n    password: #\n    host: a\n",
            ),
            ("found no tokens:\n  retry: 1\n", "found no tokens:\n  retry: 1\n"),
            // Values below their names.
            ("password:\n  x\nhost: a\n", "password:\n  #\nhost: a\n"),
            (
                "db:\n  password:\n    \"x: y\"\n  host: a\n",
                "db:\n  password:\n    #\n  host: a\n",
            ),
            (
                "2026-11-26T19:00:00.1Z token:\n2026-11-26T19:00:00.1Z   x\n2026-11-26T19:00:00.2Z port: 1\n",
                "2026-11-26T19:00:00.1Z token:\n2026-11-26T19:00:00.1Z   #\n2026-11-26T19:00:00.2Z port: 1\n",
            ),
            (
                "serviceAccountToken:\n  path: token\n",
                "serviceAccountToken:\n  path: token\n",
            ),
            ("password:\nhost: a\n", "password:\nhost: a\n"),
            ("dsn=tcp@tcp(a) app:p@tcp(db:3306)/x", "dsn=tcp@tcp(a) #@tcp(db:3306)/x"),
            ("a://b://u:p@c://d", "a://b://#@c://d"),
            // Signs in a password.
            ("password=ab,cd next", "password=# next"),
            ("(password=a)b,user=c)", "(password=#,user=c)"),
            ("[password=a&b] next", "[password=#] next"),
            ("dsn=app:p/w@tcp(db:3306)/x", "dsn=#@tcp(db:3306)/x"),
            ("db_pass=x bypass=y", "db_pass=# bypass=y"),
        ] {
            check(given, expected);
        }
        let commented = "credentials:\n  # of the database\n  user: bob\n\n  # and: more\n  pass: hunter2\n";
        let mut replaced = 0;
        assert_eq!(
            redact(commented, &mut replaced),
            "credentials:\n  # of the database\n  user: <removed>\n\n  # and: more\n  pass: <removed>\n"
        );
        assert_eq!(replaced, 2);
    }

    /// Texts on which a look at everything before or behind each sign would be the square of their length.
    #[test]
    fn a_long_line_is_gone_through_a_few_times() {
        let check = |begin: &str, again: &str, expected: usize| {
            const LENGTH: usize = 1 << 16;
            let text = begin.to_owned() + &again.repeat(LENGTH / again.len());
            let mut replaced = 0;
            scan::reset();
            redact(&text, &mut replaced);
            let times = scan::steps() / text.len();
            assert!(times < 20, "{begin}{again}…: {times} times");
            assert_eq!(replaced > 0, expected > 0, "{begin}{again}…");
        };
        check("", "token=x ", 1);
        check("", "token=x;", 1);
        check("", "token={", 0);
        check("", "token:", 1);
        check("x ", "token:", 0);
        check("", "{token:x}", 1);
        check("", "a{token: nil}", 0);
        check(&" ".repeat(1 << 16), "token=x ", 1);
        check(&format!("{}token=x", "x".repeat(1 << 16)), ",token=x", 1);
        check("", "token=\\\"", 1);
        check("", "x@tcp(", 0);
        check("u:", "x@tcp(", 1);
        check("", "://x@", 1);
        check("@ ", "://", 0);
        check("@ ", "://a:b/", 0);
        check("", "-----BEGIN ", 0);
        check("", "eyJ.", 0);
        check("token: |\n", "  token: |\n", 1);
        check("", "token:\n  a: b\n", 1);
        check("", "tokens:\n  a: b\n c: d\n", 1);
        check("", "token: a\n  b\n", 1);
        check("tokens:\n", "  a: b\n", 1);
    }
}
