//! Timestamps as Kubernetes writes them.

use jiff::{Timestamp, Unit};

/// Now, whole seconds: `2026-11-25T12:00:00Z`.
pub fn now() -> String {
    seconds(Timestamp::now())
}

/// Now, microseconds: `2026-11-25T12:00:00.000000Z`.
pub fn now_micro() -> String {
    micros(Timestamp::now())
}

/// A timestamp in whole seconds, rounded down.
pub fn seconds(timestamp: Timestamp) -> String {
    format!(
        "{:.0}",
        Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp)
    )
}

/// A timestamp in microseconds.
pub fn micros(timestamp: Timestamp) -> String {
    format!("{:.6}", timestamp.round(Unit::Microsecond).unwrap_or(timestamp))
}

/// Reads RFC 3339 text with exactly six digits of fraction.
///
/// # Errors
/// The words of the real server.
pub fn parse_micro(text: &str) -> Result<Timestamp, String> {
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    let timestamp: Timestamp = text
        .parse()
        .map_err(|_| format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""))?;
    let rest = text.get(19..).unwrap_or_default();
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 6 {
        return Ok(timestamp);
    }
    Err(format!(
        "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as \".000000\""
    ))
}

/// Reads RFC 3339 text.
///
/// # Errors
/// The words of the real server.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        let layout = "2006-01-02T15:04:05Z07:00";
        // The reference parser names the first part it cannot read; the year is by far the usual one.
        format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
    })
}
