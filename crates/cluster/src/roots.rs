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
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::budget::{Meter, Unwritten};
use crate::deadline::timely;
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
/// Pauses after failed writes to one namespace.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Namespaces that are written at one time. Between two such groups it is looked at what changed meanwhile.
const GROUP: usize = 16;

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
    fn stale(&self, roots: &str, leads: bool) -> impl Iterator<Item = &str> {
        let wrong = move |ns: &&String| match self.maps.get(*ns) {
            None => true,
            Some(held) => leads && held.as_deref() != Some(roots),
        };
        self.namespaces
            .iter()
            .filter(|ns| !EXCLUDED.contains(&ns.as_str()))
            .filter(wrong)
            .map(String::as_str)
    }
}

/// Namespaces that could not be written, and when they are tried again: one where it cannot be done, by a policy or a
/// quota, takes nothing from the others.
#[derive(Default)]
struct Waiting(BTreeMap<String, (Backoff, Instant)>);

impl Waiting {
    fn holds(&self, namespace: &str, now: Instant) -> bool {
        self.0.get(namespace).is_some_and(|(_, until)| *until > now)
    }

    /// When the first of those that were not over at `now` is.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.0
            .values()
            .map(|(_, until)| *until)
            .filter(|until| *until > now)
            .min()
    }

    fn failed(&mut self, namespace: String, error: &Unwritten) {
        let first = || (Backoff::new(RETRY.0, RETRY.1), Instant::now());
        let (backoff, until) = self.0.entry(namespace).or_insert_with(first);
        *until = match error {
            Unwritten::Held(held) => held.until,
            Unwritten::Failed(_) => Instant::now() + backoff.pause(),
        };
    }
}

/// Writes for ever: what is missing always, what differs while `leads` says so.
pub async fn run(client: Client, authority: Current, mut leads: watch::Receiver<bool>, meter: Meter) {
    let namespaces = watching(Api::<Namespace>::all(client.clone()), None);
    let named = Some(format!("metadata.name={NAME}"));
    let maps = watching(Api::<ConfigMap>::all(client.clone()), named);
    let (mut namespaces, mut maps) = (std::pin::pin!(namespaces), std::pin::pin!(maps));
    let mut roots = authority.subscribe();
    let (mut state, mut waiting) = (State::default(), Waiting::default());
    let (mut namespaces_known, mut maps_known, mut more) = (false, false, false);
    let mut now = Instant::now();
    loop {
        let again = waiting.next(now).filter(|_| namespaces_known && maps_known);
        tokio::select! {
            Some(event) = namespaces.next() => on_namespace(&mut state, event, &mut namespaces_known),
            Some(event) = maps.next() => on_map(&mut state, event, &mut maps_known),
            changed = roots.changed() => if changed.is_err() { return },
            changed = leads.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            () = std::future::ready(()), if more => {}
        }
        more = false;
        if !(namespaces_known && maps_known) {
            continue;
        }
        now = Instant::now();
        let wanted = roots.borrow_and_update().roots_pem();
        let leader = *leads.borrow_and_update();
        let stale: BTreeSet<&str> = state.stale(&wanted, leader).collect();
        // Where nothing is wrong any more, whoever mended it, the next failure is a first one.
        waiting.0.retain(|namespace, _| stale.contains(namespace.as_str()));
        let due = stale.into_iter().filter(|ns| !waiting.holds(ns, now));
        let group: Vec<String> = due.take(GROUP).map(str::to_owned).collect();
        more = group.len() == GROUP;
        let writes = group.iter().map(|ns| write(&client, ns, &wanted, leader, &meter));
        let written = futures::future::join_all(writes).await;
        for (namespace, written) in group.into_iter().zip(written) {
            match written {
                Ok(()) => {
                    waiting.0.remove(&namespace);
                    state.maps.insert(namespace, Some(wanted.clone()));
                }
                // Somebody else was faster; the watch will say so.
                Err(error) if error.code() == Some(409) => {}
                Err(error) => {
                    match &error {
                        Unwritten::Failed(cause) if !is_going(cause) => {
                            tracing::warn!(namespace, %error, "root certificate not written; trying again");
                        }
                        _ => tracing::debug!(namespace, %error, "root certificate not written"),
                    }
                    waiting.failed(namespace, &error);
                }
            }
        }
    }
}

/// Whether the namespace is going or gone, which the watch will say.
fn is_going(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 404 || (status.code == 403 && status.message.contains("being terminated")))
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

