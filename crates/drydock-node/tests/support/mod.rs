//! What the tests of a whole node need: an API server of a few lines, an image, and a node on a network of its own.

mod fake_api;
mod image;
pub mod pki;

pub use fake_api::FakeApi;

use drydock_node::NodeConfig;
use drydock_node::image::ImageStore;
use pki::{Authority, Identity};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A node under test with its cluster.
pub struct Lab {
    pub api: FakeApi,
    pub config: NodeConfig,
    authority: Authority,
    node: Option<std::thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    _dir: tempfile::TempDir,
}

/// `None`, with a line that says why, where pods cannot be run.
pub fn able() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let tools = ["runc", "nft"].iter().all(|t| {
        ["/usr/sbin", "/usr/bin", "/sbin"]
            .iter()
            .any(|d| Path::new(d).join(t).exists())
    });
    let able = root && tools && image::busybox().is_some();
    if !able {
        println!("skipped: needs root, runc, nft and a static busybox");
    }
    able
}

impl Lab {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Tests run at the same time, and other programs use the common ranges.
        let n = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 50) as u8 * 4;
        let mut config = NodeConfig::new(
            "node",
            dir.path(),
            format!("10.231.{n}.0/24").parse().unwrap(),
            format!("10.232.{n}.0/24").parse().unwrap(),
        );
        config.shim_command = Some(vec![env!("CARGO_BIN_EXE_drydock-shim").into()]);
        let authority = Authority::new();
        config.client_ca_pem = authority.pem().into_bytes();
        let layout = dir.path().join("layout");
        image::write(&layout);
        ImageStore::open(&config.image_dir())
            .unwrap()
            .load(&layout, None)
            .unwrap();
        let mut lab = Self {
            api: FakeApi::new(),
            config,
            authority,
            node: None,
            stop: None,
            _dir: dir,
        };
        lab.node_up();
        lab
    }

    /// Starts the node on threads of its own.
    pub fn node_up(&mut self) {
        let (api, config) = (self.api.clone(), self.config.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        self.stop = Some(stop);
        self.node = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = drydock_node::run(api.client(), config) => panic!("{ended:?}"),
                    _ = stopped => {}
                }
            });
            // As a killed process: nothing is put in order.
            runtime.shutdown_background();
        }));
    }

    /// A client certificate that the cluster's authority has signed.
    pub fn identity(&self, name: &str, group: Option<&str>) -> Identity {
        self.authority.identity(name, group)
    }

    /// The port that the node has registered.
    pub fn kubelet_port(&self) -> u16 {
        let begun = Instant::now();
        loop {
            let node = self.api.get("nodes", "node");
            let port = node.and_then(|n| n.pointer("/status/daemonEndpoints/kubeletEndpoint/Port")?.as_u64());
            if let Some(port) = port {
                return u16::try_from(port).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "the node does not register");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the node as `kill -9` would: containers stay.
    pub fn node_killed(&mut self) {
        drop(self.stop.take());
        self.node.take().unwrap().join().unwrap();
    }

    fn teardown(&mut self) {
        if self.node.is_some() {
            self.node_killed();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(drydock_node::teardown(&self.config)).unwrap();
    }

    /// Takes everything down and looks whether anything is left.
    pub fn end(mut self) {
        self.teardown();
        let group = format!("/sys/fs/cgroup/memory/{}", self.config.bridge());
        assert!(!Path::new(&group).exists(), "{group} is left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&*self.config.data_dir.to_string_lossy()),
            "mounts are left"
        );
        assert!(!mounts.contains(&self.config.bridge()), "mounts are left");
        assert!(!self.run_dir().exists(), "{} is left", self.run_dir().display());
    }

    /// Creates a pod of busybox from the interesting part of its spec.
    pub fn pod(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node");
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if container.get("image").is_none() {
                    container["image"] = json!("busybox");
                }
            }
        }
        self.api.create("pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "spec": spec}));
    }

    /// Waits until `path` (a JSON pointer below the pod) is `want`.
    pub fn wait(&self, pod: &str, path: &str, want: Value) -> Value {
        let begun = Instant::now();
        loop {
            let object = self.api.get("pods", pod);
            let got = object
                .as_ref()
                .and_then(|o| o.pointer(path))
                .cloned()
                .unwrap_or(Value::Null);
            if got == want {
                return object.unwrap_or_default();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "pod {pod}: {path} is {got}, not {want}: {:#}\nevents: {:#?}\nlog: {}",
                object.unwrap_or_default(),
                self.api.events(),
                self.log(pod, "c", 0)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the node keeps what a reboot takes.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/drydock").join(self.config.bridge())
    }

    /// The folder of a pod.
    pub fn folder(&self, pod: &str) -> PathBuf {
        let uid = self
            .api
            .get("pods", pod)
            .and_then(|p| p["metadata"]["uid"].as_str().map(str::to_string))
            .unwrap_or_default();
        self.config.data_dir.join("node/pods").join(uid)
    }

    /// Makes a file in the root of the pod's container `c`, first run: a signal to its script.
    pub fn touch_inside(&self, pod: &str, path: &str) {
        let root = self.folder(pod).join("containers/c/0/bundle/rootfs");
        std::fs::write(root.join(path), "x").unwrap();
    }

    /// Waits until a file is there below the pod's folder.
    pub fn wait_file(&self, pod: &str, path: &str) {
        let (file, begun) = (self.folder(pod).join(path), Instant::now());
        while !file.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{} does not appear",
                file.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the node holds folders of so many pods.
    pub fn wait_folders(&self, count: usize) {
        let (dir, begun) = (self.config.data_dir.join("node/pods"), Instant::now());
        while std::fs::read_dir(&dir).unwrap().count() != count {
            assert!(begun.elapsed() < Duration::from_secs(30), "folders of pods are left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything a container has written, without times.
    pub fn log(&self, pod: &str, container: &str, attempt: u32) -> String {
        let path = self
            .folder(pod)
            .join("logs")
            .join(container)
            .join(format!("{attempt}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default().to_string() + "\n")
            .collect()
    }

    /// Waits until the log contains `want`.
    pub fn wait_log(&self, pod: &str, container: &str, want: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log(pod, container, 0);
            if log.contains(want) {
                return log;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "log of {pod}/{container} has no {want:?}: {log:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.teardown();
    }
}
