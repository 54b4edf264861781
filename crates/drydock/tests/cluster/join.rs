//! `drydock node` and `drydock controllers`: parts that know the cluster by a kubeconfig alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{AttachParams, LogParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Cluster, PATIENCE, prepare};

/// A part that ends with the test.
struct Part(Child);

impl Part {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let kubeconfig = cluster.run(&["kubeconfig"]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_drydock"));
        command.args(arguments).args(["--kubeconfig", kubeconfig.trim()]);
        Part(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads the log until a line says `words`.
    fn says(&mut self, words: &str) {
        let log = BufReader::new(self.0.stderr.take().unwrap());
        let mut seen = Vec::new();
        let found = log.lines().map_while(Result::ok).any(|line| {
            seen.push(line);
            seen.last().is_some_and(|line| line.contains(words))
        });
        assert!(found, "{words:?} is not in {seen:#?}");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until `path` of an object is `want`.
async fn until<K>(api: &Api<K>, name: &str, path: &str, want: Value) -> Value
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let object = serde_json::to_value(api.get_opt(name).await.unwrap()).unwrap();
        if object.pointer(path) == Some(&want) {
            return object;
        }
        assert!(Instant::now() < deadline, "{name}: {path} is not {want}: {object:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn exec(pods: &Api<Pod>, command: &[&str]) -> String {
    let mut process = pods
        .exec("there", command.to_vec(), &AttachParams::default())
        .await
        .unwrap();
    let mut text = String::new();
    process.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

async fn forwarded(pods: &Api<Pod>, request: &str) -> String {
    let mut forwarder = pods.portforward("there", &[8080]).await.unwrap();
    let mut stream = forwarder.take_stream(8080).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn use_second_node(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = until(&nodes, "second", "/status/conditions/3/status", json!("True")).await;
    assert_eq!(node.pointer("/spec/podCIDR"), Some(&json!("10.244.250.0/24")));
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = json!({"metadata": {"name": "there"}, "spec": {"nodeName": "second", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox:1", "command": ["sh", "-c", "echo begun; cd /www && exec httpd -f -p 8080 -h /www"]}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    until(&pods, "there", "/status/phase", json!("Running")).await;
    assert_eq!(exec(&pods, &["sh", "-c", "echo from inside"]).await, "from inside\n");
    assert_eq!(pods.logs("there", &LogParams::default()).await.unwrap(), "begun\n");
    let page = forwarded(&pods, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(page.ends_with("hello\n"), "{page}");
    // Names are answered by the node itself.
    let resolv = exec(&pods, &["busybox", "cat", "/etc/resolv.conf"]).await;
    assert!(resolv.contains("search default.svc.cluster.local"), "{resolv}");
}

fn node_arguments<'a>(data_dir: &'a Path, name: &'a str) -> Vec<&'a str> {
    let data_dir = data_dir.to_str().unwrap();
    vec!["node", "--name", name, "--no-images", "--data-dir", data_dir]
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_join_by_kubeconfig_alone() {
    let (folder, image) = match prepare() {
        Ok(prepared) => prepared,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = Cluster::new(folder.path(), "first");
    cluster.run(&["up", "--no-images"]);
    // A cluster's own directory is not given to a node, whose start would make it forget its networks.
    let mut wrong = Part::start(&cluster, &node_arguments(&cluster.data_dir, "wrong"));
    wrong.says("holds a cluster of its own");

    let second = Cluster::new(folder.path(), "second");
    second.run(&["load", &image.to_string_lossy()]);
    let node = Part::start(&cluster, &node_arguments(&second.data_dir, "second"));
    use_second_node(&cluster.client().await).await;
    // Its directory is its own: no second process, and no cluster.
    let mut twice = Part::start(&cluster, &node_arguments(&second.data_dir, "twice"));
    twice.says("another process serves");
    let up = second.drydock(&["up", "--no-images"]);
    let refused = String::from_utf8_lossy(&up.stderr);
    assert!(refused.contains("holds a node of another cluster"), "{refused}");
    drop(node);
    second.run(&["down"]);

    // The cluster has controllers: others do not act beside them.
    let mut controllers = Part::start(&cluster, &["controllers"]);
    controllers.says("waits: others do this work");
}
