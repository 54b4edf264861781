//! Who may open which stream, and what it is owed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use ads::source::Answer;
use ads::{Opened, Peer, ProxyInfo, Question, Refusal, Registry, Secrets, View, kinds};
use ca::SpiffeId;
use mesh::{SecretReader, Snapshot, Update};
use tokio::sync::watch;
use translate::{ClassId, Proxy, Reclassified, Role, SharedGenerator};
use xds::envoy::config::core::v3::Node;
use xds::google::protobuf::value;

use crate::debug::{Asker, Debug};
use crate::engine::Engine;
use crate::followers::lock;
use crate::sets::{Sets, Translate};

/// Metadata value of clients that only ask questions.
const QUESTIONS: &str = "event";

/// Translation, as the engine wants it.
#[derive(Debug)]
pub struct Translation {
    generator: SharedGenerator,
    stuck: Mutex<Stuck>,
}

impl Translation {
    /// Over a mesh that knows nothing yet.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            generator: SharedGenerator::new(snapshot),
            stuck: Mutex::default(),
        }
    }
}

/// What the log says could not be translated.
#[derive(Debug, Default)]
struct Stuck(BTreeSet<String>);

impl Stuck {
    /// Tells what came and what went since the last time: each once, however many changes there are between.
    fn tell(&mut self, now: BTreeSet<String>) {
        for what in &now - &self.0 {
            tracing::error!(
                what,
                "could not be translated and is as it was, or absent; this is a bug of the control plane"
            );
        }
        for what in &self.0 - &now {
            tracing::info!(what, "is translated again, or nobody asks for it any more");
        }
        self.0 = now;
    }
}

impl Translate for Translation {
    type Proxy = Proxy;
    type Class = ClassId;

    fn open(&self, proxy: &Proxy) -> ClassId {
        self.generator.open(proxy)
    }

    fn hold(&self, class: ClassId) {
        self.generator.hold(class);
    }

    fn close(&self, class: ClassId) {
        self.generator.close(class);
    }

    fn reclassifies(&self, update: &Update) -> Option<impl Fn(&Proxy) -> bool> {
        let concerned = Reclassified::by(update);
        (!concerned.is_empty()).then_some(move |proxy: &Proxy| concerned.concerns(proxy))
    }

    fn update(&self, update: &Update) -> BTreeMap<ClassId, Sets> {
        let mut changed: BTreeMap<ClassId, Sets> = BTreeMap::new();
        for (class, kind, set) in self.generator.update(update) {
            let url = kinds::intern(kind.type_url());
            changed.entry(class).or_default().insert(url, set);
        }
        lock(&self.stuck).tell(self.generator.stuck().into_iter().collect());
        changed
    }

    fn start_again(&self, snapshot: &Arc<Snapshot>) {
        self.generator.start_again(snapshot.clone());
    }

    fn sets(&self, class: ClassId) -> Sets {
        let sets = self.generator.sets(class).into_iter();
        sets.map(|(kind, set)| (kinds::intern(kind.type_url()), set)).collect()
    }
}

/// The source of all streams.
pub struct Source {
    engine: Arc<Engine<Translation>>,
    registry: Arc<Registry>,
    debug: Debug,
    check_identity: bool,
    /// The view of clients that only ask questions: it never changes.
    nothing: watch::Sender<Option<Arc<View>>>,
}

impl Source {
    /// Views come from `engine`; questions about who is in `registry` are answered as `debug` allows.
    /// `check_identity` says whether a node message must fit the identity that was proved.
    pub fn new(engine: Arc<Engine<Translation>>, registry: Arc<Registry>, debug: Debug, check_identity: bool) -> Self {
        let nothing = watch::Sender::new(Some(Arc::new(View::new(BTreeMap::new(), SystemTime::now()))));
        Self {
            engine,
            registry,
            debug,
            check_identity,
            nothing,
        }
    }
}

impl ads::Source for Source {
    fn open(&self, node: &Node, peer: &Peer) -> Result<Opened, Refusal> {
        if metadata(node, "GENERATOR") == QUESTIONS {
            return Ok(self.asker(node));
        }
        if !self.engine.is_ready() {
            return Err(Refusal::Unavailable(
                "the control plane has not read everything yet; try again".to_owned(),
            ));
        }
        let mut proxy = Proxy::of_node(node).map_err(|error| Refusal::InvalidArgument(error.to_string()))?;
        if peer.authenticated && self.check_identity {
            check_identity(&proxy, peer)?;
        }
        proxy.secrets = readable(&peer.secrets, &proxy)?;
        let info = ProxyInfo {
            proxy_id: proxy.id.clone(),
            proxy_type: node.id.split('~').next().unwrap_or_default().to_owned(),
            namespace: proxy.namespace.to_string(),
            cluster_id: proxy.cluster.to_string(),
            istio_version: proxy.version.clone(),
            is_proxy: true,
        };
        Ok(Opened {
            view: self.engine.follow(proxy),
            info,
        })
    }

    fn answer(&self, question: &Question<'_>) -> Option<Result<Answer, Refusal>> {
        if !question.type_url.starts_with(kinds::DEBUG_PREFIX) {
            return None;
        }
        Some(self.debug.asker(question.peer).and_then(|asker: Asker| {
            self.debug
                .answer(&self.registry, question.type_url, question.names, &asker)
        }))
    }
}

