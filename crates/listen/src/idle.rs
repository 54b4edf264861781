//! A connection is kept open as long as something is under way on it.

use std::time::Duration;

use tokio::sync::watch;

/// How many requests are under way on a connection, and since when there is none.
#[derive(Debug, Clone, Default)]
pub struct Idle(watch::Sender<usize>);

/// A request that is under way; it ends when this is dropped, so it is kept with the body of the answer.
#[derive(Debug)]
pub struct Busy(watch::Sender<usize>);

impl Idle {
    /// A request begins.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.0.send_modify(|requests| *requests += 1);
        Busy(self.0.clone())
    }

    /// Ends when nothing was under way for so long.
    pub async fn longer_than(&self, limit: Duration) {
        let mut requests = self.0.subscribe();
        loop {
            // Neither can fail: the sender is here.
            let _ = requests.wait_for(|requests| *requests == 0).await;
            if tokio::time::timeout(limit, requests.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_counts() {
        const LIMIT: Duration = Duration::from_secs(90);
        let (idle, began) = (Idle::default(), tokio::time::Instant::now());
        let hours = Duration::from_secs(7200);
        let (long, short) = (idle.busy(), idle.busy());
        let ended = tokio::spawn({
            let idle = idle.clone();
            async move {
                idle.longer_than(LIMIT).await;
                began.elapsed()
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(short);
        tokio::time::sleep(hours).await;
        drop(long);
        // A request before the time is over, however short.
        tokio::time::sleep(LIMIT / 2).await;
        drop(idle.busy());
        assert_eq!(
            ended.await.ok(),
            Some(Duration::from_secs(1) + hours + LIMIT / 2 + LIMIT)
        );
    }
}
