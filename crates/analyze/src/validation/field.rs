//! Problems with their fields, and checks that several kinds share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use api::lenient::{Duration, I32};
use regex_syntax::hir::{Hir, HirKind};

use super::name;

/// Longest regular expression that proxies are given, in bytes.
const LONGEST_REGEX: usize = 1024;
/// What the different regular expressions of an object are together at most, in bytes of which a class whose letters
/// are folded (`(?i)`) is [`FOLDED_CLASS`]: reading one takes a hundred times as long.
const ALL_REGEXES: usize = 128 << 10;
const FOLDED_CLASS: usize = 64;
/// How often RE2 lets something be repeated; what repetitions are nested in one another is multiplied.
const MOST_REPETITIONS: u32 = 1000;

/// Most errors of an object that are told, and most warnings; more are counted. An answer to the API server is read by
/// somebody, and does not grow with what was sent.
pub(super) const MOST_TOLD: usize = 100;
/// Longest text of an error or warning, in bytes: it repeats names and values of the object.
const LONGEST_TEXT: usize = 4096;

/// Texts of which not too many are kept.
#[derive(Debug, Default)]
struct Told {
    texts: Vec<String>,
    untold: usize,
}

impl Told {
    fn add(&mut self, field: impl Display, message: impl Display) {
        if self.texts.len() == MOST_TOLD {
            self.untold += 1;
            return;
        }
        let mut text = format!("{field}: {message}");
        if text.len() > LONGEST_TEXT {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT));
            text.push('…');
        }
        text.shrink_to_fit();
        self.texts.push(text);
    }

    fn into_texts(self) -> Vec<String> {
        let Self { mut texts, untold } = self;
        if untold > 0 {
            texts.push(format!("… and {untold} more"));
        }
        texts
    }
}

/// What is wrong with an object, field by field.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Told,
    warnings: Told,
    /// Regular expressions that were read, and what is wrong with them.
    regexes: BTreeMap<String, Option<String>>,
    regex_bytes: usize,
}

impl Problems {
    /// Records an error.
    pub(super) fn add(&mut self, field: impl Display, message: impl Display) {
        self.errors.add(field, message);
    }

    /// Records a warning.
    pub(super) fn warn(&mut self, field: impl Display, message: impl Display) {
        self.warnings.add(field, message);
    }

    /// Records an error unless the condition holds.
    pub(super) fn require(&mut self, holds: bool, field: impl Display, message: impl Display) {
        if !holds {
            self.add(field, message);
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.texts.is_empty()
    }

    /// How many errors there are, told or not.
    pub(super) fn count(&self) -> usize {
        self.errors.texts.len() + self.errors.untold
    }

    /// All that is wrong, and all that is probably not meant.
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (self.errors.into_texts(), self.warnings.into_texts())
    }
}

/// A host name, perhaps with `*` as its first label or the start of it.
pub(super) fn check_host(problems: &mut Problems, field: &str, host: &str) {
    if host.is_empty() {
        problems.add(field, "a host name is required");
    } else if !name::is_domain_or_wildcard(host) {
        problems.add(
            field,
            format!("{host:?} is no host name; use letters, digits, '-' and '.', with '*.' only in front"),
        );
    }
}

/// As [`check_host`], or an address.
pub(super) fn check_host_or_address(problems: &mut Problems, field: &str, host: &str) {
    if host.parse::<IpAddr>().is_err() {
        check_host(problems, field, host);
    }
}

/// A complete name, without `*`.
pub(super) fn check_domain(problems: &mut Problems, field: &str, host: &str) {
    let message = || format!("{host:?} is no complete host name; use letters, digits, '-' and '.'");
    problems.require(name::is_domain(host), field, message());
}

/// A host of a gateway or of a sidecar's egress, behind the slash of `namespace/host`: a complete name, so that it says
/// where it is.
pub(super) fn check_complete_host(problems: &mut Problems, field: &str, host: &str) {
    problems.require(
        host == "*" || host.contains('.'),
        field,
        format!("{host:?} is a short name; complete it, as in name.namespace.svc.cluster.local"),
    );
    problems.require(
        !host.contains('*') || host == "*" || host.starts_with("*."),
        field,
        format!("{host:?}: a '*' stands for whole labels in front, as in '*.example.com'"),
    );
}

/// Durations: at least a millisecond, and no parts of one.
pub(super) fn check_duration(problems: &mut Problems, field: &str, duration: Option<Duration>) {
    let Some(duration) = duration else { return };
    let long = duration >= Duration::millis(1);
    problems.require(long, field, "must be a valid duration greater than 1ms");
    problems.require(
        duration.nanos % 1_000_000 == 0,
        field,
        "only durations to ms precision are supported",
    );
}

