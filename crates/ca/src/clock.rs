//! Between the clock of the callers and the one of the certificate writer.

use std::time::Duration;

use jiff::Timestamp;
use time::OffsetDateTime;

/// Clocks of callers may be behind by this much: certificates start to be valid that long before they are made
/// (control-plane.md §5, "clock-skew backdating").
pub(crate) const SKEW: Duration = Duration::from_secs(120);

/// `from - SKEW` and `from + ttl`, as certificate dates. Beyond the range of dates the nearest date is taken.
pub(crate) fn validity(from: Timestamp, ttl: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    let start = from.as_second().saturating_sub(seconds(SKEW));
    let end = from.as_second().saturating_add(seconds(ttl));
    (date(start), date(end))
}

fn date(second: i64) -> OffsetDateTime {
    // 9999-12-31T23:59:59Z, the last moment an X.509 date can name.
    const LAST: i64 = 253_402_300_799;
    OffsetDateTime::from_unix_timestamp(second.clamp(0, LAST)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
