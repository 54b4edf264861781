//! Runs controllers: workers that take keys from a queue and reconcile them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Key, Queue};
use crate::Error;

/// When to look at the object again although nothing has changed.
pub type Requeue = Option<Duration>;

/// One controller. `reconcile` brings the world one step nearer to what the object of `key` wants, and is called again
/// whenever something that it reads has changed.
pub trait Reconciler: Send + Sync + 'static {
    /// Name for logs.
    const NAME: &'static str;

    /// One step. Writes nothing when nothing is to be changed.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Requeue, Error>> + Send;
}

/// Collects the tasks of controllers that act only once a gate is open.
#[derive(Debug)]
pub struct Runner {
    tasks: JoinSet<()>,
    gate: watch::Receiver<bool>,
}

impl Runner {
    /// No tasks yet.
    #[must_use]
    pub fn behind(gate: watch::Receiver<bool>) -> Self {
        let tasks = JoinSet::new();
        Runner { tasks, gate }
    }

    /// Starts a background task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Starts `workers` workers of a controller once `ready` returns (its caches are filled) and the gate is open.
    pub fn controller<R: Reconciler>(
        &mut self,
        reconciler: R,
        queue: Arc<Queue>,
        workers: usize,
        ready: impl Future<Output = ()> + Send + 'static,
    ) {
        let reconciler = Arc::new(reconciler);
        let mut gate = self.gate.clone();
        self.tasks.spawn(async move {
            ready.await;
            if gate.wait_for(|open| *open).await.is_err() {
                return;
            }
            let mut set = JoinSet::new();
            for _ in 0..workers {
                set.spawn(work(reconciler.clone(), queue.clone()));
            }
            set.join_all().await;
        });
    }

    /// Runs until a task ends, which only a panic brings about.
    pub async fn run(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller's task ended");
                return;
            }
        }
    }
}

async fn work<R: Reconciler>(reconciler: Arc<R>, queue: Arc<Queue>) {
    loop {
        let key = queue.next().await;
        match reconciler.reconcile(&key).await {
            Ok(requeue) => {
                queue.forget(&key);
                if let Some(delay) = requeue {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                let delay = queue.retry(key.clone());
                if error.is_conflict() || error.is_not_found() || error.is_namespace_terminating() {
                    tracing::debug!(controller = R::NAME, %key, ?delay, %error, "again");
                } else {
                    tracing::warn!(controller = R::NAME, %key, ?delay, %error, "failed, trying again");
                }
            }
        }
        queue.done(&key);
    }
}
