//! Durations as people read them: `3s`, `2m5s`, `4h`, `5d`.

use jiff::Timestamp;
use serde_json::Value;

/// Seconds in short form, with a second unit while the first is small.
pub fn short_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |a: i64, unit: &str, b: i64, small: &str| {
        if b == 0 {
            format!("{a}{unit}")
        } else {
            format!("{a}{unit}{b}{small}")
        }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        two(days, "d", hours % 24, "h")
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        two(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

/// Time since a timestamp text, `<unknown>` if there is none.
pub fn age_of(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(then) => short_duration(Timestamp::now().as_second() - then.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// Time since the creation of an object.
pub fn age(object: &Value) -> String {
    age_of(crate::meta::text(object, "creationTimestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let check = |seconds, expected: &str| assert_eq!(short_duration(seconds), expected);
        check(3, "3s");
        check(119, "119s");
        check(125, "2m5s");
        check(600, "10m");
        check(3 * 3600 + 60, "3h1m");
        check(49 * 3600, "2d1h");
        check(9 * 86400, "9d");
    }
}