impl Source {
    /// A stream that gets no configuration.
    fn asker(&self, node: &Node) -> Opened {
        let info = ProxyInfo {
            proxy_id: node.id.split('~').nth(2).unwrap_or(&node.id).to_owned(),
            istio_version: metadata(node, "ISTIO_VERSION"),
            is_proxy: false,
            ..ProxyInfo::default()
        };
        Opened {
            view: self.nothing.subscribe(),
            info,
        }
    }
}

/// Whose secrets the proxy is given. The answer holds for as long as its stream does.
fn readable(found: &Secrets, proxy: &Proxy) -> Result<Option<SecretReader>, Refusal> {
    match found {
        Secrets::Of(namespace) if **namespace == *proxy.namespace => {
            Ok(Some(SecretReader::of_verified_namespace(namespace)))
        }
        // A gateway without its certificates serves nobody, so it is asked to come again. A sidecar hardly ever needs
        // any, and must not be turned away because the API server rests.
        Secrets::Unknown(why) if proxy.role == Role::Router => Err(Refusal::Unavailable(format!(
            "whether {} may read secrets is not known: {why}; try again",
            proxy.id
        ))),
        _ => Ok(None),
    }
}

/// One of the proved identities must be in the namespace, and if it says so, of the account, that the node claims
/// (control-plane.md §1.10).
fn check_identity(proxy: &Proxy, peer: &Peer) -> Result<(), Refusal> {
    let fits = |id: &SpiffeId| {
        id.namespace() == &*proxy.namespace
            && proxy
                .service_account
                .as_ref()
                .is_none_or(|account| id.service_account() == &**account)
    };
    if peer
        .identities
        .iter()
        .filter_map(|id| id.parse().ok())
        .any(|id| fits(&id))
    {
        return Ok(());
    }
    Err(Refusal::PermissionDenied(format!(
        "node {} claims namespace {} and account {}, but the connection proved {}",
        proxy.id,
        proxy.namespace,
        proxy.service_account.as_deref().unwrap_or("any"),
        peer.identities.join(", ")
    )))
}

fn metadata(node: &Node, key: &str) -> String {
    match node
        .metadata
        .as_ref()
        .and_then(|m| m.fields.get(key))
        .and_then(|v| v.kind.as_ref())
    {
        Some(value::Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A log that is kept.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_stuck_is_told_once_and_when_it_is_over() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let mut stuck = Stuck::default();
        let mut check = |now: &[&str], expected: &[(&str, &str)]| {
            stuck.tell(now.iter().map(|what| (*what).to_owned()).collect());
            let told = String::from_utf8(std::mem::take(&mut *lock(&log.0))).unwrap();
            let lines: Vec<&str> = told.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{told}");
            for (line, (level, what)) in lines.iter().zip(expected) {
                assert!(
                    line.contains(level) && line.contains(&format!("what=\"{what}\"")),
                    "{line}"
                );
            }
        };
        tracing::subscriber::with_default(subscriber.finish(), || {
            check(&["a"], &[("ERROR", "a")]);
            check(&["a"], &[]);
            check(&["a", "b"], &[("ERROR", "b")]);
            check(&["b"], &[("INFO", "a")]);
            check(&[], &[("INFO", "b")]);
            check(&["a"], &[("ERROR", "a")]);
        });
    }

    fn check(claimed: (&str, &str), proved: &str, allowed: bool) {
        let text = |text: &str| xds::google::protobuf::Value {
            kind: Some(value::Kind::StringValue(text.to_owned())),
        };
        let fields = BTreeMap::from([
            ("NAMESPACE".to_owned(), text(claimed.0)),
            ("SERVICE_ACCOUNT".to_owned(), text(claimed.1)),
        ]);
        let node = Node {
            id: format!("sidecar~10.0.0.1~pod.{0}~{0}.svc.cluster.local", claimed.0),
            metadata: Some(xds::google::protobuf::Struct { fields }),
            ..Node::default()
        };
        let peer = Peer {
            identities: vec![proved.to_owned()],
            authenticated: true,
            ..Peer::default()
        };
        assert_eq!(check_identity(&Proxy::of_node(&node).unwrap(), &peer).is_ok(), allowed);
    }

    #[test]
    fn a_node_must_be_who_it_proved_to_be() {
        check(("a", "b"), "spiffe://cluster.local/ns/a/sa/b", true);
        check(("a", ""), "spiffe://cluster.local/ns/a/sa/b", true);
        check(("a", "b"), "spiffe://cluster.local/ns/a/sa/c", false);
        check(("a", "b"), "spiffe://cluster.local/ns/c/sa/b", false);
        check(("a", "b"), "nonsense", false);
    }

    fn check_readable(found: Secrets, kind: &str, expected: &str) {
        let node = Node {
            id: format!("{kind}~10.0.0.1~pod.a~a.svc.cluster.local"),
            ..Node::default()
        };
        let given = match readable(&found, &Proxy::of_node(&node).unwrap()) {
            Ok(Some(_)) => "given",
            Ok(None) => "none",
            Err(Refusal::Unavailable(_)) => "come again",
            Err(refusal) => panic!("{refusal}"),
        };
        assert_eq!(given, expected, "{found:?} {kind}");
    }

    #[test]
    fn secrets_are_given_to_who_may_read_them() {
        check_readable(Secrets::Of("a".into()), "router", "given");
        check_readable(Secrets::Of("a".into()), "sidecar", "given");
        check_readable(Secrets::Of("b".into()), "router", "none");
        check_readable(Secrets::None, "router", "none");
        check_readable(Secrets::Unknown("no answer".into()), "router", "come again");
        check_readable(Secrets::Unknown("no answer".into()), "sidecar", "none");
    }
}
