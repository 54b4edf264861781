//! Reading as Istio's decoder reads: durations as text, numbers also as text.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, written `1.5s` or as Go writes it (`1h2m3s4ms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds beyond the seconds, of the same sign.
    pub nanos: i32,
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write seconds like \"1.5s\" or a sum like \"1h30m\"")]
pub struct DurationError(String);

impl Duration {
    /// A duration of whole seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// A duration of milliseconds.
    pub const fn millis(millis: i64) -> Self {
        Self {
            seconds: millis / 1000,
            nanos: (millis % 1000) as i32 * 1_000_000,
        }
    }

    /// Whether it is zero.
    pub const fn is_zero(&self) -> bool {
        self.seconds == 0 && self.nanos == 0
    }
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError(text.chars().take(64).collect());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() || rest.len() > 64 {
            return Err(error());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let scale = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, scale)| *scale)
                .ok_or_else(error)?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() {
                return Err(error());
            }
            let whole: i128 = if whole.is_empty() {
                0
            } else {
                whole.parse().map_err(|_| error())?
            };
            let fraction = &fraction[..fraction.len().min(18)];
            let part: i128 = if fraction.is_empty() {
                0
            } else {
                fraction.parse().map_err(|_| error())?
            };
            let value = whole.checked_mul(scale).ok_or_else(error)?;
            total = total
                .checked_add(value + part * scale / 10_i128.pow(fraction.len() as u32))
                .ok_or_else(error)?;
            rest = tail;
        }
        if negative {
            total = -total;
        }
        let seconds = i64::try_from(total / 1_000_000_000).map_err(|_| error())?;
        Ok(Self {
            seconds,
            nanos: (total % 1_000_000_000) as i32,
        })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.seconds < 0 || self.nanos < 0 { "-" } else { "" };
        write!(f, "{sign}{}", self.seconds.unsigned_abs())?;
        if self.nanos != 0 {
            let nanos = format!("{:09}", self.nanos.unsigned_abs());
            write!(f, ".{}", nanos.trim_end_matches('0'))?;
        }
        f.write_str("s")
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-kubernetes-validations": [{
                "rule": "duration(self) >= duration('1ms')",
                "message": "must be a valid duration greater than 1ms",
            }],
        })
    }
}

/// A number that may be written as text, as protobuf's JSON allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Number<T>(pub T);

impl<'de, T: Deserialize<'de> + FromStr> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Number(T),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => text.parse().map(Self).map_err(|_| {
                serde::de::Error::custom(format!("{:?} is no number in range", text.get(..32).unwrap_or(&text)))
            }),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Number<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Unsigned 32-bit number, possibly written as text.
pub type U32 = Number<u32>;
/// Signed 32-bit number, possibly written as text.
pub type I32 = Number<i32>;
/// Signed 64-bit number, possibly written as text.
pub type I64 = Number<i64>;
/// Floating-point number, possibly written as text.
pub type F64 = Number<f64>;

/// Removes members that are `null`: protobuf's JSON reads them as absent.
pub fn strip_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// Part of a spec that is kept as it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub serde_json::Value);

impl JsonSchema for Opaque {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Opaque".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        let check = |text: &str, expected: &str| assert_eq!(text.parse::<Duration>().unwrap().to_string(), expected);
        check("10s", "10s");
        check("1.5s", "1.5s");
        check("1h2m", "3720s");
        check("250ms", "0.25s");
        check("0", "0s");
        check("-1s", "-1s");
        for bad in ["", "s", "10", "1x", "..s", "99999999999999999999999999999999999h"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_may_be_text() {
        assert_eq!(serde_json::from_str::<U32>("\"7\"").unwrap().0, 7);
        assert_eq!(serde_json::from_str::<U32>("7").unwrap().0, 7);
        assert!(serde_json::from_str::<U32>("-1").is_err());
    }
}
