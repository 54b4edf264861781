//! drydock's API server in this process, with a folder of its own that goes when the work is done.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use drydock_api::{Config, Handle, Server};

use crate::kube_api::Target;

/// Servers of this process so far: each has a folder of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running server.
#[derive(Debug)]
pub struct Own {
    handle: Handle,
    folder: PathBuf,
    target: Target,
}

impl Own {
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let handle = Server::start(Config::new(folder)).await?;
        let kubeconfig = handle.kubeconfig()?;
        std::fs::write(folder.join("kubeconfig"), &kubeconfig)?;
        Ok(Self {
            target: Target::from_kubeconfig(&kubeconfig)?,
            folder: folder.to_owned(),
            handle,
        })
    }

    /// Where it is, and the administrator's credentials.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// File with the administrator's credentials.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Certificate of the cluster's root.
    pub fn root_certificate(&self) -> String {
        self.handle.ca().cert_pem().to_owned()
    }
}

/// Starts a server, does the work, stops the server.
///
/// # Errors
/// When the server does not start, when the work fails, or when the folder cannot be removed.
pub fn with_server<T>(work: impl AsyncFnOnce(&Own) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("conformance-{}-{number}", std::process::id()));
    let result = runtime.block_on(async {
        let own = Own::start(&folder).await?;
        let result = work(&own).await;
        own.handle.shutdown().await;
        result
    });
    runtime.shutdown_background();
    let removed = std::fs::remove_dir_all(&folder);
    let result = result?;
    removed.context("the server's folder cannot be removed")?;
    Ok(result)
}
