//! The set against drydock's API server and controllers, in this process; or against another cluster.

use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;

use super::{CaseResult, Target, pretend_node, run_kube_api, run_kubectl};
use crate::report::Case;
use crate::server::{Own, with_server};

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

/// Plays all stories and commands of `<data>/kube-api`.
///
/// # Errors
/// When the server does not start or the data cannot be read.
pub fn run(data: &Path) -> Result<Vec<Case>, String> {
    let folder = data.join("kube-api");
    let results = with_server(async |own| {
        let others = Others::start(own).await?;
        let mut results = run_kube_api(own.target(), &folder, |_| true).await?;
        match kubectl() {
            Some(kubectl) => {
                results.extend(run_kubectl(own.target(), &own.kubeconfig(), &kubectl, &folder).await?);
            }
            None => results.push(CaseResult {
                name: "kubectl".into(),
                steps: 0,
                failures: vec![format!(
                    "unsupported: no kubectl {RECORDED_WITH} on the path; CONFORMANCE_KUBECTL names one"
                )],
            }),
        }
        others.stop();
        Ok(results)
    });
    Ok(cases(results.map_err(|error| format!("{error:#}"))?))
}

/// Plays the stories whose name is wanted, without the commands.
///
/// # Errors
/// When the server does not start or the data cannot be read.
pub fn run_stories(data: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<Case>, String> {
    let folder = data.join("kube-api");
    let results = with_server(async |own| {
        let others = Others::start(own).await?;
        let results = run_kube_api(own.target(), &folder, &wanted).await?;
        others.stop();
        Ok(results)
    });
    Ok(cases(results.map_err(|error| format!("{error:#}"))?))
}

/// Plays the stories whose name begins so on the cluster of a kubeconfig.
///
/// # Errors
/// When the kubeconfig or the data cannot be read.
pub fn run_on(kubeconfig: &str, data: &Path, prefix: &str) -> Result<Vec<Case>, String> {
    let play = async {
        let target = Target::from_kubeconfig(kubeconfig)?;
        run_kube_api(&target, &data.join("kube-api"), |name| name.starts_with(prefix)).await
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    Ok(cases(runtime.block_on(play).map_err(|error| format!("{error:#}"))?))
}

fn cases(results: Vec<CaseResult>) -> Vec<Case> {
    let case = |result: CaseResult| {
        let outcome = if result.passed() {
            Ok(())
        } else {
            Err(result.to_string())
        };
        Case::new(result.name, outcome)
    };
    results.into_iter().map(case).collect()
}

/// Who works beside the server: controllers, and a node that only pretends.
struct Others {
    controllers: JoinHandle<anyhow::Result<()>>,
    node: JoinHandle<()>,
}

impl Others {
    async fn start(own: &Own) -> anyhow::Result<Self> {
        Ok(Self {
            controllers: tokio::spawn(controllers(own.kubeconfig(), own.root_certificate())),
            node: pretend_node(own.target()).await?,
        })
    }

    fn stop(self) {
        self.node.abort();
        self.controllers.abort();
    }
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
