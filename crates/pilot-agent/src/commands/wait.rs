//! `pilot-agent wait`: until the proxy is ready.

use std::time::{Duration, Instant};

use http::Uri;

use crate::fetch::{Target, get};

/// How long and how often.
#[derive(Debug, Clone)]
pub struct Wait {
    /// Give up after this.
    pub timeout: Duration,
    /// Each request may take this.
    pub request_timeout: Duration,
    /// Pause between requests.
    pub period: Duration,
    /// What to ask.
    pub url: String,
}

/// Asks until the answer is 200.
///
/// # Errors
/// If it is not within the time, or the URL is none.
pub async fn run(wait: &Wait) -> anyhow::Result<()> {
    let url: Uri = wait.url.parse()?;
    let host = url
        .host()
        .ok_or_else(|| anyhow::anyhow!("--url {:?} has no host", wait.url))?;
    let target = Target::plain(host, url.port_u16().unwrap_or(80));
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let start = Instant::now();
    let mut last = "it was not asked yet".to_owned();
    while start.elapsed() < wait.timeout {
        tokio::time::sleep(wait.period).await;
        match get(&target, path, wait.request_timeout, 64 * 1024).await {
            Ok(answer) if answer.status() == http::StatusCode::OK => return Ok(()),
            Ok(answer) => last = format!("HTTP status code {}", answer.status().as_u16()),
            Err(error) => last = error.to_string(),
        }
    }
    anyhow::bail!("timeout waiting for Envoy proxy to become ready. Last error: {last}")
}
