//! `drydock` as a person uses it: the program itself, real containers. Needs root, runc, nft and busybox; where one of
//! them is missing the test says so and passes.
#![allow(clippy::unwrap_used)]

mod image;
mod join;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that is wiped at the end, however the test ends.
struct Cluster {
    data_dir: PathBuf,
}

impl Cluster {
    fn new(folder: &Path, name: &str) -> Self {
        Cluster {
            data_dir: folder.join(name),
        }
    }

    fn drydock(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_drydock"))
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .output();
        output.unwrap()
    }

    /// Runs a command that must succeed; answers with what it printed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.drydock(arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "drydock {arguments:?}: {out}{err}\n{}",
            self.log()
        );
        out.into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("drydock.log")).unwrap_or_default()
    }

    fn process(&self) -> i32 {
        let text = std::fs::read(self.data_dir.join("process.json")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    }

    async fn client(&self) -> Client {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let path = self.run(&["kubeconfig"]);
        let file = Kubeconfig::read_from(path.trim()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.drydock(&["reset"]);
    }
}

/// The folder of a test and an image in it, or the reason why there can be no containers here.
fn prepare() -> Result<(tempfile::TempDir, PathBuf), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".into());
    }
    for program in ["runc", "nft"] {
        if !["/usr/sbin", "/usr/bin", "/sbin"]
            .iter()
            .any(|dir| Path::new(dir).join(program).exists())
        {
            return Err(format!("{program} is not installed"));
        }
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let image = image::busybox(folder.path()).ok_or("busybox is not installed")?;
    Ok((folder, image))
}

fn web() -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "busybox:1"}],
            }},
        },
    }))
    .unwrap()
}

