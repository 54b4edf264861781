//! Quantiles.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Delays in milliseconds, counted by tenths; many threads record at once.
#[derive(Debug)]
pub struct Delays {
    tenths: Box<[AtomicU64]>,
}

/// Tenths of milliseconds that are told apart; what takes longer counts as this long.
const LONGEST: usize = 100_000;

impl Default for Delays {
    fn default() -> Self {
        Self {
            tenths: (0..=LONGEST).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Delays {
    /// Counts one.
    pub fn record(&self, milliseconds: f64) {
        let at = ((milliseconds * 10.0).max(0.0) as usize).min(LONGEST);
        self.tenths[at].fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.tenths.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Milliseconds below which the given share lies; 0 for none.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = ((self.count() as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (tenths, count) in self.tenths.iter().enumerate() {
            seen += count.load(Relaxed);
            if seen >= rank {
                return tenths as f64 / 10.0;
            }
        }
        0.0
    }
}

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

    #[test]
    fn delays_are_told_apart_by_tenths() {
        let delays = Delays::default();
        (1..=100).for_each(|tenth| delays.record(f64::from(tenth) / 10.0 + 0.05));
        assert_eq!(
            (
                delays.count(),
                delays.quantile(0.5),
                delays.quantile(0.99),
                delays.quantile(1.0)
            ),
            (100, 5.0, 9.9, 10.0)
        );
        assert_eq!(Delays::default().quantile(0.5), 0.0);
    }
}
