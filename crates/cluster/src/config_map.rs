//! One ConfigMap by name, as a value that changes.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

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
        let mut objects = std::pin::pin!(
            kube::runtime::watcher::watch_object(api, &name).backoff(watcher::DefaultBackoff::default())
        );
        loop {
            let next = tokio::select! {
                next = objects.next() => next,
                () = sender.closed() => return,
            };
            let data = match next {
                Some(Ok(object)) => object.map(|map: ConfigMap| map.data.unwrap_or_default()),
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
