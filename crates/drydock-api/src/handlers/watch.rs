//! Watches: newline-delimited events.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use drydock_store::{Change, Error as StoreError, Event, Listing, Watch};
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Call, Response,
    call::present,
    create::store_error,
    list::Selection,
    options,
    read::parse_version,
    respond::{partial, response},
};
use crate::{codec::View, error::ApiError, resource::ResourceInfo, table};

/// Longest watch when the client does not say, and how often a quiet one gets a bookmark.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60 + 17 * 60);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before the end of a watch its last bookmark is sent.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long after the bookmark that ends the initial events the next one comes.
const BOOKMARK_AFTER_INITIAL: Duration = Duration::from_secs(1);

/// Where a watch begins.
enum Start {
    /// With everything that exists, then the bookmark that says so if wanted.
    Initial { listing: Listing, marked: bool },
    /// With what came after a version.
    Resumed,
}

/// Turns store events into lines.
struct Encoder {
    resource: Arc<ResourceInfo>,
    selection: Selection,
    view: View,
    include: table::Include,
    /// Whether the next table carries the column definitions.
    columns: bool,
}

impl Call {
    /// Streams events.
    ///
    /// # Errors
    /// 400, 422 before the stream begins; later problems are ERROR events.
    pub async fn watch(&mut self) -> Result<Response, ApiError> {
        options::check_list(&self.options, true)?;
        let selection = self.selection()?;
        let prefix = self.resource.prefix(self.namespace());
        let send_initial = self.options.send_initial_events;
        let version = self.options.resource_version.as_str();
        let from = if version.is_empty() { 0 } else { parse_version(version)? };
        let store = &self.api.core.store;
        let opened = if from == 0 && send_initial != Some(false) || send_initial == Some(true) {
            let (listing, watch) = store.list_and_watch(&prefix);
            let marked = send_initial == Some(true) && self.options.bookmarks;
            Ok((Start::Initial { listing, marked }, watch))
        } else if from == 0 || from > store.revision() {
            store.watch(&prefix, None).map(|watch| (Start::Resumed, watch))
        } else {
            store.watch(&prefix, Some(from)).map(|watch| (Start::Resumed, watch))
        };
        let encoder = Encoder {
            resource: self.resource.clone(),
            selection,
            view: self.accept.view.clone(),
            include: self.include(),
            columns: true,
        };
        let timeout = match self.options.timeout_seconds {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(24 * 3600)),
            _ => DEFAULT_TIMEOUT,
        };
        let (lines, received) = mpsc::channel::<Bytes>(64);
        match opened {
            Ok((start, watch)) => {
                let plan = Plan {
                    encoder,
                    bookmarks: self.options.bookmarks,
                    end: Instant::now() + timeout,
                };
                tokio::spawn(plan.run(start, watch, lines));
            }
            Err(StoreError::Compacted { wanted, oldest }) => {
                let message = format!("too old resource version: {wanted} ({oldest})");
                let event = json!({ "type": "ERROR", "object": expired(&message) });
                lines
                    .try_send(line(&event))
                    .map_err(|error| ApiError::internal(error.to_string()))?;
            }
            Err(error) => return Err(store_error(&error)),
        }
        let mut answer = response(200, "application/json", Bytes::new());
        *answer.body_mut() = Lines(received).boxed();
        Ok(answer)
    }
}

/// A body that ends when its sender does.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

fn expired(message: &str) -> Value {
    let mut status = ApiError::expired(message).status();
    if let Some(map) = status.as_object_mut() {
        map.insert("metadata".into(), json!({}));
    }
    status
}

fn line(event: &Value) -> Bytes {
    let mut text = event.to_string();
    text.push('\n');
    text.into()
}

struct Plan {
    encoder: Encoder,
    bookmarks: bool,
    end: Instant,
}

