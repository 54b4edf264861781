//! The servers that are measured, as child processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::place::Place;

/// Longest time that a server may take to answer at all.
const STARTUP: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A server that ends with this value.
pub struct Server {
    child: Child,
    /// Where it serves discovery.
    pub address: String,
    /// Where it serves discovery over TLS, if it does.
    pub secure: String,
    /// Where it says whether it is ready, if it does.
    http: u16,
}

fn spawn(command: &mut Command) -> Result<Child> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    child.with_context(|| format!("cannot start {:?}; is it built?", command.as_std().get_program()))
}

impl Server {
    /// The control plane, fed from a place, on free ports. It may not have read it yet: see [`Server::ready`].
    /// With the folder of an authority it serves discovery over TLS as well.
    pub fn control_plane(program: &Path, place: &Place, authority: Option<&Path>) -> Result<Self> {
        let (discovery, http) = (free_port(), free_port());
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.arg("discovery");
        match place {
            Place::Folder(folder) => command.args(["--registries=", "--configDir"]).arg(folder),
            // Nobody installed it, so that there is no configuration for an injector.
            Place::Cluster { kubeconfig, .. } => command
                .env("INJECT_ENABLED", "false")
                .arg("--kubeconfig")
                .arg(kubeconfig),
        };
        command.args(["--grpcAddr", &address(discovery), "--httpAddr", &address(http)]);
        command.args(["--monitoringAddr", &address(free_port())]);
        command.args(["--httpsAddr", "", "--secureGRPCAddr"]);
        let secure = match authority {
            Some(folder) => {
                let secure = address(free_port());
                command.arg(&secure).env("ROOT_CA_DIR", folder);
                format!("http://{secure}")
            }
            None => {
                command.arg("");
                String::new()
            }
        };
        Ok(Self {
            child: spawn(&mut command)?,
            address: format!("http://{}", address(discovery)),
            secure,
            http,
        })
    }

    /// The floor: a recording, sent without computing anything.
    pub async fn replay(folder: &Path) -> Result<Self> {
        let port = free_port();
        let own: PathBuf = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(own);
        command.arg("replay").arg(folder);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        let child = spawn(&mut command)?;
        let deadline = Instant::now() + STARTUP;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            ensure!(Instant::now() < deadline, "nothing listens on port {port}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
            secure: String::new(),
            http: 0,
        })
    }

    /// Waits until the control plane says that it has read everything.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + STARTUP;
        loop {
            let answer = readiness(self.http).await.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            let why = answer.lines().last().unwrap_or("it does not answer");
            ensure!(
                Instant::now() < deadline,
                "the control plane does not become ready: {why}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the server ended at once")
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot stop the server")
    }
}

async fn readiness(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
