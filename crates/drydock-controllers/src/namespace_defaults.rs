//! What every namespace has from the start: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, root_ca};

const ACCOUNT: &str = "default";

/// What is missing in a namespace, or not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the ServiceAccount `default`.
    CreateAccount(Box<ServiceAccount>),
    /// Create the root certificate's ConfigMap.
    CreateRoot(Box<ConfigMap>),
    /// Put the root certificate right in an existing one.
    UpdateRoot(Box<ConfigMap>),
}

/// Decides for one namespace. Without `root` (the PEM text) the ConfigMap is left to somebody else.
#[must_use]
pub fn decide(
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
    config: Option<&ConfigMap>,
    root: Option<&str>,
) -> Vec<Action> {
    if meta::is_terminating(&namespace.metadata) {
        return Vec::new();
    }
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.into()),
        namespace: namespace.metadata.name.clone(),
        ..Default::default()
    };
    let mut actions = Vec::new();
    if account.is_none() {
        actions.push(Action::CreateAccount(Box::new(ServiceAccount {
            metadata: metadata(ACCOUNT),
            ..Default::default()
        })));
    }
    if let Some(root) = root {
        let data = BTreeMap::from([("ca.crt".to_owned(), root.to_owned())]);
        match config {
            None => {
                let mut metadata = metadata(root_ca::NAME);
                metadata.annotations = Some(BTreeMap::from([(
                    "kubernetes.io/description".into(),
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                     such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                     distributions of Kubernetes clusters."
                        .into(),
                )]));
                let config = ConfigMap {
                    metadata,
                    data: Some(data),
                    ..Default::default()
                };
                actions.push(Action::CreateRoot(Box::new(config)));
            }
            Some(config) if config.data.as_ref() != Some(&data) => {
                let mut config = config.clone();
                config.data = Some(data);
                actions.push(Action::UpdateRoot(Box::new(config)));
            }
            Some(_) => {}
        }
    }
    actions
}

/// See the module's text.
#[derive(Debug)]
pub struct NamespaceDefaults {
    world: World,
    root: Option<String>,
}

/// Starts the controller. `root`: PEM text of the API server's certificate authority.
pub fn start(world: &World, runner: &mut Runner, root: Option<String>) {
    let queue = Arc::new(Queue::default());
    on_change(&world.namespaces.cache, &queue);
    // Whoever deletes one of the two gets it back.
    let (accounts, roots) = (queue.clone(), queue.clone());
    world.service_accounts.cache.subscribe(move |change| {
        if let (Some(old), None) = (&change.old, &change.new) {
            accounts.add(Key::new("", meta::namespace(&old.metadata)));
        }
    });
    world.root_cas.cache.subscribe(move |change| {
        for config in change.old.iter().chain(&change.new) {
            roots.add(Key::new("", meta::namespace(&config.metadata)));
        }
    });
    let caches = (
        world.namespaces.cache.clone(),
        world.service_accounts.cache.clone(),
        world.root_cas.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
    };
    runner.controller(
        NamespaceDefaults {
            world: world.clone(),
            root,
        },
        queue,
        2,
        ready,
    );
}

impl Reconciler for NamespaceDefaults {
    const NAME: &'static str = "namespace-defaults";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(namespace) = world.namespaces.cache.get(key) else {
            return Ok(None);
        };
        let account = world.service_accounts.cache.get(&Key::new(&key.name, ACCOUNT));
        let config = world.root_cas.cache.get(&Key::new(&key.name, root_ca::NAME));
        for action in decide(&namespace, account.as_deref(), config.as_deref(), self.root.as_deref()) {
            let done = match action {
                Action::CreateAccount(account) => world.service_accounts.create(&account).await.map(drop),
                Action::CreateRoot(config) => world.root_cas.create(&config).await.map(drop),
                Action::UpdateRoot(config) => world.root_cas.replace(&config).await.map(drop),
            };
            match done {
                Err(error) if error.is_already_exists() => {}
                done => done?,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(terminating: bool) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("ns".into());
        namespace.metadata.deletion_timestamp =
            terminating.then(|| meta::time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        namespace
    }

    #[test]
    fn new_namespace_gets_both_and_a_complete_one_nothing() {
        let actions = decide(&namespace(false), None, None, Some("PEM"));
        let [Action::CreateAccount(account), Action::CreateRoot(root)] = actions.as_slice() else {
            panic!("two creations are expected: {actions:?}")
        };
        assert_eq!(Key::of(&account.metadata).to_string(), "ns/default");
        assert_eq!(Key::of(&root.metadata).to_string(), "ns/kube-root-ca.crt");
        assert!(decide(&namespace(false), Some(account), Some(root), Some("PEM")).is_empty());
        let put_right = decide(&namespace(false), Some(account), Some(root), Some("NEW PEM"));
        assert!(matches!(put_right.as_slice(), [Action::UpdateRoot(_)]));
    }

    #[test]
    fn namespace_that_ends_gets_nothing() {
        assert!(decide(&namespace(true), None, None, Some("PEM")).is_empty());
    }

    #[test]
    fn without_a_root_the_config_map_is_left_alone() {
        assert!(matches!(
            decide(&namespace(false), None, None, None).as_slice(),
            [Action::CreateAccount(_)]
        ));
    }
}
