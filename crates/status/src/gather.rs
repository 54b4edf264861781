//! Asks all istiods at once.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};

use crate::clusters::{self, Member};
use crate::proxy::{self, Proxy};
use crate::version::{self, Build};

/// Most istiods asked at the same time.
const AT_ONCE: usize = 32;

/// A way to ask an istiod.
#[async_trait]
pub trait Ask: Send + Sync {
    /// The answer of pod `pod` to a GET of `path` on its monitoring port, or why there is none.
    async fn ask(&self, pod: &str, path: &str) -> Result<Bytes, String>;
}

/// An istiod pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Name of the pod.
    pub pod: String,
    /// Its revision, as labels spell it.
    pub revision: String,
    /// Component as `istioctl version` names it: `istiod`, or `pilot` for the unnamed revision.
    pub component: String,
}

/// What one istiod said.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// Who.
    pub instance: Instance,
    /// What, or why nothing.
    pub result: Result<T, String>,
}

/// Proxies of every istiod. Each has `deadline` to answer; one that does not costs its own answer only.
pub async fn proxies(ask: &dyn Ask, instances: &[Instance], deadline: Duration) -> Vec<Answer<Vec<Proxy>>> {
    all(ask, instances, "/debug/syncz", deadline, |body| {
        proxy::parse(body).map_err(|error| error.to_string())
    })
    .await
}

/// Versions of every istiod.
pub async fn versions(ask: &dyn Ask, instances: &[Instance], deadline: Duration) -> Vec<Answer<Build>> {
    all(ask, instances, "/version", deadline, |body| Ok(version::parse(body))).await
}

/// Clusters of every istiod.
pub async fn clusters(ask: &dyn Ask, instances: &[Instance], deadline: Duration) -> Vec<Answer<Vec<Member>>> {
    all(ask, instances, "/debug/clusterz", deadline, |body| {
        clusters::parse(body).map_err(|error| format!("the answer is no list of clusters: {error}"))
    })
    .await
}

async fn all<T>(
    ask: &dyn Ask,
    instances: &[Instance],
    path: &str,
    deadline: Duration,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Vec<Answer<T>> {
    let read = &read;
    let mut answers: Vec<Answer<T>> = stream::iter(instances.iter().cloned())
        .map(|instance| async move {
            let asked = tokio::time::timeout(deadline, ask.ask(&instance.pod, path)).await;
            let result = match asked {
                Ok(Ok(body)) => read(&body),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(format!("no answer within {}s", deadline.as_secs_f32())),
            };
            Answer { instance, result }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    answers.sort_by(|a, b| a.instance.cmp(&b.instance));
    answers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Fake;

    #[async_trait]
    impl Ask for Fake {
        async fn ask(&self, pod: &str, _: &str) -> Result<Bytes, String> {
            match pod {
                "istiod-a" => Ok(Bytes::from_static(br#"[{"proxy":"x.app","cluster_id":"Kubernetes"}]"#)),
                "istiod-b" => Err("connection refused".to_owned()),
                _ => std::future::pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_sick_istiod_costs_its_own_answer_only() {
        let instances = ["istiod-a", "istiod-b", "istiod-c"].map(|pod| Instance {
            pod: pod.to_owned(),
            revision: "default".to_owned(),
            component: "pilot".to_owned(),
        });
        let answers = proxies(&Fake, &instances, Duration::from_secs(5)).await;
        assert_eq!(answers[0].result.as_ref().unwrap()[0].id, "x.app");
        assert_eq!(answers[1].result.as_ref().unwrap_err(), "connection refused");
        assert_eq!(answers[2].result.as_ref().unwrap_err(), "no answer within 5s");
    }
}
