//! When a schedule is due: the five fields of cron, or a word for them.

use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Span, Timestamp, ToSpan};

/// A schedule that is not due within these years never is (the 30th of February).
const YEARS: i32 = 8;

/// Sets of numbers, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Minutes, hours, days of the month, months, days of the week (0: Sunday).
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        /// With both restricted, either day will do.
        either_day: bool,
    },
    /// `@every`: so many seconds after the one before.
    Every(i64),
}

impl Schedule {
    /// Reads the five fields or `@hourly` and the like.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(every) = text.strip_prefix("@every ") {
            let span: Span = every.trim().parse().map_err(|e| format!("{text}: {e}"))?;
            let seconds = span
                .total(k8s_openapi::jiff::Unit::Second)
                .map_err(|e| format!("{text}: {e}"))?;
            return Ok(Self::Every((seconds as i64).max(1)));
        }
        let fields = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
            return Err(format!("{text}: expected five fields, found {}", parts.len()));
        };
        let free = |field: &str| field.starts_with(['*', '?']);
        Ok(Self::Fields {
            minutes: set(minutes, 0, 59, &[])?,
            hours: set(hours, 0, 23, &[])?,
            days: set(days, 1, 31, &[])?,
            months: set(months, 1, 12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: set(weekdays, 0, 7, &WEEKDAYS).map(|bits| bits | (bits >> 7 & 1))?,
            either_day: !free(days) && !free(weekdays),
        })
    }

    /// The first time after `at`.
    #[must_use]
    pub fn next(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (minutes, hours) = match self {
            Self::Every(seconds) => return at.checked_add((*seconds).seconds()).ok(),
            Self::Fields { minutes, hours, .. } => (*minutes, *hours),
        };
        let begin = zone.to_datetime(at);
        let mut date = begin.date();
        for _ in 0..366 * YEARS {
            if self.has_day(date) {
                let times = (0..24).filter(|h| hours >> h & 1 == 1);
                let times = times.flat_map(|h| (0..60).filter(move |m| minutes >> m & 1 == 1).map(move |m| (h, m)));
                let due = times.filter_map(|(h, m)| {
                    let time = DateTime::from_parts(date, k8s_openapi::jiff::civil::time(h, m, 0, 0));
                    Some(time.to_zoned(zone.clone()).ok()?.timestamp())
                });
                if let Some(found) = due.into_iter().find(|time| *time > at) {
                    return Some(found);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_day(&self, date: k8s_openapi::jiff::civil::Date) -> bool {
        let Self::Fields {
            days,
            months,
            weekdays,
            either_day,
            ..
        } = self
        else {
            return true;
        };
        let day = days >> date.day() & 1 == 1;
        let weekday = weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        let fits = if *either_day { day || weekday } else { day && weekday };
        fits && months >> date.month() & 1 == 1
    }
}

const MONTHS: [&str; 13] = [
    "", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// `*`, `5`, `1-5`, `*/15`, `mon-fri`, and lists of these.
fn set(field: &str, least: u64, most: u64, names: &[&str]) -> Result<u64, String> {
    let wrong = || format!("{field}: not a list of numbers from {least} to {most}");
    let number = |text: &str| {
        let named = names
            .iter()
            .position(|name| !name.is_empty() && name.eq_ignore_ascii_case(text));
        let number = named.and_then(|n| u64::try_from(n).ok()).or_else(|| text.parse().ok());
        number.filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = part
            .split_once('/')
            .map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None if matches!(range, "*" | "?") => (least, most),
            None => {
                let first = number(range)?;
                // A step counts on from a single number.
                (first, if step.is_some() { most } else { first })
            }
        };
        let step = step.map_or(Ok(1), |text| {
            text.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(wrong)
        })?;
        if first > last {
            return Err(wrong());
        }
        bits |= (first..=last).step_by(step).fold(0, |bits, n| bits | 1 << n);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, at: &str, expected: &str) {
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        let next = Schedule::parse(schedule).unwrap().next(at.parse().unwrap(), &zone);
        assert_eq!(
            next.map(|t| t.to_string()).as_deref().unwrap_or("never"),
            expected,
            "{schedule}"
        );
    }

    #[test]
    fn the_next_time() {
        check("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        check("*/15 * * * *", "2026-01-01T00:16:10Z", "2026-01-01T00:30:00Z");
        check("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
        // At noon in Berlin, which is at another hour in summer.
        check("0 12 * * *", "2026-01-01T12:00:00Z", "2026-01-02T11:00:00Z");
        check("0 12 * * *", "2026-07-01T12:00:00Z", "2026-07-02T10:00:00Z");
        check("0 0 * * mon-fri", "2026-01-02T12:00:00Z", "2026-01-04T23:00:00Z");
        check("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-01T23:00:00Z");
        check("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-03T23:00:00Z");
        check("5,10-12 3 1 jan *", "2026-01-01T02:10:00Z", "2026-01-01T02:11:00Z");
        check("0 0 30 2 *", "2026-01-01T00:00:00Z", "never");
        check("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@sometimes",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
