//! A connection of HTTP/2 and its streams as one task.
//!
//! On tasks of their own, a stream that has something to say wakes the connection to say it, and a connection that hears
//! something wakes the stream it is for: each message costs two or three turns of the scheduler, often on different
//! processors. Here they are parts of one task, and a turn goes on until no part has anything to do.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// Rounds of one turn before other tasks have theirs.
const ROUNDS: usize = 16;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts its streams: its executor.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Vec<Stream>>>);

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("started", &self.lock().len()).finish()
    }
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.lock())
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.lock().push(Box::pin(stream));
    }
}

/// A connection and its streams. What is left of the streams ends with it.
pub struct Together<C> {
    connection: Pin<Box<C>>,
    started: Streams,
    /// A few: bounded by the connection's number of requests.
    open: Vec<(Stream, Part)>,
    task: Arc<Task>,
    of_connection: Part,
}

impl<C> fmt::Debug for Together<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together")
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<C: Future> Together<C> {
    /// A connection whose executor is `streams`.
    pub fn new(connection: C, streams: Streams) -> Self {
        let task = Arc::new(Task::default());
        Self {
            connection: Box::pin(connection),
            started: streams,
            open: Vec::new(),
            of_connection: Part::new(&task),
            task,
        }
    }

    /// The connection, to tell it something.
    pub fn connection(&mut self) -> Pin<&mut C> {
        self.of_connection.wake();
        self.connection.as_mut()
    }

    /// Goes on until the connection ends, or something beside it is done (`Err`).
    ///
    /// # Errors
    /// The result of `aside`, which came first.
    pub async fn unless<A>(&mut self, aside: impl Future<Output = A>) -> Result<C::Output, A> {
        let mut aside = std::pin::pin!(aside);
        let of_aside = Part::new(&self.task);
        std::future::poll_fn(|cx| {
            self.task.waker.register(cx.waker());
            self.task.turning.store(true, SeqCst);
            let mut rounds = 0;
            let done = loop {
                if let Some(Poll::Ready(done)) = of_aside.run(|cx| aside.as_mut().poll(cx)) {
                    break Some(Err(done));
                }
                if let Some(ended) = self.round() {
                    break Some(Ok(ended));
                }
                rounds += 1;
                if rounds == ROUNDS || !(of_aside.is_woken() || self.is_woken()) {
                    break None;
                }
            };
            self.task.turning.store(false, SeqCst);
            if done.is_none() && (of_aside.is_woken() || self.is_woken()) {
                cx.waker().wake_by_ref();
            }
            done.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Looks at every part that was woken; what the connection ended with, if it did.
    fn round(&mut self) -> Option<C::Output> {
        let started = self.started.take().into_iter();
        self.open.extend(started.map(|stream| (stream, Part::new(&self.task))));
        // Streams before the connection: it takes along what they say.
        self.open.retain_mut(|(stream, part)| {
            let looked = part.run(|cx| stream.as_mut().poll(cx));
            looked.is_none_or(|polled| polled.is_pending())
        });
        match self.of_connection.run(|cx| self.connection.as_mut().poll(cx)) {
            Some(Poll::Ready(ended)) => Some(ended),
            _ => None,
        }
    }

    fn is_woken(&self) -> bool {
        let mut streams = self.open.iter().map(|(_, part)| part);
        self.of_connection.is_woken() || streams.any(Part::is_woken) || !self.started.is_empty()
    }
}

/// What the parts of a connection have in common.
#[derive(Default)]
struct Task {
    waker: AtomicWaker,
    /// Whether a turn is under way, which sees by itself what is woken.
    turning: AtomicBool,
}

/// A part of a connection's task, which is woken by itself.
struct Part {
    state: Arc<PartState>,
    waker: Waker,
}

struct PartState {
    woken: AtomicBool,
    task: Arc<Task>,
}

impl Part {
    /// A part that has to be looked at once.
    fn new(task: &Arc<Task>) -> Self {
        let state = Arc::new(PartState {
            woken: AtomicBool::new(true),
            task: task.clone(),
        });
        Self {
            waker: state.clone().into(),
            state,
        }
    }

    /// Looks at it if it was woken.
    fn run<T>(&self, look: impl FnOnce(&mut Context<'_>) -> T) -> Option<T> {
        let woken = self.state.woken.swap(false, SeqCst);
        woken.then(|| look(&mut Context::from_waker(&self.waker)))
    }

    fn wake(&self) {
        self.waker.wake_by_ref();
    }

    fn is_woken(&self) -> bool {
        self.state.woken.load(SeqCst)
    }
}

impl Wake for PartState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Either the turn that is under way sees this at its end, or it is over and the next one is asked for.
        if !self.woken.swap(true, SeqCst) && !self.task.turning.load(SeqCst) {
            self.task.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use hyper::rt::Executor;
    use tokio::sync::{mpsc, oneshot};

    /// A connection that starts a stream per message and ends when there are no more; streams hear of their message by
    /// another task, and tell the connection, which passes it on.
    async fn connection(
        streams: Streams,
        mut messages: mpsc::Receiver<oneshot::Receiver<u32>>,
        heard: mpsc::Sender<u32>,
    ) {
        let (said, mut says) = mpsc::channel(1);
        let mut open = 0;
        let mut ending = false;
        while !ending || open > 0 {
            tokio::select! {
                message = messages.recv(), if !ending => match message {
                    Some(message) => {
                        open += 1;
                        let said = said.clone();
                        streams.execute(async move {
                            if let Ok(number) = message.await {
                                let _ = said.send(number).await;
                            }
                        });
                    }
                    None => ending = true,
                },
                Some(number) = says.recv() => {
                    open -= 1;
                    let _ = heard.send(number).await;
                }
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_part_waits_for_ever() {
        const MESSAGES: u32 = 2000;
        let (messages, incoming) = mpsc::channel(4);
        let (heard, mut hears) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let streams = Streams::default();
            let mut together = Together::new(connection(streams.clone(), incoming, heard), streams);
            together.unless(std::future::pending::<()>()).await
        });
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                let (tell, told) = oneshot::channel();
                if messages.send(told).await.is_err() {
                    return;
                }
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    let _ = tell.send(number);
                });
            }
        });
        let all = async {
            let mut numbers = Vec::new();
            while let Some(number) = hears.recv().await {
                numbers.push(number);
            }
            numbers.sort_unstable();
            numbers
        };
        let numbers = tokio::time::timeout(Duration::from_secs(60), all).await;
        assert_eq!(numbers.ok(), Some((0..MESSAGES).collect()));
        assert!(matches!(task.await, Ok(Ok(()))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_beside_it_comes_first_and_streams_end_with_it() {
        let streams = Streams::default();
        let (open, mut closed) = mpsc::channel::<()>(1);
        streams.execute(async move {
            let _open = open;
            std::future::pending().await
        });
        let mut together = Together::new(std::future::pending::<()>(), streams);
        let aside = tokio::time::sleep(Duration::from_secs(7));
        assert_eq!(together.unless(aside).await, Err(()));
        assert_eq!(closed.try_recv(), Err(mpsc::error::TryRecvError::Empty), "it is open");
        drop(together);
        assert_eq!(closed.recv().await, None);
    }
}
