//! The set `kube-api` against drydock's API server and controllers, in this process.

use std::path::{Path, PathBuf};

use anyhow::Context;
use drydock_api::{Config, Server};

use crate::kube_api::{self, CaseResult, Target};

/// The kubectl whose words were recorded; other versions say some things differently.
const RECORDED_WITH: &str = "1.33";

/// Where a kubectl of the recorded version is, if anywhere: `$CONFORMANCE_KUBECTL`, or on the path, or (for those who
/// keep several versions side by side) beside the one on the path under a name with its version.
fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("CONFORMANCE_KUBECTL").map(PathBuf::from);
    let versioned = format!("kubectl.{RECORDED_WITH}");
    let on_path = std::env::split_paths(&path)
        .map(|folder| folder.join("kubectl"))
        .filter(|file| file.is_file());
    let candidates = on_path.flat_map(|file| {
        let beside = file
            .canonicalize()
            .ok()
            .and_then(|real| Some(real.parent()?.join(&versioned)));
        beside.into_iter().chain([file])
    });
    named.into_iter().chain(candidates).find(|file| {
        let version = std::process::Command::new(file).args(["version", "--client"]).output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("v{RECORDED_WITH}.")))
    })
}

/// Plays all stories and commands below `data`, the folder of the set.
///
/// # Errors
/// When the server does not start or the data cannot be read.
pub fn run(data: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = std::env::temp_dir().join(format!("conformance-kube-api-{}", std::process::id()));
    let results = runtime.block_on(play(data, &folder));
    runtime.shutdown_background();
    let removed = std::fs::remove_dir_all(&folder);
    let results = results?;
    removed.context("the server's folder cannot be removed")?;
    Ok(results)
}

async fn play(data: &Path, folder: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let server = Server::start(Config::new(folder)).await?;
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig()?)?;
    let target = Target::from_kubeconfig(&std::fs::read_to_string(&kubeconfig)?)?;
    let controllers = tokio::spawn(controllers(kubeconfig.clone(), server.ca().cert_pem().to_owned()));
    let node = kube_api::pretend_node(&target).await?;
    let mut results = kube_api::run_kube_api(&target, data, |_| true).await?;
    match kubectl() {
        Some(kubectl) => results.extend(kube_api::run_kubectl(&target, &kubeconfig, &kubectl, data).await?),
        None => results.push(CaseResult {
            name: "kubectl".into(),
            steps: 0,
            failures: vec![format!(
                "unsupported: no kubectl {RECORDED_WITH} on the path; CONFORMANCE_KUBECTL names one"
            )],
        }),
    }
    node.abort();
    controllers.abort();
    server.shutdown().await;
    Ok(results)
}

async fn controllers(kubeconfig: PathBuf, root: String) -> anyhow::Result<()> {
    let file = kube::config::Kubeconfig::read_from(&kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    let agent = http::HeaderValue::from_static("kube-controller-manager/v1.36.2");
    config.headers.push((http::header::USER_AGENT, agent));
    let client = kube::Client::try_from(config)?;
    drydock_controllers::run(
        client,
        drydock_controllers::Options {
            root_ca: Some(root),
            ..Default::default()
        },
    )
    .await;
    Ok(())
}
