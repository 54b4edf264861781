//! Everything that needs a Kubernetes API: what is read from it, and what this revision writes to it.

use std::sync::Arc;
use std::time::Duration;

use ca::{Authenticator, Current};
use cluster::access::Access;
use cluster::authority::{self, Home};
use cluster::budget::{Ledger, Meter, Writer};
use cluster::config_map::{self, Data};
use cluster::election::{Candidate, Election, NAMESPACE_CONTROLLER};
use cluster::events::Events;
use cluster::handover::{self, Memory};
use cluster::tokens::Reviewer;
use cluster::webhooks::{Keeper, Standing};
use cluster::{Client, feed, kinds, roots};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::args::Discovery;
use crate::discovery::{mesh_config_file, mesh_config_text};
use crate::engine::Message;
use crate::handover::Kept;
use crate::metrics;
use crate::serving::{self, Serving};
use crate::settings::Settings;

/// A control plane on a cluster.
pub struct ControlPlane {
    /// Who signs.
    pub authority: Current,
    /// Who is who.
    pub authenticator: Arc<Authenticator>,
    /// Who may read secrets.
    pub access: Arc<Access>,
    /// Own certificate.
    pub serving: Serving,
    /// The injector's ConfigMap.
    pub injector: watch::Receiver<Data>,
    /// Mesh configuration as its users wrote it.
    pub mesh_config: watch::Receiver<Value>,
    /// Kinds that are watched.
    pub kinds: usize,
    webhook_counters: Arc<cluster::webhooks::Counters>,
    ledger: Arc<Ledger>,
    events: Events,
    leads: watch::Sender<bool>,
    memory: Memory,
    authority_keeper: authority::Keeper,
    client: Client,
    candidate: Candidate,
    leader_election: bool,
    standing: watch::Receiver<Option<Standing>>,
}

impl ControlPlane {
    /// Connects, loads what is needed to serve, and starts to watch.
    ///
    /// # Errors
    /// There is no API, or what it holds cannot be used.
    pub async fn start(
        options: &Discovery,
        settings: &Settings,
        messages: mpsc::Sender<Message>,
        kept: &Kept,
    ) -> anyhow::Result<Self> {
        let client = cluster::client::connect(options.kubeconfig.as_deref()).await?;
        let namespace = options.namespace.as_str();
        let mesh_config = follow_mesh_config(&client, options, settings, messages.clone()).await?;
        let trust_domain = mesh_config.borrow()["trustDomain"]
            .as_str()
            .unwrap_or(api::names::CLUSTER_DOMAIN)
            .to_owned();
        let home = Home {
            client: client.clone(),
            namespace: namespace.to_owned(),
            trust_domain: trust_domain.clone(),
            directory: Some(settings.root_ca_directory.clone()),
        };
        let (authority, authority_keeper) = home.load().await?;
        let authority = Current::new(authority);
        let tokens = Arc::new(Reviewer::new(client.clone()));
        let authenticator = Authenticator::new(&trust_domain, Some(tokens)).with_audiences(settings.audiences.clone());
        let names = serving::names(&settings.revision, namespace, &settings.custom_hosts);
        let serving = Serving::new(&authority.load(), names)?;
        let injector_name = settings.revision.suffixed("istio-sidecar-injector");
        let injector = config_map::follow(
            &client,
            namespace,
            &injector_name,
            read(&client, namespace, &injector_name).await,
        );
        let webhook_counters = Arc::new(cluster::webhooks::Counters::default());
        let ledger = Arc::new(Ledger::default());
        let events = Events::new(client.clone(), &settings.pod_name);
        // Without election everybody leads.
        let leads = watch::Sender::new(!settings.leader_election);
        let keeper = Keeper {
            client: client.clone(),
            revision: settings.revision.label().to_owned(),
            namespace: namespace.to_owned(),
            authority: authority.clone(),
            injection: settings.patch_injector,
            validation: settings.patch_validator,
            counters: webhook_counters.clone(),
            leads: leads.subscribe(),
            events: events.clone(),
            ledger: ledger.clone(),
        };
        let memory = Memory {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: settings.revision.suffixed(handover::NAME),
            revision: settings.revision.label().to_owned(),
        };
        recall(&memory, kept).await;
        let kinds = forward(&client, messages);
        Ok(Self {
            authority,
            authenticator: Arc::new(authenticator),
            access: Arc::new(Access::new(client.clone())),
            serving,
            injector,
            mesh_config,
            kinds,
            webhook_counters,
            ledger,
            events,
            leads,
            memory,
            authority_keeper,
            candidate: Candidate {
                identity: settings.pod_name.clone(),
                revision: settings.revision.label().to_owned(),
                namespace: namespace.to_owned(),
            },
            leader_election: settings.leader_election,
            standing: keeper.run(),
            client,
        })
    }

    /// What the metrics page tells of this; `signed` counts certificates.
    pub fn numbers(&self, signed: Arc<ca::service::Counters>) -> metrics::Cluster {
        metrics::Cluster {
            webhooks: self.webhook_counters.clone(),
            ledger: self.ledger.clone(),
            authority: self.authority.clone(),
            serving_end: self.serving.end.clone(),
            signed,
        }
    }

