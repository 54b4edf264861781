//! What the control plane says about itself, over discovery (`istio.io/debug/…`) and over HTTP (`/debug/…`).
//!
//! Who may ask (operators.md §3.3, revisions.md §6.3): callers from the system namespace, or allowed ones, see all
//! proxies; others see those of their own namespace; without an identity nothing is told, except on loopback, which is
//! how port-forwarding arrives.

pub mod dump;
pub mod pages;
pub mod syncz;

use ads::source::Answer;
use ads::{Connection, Peer, Refusal, Registry};
use bytes::Bytes;
use ca::SpiffeId;
use prost::Message;
use serde_json::json;

use crate::version;

/// Type by which tools ask for the status of all proxies.
const SYNCZ: &str = "istio.io/debug/syncz";
/// Type by which tools ask for what one proxy was sent.
const CONFIG_DUMP: &str = "istio.io/debug/config_dump";

/// Rules of who may ask.
#[derive(Clone, Debug)]
pub struct Debug {
    /// Whether an identity is needed.
    pub authenticate: bool,
    /// System namespace.
    pub namespace: String,
    /// Further namespaces that see everything.
    pub allowed: Vec<String>,
    /// Own pod, told to tools that ask several replicas.
    pub pod: String,
}

/// What an asker may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Every proxy.
    Everything,
    /// Proxies of this namespace.
    Namespace(String),
}

impl Asker {
    /// Whether it may see this connection.
    pub fn sees(&self, connection: &Connection) -> bool {
        match self {
            Self::Everything => true,
            Self::Namespace(namespace) => connection.info.namespace == *namespace,
        }
    }
}

impl Debug {
    /// What a peer may see.
    ///
    /// # Errors
    /// It proved no identity.
    pub fn asker(&self, peer: &Peer) -> Result<Asker, Refusal> {
        if !self.authenticate {
            return Ok(Asker::Everything);
        }
        let namespaces: Vec<String> = peer
            .identities
            .iter()
            .filter_map(|id| id.parse::<SpiffeId>().ok())
            .map(|id| id.namespace().to_owned())
            .collect();
        let trusted = |namespace: &String| *namespace == self.namespace || self.allowed.contains(namespace);
        if namespaces.iter().any(trusted) {
            return Ok(Asker::Everything);
        }
        match namespaces.into_iter().next() {
            Some(namespace) => Ok(Asker::Namespace(namespace)),
            None => Err(Refusal::Unauthenticated(
                "questions about the control plane need an identity; use the TLS port".to_owned(),
            )),
        }
    }

    /// Answers a question that came over discovery.
    ///
    /// # Errors
    /// The question is not known.
    pub fn answer(
        &self,
        registry: &Registry,
        type_url: &str,
        names: &[String],
        asker: &Asker,
    ) -> Result<Answer, Refusal> {
        let connections = registry.connections();
        let visible = connections.iter().filter(|c| c.info.is_proxy && asker.sees(c));
        let resources = match type_url {
            SYNCZ => visible.map(|c| encode(&syncz::client_config(c))).collect(),
            CONFIG_DUMP => {
                let [name] = names else {
                    return Err(Refusal::InvalidArgument(format!(
                        "{CONFIG_DUMP} needs one name, <pod>.<namespace>"
                    )));
                };
                let newest = visible.filter(|c| c.info.proxy_id == *name).max_by_key(|c| c.since);
                newest.map(|c| dump::config_dumps(c)).unwrap_or_default()
            }
            other => {
                return Err(Refusal::InvalidArgument(format!(
                    "{other} is not a question this control plane answers"
                )));
            }
        };
        Ok(Answer {
            resources,
            control_plane: self.identifier(),
        })
    }

    /// Who answers, in the form that tools parse.
    fn identifier(&self) -> String {
        json!({ "Component": "istiod", "ID": self.pod, "Info": version::info() }).to_string()
    }
}

/// A message as an encoded `Any`.
fn encode<M: Message + prost::Name>(message: &M) -> Bytes {
    xds::google::protobuf::Any {
        type_url: M::type_url(),
        value: message.encode_to_vec().into(),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_decides_what_is_seen() {
        let debug = Debug {
            authenticate: true,
            namespace: "istio-system".into(),
            allowed: vec!["ops".into()],
            pod: "istiod-x".into(),
        };
        let from = |ns: &str| Peer {
            identities: vec![format!("spiffe://cluster.local/ns/{ns}/sa/default")],
            ..Peer::default()
        };
        assert_eq!(debug.asker(&from("istio-system")), Ok(Asker::Everything));
        assert_eq!(debug.asker(&from("ops")), Ok(Asker::Everything));
        assert_eq!(debug.asker(&from("a")), Ok(Asker::Namespace("a".into())));
        assert!(matches!(
            debug.asker(&Peer::default()),
            Err(Refusal::Unauthenticated(_))
        ));
    }
}
