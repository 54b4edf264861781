//! Watches of the few kinds that istiod also writes.

use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Config, Error, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::feed::WATCH_SECONDS;

/// What happens to the objects, for ever: after an error it goes on with a growing pause. A version that the API has
/// forgotten leads to a new list, also where the API says so by a status instead of an event (kube's own watcher would
/// ask for the same version again and again).
pub(crate) fn watching<K>(api: Api<K>, fields: Option<String>) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = Config {
        timeout: Some(WATCH_SECONDS),
        field_selector: fields,
        ..Config::default()
    };
    let open = move || watch(api.clone(), config.clone()).boxed();
    let events = futures::stream::unfold((open(), open), |(mut events, open)| async move {
        let next = events.next().await?;
        if matches!(&next, Err(Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410) {
            events = open();
        }
        Some((next, (events, open)))
    });
    events.backoff(watcher::DefaultBackoff::default())
}
