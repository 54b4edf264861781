//! Growing pauses between attempts.

use std::time::Duration;

/// Doubles from `first` up to `last`; back to `first` after a success.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            next: first,
        }
    }

    /// For requests to the API server: 100 ms to 30 s.
    pub(crate) fn api() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.last);
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_last() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        let pauses: Vec<u64> = (0..4).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 3, 3]);
        backoff.reset();
        assert_eq!(backoff.pause().as_secs(), 1);
    }
}
