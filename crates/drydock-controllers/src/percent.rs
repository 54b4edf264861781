//! Numbers that may be given in percent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The value, a percentage taken of `total` and rounded up or down. `None` if it is neither number nor percentage.
#[must_use]
pub fn resolve(value: &IntOrString, total: i32, up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let scaled = percent.checked_mul(i64::from(total))?;
            let whole = scaled.div_euclid(100);
            let rest = i64::from(up && scaled.rem_euclid(100) != 0);
            i32::try_from(whole + rest).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let check = |text: &str, total, up| resolve(&IntOrString::String(text.into()), total, up);
        assert_eq!(check("25%", 3, true), Some(1));
        assert_eq!(check("25%", 3, false), Some(0));
        assert_eq!(check("50%", 4, true), Some(2));
        assert_eq!(check("abc", 4, true), None);
        assert_eq!(resolve(&IntOrString::Int(7), 4, true), Some(7));
    }
}
