//! The `kube-api` set: stories of requests to an API server and what a real one answered.
//!
//! - [`story`] reads the cases, [`runner`] plays them against a [`target::Target`].
//! - [`webhook`] is the test webhook that stories configure, [`client`] the HTTPS client.
//! - [`set`] runs it all; [`kubectl`] plays the recorded commands; [`pretend`] is a node on which every pod runs at once.
//! - [`normalize`] takes out what differs from run to run, [`compare`] holds answer against expectation.

pub mod client;
mod compare;
mod kubectl;
mod normalize;
mod pretend;
mod runner;
mod set;
mod story;
mod target;
mod webhook;

use std::path::Path;

use futures::StreamExt;

use kubectl::run_kubectl;
use pretend::pretend_node;
pub use set::{run, run_on, run_stories};
pub use target::Target;

/// Stories played at the same time.
const PARALLEL: usize = 8;

/// Outcome of one story.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// `area/name`.
    pub name: String,
    /// Number of steps.
    pub steps: usize,
    /// What differed: `step N: …`. Empty when it passed.
    pub failures: Vec<String>,
}

impl CaseResult {
    /// Whether every step was answered as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl std::fmt::Display for CaseResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.steps > 0 {
            writeln!(f, "{} steps", self.steps)?;
        }
        f.write_str(&self.failures.join("\n"))
    }
}

/// Plays the stories below `data` (the folder `kube-api`) whose name is `wanted`.
///
/// # Errors
/// When the stories cannot be read or the test webhook cannot be started.
async fn run_kube_api(target: &Target, data: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<CaseResult>> {
    let mut stories = story::load(&data.join("cases"))?;
    stories.retain(|story| wanted(&story.name));
    let hooks = webhook::Hooks::start().await?;
    let runner = runner::Runner::new(target.clone(), hooks, data.to_owned()).await?;
    let mut results: Vec<CaseResult> = futures::stream::iter(stories)
        .map(|story| {
            let runner = &runner;
            async move { runner.play(&story).await }
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    results.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(results)
}
