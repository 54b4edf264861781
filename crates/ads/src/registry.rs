//! Who is connected: what `proxy-status` and the debug pages read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::diff::lock;
use crate::source::{Peer, ProxyInfo};
use crate::stream::Stream;

/// One open stream.
#[derive(Debug)]
pub struct Connection {
    /// `<proxy id>-<number>`, unique in the life of this process.
    pub id: String,
    /// Facts about the proxy.
    pub info: ProxyInfo,
    /// Who it proved to be.
    pub peer: Peer,
    /// When the stream was opened.
    pub since: SystemTime,
    /// Its protocol state.
    pub stream: Mutex<Stream>,
}

impl Connection {
    /// Runs `read` on the protocol state.
    pub fn with_stream<T>(&self, read: impl FnOnce(&mut Stream) -> T) -> T {
        read(&mut lock(&self.stream))
    }
}

/// All open streams.
#[derive(Debug, Default)]
pub struct Registry {
    next: AtomicU64,
    connections: Mutex<BTreeMap<String, Arc<Connection>>>,
}

impl Registry {
    pub(crate) fn add(&self, info: ProxyInfo, peer: Peer, stream: Stream) -> Arc<Connection> {
        let number = self.next.fetch_add(1, Relaxed) + 1;
        let id = format!("{}-{number}", info.proxy_id);
        let connection = Arc::new(Connection {
            id: id.clone(),
            info,
            peer,
            since: SystemTime::now(),
            stream: Mutex::new(stream),
        });
        lock(&self.connections).insert(id, connection.clone());
        connection
    }

    pub(crate) fn remove(&self, id: &str) {
        lock(&self.connections).remove(id);
    }

    /// Connections in order of id.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).values().cloned().collect()
    }

    /// Number of open streams.
    pub fn len(&self) -> usize {
        lock(&self.connections).len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