impl Plan {
    async fn run(mut self, start: Start, mut watch: Watch, lines: mpsc::Sender<Bytes>) {
        let mut revision = watch.revision;
        let mut initial_end = false;
        if let Start::Initial { listing, marked } = start {
            revision = listing.revision;
            for stored in &listing.items {
                let object = present(&self.encoder.resource, &stored.value);
                if self.encoder.selection.matches(&self.encoder.resource, &object) {
                    let event = self.encoder.event("ADDED", object);
                    if lines.send(line(&event)).await.is_err() {
                        return;
                    }
                }
            }
            if marked {
                initial_end = true;
                let event = self.encoder.bookmark(revision, true);
                if lines.send(line(&event)).await.is_err() {
                    return;
                }
            }
        }
        let mut next_bookmark = self.next_bookmark(initial_end);
        loop {
            let bookmark_at = next_bookmark.unwrap_or(self.end);
            tokio::select! {
                event = watch.next() => {
                    let Some(event) = event else { return };
                    revision = event.revision;
                    if let Some(event) = self.encoder.encode(&event)
                        && lines.send(line(&event)).await.is_err()
                    {
                        return;
                    }
                }
                () = tokio::time::sleep_until(bookmark_at.min(self.end)) => {
                    if Instant::now() >= self.end && next_bookmark.is_none_or(|at| at >= self.end) {
                        return;
                    }
                    let event = self.encoder.bookmark(revision, false);
                    if lines.send(line(&event)).await.is_err() {
                        return;
                    }
                    next_bookmark = self.next_bookmark(false);
                }
                () = lines.closed() => return,
            }
        }
    }

    /// When the next bookmark is due: soon after the one that ends the initial events, two seconds before the end
    /// of the watch, or after a quiet minute.
    fn next_bookmark(&self, after_initial: bool) -> Option<Instant> {
        let now = Instant::now();
        if !self.bookmarks {
            return None;
        }
        if after_initial {
            return Some(now + BOOKMARK_AFTER_INITIAL);
        }
        let regular = now + BOOKMARK_EVERY;
        match self.end.checked_sub(BOOKMARK_BEFORE_END) {
            Some(last) if last > now => Some(last.min(regular)),
            _ => Some(regular),
        }
    }
}

impl Encoder {
    fn encode(&mut self, event: &Event) -> Option<Value> {
        let object = present(&self.resource, &event.value);
        let before = event.previous.as_ref().is_some_and(|previous| {
            self.selection.is_empty()
                || self
                    .selection
                    .matches(&self.resource, &present(&self.resource, previous))
        });
        let now = event.change != Change::Deleted && self.selection.matches(&self.resource, &object);
        match (before, now) {
            (false, false) => None,
            (false, true) => Some(self.event("ADDED", object)),
            (true, true) => Some(self.event("MODIFIED", object)),
            (true, false) => {
                // What leaves the selection is shown as it was while it was in it.
                let mut last = match (&event.previous, event.change) {
                    (Some(previous), Change::Modified) => present(&self.resource, previous),
                    _ => object,
                };
                crate::meta::set(&mut last, "resourceVersion", event.revision.to_string());
                Some(self.event("DELETED", last))
            }
        }
    }

    fn event(&mut self, kind: &str, object: Value) -> Value {
        let object = match &self.view {
            View::Table(version) => {
                let list_meta = json!({ "resourceVersion": crate::meta::resource_version(&object) });
                let mut rendered = table::render(&self.resource, &[object], list_meta, version, self.include);
                if !std::mem::take(&mut self.columns) {
                    rendered["columnDefinitions"] = Value::Null;
                }
                rendered
            }
            View::Partial(version) | View::PartialList(version) => partial(&object, version),
            View::Full | View::Discovery(_) => object,
        };
        json!({ "type": kind, "object": object })
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Value {
        let mut metadata: BTreeMap<&str, Value> = BTreeMap::from([("resourceVersion", revision.to_string().into())]);
        if initial_end {
            metadata.insert("annotations", json!({ "k8s.io/initial-events-end": "true" }));
        }
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        if !self.resource.custom
            && let Some(schema) = self.resource.strategy.schema()
        {
            crate::schema::normalize(schema, &mut object);
        }
        let include = self.include;
        if initial_end {
            // The annotation is the message, so the row carries it whatever rows carry otherwise.
            self.include = table::Include::Metadata;
        }
        let event = self.event("BOOKMARK", object);
        self.include = include;
        event
    }
}
