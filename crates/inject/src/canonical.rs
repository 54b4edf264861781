//! The form that Kubernetes' own types give a pod: canonical quantities, no fields with their zero value.
//!
//! Templates write `2000m` and `initialDelaySeconds: 0`; a pod that went through Go's types says `2` and nothing.
//! Writing the same keeps patches small and comparisons with stored pods honest.

use serde_json::{Map, Value};

/// Brings a rendered fragment into canonical form.
pub(crate) fn canonicalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            drop_zeros(fields);
            for (field, value) in fields.iter_mut() {
                match (field.as_str(), value) {
                    ("limits" | "requests", Value::Object(amounts)) => amounts.values_mut().for_each(canonical_amount),
                    (_, value) => canonicalise(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonicalise),
        _ => {}
    }
}

fn drop_zeros(fields: &mut Map<String, Value>) {
    // An environment variable without a value is the empty one.
    if fields.get("value").and_then(Value::as_str) == Some("") {
        fields.shift_remove("value");
    }
    for field in [
        "initialDelaySeconds",
        "hostPort",
        "timeoutSeconds",
        "periodSeconds",
        "failureThreshold",
    ] {
        if fields.get(field).and_then(Value::as_i64) == Some(0) {
            fields.shift_remove(field);
        }
    }
}

fn canonical_amount(value: &mut Value) {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    if let Some(canonical) = quantity(&text) {
        *value = Value::String(canonical);
    }
}

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Decimal suffixes by power of a thousand, from nano to exa.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// Canonical text of a quantity; `None` if it is none, or one that has no exact short form.
fn quantity(text: &str) -> Option<String> {
    if let Some((power, number)) = BINARY
        .iter()
        .enumerate()
        .find_map(|(i, s)| Some((i + 1, text.strip_suffix(s)?)))
    {
        let (mut number, mut power): (u64, usize) = (number.parse().ok()?, power);
        while number != 0 && number % 1024 == 0 && power < BINARY.len() {
            (number, power) = (number / 1024, power + 1);
        }
        return Some(if number == 0 {
            "0".to_owned()
        } else {
            format!("{number}{}", BINARY[power - 1])
        });
    }
    let suffix_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(suffix_at);
    let mut power = DECIMAL.iter().position(|known| *known == suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = format!("{whole}{}", fraction.trim_end_matches('0'));
    let mut places = fraction.trim_end_matches('0').len();
    while places > 0 {
        // A fraction becomes a whole number of the next smaller unit.
        let missing = 3usize.saturating_sub(places);
        digits.push_str(&"0".repeat(missing));
        places = places.saturating_sub(3);
        power = power.checked_sub(1)?;
    }
    let mut number: u128 = digits.parse().ok()?;
    if number == 0 {
        return Some("0".to_owned());
    }
    while number.is_multiple_of(1000) && power + 1 < DECIMAL.len() {
        (number, power) = (number / 1000, power + 1);
    }
    Some(format!("{number}{}", DECIMAL[power]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_kubernetes_does() {
        let cases = [
            ("2000m", "2"),
            ("100m", "100m"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.25", "1250m"),
            ("0", "0"),
            ("1024Mi", "1Gi"),
            ("128Mi", "128Mi"),
            ("2048Ki", "2Mi"),
            ("1000M", "1G"),
            ("0.0001", "100u"),
            ("0Mi", "0"),
        ];
        for (text, expected) in cases {
            assert_eq!(quantity(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(quantity("lots"), None);
    }
}
