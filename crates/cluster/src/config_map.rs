//! One ConfigMap by name, as a value that changes.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::watching::watching;

/// The data of a ConfigMap; `None` while it does not exist.
pub type Data = Option<BTreeMap<String, String>>;

/// Reads a ConfigMap once.
///
/// # Errors
/// Whatever the API answers; absence is no error.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Result<Data, kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_opt(name).await?.map(|map| map.data.unwrap_or_default()))
}

/// Follows a ConfigMap for ever. The value starts with `initial` and changes only when the data does.
pub fn follow(client: &Client, namespace: &str, name: &str, initial: Data) -> watch::Receiver<Data> {
    let (sender, receiver) = watch::channel(initial);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watching(api, Some(format!("metadata.name={name}"))));
        // Absent until a list says otherwise: what went away while nobody watched is in no event.
        let mut listed = None;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = sender.closed() => return,
            };
            let data = match next {
                Some(Ok(Event::Init)) => {
                    listed = None;
                    continue;
                }
                Some(Ok(Event::InitApply(map))) => {
                    listed = Some(map.data.unwrap_or_default());
                    continue;
                }
                Some(Ok(Event::InitDone)) => listed.take(),
                Some(Ok(Event::Apply(map))) => Some(map.data.unwrap_or_default()),
                Some(Ok(Event::Delete(_))) => None,
                Some(Err(error)) => {
                    tracing::warn!(name, %error, "watch of a ConfigMap failed; trying again");
                    continue;
                }
                None => return,
            };
            sender.send_if_modified(|current| {
                let differs = *current != data;
                if differs {
                    *current = data;
                }
                differs
            });
        }
    });
    receiver
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::fake;

    const PATH: &str = "/api/v1/namespaces/istio-system/configmaps/istio";

    fn put(api: &fake::Api, mesh: &str) {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio" }, "data": { "mesh": mesh } });
        api.put(PATH, map);
    }

    async fn check(data: &mut watch::Receiver<Data>, expect: Option<&str>) {
        let is = |data: &Data| data.as_ref().and_then(|map| map.get("mesh").map(String::as_str)) == expect;
        let reached = tokio::time::timeout(Duration::from_secs(600), data.wait_for(is)).await;
        assert!(reached.is_ok(), "{expect:?} was not seen");
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_followed_through_ended_watches_and_forgotten_versions() {
        let api = fake::Api::default();
        let mut data = follow(&api.client(), "istio-system", "istio", None);
        put(&api, "one");
        check(&mut data, Some("one")).await;
        api.cut_watches(false);
        put(&api, "two");
        check(&mut data, Some("two")).await;
        api.cut_watches(true);
        put(&api, "three");
        check(&mut data, Some("three")).await;
        api.delete(PATH);
        check(&mut data, None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_away_while_nobody_watched_is_gone() {
        let api = fake::Api::default();
        put(&api, "one");
        let mut data = follow(&api.client(), "istio-system", "istio", None);
        check(&mut data, Some("one")).await;
        api.delete(PATH);
        api.cut_watches(true);
        check(&mut data, None).await;
    }
}
