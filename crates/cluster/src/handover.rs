//! The memory of objects that went to another revision while gateways here still need them (operators.md §4): a ConfigMap
//! of the revision, so that a replica that starts later knows what one that ended knew.
//!
//! It holds names alone. What an object said when it left is lost with the last process that read it; what it says now is
//! what the gateway gets from its new owner anyway.

use std::collections::{BTreeMap, BTreeSet};

use api::names::label;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::budget::{Meter, Unwritten};
use crate::config_map;
use crate::deadline::timely;
use crate::events;

/// What the ConfigMap's name begins with; the revision follows.
pub const NAME: &str = "istio-handover";
/// Its key: a name on each line.
const KEY: &str = "objects";
/// Most names that are remembered.
const MOST: usize = 1000;

/// Where one revision's memory is.
#[derive(Clone)]
pub struct Memory {
    /// The API.
    pub client: Client,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Name of the ConfigMap.
    pub name: String,
    /// The revision, as labels spell it.
    pub revision: String,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// What is remembered; tries until the API server answers.
    ///
    /// # Errors
    /// If it refuses, which it will do again.
    pub async fn load(&self) -> Result<BTreeSet<String>, kube::Error> {
        let mut backoff = Backoff::api();
        loop {
            match timely(self.read()).await {
                Ok(names) => return Ok(names),
                Err(error) if is_refusal(&error) => return Err(error),
                Err(error) => tracing::warn!(name = self.name, %error, "not read yet; trying again"),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn read(&self) -> Result<BTreeSet<String>, kube::Error> {
        let data = config_map::read(&self.client, &self.namespace, &self.name).await?;
        let text = data.and_then(|mut data| data.remove(KEY)).unwrap_or_default();
        let names = text.lines().filter(|line| !line.is_empty());
        Ok(names.take(MOST).map(str::to_owned).collect())
    }

    /// Writes what `names` says, whenever it says something else.
    pub async fn keep(self, mut names: watch::Receiver<BTreeSet<String>>, meter: Meter) {
        // What changed before anybody looked counts as seen; writing the same again does nothing.
        names.mark_changed();
        while names.changed().await.is_ok() {
            let mut backoff = Backoff::api();
            loop {
                let now = names.borrow_and_update().clone();
                match self.write(&now, &meter).await {
                    Ok(()) => break,
                    Err(Unwritten::Held(held)) => tokio::time::sleep_until(held.until).await,
                    Err(Unwritten::Failed(error)) => {
                        tracing::warn!(name = self.name, %error, "what gateways here still need was not written down; trying again");
                        tokio::time::sleep(backoff.pause()).await;
                    }
                }
            }
        }
    }

    async fn write(&self, names: &BTreeSet<String>, meter: &Meter) -> Result<(), Unwritten> {
        if names.len() > MOST {
            tracing::warn!(
                names = names.len(),
                "only {MOST} objects of other revisions are remembered"
            );
        }
        let text: Vec<&str> = names.iter().take(MOST).map(String::as_str).collect();
        let text = text.join("\n");
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let object = events::named::<ConfigMap>(Some(&self.namespace), &self.name);
        let parameters = PostParams::default();
        match timely(api.get_opt(&self.name)).await? {
            None if names.is_empty() => {}
            None => {
                let map = self.map(text);
                meter.write(&object, api.create(&parameters, &map)).await?;
            }
            Some(mut map) => {
                let held = map.data.get_or_insert_default().insert(KEY.to_owned(), text.clone());
                if held.as_deref() != Some(&*text) {
                    meter.write(&object, api.replace(&self.name, &parameters, &map)).await?;
                }
            }
        }
        Ok(())
    }

    /// It goes with the revision when that is removed.
    fn map(&self, text: String) -> ConfigMap {
        let labels = [
            (label::REVISION, self.revision.as_str()),
            (label::OPERATOR_COMPONENT, "Pilot"),
            (label::OWNING_RESOURCE_NAMESPACE, &self.namespace),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..Default::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..Default::default()
        }
    }
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::budget::{Ledger, Writer};
    use crate::events::Events;
    use crate::fake;

    fn names(text: &str) -> BTreeSet<String> {
        text.split_terminator(',').map(str::to_owned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_outlives_the_process_and_is_written_once() {
        let api = fake::Api::default();
        let memory = memory(api.client());
        assert_eq!(memory.read().await.unwrap(), names(""));
        let sender = watch::Sender::new(names(""));
        let meter = meter(&api, Arc::default());
        tokio::spawn(memory.clone().keep(sender.subscribe(), meter));
        for (say, written) in [
            ("", 0),
            ("Gateway a/g", 1),
            ("Gateway a/g", 0),
            ("Gateway a/g,VirtualService a/v", 1),
            ("", 1),
        ] {
            sender.send_replace(names(say));
            // Time stands still until everybody waits.
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(memory.read().await.unwrap(), names(say));
            let writes = api.writes();
            assert_eq!(writes.len(), written, "{say}");
            assert!(writes.iter().all(|write| !write.changes_nothing));
        }
        let map = api
            .get("/api/v1/namespaces/istio-system/configmaps/istio-handover-old")
            .unwrap();
        assert_eq!(map["metadata"]["labels"]["istio.io/rev"], "old");
    }

    fn meter(api: &fake::Api, ledger: Arc<Ledger>) -> Meter {
        Meter::new(Writer::Handover, ledger, Events::new(api.client(), "istiod"))
    }

    fn memory(client: Client) -> Memory {
        Memory {
            client,
            namespace: "istio-system".into(),
            name: "istio-handover-old".into(),
            revision: "old".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_waited_for() {
        let api = fake::Api::default();
        let line = fake::Line::default();
        line.down.store(true, std::sync::atomic::Ordering::Relaxed);
        let loading = tokio::spawn({
            let memory = memory(api.client_on(line.clone()));
            async move { memory.load().await }
        });
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!loading.is_finished());
        let meter = meter(&api, Arc::default());
        memory(api.client()).write(&names("Gateway a/g"), &meter).await.unwrap();
        line.down.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(loading.await.unwrap().unwrap(), names("Gateway a/g"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_before_anybody_looked_is_written() {
        let api = fake::Api::default();
        let sender = watch::Sender::new(names("Gateway a/g"));
        let meter = meter(&api, Arc::default());
        tokio::spawn(memory(api.client()).keep(sender.subscribe(), meter));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory(api.client()).read().await.unwrap(), names("Gateway a/g"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_again_and_takes_no_allowance() {
        let api = fake::Api::default();
        let maps = "/api/v1/namespaces/istio-system/configmaps";
        api.refuses(maps, true);
        let sender = watch::Sender::new(names("Gateway a/g"));
        let ledger = Arc::<Ledger>::default();
        tokio::spawn(memory(api.client()).keep(sender.subscribe(), meter(&api, ledger.clone())));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(ledger.read(Writer::Handover), (0, 0));
        assert_eq!(api.paths("/apis/events.k8s.io"), Vec::<String>::new());
        api.refuses(maps, false);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(memory(api.client()).read().await.unwrap(), names("Gateway a/g"));
        assert_eq!(ledger.read(Writer::Handover), (1, 0));
    }
}
