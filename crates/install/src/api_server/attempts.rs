//! How long a request may take, its repeats included.

use std::io;
use std::time::Duration;

use kube::Error;
use kube::core::Status;
use tokio::time::Instant;

/// Attempts of a request that the server says to repeat.
pub(super) const ATTEMPTS: u32 = 6;
/// Least time of what admission decides on: an API server waits up to 30 s for a webhook and gives a write up after 34 s.
/// Whoever leaves earlier does not learn what became of it.
const ADMISSION: Duration = Duration::from_secs(40);

/// What a request does to the cluster, which decides how long it may take and what silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// Nothing, but admission decides on it as on a write: a dry run, a token.
    Tries,
    /// Something stays.
    Writes,
}

/// The API server did not answer in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API server did not answer within {after:?}{}", what_now(*.effect))]
pub struct Timeout {
    /// How long it was waited for.
    pub after: Duration,
    /// What was asked for.
    pub effect: Effect,
}

fn what_now(effect: Effect) -> &'static str {
    match effect {
        Effect::Reads | Effect::Tries => " (--kubeclient-timeout waits longer)",
        Effect::Writes => "; whether it was done is not known: run the same command again, it converges",
    }
}

/// The most that a request takes, by what it does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits(pub(super) Duration);

impl Limits {
    fn of(self, effect: Effect) -> Duration {
        match effect {
            Effect::Reads => self.0,
            Effect::Tries | Effect::Writes => self.0.max(ADMISSION),
        }
    }

    /// Asks once.
    pub(super) async fn once<T>(
        self,
        effect: Effect,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = self.of(effect);
        let answer = tokio::time::timeout(after, request).await;
        answer.unwrap_or_else(|_| Err(timed_out(after, effect)))
    }

    /// Repeats what `again` says, and of what is only read also what was cut off, until the limit: an attempt that would end after it, if it took as long as the last one,
    /// is not begun, so that what the server said is told and not that there was too little time.
    pub(super) async fn repeat<T, F>(
        self,
        effect: Effect,
        again: impl Fn(&Status) -> bool,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let after = self.of(effect);
        let end = Instant::now() + after;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let begin = Instant::now();
            let Ok(answer) = tokio::time::timeout_at(end, request()).await else {
                return Err(timed_out(after, effect));
            };
            let repeats = match &answer {
                Err(Error::Api(status)) => again(status),
                Err(error) => effect == Effect::Reads && is_cut_off(error),
                Ok(_) => false,
            };
            match answer {
                Err(error) if repeats && attempt < ATTEMPTS => {
                    let pause = Duration::from_millis(100 << attempt);
                    if Instant::now() + pause + begin.elapsed() > end {
                        return Err(error);
                    }
                    tracing::debug!(attempt, %error, "repeating");
                    tokio::time::sleep(pause).await;
                }
                result => return result,
            }
        }
    }
}

/// Did the connection end instead of an answer? A server, or what stands before it, may close one that was idle at the very
/// moment at which it is used again.
fn is_cut_off(error: &Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(
            kind,
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        )
    })
}

fn timed_out(after: Duration, effect: Effect) -> Error {
    Error::Service(Box::new(Timeout { after, effect }))
}

/// What the server is too busy for or not yet ready to do.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code {
        429 | 503 | 504 => true,
        // A CRD that was just established, or a webhook whose server is starting.
        500 => status.message.contains("failed calling webhook"),
        _ => false,
    }
}