/// A number that must not be negative.
pub(super) fn check_count(problems: &mut Problems, field: &str, number: Option<I32>) {
    problems.require(number.is_none_or(|number| number.0 >= 0), field, "must not be negative");
}

/// A share of a hundred.
pub(super) fn check_percent(problems: &mut Problems, field: &str, percent: f64) {
    problems.require((0.0..=100.0).contains(&percent), field, "must be between 0 and 100");
}

/// Labels as Kubernetes takes them.
pub(super) fn check_labels(problems: &mut Problems, field: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        problems.require(name::is_label_key(key), field, format!("{key:?} is no key of a label"));
        problems.require(
            name::is_label_value(value),
            format!("{field}.{key}"),
            format!("{value:?} is no value of a label"),
        );
    }
}

/// A socket's path, or an abstract socket.
pub(super) fn check_socket(problems: &mut Problems, field: &str, path: &str) {
    let valid = path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/'));
    problems.require(
        valid,
        field,
        format!("{path:?} is neither the absolute path of a socket nor an abstract one (@name)"),
    );
}

/// A port number.
pub(super) fn check_port_number(problems: &mut Problems, field: &str, number: u32) {
    problems.require(
        (1..=65535).contains(&number),
        field,
        format!("{number}: port must be between 1-65535"),
    );
}

const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "MONGO",
    "TCP",
    "TLS",
    "UDP",
    "REDIS",
    "MYSQL",
    "HTTP_PROXY",
];

/// A protocol's name; none means that it is found out.
pub(super) fn check_protocol(problems: &mut Problems, field: &str, protocol: &str) {
    let known = protocol.is_empty() || PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol));
    problems.require(
        known,
        field,
        format!("unsupported protocol {protocol:?}; use one of {}", PROTOCOLS.join(", ")),
    );
}

/// A port's name.
pub(super) fn check_port_name(problems: &mut Problems, field: &str, name: &str) {
    problems.require(
        name::is_label(name),
        field,
        format!("{name:?} is no name of a port; use letters, digits and '-'"),
    );
}

/// Is it HTTP, in one of its forms?
pub(super) fn is_http(protocol: &str) -> bool {
    ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(protocol))
}

/// Is it TLS, whatever is inside?
pub(super) fn is_tls(protocol: &str) -> bool {
    ["HTTPS", "TLS"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(protocol))
}

/// A regular expression of the dialect that proxies have (RE2).
pub(super) fn check_regex(problems: &mut Problems, field: &str, pattern: &str) {
    if pattern.len() > LONGEST_REGEX {
        return problems.add(
            field,
            format!("the regular expression is longer than {LONGEST_REGEX} bytes"),
        );
    }
    if let Some(known) = problems.regexes.get(pattern) {
        if let Some(error) = known.clone() {
            problems.add(field, error);
        }
        return;
    }
    let had_room = problems.regex_bytes <= ALL_REGEXES;
    problems.regex_bytes = problems.regex_bytes.saturating_add(weight(pattern));
    if problems.regex_bytes > ALL_REGEXES {
        // Once is enough: it is the object that has too many.
        return problems.require(
            !had_room,
            field,
            format!("the regular expressions of this object exceed {ALL_REGEXES} bytes together, where a class in (?i) is {FOLDED_CLASS}; split the object"),
        );
    }
    let error = read_regex(pattern).err();
    if let Some(error) = &error {
        problems.add(field, error);
    }
    problems.regexes.insert(pattern.to_owned(), error);
}

/// It is read, not compiled: proxies compile by rules of their own, and compiling takes far longer.
fn read_regex(pattern: &str) -> Result<(), String> {
    let read = |pattern: &str| regex_syntax::Parser::new().parse(pattern);
    let regex = read(pattern)
        .or_else(|error| read(&with_literal_braces(pattern)).map_err(|_| error))
        .map_err(|error| format!("invalid regular expression: {error}"))?;
    if repeats_at_most(&regex, MOST_REPETITIONS) {
        Ok(())
    } else {
        Err(format!(
            "invalid regular expression: repeats more than {MOST_REPETITIONS} times, nested repetitions multiplied"
        ))
    }
}

/// What a pattern counts for in [`ALL_REGEXES`].
fn weight(pattern: &str) -> usize {
    let flags = |group: &str| group.split([')', ':']).next().is_some_and(|flags| flags.contains('i'));
    let classes = match pattern.split("(?").skip(1).any(flags) {
        true => pattern.matches(['\\', '[']).count(),
        false => 0,
    };
    pattern.len() + classes * FOLDED_CLASS
}

