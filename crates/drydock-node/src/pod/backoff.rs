//! How long a container that keeps ending waits before it is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// A run this long clears the record.
const GOOD: Duration = Duration::from_secs(600);

/// The record of one container. The first restart is immediate, then 10 s, 20 s, … up to 5 min, as kubelet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The wait after a run of length `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= GOOD {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = if wait.is_zero() { FIRST } else { (wait * 2).min(LONGEST) };
        wait
    }

    /// After `runs` short runs that an earlier node process has seen.
    pub(crate) fn resumed(runs: u32) -> Self {
        let mut backoff = Self::default();
        for _ in 0..runs.min(10) {
            backoff.after(Duration::ZERO);
        }
        backoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_forgives() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.after(Duration::from_secs(1)).as_secs())
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after(GOOD).as_secs(), 0);
        assert_eq!(Backoff::resumed(2).after(Duration::ZERO).as_secs(), 20);
    }
}
