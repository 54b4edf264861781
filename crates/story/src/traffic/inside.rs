//! Requests inside the mesh: `sleep` calls `httpbin`, as a user would with `kubectl exec`.

use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, ListParams};
use kube::{Api, Client};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Counter, NAMESPACE, PATIENCE};

/// Requests of one `exec`: few, so that the client pod is chosen anew often.
const BATCH: usize = 10;
/// Ends each response in the output.
const MARK: &str = "=status=";

/// A client pod that is ready and stays.
async fn client_pod(pods: &Api<Pod>) -> Option<String> {
    let listed = pods.list(&ListParams::default().labels("app=sleep")).await.ok()?;
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    let mut candidates: Vec<Pod> = listed
        .items
        .into_iter()
        .filter(|pod| ready(pod) && stays(pod))
        .collect();
    // The newest: an older one is about to go.
    candidates.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    candidates.pop()?.metadata.name
}

/// Runs one batch in a pod; what it printed until it ended or its time was up, `None` if it could not be started.
async fn batch(pods: &Api<Pod>, pod: &str) -> Option<String> {
    let script = format!(
        "for i in $(seq {BATCH}); do curl -s -m {} -w '\\n{MARK}%{{http_code}} %{{errormsg}}\\n' http://httpbin:8000/headers; sleep 0.05; done; echo {MARK}end",
        PATIENCE.as_secs()
    );
    let parameters = AttachParams::default()
        .container("sleep")
        .stdin(false)
        .stdout(true)
        .stderr(false);
    let started = timeout(PATIENCE, pods.exec(pod, ["sh", "-c", &script], &parameters)).await;
    let mut process = started.ok()?.ok()?;
    let mut output = Vec::new();
    // A batch that hangs or breaks off is judged by what it printed before.
    let _ = timeout(PATIENCE * 3, process.stdout()?.take(1 << 20).read_to_end(&mut output)).await;
    Some(String::from_utf8_lossy(&output).into_owned())
}

/// Counts the responses of a batch; whether it went through to the end.
fn count(output: &str, counter: &Counter) -> bool {
    let mut body = String::new();
    for line in output.lines() {
        match line.strip_prefix(MARK) {
            Some("end") => return true,
            Some(status) => {
                let outcome = match status.trim() {
                    "200" => Ok(body.contains("URI=spiffe://")),
                    other => Err(format!("{other} {}", body.trim())),
                };
                counter.inside(outcome);
                body.clear();
            }
            None => {
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    false
}

/// Waits until the client gets an answer over mTLS.
pub async fn first_answer(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let counter = Counter::default();
        let pod = client_pod(&pods).await;
        let output = match &pod {
            Some(pod) => batch(&pods, pod).await.unwrap_or_default(),
            None => String::new(),
        };
        count(&output, &counter);
        let mut clean = false;
        counter.with(|totals| {
            clean = totals.inside.sent > 0 && totals.inside.failed == 0 && totals.mtls == totals.inside.sent;
        });
        if clean {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("sleep cannot reach httpbin over mTLS in {NAMESPACE}: pod {pod:?} said {output:?}");
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Sends batch after batch until it is stopped.
pub async fn send(client: Client, counter: Counter, stopped: watch::Receiver<bool>) {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    while !*stopped.borrow() {
        let Some(pod) = client_pod(&pods).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(output) = batch(&pods, &pod).await else {
            // The API server or the pod is away: nothing of the mesh was asked.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !count(&output, &counter) {
            // Every request has a time limit of its own and prints how it ended, so a mesh that hangs has been counted.
            // A batch that breaks off without a word lost its client, or the API server between us and the client.
            counter.with(|totals| totals.cut_off += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_counted_with_their_tls() {
        let counter = Counter::default();
        let output = "{\"X-Forwarded-Client-Cert\": \"By=a;URI=spiffe://b\"}\n\n=status=200 \nplain\n=status=200 \nno healthy upstream\n=status=503 \n=status=end\n";
        assert!(count(output, &counter));
        counter.with(|totals| {
            assert_eq!((totals.inside.sent, totals.inside.failed, totals.mtls), (3, 1, 1));
            assert!(
                totals.failures[0].contains("503 no healthy upstream"),
                "{:?}",
                totals.failures
            );
            assert!(!totals.is_clean());
        });
        assert!(!count("half a resp", &counter));
    }
}
