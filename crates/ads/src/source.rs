//! Where a stream's configuration comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;
use xds::envoy::config::core::v3::Node;
use xds::resource::ResourceSet;

use crate::kinds;

/// Everything one class of proxies is owed: one set per type URL, immutable and shared by all streams of the class.
#[derive(Clone, Debug)]
pub struct View {
    /// By [`kinds::rank`]: streams look up a few types again and again.
    ordered: [Arc<ResourceSet>; kinds::RANKS - 1],
    /// Of types that have none.
    others: BTreeMap<Arc<str>, Arc<ResourceSet>>,
    born: SystemTime,
}

static NOTHING: LazyLock<Arc<ResourceSet>> = LazyLock::new(|| Arc::new(ResourceSet::new([])));

impl View {
    /// A view of these sets; `born` is when the change that led to it happened.
    pub fn new(sets: BTreeMap<Arc<str>, Arc<ResourceSet>>, born: SystemTime) -> Self {
        let nothing = Self {
            ordered: std::array::from_fn(|_| NOTHING.clone()),
            others: BTreeMap::new(),
            born,
        };
        nothing.with(sets, born)
    }

    /// This view with other sets of some types.
    pub fn with(&self, sets: BTreeMap<Arc<str>, Arc<ResourceSet>>, born: SystemTime) -> Self {
        let mut view = Self { born, ..self.clone() };
        for (type_url, set) in sets {
            match view.ordered.get_mut(kinds::rank(&type_url)) {
                Some(held) => *held = set,
                None => drop(view.others.insert(type_url, set)),
            }
        }
        view
    }

    /// The set of a type; empty for a type the source does not make.
    pub fn get(&self, type_url: &str) -> &Arc<ResourceSet> {
        let known = self.ordered.get(kinds::rank(type_url));
        known.or_else(|| self.others.get(type_url)).unwrap_or(&NOTHING)
    }

    /// When the change that led to this view happened.
    pub fn born(&self) -> SystemTime {
        self.born
    }
}

/// Who is at the other end of a connection, as established before its first message is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Remote address, if there is one.
    pub address: Option<SocketAddr>,
    /// SPIFFE identities that were proved; empty on the plaintext port.
    pub identities: Vec<String>,
    /// Whether the port asks for identities at all. Without it, claims in the node message are believed.
    pub authenticated: bool,
    /// Whose secrets the peer may read.
    pub secrets: Secrets,
}

/// Whose secrets a peer may read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// Nobody's.
    #[default]
    None,
    /// Those of this namespace.
    Of(String),
    /// The question was not answered, for this reason.
    Unknown(String),
}

/// Facts about a proxy that `proxy-status` and the metrics show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyInfo {
    /// `<pod>.<namespace>`, as tools print it.
    pub proxy_id: String,
    /// `sidecar`, `router`, …
    pub proxy_type: String,
    /// Namespace the proxy runs in.
    pub namespace: String,
    /// Cluster id.
    pub cluster_id: String,
    /// Version of the agent.
    pub istio_version: String,
    /// Whether this is a proxy (tools that ask questions are not).
    pub is_proxy: bool,
}

/// An accepted stream: the view to follow and what to show about it.
#[derive(Debug)]
pub struct Opened {
    /// Follows the class's view; only woken when this class's view changed. `None` until it is made: the stream waits.
    pub view: watch::Receiver<Option<Arc<View>>>,
    /// What to show.
    pub info: ProxyInfo,
}

/// A request for something that is not configuration (`istio.io/debug/…`).
#[derive(Debug)]
pub struct Question<'a> {
    /// Type asked for.
    pub type_url: &'a str,
    /// Resource names asked for, possibly none.
    pub names: &'a [String],
    /// Who asks.
    pub peer: &'a Peer,
}

/// Answer to a [`Question`]: encoded `Any` messages, and who answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// Encoded `google.protobuf.Any`s.
    pub resources: Vec<Bytes>,
    /// `control_plane.identifier` of the response, if any.
    pub control_plane: String,
}

/// Why a stream or question is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not ready yet, or full; the client should try again, possibly elsewhere.
    #[error("{0}")]
    Unavailable(String),
    /// The identity is missing or not proved.
    #[error("{0}")]
    Unauthenticated(String),
    /// The identity does not allow this.
    #[error("{0}")]
    PermissionDenied(String),
    /// The request makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// A bound was exceeded.
    #[error("{0}")]
    ResourceExhausted(String),
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(text) => tonic::Status::unavailable(text),
            Refusal::Unauthenticated(text) => tonic::Status::unauthenticated(text),
            Refusal::PermissionDenied(text) => tonic::Status::permission_denied(text),
            Refusal::InvalidArgument(text) => tonic::Status::invalid_argument(text),
            Refusal::ResourceExhausted(text) => tonic::Status::resource_exhausted(text),
        }
    }
}

/// Makes views. Implemented by whoever knows what proxies are.
pub trait Source: Send + Sync + 'static {
    /// Accepts or refuses a stream by the node message of its first request.
    ///
    /// # Errors
    /// [`Refusal`] if the source is not ready or the peer may not be this node.
    fn open(&self, node: &Node, peer: &Peer) -> Result<Opened, Refusal>;

    /// Answers a question about the control plane itself; `None` if the type is not a question.
    ///
    /// # Errors
    /// [`Refusal`] if the peer may not ask.
    fn answer(&self, question: &Question<'_>) -> Option<Result<Answer, Refusal>>;
}
