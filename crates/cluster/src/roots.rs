//! The mesh's root certificate in every namespace, so that pods can trust istiod (revisions.md §4.3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ca::Current;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::budget::Meter;
use crate::events;
use crate::watching::watching;

/// Name of the ConfigMap.
pub const NAME: &str = "istio-ca-root-cert";
/// Its key.
pub const KEY: &str = "root-cert.pem";
/// Its label, which says that it is Istio's.
const LABEL: (&str, &str) = ("istio.io/config", "true");
/// Namespaces that never hold workloads of the mesh.
const EXCLUDED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// Pause after a failed write.
const RETRY: Duration = Duration::from_secs(2);

/// What the cluster has.
#[derive(Clone, Debug, Default)]
struct State {
    /// Namespaces that are not being deleted.
    namespaces: BTreeSet<String>,
    /// Content of the ConfigMap where there is one.
    maps: BTreeMap<String, Option<String>>,
}

impl State {
    /// Namespaces whose ConfigMap is missing or, for the leader, differs. Whoever sees that it is missing may create
    /// it, because pods wait for it and all revisions share one root; only one writer ever changes it.
    fn stale(&self, roots: &str, leads: bool) -> Vec<&str> {
        let wrong = |ns: &&String| match self.maps.get(*ns) {
            None => true,
            Some(held) => leads && held.as_deref() != Some(roots),
        };
        self.namespaces
            .iter()
            .filter(|ns| !EXCLUDED.contains(&ns.as_str()))
            .filter(wrong)
            .map(String::as_str)
            .collect()
    }
}

/// Writes for ever: what is missing always, what differs while `leads` says so.
pub async fn run(client: Client, authority: Current, mut leads: watch::Receiver<bool>, mut meter: Meter) {
    let namespaces = watching(Api::<Namespace>::all(client.clone()), None);
    let named = Some(format!("metadata.name={NAME}"));
    let maps = watching(Api::<ConfigMap>::all(client.clone()), named);
    let (mut namespaces, mut maps) = (std::pin::pin!(namespaces), std::pin::pin!(maps));
    let mut roots = authority.subscribe();
    let mut state = State::default();
    let (mut namespaces_known, mut maps_known, mut failed) = (false, false, false);
    loop {
        tokio::select! {
            Some(event) = namespaces.next() => on_namespace(&mut state, event, &mut namespaces_known),
            Some(event) = maps.next() => on_map(&mut state, event, &mut maps_known),
            changed = roots.changed() => if changed.is_err() { return },
            changed = leads.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        failed = false;
        if !(namespaces_known && maps_known) {
            continue;
        }
        let wanted = roots.borrow_and_update().roots_pem();
        let leader = *leads.borrow_and_update();
        let stale: Vec<String> = state.stale(&wanted, leader).into_iter().map(str::to_owned).collect();
        for namespace in stale {
            let map = events::named::<ConfigMap>(Some(&namespace), NAME);
            if meter.spend(&map).await.is_err() {
                failed = true;
                continue;
            }
            match write(&client, &namespace, &wanted, leader).await {
                Ok(()) => {
                    state.maps.insert(namespace, Some(wanted.clone()));
                }
                // Somebody else was faster; the watch will say so.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                // The namespace is going or gone; the watch will say so.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => {
                    tracing::debug!(namespace, "root certificate not written: {}", status.message);
                    failed = true;
                }
                Err(error) => {
                    tracing::warn!(namespace, %error, "root certificate not written; trying again");
                    failed = true;
                }
            }
        }
    }
}

/// `known` is false while a list is read, so that nothing is decided by half of it.
fn on_namespace(state: &mut State, event: Result<watcher::Event<Namespace>, watcher::Error>, known: &mut bool) {
    match event {
        Ok(watcher::Event::Init) => {
            *known = false;
            state.namespaces.clear();
        }
        Ok(watcher::Event::Apply(namespace) | watcher::Event::InitApply(namespace)) => {
            let name = namespace.metadata.name.unwrap_or_default();
            if namespace.metadata.deletion_timestamp.is_some() {
                state.namespaces.remove(&name);
            } else {
                state.namespaces.insert(name);
            }
        }
        Ok(watcher::Event::Delete(namespace)) => {
            state
                .namespaces
                .remove(namespace.metadata.name.as_deref().unwrap_or_default());
        }
        Ok(watcher::Event::InitDone) => *known = true,
        Err(error) => tracing::warn!(%error, "watch of namespaces failed; trying again"),
    }
}

