//! Quantities (`500m`, `1Gi`) in their canonical form.

/// Largest text looked at; longer ones are no sensible quantities.
const MAX_LEN: usize = 64;

/// What a text that is no quantity is answered with.
pub const ERROR: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// A parsed quantity: an exact number of nano-units and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Reads a quantity; `None` if the text is none. Fractions below a nano-unit are rounded up.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (format, factor, divisor) = scale(suffix)?;
        let mut value: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        let divisor = divisor.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
        let scaled = value.checked_mul(factor)?;
        // Multiply by 1e9 as late as the range allows.
        let nanos = match scaled.checked_mul(NANO) {
            Some(scaled) => (scaled + divisor - 1) / divisor,
            None => (scaled / divisor).checked_mul(NANO)?,
        };
        Some(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// Nano-units, for comparisons.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// The canonical text: no fraction, largest suffix that needs none.
    pub fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".into();
        }
        let (sign, nanos) = if self.nanos < 0 {
            ("-", -self.nanos)
        } else {
            ("", self.nanos)
        };
        if self.format == Format::Binary && nanos % NANO == 0 && nanos / NANO >= 1024 {
            let mut value = nanos / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return format!("{sign}{value}{suffix}");
        }
        let mut value = nanos;
        let mut exponent = -9;
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            let suffix = if exponent == 0 {
                String::new()
            } else {
                format!("e{exponent}")
            };
            return format!("{sign}{value}{suffix}");
        }
        let suffix = DECIMAL
            .iter()
            .find(|(_, power)| *power == exponent)
            .map_or("", |(name, _)| name);
        format!("{sign}{value}{suffix}")
    }
}

/// Format, factor and divisor of a suffix.
fn scale(suffix: &str) -> Option<(Format, i128, i128)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::Binary, 1i128 << bits, 1));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::Decimal, positive_power(*power)?, positive_power(-power)?));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Format::Exponent, positive_power(exponent)?, positive_power(-exponent)?))
}

fn positive_power(exponent: i32) -> Option<i128> {
    match u32::try_from(exponent) {
        Ok(exponent) => 10i128.checked_pow(exponent),
        Err(_) => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        assert_eq!(
            Quantity::parse(text).map(Quantity::canonical).as_deref(),
            Some(canonical),
            "{text}"
        );
    }

    #[test]
    fn quantities_become_canonical() {
        check("1000m", "1");
        check("0.5", "500m");
        check("100m", "100m");
        check("1024Mi", "1Gi");
        check("1.5Gi", "1536Mi");
        check("128974848", "128974848");
        check("1000", "1k");
        check("1e3", "1e3");
        check("0", "0");
        check("2", "2");
        check("500Ki", "500Ki");
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "a", "1x", "1.2.3", "--1", "1 Gi", "."] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }
}
