//! Connecting to the API server.

use std::path::Path;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig file cannot be used.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        source: kube::config::KubeconfigError,
    },
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error("no way to reach a Kubernetes API: {0}; give --kubeconfig or run in a pod with a service account")]
    Infer(#[from] kube::config::InferConfigError),
    /// The configuration makes no client.
    #[error("cannot make a Kubernetes client: {0}")]
    Client(#[from] kube::Error),
}

/// A client from `kubeconfig` if that file exists and is not empty, else from the environment.
///
/// The charts set `KUBECONFIG` to a file that exists only for external control planes, so an absent file is no error.
///
/// # Errors
/// [`ConnectError`] if nothing usable is found.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let file = kubeconfig.filter(|path| std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0));
    // A connection that stays silent for longer than any watch lasts is dead: the client's own limit ends it (295 s).
    let config = match file {
        Some(path) => {
            let wrong = |source| ConnectError::Kubeconfig {
                path: path.display().to_string(),
                source,
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
        None => match kube::Config::incluster() {
            Ok(config) => config,
            Err(_) => kube::Config::infer().await?,
        },
    };
    Ok(Client::try_from(config)?)
}
