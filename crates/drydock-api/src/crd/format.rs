//! String formats that schemas may demand.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Formats the real server knows, checked here or not.
const KNOWN: [&str; 25] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "date-time",
];

/// Whether the real server knows the format.
#[must_use]
pub fn is_known(format: &str) -> bool {
    KNOWN.contains(&format) || matches!(format, "k8s-short-name" | "k8s-long-name")
}

/// Whether `text` has the format; `None` for a format that is not checked.
#[must_use]
pub fn matches(format: &str, text: &str) -> Option<bool> {
    Some(match format {
        "date-time" | "datetime" => date_time(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "byte" => base64(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => mac(text),
        "uri" => text
            .parse::<http::Uri>()
            .is_ok_and(|u| u.scheme().is_some() || text.starts_with('/')),
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.') && !host.contains('@')),
        "hostname" => hostname(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::try_parse(text).is_ok(),
        "duration" => duration(text),
        _ => return None,
    })
}

fn date_time(text: &str) -> bool {
    text.contains(['T', 't']) && text.parse::<jiff::Timestamp>().is_ok()
}

fn base64(text: &str) -> bool {
    use ::base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).is_ok()
}

fn mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts
            .iter()
            .all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Go's duration syntax: `-?(digits[.digits]unit)+` or `0`.
fn duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number = &rest[..digits];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return false;
        }
        rest = &rest[digits..];
        let Some(unit) = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .iter()
            .find(|u| rest.starts_with(**u))
        else {
            return false;
        };
        rest = &rest[unit.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_checked() {
        let check = |format: &str, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(matches(format, text), Some(true), "{format} {text}");
            }
            for text in bad {
                assert_eq!(matches(format, text), Some(false), "{format} {text}");
            }
        };
        check(
            "date-time",
            &["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.1+02:00"],
            &["yesterday", "2024-01-02"],
        );
        check("ipv4", &["1.2.3.4"], &["1.2.3"]);
        check("byte", &["AAEC"], &["***"]);
        check("duration", &["5s", "1h30m", "1.5s", "0"], &["forever", "5", ""]);
        check("hostname", &["a.b"], &["-a", "a..b"]);
        assert_eq!(matches("unheard-of", "x"), None);
    }
}
