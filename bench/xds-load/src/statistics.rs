//! Quantiles.

/// The value below which the given share of sorted values lies; 0 for none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            (quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)),
            (1.0, 3.0, 4.0)
        );
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
