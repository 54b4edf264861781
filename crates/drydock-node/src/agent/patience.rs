//! How long a broken watch waits before it is tried again.

use kube::runtime::utils::Backoff;
use std::time::Duration;

/// The API server may be starting beside us, or have been killed and be back in a moment: the first tries come quickly.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles from 20 ms to 10 s.
#[derive(Debug, Default)]
pub(super) struct Patience {
    last: Duration,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.last = if self.last.is_zero() {
            FIRST
        } else {
            (self.last * 2).min(LONGEST)
        };
        Some(self.last)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}