async fn write(client: &Client, namespace: &str, roots: &str, leader: bool, meter: &Meter) -> Result<(), Unwritten> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let (object, parameters) = (events::named::<ConfigMap>(Some(namespace), NAME), PostParams::default());
    let Some(mut map) = timely(api.get_opt(NAME)).await? else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
            ..Default::default()
        };
        let data = Some(BTreeMap::from([(KEY.to_owned(), roots.to_owned())]));
        let map = ConfigMap {
            metadata,
            data,
            ..Default::default()
        };
        meter.write(&object, api.create(&parameters, &map)).await?;
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
    meter.write(&object, api.replace(NAME, &parameters, &map)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::budget::{Ledger, Writer};
    use crate::events::Events;
    use crate::fake;

    fn namespaces<const N: usize>(names: [&str; N]) -> fake::Api {
        let api = fake::Api::default();
        for name in names {
            let namespace =
                serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            api.put(&format!("/api/v1/namespaces/{name}"), namespace);
        }
        api
    }

    /// The ConfigMap of a namespace.
    fn held(api: &fake::Api, namespace: &str) -> Option<String> {
        let map = api.get(&format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert"))?;
        map["data"][KEY].as_str().map(str::to_owned)
    }

    /// Runs one, with a root of its own.
    fn replica(api: &fake::Api, line: fake::Line, ledger: &Arc<Ledger>, leads: bool) -> (String, watch::Sender<bool>) {
        let Ok(root) = ca::Authority::self_signed("cluster.local", jiff::Timestamp::now()) else {
            panic!("a root")
        };
        let (roots, client) = (root.roots_pem(), api.client_on(line));
        let events = Events::new(client.clone(), "pod");
        let meter = Meter::new(Writer::RootCertificate, ledger.clone(), events);
        let leads = watch::Sender::new(leads);
        tokio::spawn(run(client, Current::new(root), leads.subscribe(), meter));
        (roots, leads)
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn two_with_different_roots_do_not_overwrite_each_other() {
        let (api, ledger) = (namespaces(["a"]), Arc::default());
        let (first, leads) = replica(&api, fake::Line::default(), &ledger, true);
        let (second, waits) = replica(&api, fake::Line::default(), &ledger, false);
        pass(60).await;
        assert_eq!(held(&api, "a"), Some(first));
        api.writes();
        for minute in 0..60 {
            api.cut_watches(minute % 2 == 0);
            pass(60).await;
        }
        assert_eq!(api.writes().len(), 0, "nothing changes for an hour");
        leads.send_replace(false);
        waits.send_replace(true);
        pass(60).await;
        assert_eq!(held(&api, "a"), Some(second));
        assert_eq!(api.writes().len(), 1, "the next leader writes once");
        api.delete("/api/v1/namespaces/a/configmaps/istio-ca-root-cert");
        pass(60).await;
        assert!(held(&api, "a").is_some(), "it comes back, for pods wait for it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_refuses_takes_no_allowance_and_nothing_from_others() {
        let (api, ledger) = (namespaces(["a", "b"]), Arc::default());
        let refused = "/api/v1/namespaces/a/configmaps";
        api.refuses(refused, true);
        let (roots, _leads) = replica(&api, fake::Line::default(), &ledger, true);
        pass(3600).await;
        assert_eq!((held(&api, "a"), held(&api, "b")), (None, Some(roots.clone())));
        assert_eq!(
            ledger.read(Writer::RootCertificate),
            (1, 0),
            "what was not written does not count"
        );
        assert_eq!(api.paths("/apis/events.k8s.io"), Vec::<String>::new(), "nobody fights");
        api.refuses(refused, false);
        pass(60).await;
        assert_eq!(held(&api, "a"), Some(roots));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_an_answer_is_given_up_and_tried_again() {
        let (api, line, ledger) = (namespaces(["a", "b"]), fake::Line::default(), Arc::default());
        line.stuck.store(true, Relaxed);
        let (roots, _leads) = replica(&api, line.clone(), &ledger, true);
        pass(300).await;
        assert_eq!((held(&api, "a"), held(&api, "b")), (None, None));
        line.stuck.store(false, Relaxed);
        pass(90).await;
        assert_eq!((held(&api, "a"), held(&api, "b")), (Some(roots.clone()), Some(roots)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_has_mended_is_not_waited_for_longer_than_anything_new() {
        let (api, ledger) = (namespaces(["a"]), Arc::default());
        let refused = "/api/v1/namespaces/a/configmaps";
        api.refuses(refused, true);
        let (roots, _leads) = replica(&api, fake::Line::default(), &ledger, true);
        pass(560).await;
        let path = format!("{refused}/{NAME}");
        let mended = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME }, "data": { (KEY): roots },
        });
        api.put(&path, mended);
        pass(1).await;
        api.delete(&path);
        pass(1).await;
        api.refuses(refused, false);
        pass(5).await;
        assert_eq!(held(&api, "a"), Some(roots));
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
        let stale = |leads| state.stale("new", leads).collect::<Vec<_>>();
        assert_eq!(stale(true), ["b", "c", "d", "kube-system"]);
        assert_eq!(stale(false), ["d", "kube-system"]);
    }
}
