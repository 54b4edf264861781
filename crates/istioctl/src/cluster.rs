//! The cluster that a command works on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names::label;
use bytes::Bytes;
use install::api_server::{ApiServer, kind, root};
use install::object::{Id, Object};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use revision::name::Revision;
use status::forward::{PodPort, PortForward, Reach};
use status::gather::Instance;

use crate::cli::Global;
use crate::failure::Failure;
use crate::names::Named;

/// An API server that answers.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Requests to it.
    pub server: ApiServer,
    /// Its version.
    pub version: Info,
    /// Namespace of the context, for commands that look at one namespace.
    pub default_namespace: String,
    /// How pods are reached.
    pub reach: Arc<dyn Reach>,
}

impl Cluster {
    /// Reads the Kubernetes configuration and asks the API server for its version, so that a cluster that is not
    /// there is told at once and in one line.
    pub async fn connect(global: &Global) -> Result<Self, Failure> {
        if let Some(given) = &global.cluster {
            return Ok(given.clone());
        }
        let mut config = config(global).await?;
        config.connect_timeout = Some(global.kubeclient_timeout);
        if global.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&global.impersonate);
            config.auth_info.impersonate_groups = Some(global.impersonate_group.clone());
        }
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let default_namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| Failure::new(format!("bad Kubernetes configuration: {}", root(&error))))?;
        let timeout = global.kubeclient_timeout;
        let version = match tokio::time::timeout(timeout, client.apiserver_version()).await {
            Ok(Ok(version)) => version,
            Ok(Err(kube::Error::Api(status))) => {
                return Err(Failure::new(format!(
                    "the API server at {url} refuses: {}",
                    status.message
                )));
            }
            Ok(Err(error)) => {
                return Err(Failure::new(format!(
                    "cannot reach the API server at {url}: {}",
                    root(&error)
                )));
            }
            Err(_) => {
                return Err(Failure::new(format!(
                    "cannot reach the API server at {url}: no answer within {timeout:?}"
                )));
            }
        };
        Ok(Self {
            reach: Arc::new(PortForward::new(client.clone(), timeout)),
            server: ApiServer::new(client).with_timeout(timeout),
            version,
            default_namespace,
        })
    }

    /// An API server that is already connected to, and a way to reach its pods.
    pub fn with(client: Client, reach: Arc<dyn Reach>, default_namespace: &str) -> Self {
        Self {
            server: ApiServer::new(client),
            version: Info::default(),
            default_namespace: default_namespace.to_owned(),
            reach,
        }
    }

    /// The namespace that a command looks at unless a name says another.
    pub fn namespace<'a>(&'a self, global: &'a Global) -> &'a str {
        global.namespace.as_deref().unwrap_or(&self.default_namespace)
    }

    /// The revision that a name on the command line means: the one that a tag of that name points at, else the one of that
    /// name, if it is there; without a name the default revision.
    pub async fn revision(&self, system: &str, name: Option<&str>) -> Result<Revision, Failure> {
        Named::read(self, system, name).await?.present()
    }

    /// Asks the administration interface of a proxy, whose answer takes no longer than a limit: an Envoy that accepts and says
    /// nothing holds no command up.
    pub async fn envoy(&self, to: &PodPort<'_>, method: &str, path: &str, limit: Duration) -> Result<Bytes, Failure> {
        match tokio::time::timeout(limit, self.reach.request(to, method, path)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::new(format!(
                "pod {} in namespace {} does not answer {path} on port {} within {limit:?}",
                to.pod, to.namespace, to.port
            ))),
        }
    }

    /// Running istiod pods of the system namespace, of one revision or all.
    pub async fn istiods(&self, namespace: &str, revision: Option<&str>) -> Result<Vec<Instance>, Failure> {
        let selector = match revision {
            Some(revision) => format!("app=istiod,{}={revision}", label::REVISION),
            None => "app=istiod".to_owned(),
        };
        self.running(namespace, &selector).await
    }

    /// Running pods of a namespace with these labels.
    pub async fn running(&self, namespace: &str, selector: &str) -> Result<Vec<Instance>, Failure> {
        let mut pods = kind("", "v1", "Pod");
        namespace.clone_into(&mut pods.namespace);
        let found = self.server.list(&pods, selector).await?;
        Ok(found.iter().filter(|pod| is_running(pod)).map(instance).collect())
    }
}

/// What is read of a cluster ends at a limit that the user sets: an API server that hangs holds no command up for ever.
pub async fn within<T>(limit: Duration, reading: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, reading).await.unwrap_or_else(|_| {
        Err(Failure::new(format!(
            "the cluster could not be read within {limit:?} (--timeout)"
        )))
    })
}

/// The mesh's own kinds, in the versions that the control plane reads.
pub fn own_kinds() -> impl Iterator<Item = Id> {
    api::kind::KINDS
        .iter()
        .map(|own| kind(own.group, own.version(), own.kind))
}

fn is_running(pod: &Object) -> bool {
    pod.text("/status/phase") == "Running" && pod.0.pointer("/metadata/deletionTimestamp").is_none()
}

fn instance(pod: &Object) -> Instance {
    Instance {
        pod: pod.name().to_owned(),
        revision: pod.label(label::REVISION).to_owned(),
        component: match pod.label(label::ISTIO) {
            "" => "istiod".to_owned(),
            component => component.to_owned(),
        },
    }
}

async fn config(global: &Global) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let wrong = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("bad Kubernetes configuration: {}", root(error)))
    };
    if let Some(path) = &global.kubeconfig {
        let file = Kubeconfig::read_from(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {}", path.display(), root(&error))))?;
        return Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| wrong(&error));
    }
    let given = std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
    let usual = std::env::home_dir()
        .map(|home| home.join(".kube/config"))
        .filter(|path: &PathBuf| path.exists());
    if given || usual.is_some() || global.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(|error| wrong(&error));
    }
    Config::incluster().map_err(|_| {
        Failure::new("no cluster: set KUBECONFIG or pass --kubeconfig (for the local cluster: export KUBECONFIG=$(bin/drydock kubeconfig))")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use async_trait::async_trait;
    use kube::client::Body;
    use status::forward::ForwardError;

    use super::*;

    /// Accepts, and never answers.
    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl Reach for Silent {
        async fn request(&self, _: &PodPort<'_>, _: &str, _: &str) -> Result<Bytes, ForwardError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn an_envoy_that_says_nothing_holds_nobody_up() {
        let nobody = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let cluster = Cluster::with(Client::new(nobody, "app"), Arc::new(Silent), "app");
        let to = PodPort {
            namespace: "app",
            pod: "web",
            port: 15000,
        };
        let limit = Duration::from_millis(1);
        let failure = cluster.envoy(&to, "GET", "/config_dump", limit).await.unwrap_err();
        assert_eq!(
            failure.message(),
            "pod web in namespace app does not answer /config_dump on port 15000 within 1ms"
        );
    }
}