async fn running_pod(client: &Client) -> Pod {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = pods.list(&ListParams::default()).await.unwrap().items;
        let ready = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        if let Some(pod) = found.iter().find(|pod| ready(pod)) {
            return pod.clone();
        }
        assert!(Instant::now() < deadline, "no pod becomes ready: {found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks a pod for its page until it answers: the container runs a moment before its server listens.
fn get(ip: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let address = std::net::SocketAddr::from((ip.parse::<std::net::Ipv4Addr>().unwrap(), 8080));
        let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default())
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{ip} does not answer: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is of a cluster on the machine outside its data directory: everything bears the directory's name, or one that
/// is made of it.
fn traces(data_dir: &Path) -> Vec<String> {
    let name = data_dir.to_string_lossy().into_owned();
    let any = "10.0.0.0/24".parse().unwrap();
    let short = drydock_node::NodeConfig::new("", data_dir, any, any).bridge();
    let of_it = |text: &str| text.contains(&name) || text.contains(&short);
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap().stdout;
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap() + &String::from_utf8(tables).unwrap();
    let mut traces: Vec<_> = mounts.lines().filter(|line| of_it(line)).map(str::to_owned).collect();
    for folder in [
        "/run/drydock",
        "/sys/class/net",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
    ] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        traces.extend(
            entries
                .map(|entry| entry.path().display().to_string())
                .filter(|path| of_it(path)),
        );
    }
    let claims = std::fs::read_dir("/run/drydock/networks")
        .into_iter()
        .flatten()
        .flatten();
    let held = claims.filter(|claim| std::fs::read_to_string(claim.path()).is_ok_and(|holder| holder == name));
    traces.extend(held.map(|claim| claim.path().display().to_string()));
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if of_it(&command) {
            traces.push(command);
        }
    }
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_its_process_and_leaves_nothing() {
    let (folder, image) = match prepare() {
        Ok(prepared) => prepared,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = Cluster::new(folder.path(), "a");
    let told = cluster.run(&["up", "--no-images"]);
    assert!(told.contains("The cluster is ready after"), "{told}");
    let loaded = cluster.run(&["load", &image.to_string_lossy()]);
    assert_eq!(loaded.trim(), "docker.io/library/busybox:1");
    let mode = std::fs::metadata(&cluster.data_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "keys and Secrets are in it");
    let client = cluster.client().await;
    Api::<Deployment>::default_namespaced(client.clone())
        .create(&PostParams::default(), &web())
        .await
        .unwrap();
    let pod = running_pod(&client).await;
    let address = pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
    assert_eq!(get(&address), "hello\n");
    assert!(cluster.run(&["status"]).contains("1 running"));
    let seen = traces(&cluster.data_dir);
    for kind in [
        "overlay",
        "netns",
        "/sys/class/net/",
        "table ip ",
        "/run/drydock/networks/",
        " shim ",
    ] {
        assert!(
            seen.iter().any(|trace| trace.contains(kind)),
            "{kind} is not in {seen:#?}"
        );
    }

    // An acknowledged write, then the process is killed: the pod serves on, and the next process knows all.
    let acked: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "acked"}})).unwrap();
    Api::<ConfigMap>::default_namespaced(client.clone())
        .create(&PostParams::default(), &acked)
        .await
        .unwrap();
    let killed = nix::unistd::Pid::from_raw(cluster.process());
    nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while cluster.drydock(&["status"]).status.success() {
        assert!(
            Instant::now() < deadline,
            "status does not see that the process is gone"
        );
    }
    assert_eq!(get(&address), "hello\n");
    cluster.run(&["up", "--no-images"]);
    let client = cluster.client().await;
    Api::<ConfigMap>::default_namespaced(client.clone())
        .get("acked")
        .await
        .unwrap();
    let again = running_pod(&client).await;
    assert_eq!(
        (again.name_any(), again.uid()),
        (pod.name_any(), pod.uid()),
        "the same pod, taken over"
    );

    cluster.run(&["down"]);
    assert_eq!(traces(&cluster.data_dir), Vec::<String>::new());
    let back = cluster.run(&["up", "--no-images"]);
    assert!(back.contains("ready"), "{back}");
    running_pod(&cluster.client().await).await;
    cluster.run(&["reset"]);
    assert_eq!(traces(&cluster.data_dir), Vec::<String>::new());
    assert!(!cluster.data_dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_run_side_by_side() {
    let (folder, image) = match prepare() {
        Ok(prepared) => prepared,
        Err(why) => return println!("skipped: {why}"),
    };
    let clusters = [Cluster::new(folder.path(), "one"), Cluster::new(folder.path(), "two")];
    let mut addresses = Vec::new();
    for cluster in &clusters {
        cluster.run(&["up", "--no-images"]);
        cluster.run(&["load", &image.to_string_lossy()]);
        let client = cluster.client().await;
        Api::<Deployment>::default_namespaced(client.clone())
            .create(&PostParams::default(), &web())
            .await
            .unwrap();
        addresses.push(running_pod(&client).await.status.unwrap().pod_ip.unwrap());
    }
    assert_ne!(addresses[0], addresses[1]);
    clusters[0].run(&["reset"]);
    assert_eq!(get(&addresses[1]), "hello\n", "the other one runs on");
}

#[test]
fn mistakes_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(folder.path(), "none");
    let check = |arguments: &[&str], expected: &str| {
        let output = cluster.drydock(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            error.contains(expected) && error.trim().lines().count() == 1,
            "{arguments:?}: {error}"
        );
    };
    check(&["kubeconfig"], "run drydock up");
    check(&["logs"], "has the cluster been up?");
    check(&["load", "/does/not/exist"], "cannot read /does/not/exist");
    std::fs::create_dir_all(&cluster.data_dir).unwrap();
    std::fs::write(cluster.data_dir.join("thesis.txt"), "years of work").unwrap();
    check(&["reset"], "is not the directory of a cluster");
    assert!(cluster.data_dir.join("thesis.txt").exists());
    let dir = cluster.data_dir.clone();
    check(&["up"], "holds other things than a cluster");
    std::fs::write(dir.join("cluster.json"), "{").unwrap();
    check(&["status"], "is damaged");
    std::fs::remove_dir_all(dir).unwrap();
}