    /// Starts what goes on until the process ends: renewals, and the work of leaders. The task that is returned ends
    /// when `ending` was told and locks are given up.
    pub fn keep(self, kept: &Kept, ending: watch::Receiver<bool>) -> Option<tokio::task::JoinHandle<()>> {
        tokio::spawn(self.serving.keep(self.authority.clone()));
        tokio::spawn(self.authority_keeper.keep(self.authority.clone()));
        let meter = |writer| Meter::new(writer, self.ledger.clone(), self.events.clone());
        let leads = self.leads.subscribe();
        tokio::spawn(roots::run(
            self.client.clone(),
            self.authority,
            leads,
            meter(Writer::RootCertificate),
        ));
        tokio::spawn(self.memory.keep(kept.subscribe(), meter(Writer::Handover)));
        if !self.leader_election {
            // Kept, so that nobody takes its end for a change.
            tokio::spawn(async move { self.leads.closed().await });
            return None;
        }
        let election = Election {
            name: NAMESPACE_CONTROLLER,
            me: self.candidate,
            default: follow_default(self.standing),
            leads: self.leads,
            meter: meter(Writer::Lease),
        };
        Some(election.run(&self.client, ending))
    }
}

/// Reads what a process before this one kept, before anything else is read; without it, gateways would be emptied, and what
/// others wrote down would be overwritten.
async fn recall(memory: &Memory, kept: &Kept) {
    match memory.load().await {
        Ok(names) => kept.recall(names),
        Err(error) => tracing::warn!(%error, "what gateways here still need of other revisions is not known"),
    }
}

/// Starts the watches; answers how many kinds there are.
fn forward(client: &Client, messages: mpsc::Sender<Message>) -> usize {
    let kinds = kinds::watched();
    let count = kinds.len();
    let mut changes = feed::start(client, kinds);
    tokio::spawn(async move {
        while let Some(change) = changes.recv().await {
            if messages.send(Message::Change(change)).await.is_err() {
                return;
            }
        }
    });
    count
}

/// Follows ConfigMap `istio[-rev]`, merged over the shared one; the file counts while there is no ConfigMap.
async fn follow_mesh_config(
    client: &Client,
    options: &Discovery,
    settings: &Settings,
    messages: mpsc::Sender<Message>,
) -> anyhow::Result<watch::Receiver<Value>> {
    let namespace = &options.namespace;
    let name = settings.revision.suffixed("istio");
    let mut own = config_map::follow(client, namespace, &name, read(client, namespace, &name).await);
    let mut shared = match &settings.shared_mesh_config {
        Some(name) => config_map::follow(client, namespace, name, read(client, namespace, name).await),
        None => watch::channel(None).1,
    };
    let file = mesh_config_file(options)?;
    let merged = move |own: &Data, shared: &Data| -> anyhow::Result<Value> {
        let text = |data: &Data| {
            data.as_ref()
                .and_then(|data| data.get("mesh"))
                .map(|text| mesh_config_text(text))
                .transpose()
        };
        let mut config = text(shared)?.unwrap_or(Value::Null);
        overlay(&mut config, text(own)?.unwrap_or_else(|| file.clone()));
        Ok(config)
    };
    let first = merged(&own.borrow_and_update(), &shared.borrow_and_update())?;
    let parsed = api::mesh_config::MeshConfig::from_json(first.clone())?;
    let _ = messages.send(Message::MeshConfig(Box::new(parsed))).await;
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = own.changed() => changed,
                changed = shared.changed() => match changed {
                    Ok(()) => Ok(()),
                    Err(_) => std::future::pending().await,
                },
            };
            if changed.is_err() {
                return;
            }
            let next = merged(&own.borrow_and_update(), &shared.borrow_and_update());
            let parsed = next.and_then(|raw| Ok((api::mesh_config::MeshConfig::from_json(raw.clone())?, raw)));
            match parsed {
                Ok((config, raw)) => {
                    tracing::info!("mesh configuration changed");
                    sender.send_replace(raw);
                    if messages.send(Message::MeshConfig(Box::new(config))).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, "mesh configuration not used; the one before stays in force"),
            }
        }
    });
    Ok(receiver)
}

/// Puts fields of `over` over those of `base`, objects field by field.
fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}

/// A ConfigMap's data as it is now; the watch will bring what is not readable yet.
async fn read(client: &Client, namespace: &str, name: &str) -> Data {
    match tokio::time::timeout(Duration::from_secs(10), config_map::read(client, namespace, name)).await {
        Ok(Ok(data)) => data,
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "ConfigMap not read yet");
            None
        }
        Err(_) => None,
    }
}

fn follow_default(mut standing: watch::Receiver<Option<Standing>>) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let default = standing.borrow_and_update().as_ref().and_then(|s| s.default.clone());
            sender.send_if_modified(|held| {
                let differs = *held != default;
                *held = default;
                differs
            });
            if standing.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn own_configuration_lies_over_the_shared_one() {
        let mut config = json!({ "a": 1, "b": { "c": 1, "d": 1 } });
        overlay(&mut config, json!({ "b": { "c": 2 }, "e": 3 }));
        assert_eq!(config, json!({ "a": 1, "b": { "c": 2, "d": 1 }, "e": 3 }));
    }
}