/// As for namespaces.
fn on_map(state: &mut State, event: Result<watcher::Event<ConfigMap>, watcher::Error>, known: &mut bool) {
    match event {
        Ok(watcher::Event::Init) => {
            *known = false;
            state.maps.clear();
        }
        Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) => {
            let content = map.data.unwrap_or_default().remove(KEY);
            state.maps.insert(map.metadata.namespace.unwrap_or_default(), content);
        }
        Ok(watcher::Event::Delete(map)) => {
            state.maps.remove(map.metadata.namespace.as_deref().unwrap_or_default());
        }
        Ok(watcher::Event::InitDone) => *known = true,
        Err(error) => tracing::warn!(%error, "watch of root certificates failed; trying again"),
    }
}

async fn write(client: &Client, namespace: &str, roots: &str, leader: bool) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let parameters = PostParams::default();
    let Some(mut map) = api.get_opt(NAME).await? else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
            ..Default::default()
        };
        let data = Some(BTreeMap::from([(KEY.to_owned(), roots.to_owned())]));
        api.create(
            &parameters,
            &ConfigMap {
                metadata,
                data,
                ..Default::default()
            },
        )
        .await?;
        return Ok(());
    };
    if !leader {
        return Ok(());
    }
    let before = map.clone();
    map.metadata
        .labels
        .get_or_insert_default()
        .insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    map.data
        .get_or_insert_default()
        .insert(KEY.to_owned(), roots.to_owned());
    if map == before {
        return Ok(());
    }
    api.replace(NAME, &parameters, &map).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::budget::Writer;
    use crate::events::Events;
    use crate::fake;

    /// The ConfigMap of namespace `a`.
    fn held(api: &fake::Api) -> Option<String> {
        let map = api.get("/api/v1/namespaces/a/configmaps/istio-ca-root-cert")?;
        map["data"][KEY].as_str().map(str::to_owned)
    }

    #[tokio::test(start_paused = true)]
    async fn two_with_different_roots_do_not_overwrite_each_other() {
        let api = fake::Api::default();
        api.put(
            "/api/v1/namespaces/a",
            serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } }),
        );
        let replica = |leads: bool| {
            let root = ca::Authority::self_signed("cluster.local", jiff::Timestamp::now());
            let (authority, client) = (root.map(Current::new), api.client());
            let meter = Meter::new(
                Writer::RootCertificate,
                Arc::default(),
                Events::new(client.clone(), "pod"),
            );
            let Ok(authority) = authority else { panic!("a root") };
            let leads = watch::Sender::new(leads);
            tokio::spawn(run(client, authority.clone(), leads.subscribe(), meter));
            (authority.load().roots_pem(), leads)
        };
        let ((first, leads), (second, waits)) = (replica(true), replica(false));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(held(&api), Some(first));
        api.writes();
        for minute in 0..60 {
            api.cut_watches(minute % 2 == 0);
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(api.writes().len(), 0, "nothing changes for an hour");
        leads.send_replace(false);
        waits.send_replace(true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(held(&api), Some(second));
        assert_eq!(api.writes().len(), 1, "the next leader writes once");
        api.delete("/api/v1/namespaces/a/configmaps/istio-ca-root-cert");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(held(&api).is_some(), "it comes back, for pods wait for it");
    }

    #[test]
    fn missing_and_different_maps_are_stale() {
        let state = State {
            namespaces: ["a", "b", "c", "d", "kube-public", "kube-system"]
                .map(str::to_owned)
                .into(),
            maps: [("a", Some("new")), ("b", Some("old")), ("c", None)]
                .map(|(ns, held)| (ns.to_owned(), held.map(str::to_owned)))
                .into(),
        };
        assert_eq!(state.stale("new", true), ["b", "c", "d", "kube-system"]);
        assert_eq!(state.stale("new", false), ["d", "kube-system"]);
    }
}