fn repeats_at_most(regex: &Hir, most: u32) -> bool {
    match regex.kind() {
        HirKind::Repetition(repetition) => {
            let count = repetition.max.unwrap_or(repetition.min);
            count <= most && repeats_at_most(&repetition.sub, most / count.max(1))
        }
        HirKind::Capture(group) => repeats_at_most(&group.sub, most),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(|part| repeats_at_most(part, most)),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => true,
    }
}

/// A pattern in which braces that repeat nothing stand for themselves, as RE2 has it.
fn with_literal_braces(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        let repeats = || {
            let inside = pattern[at + 1..].split_once('}').map_or("", |(inside, _)| inside);
            inside.starts_with(|c: char| c.is_ascii_digit()) && inside.chars().all(|c| c.is_ascii_digit() || c == ',')
        };
        if c == '{' && !escaped && !text.ends_with("\\p") && !repeats() {
            text.push('\\');
        }
        escaped = c == '\\' && !escaped;
        text.push(c);
    }
    text
}

/// An address or a range of addresses.
pub(super) fn check_cidr(problems: &mut Problems, field: &str, text: &str) {
    let range = text.parse::<ipnet::IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    problems.require(
        range,
        field,
        format!("{text:?} is neither an IP address nor a CIDR range"),
    );
}

/// Whose visibility it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Exporter {
    /// May be for nobody (`~`): its own proxies still have it.
    ServiceEntry,
    /// A rule for workloads that it selects, which are its namespace's.
    Selecting,
    /// Any other.
    Other,
}

/// Visibility of an object of a namespace: `.`, `*`, `~` or namespaces.
pub(super) fn check_export_to(problems: &mut Problems, of: &str, export_to: &[String], exporter: Exporter) {
    let mut seen = BTreeSet::new();
    for (index, target) in export_to.iter().enumerate() {
        let field = format!("spec.exportTo[{index}]");
        let target = if target == "." { of } else { target.as_str() };
        problems.require(seen.insert(target), &field, format!("{target:?} is there twice"));
        match target {
            "*" => {}
            "~" => problems.require(
                exporter == Exporter::ServiceEntry,
                &field,
                "'~' (nobody) is for service entries only",
            ),
            namespace => problems.require(
                name::is_label(namespace),
                &field,
                format!("{namespace:?} is neither a namespace nor one of . *"),
            ),
        }
    }
    problems.require(
        exporter != Exporter::Selecting || seen.iter().all(|target| *target == of),
        "spec.exportTo",
        "a rule with a workloadSelector is for its own namespace only",
    );
    if export_to.len() > 1 && (seen.contains("*") || seen.contains("~")) {
        problems.add("spec.exportTo", "'*' and '~' must stand alone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(problems: &mut Problems, pattern: &str) -> usize {
        check_regex(problems, "field", pattern);
        problems.count()
    }

    #[test]
    fn regular_expressions_are_read_once_and_so_many_at_most() {
        let mut problems = Problems::default();
        for index in 0..1000 {
            assert_eq!(check(&mut problems, &format!(r"(\pL{{80}}|a{})", index % 10)), 0);
        }
        assert_eq!(problems.regexes.len(), 10, "equal ones are read once");
        for index in 0..10_000 {
            check(&mut problems, &format!("{index:0LONGEST_REGEX$}"));
        }
        assert_eq!(problems.regexes.len(), 10 + 127);
        let (errors, _) = problems.into_parts();
        assert_eq!(
            errors,
            [
                "field: the regular expressions of this object exceed 131072 bytes together, where a class in (?i) is 64; split the object"
            ]
        );
    }

    #[test]
    fn classes_that_are_folded_weigh_more() {
        for (pattern, expected) in [
            (r"a\pL[^b]", 8),
            (r"(?:i)\w", 7),
            (r"(?i)\w[^b]", 10 + 128),
            (r"a(?s-u:b(?i:\d))", 16 + 64),
        ] {
            assert_eq!(weight(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_regular_expression_is_told_of_each_field() {
        let mut problems = Problems::default();
        assert_eq!((check(&mut problems, "("), check(&mut problems, "(")), (1, 2));
    }

    #[test]
    fn repetitions_are_those_of_re2() {
        for (pattern, errors) in [
            ("a{1000}", 0),
            ("a{1001}", 1),
            ("a{1,1001}", 1),
            ("a{1001,}", 1),
            ("(a{10}){100}", 0),
            ("(a{10}|b){101}", 1),
            ("(a+)*b?", 0),
            ("{a}/{b", 0),
        ] {
            assert_eq!(check(&mut Problems::default(), pattern), errors, "{pattern}");
        }
    }
}
