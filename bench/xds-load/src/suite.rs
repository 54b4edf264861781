//! Runs servers, loads them, collects figures.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::report::{Figures, Report};
use crate::sidecar::{self, Event, Load, Received};
use crate::statistics::quantile;
use crate::{Shape, change, mesh, process, record};

/// Endpoint changes at each size.
const ROUNDS: usize = 5;
/// Longest time that a server may take to answer at all.
const STARTUP: Duration = Duration::from_secs(60);

/// Opens the sidecars of a load and measures; with a mesh folder, changes an endpoint in it as well.
pub async fn measure(load: &Load, pid: Option<u32>, folder: Option<&Path>, rounds: usize) -> Result<Figures> {
    let usage = || pid.map(process::usage).transpose().map(Option::unwrap_or_default);
    let (before, received) = (usage()?, Arc::new(Received::default()));
    let (sender, mut events) = mpsc::unbounded_channel();
    let (started, mut tasks) = (Instant::now(), JoinSet::new());
    for number in 0..load.sidecars {
        tasks.spawn(sidecar::run(
            load.clone(),
            number,
            started,
            Arc::clone(&received),
            sender.clone(),
        ));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(load.timeout);
    let mut synced = Vec::with_capacity(load.sidecars);
    while synced.len() < load.sidecars {
        match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(Some(Event::Synced(after))) => synced.push(after.as_secs_f64()),
            Ok(Some(Event::Changed(_))) => {}
            Ok(None) | Err(_) => break,
        }
    }
    synced.sort_by(f64::total_cmp);
    // Acknowledgements of the last responses are still on their way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = usage()?;
    let each = load.sidecars.max(1) as u64;
    let mut figures = Figures {
        synced: synced.len(),
        sync_p50_s: quantile(&synced, 0.5),
        sync_max_s: quantile(&synced, 1.0),
        cpu_s: after.cpu - before.cpu,
        kib_per_sidecar: (after.memory - before.memory) / each as f64,
        mib_received: received.bytes.load(Relaxed) as f64 / each as f64 / f64::from(1 << 20),
        clusters: received.clusters.load(Relaxed) / each,
        endpoint_sets: received.endpoint_sets.load(Relaxed) / each,
        listeners: received.listeners.load(Relaxed) / each,
        routes: received.routes.load(Relaxed) / each,
        reconnects: received.reconnects.load(Relaxed),
        ..Figures::default()
    };
    if let Some(folder) = folder {
        let mut rows = Vec::new();
        for _ in 0..rounds {
            let before = usage()?;
            let delays = change::one(folder, load.shape, synced.len(), &mut events).await?;
            ensure!(
                delays.len() == synced.len(),
                "a change reached only {} of {} sidecars",
                delays.len(),
                synced.len()
            );
            rows.push([
                quantile(&delays, 0.5),
                quantile(&delays, 0.99),
                quantile(&delays, 1.0),
                usage()?.cpu - before.cpu,
            ]);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let median = |column: usize| {
            let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
            values.sort_by(f64::total_cmp);
            quantile(&values, 0.5)
        };
        figures.change_p50_ms = median(0);
        figures.change_p99_ms = median(1);
        figures.change_max_ms = median(2);
        figures.change_cpu_s = median(3);
    }
    Ok(figures)
}

/// A server that ends with this value.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Ok(Self(child.context("cannot start the server")?))
    }

    fn pid(&self) -> Result<u32> {
        self.0.id().context("the server ended at once")
    }

    async fn stop(mut self) -> Result<()> {
        self.0.kill().await.context("cannot stop the server")
    }
}

/// Waits until something listens.
async fn listening(port: u16) -> Result<()> {
    let deadline = Instant::now() + STARTUP;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(Instant::now() < deadline, "nothing listens on port {port}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Records once the control plane has read everything; until then it refuses streams.
async fn recorded(address: &str, folder: &Path, shape: Shape) -> Result<()> {
    let deadline = Instant::now() + STARTUP;
    loop {
        match record::record(address, folder, shape).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
            outcome => return outcome,
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The control plane, fed from files, on a free port.
async fn start_istiod(program: &Path, folder: &Path) -> Result<(Server, String)> {
    let port = free_port()?;
    let address = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(program);
    command.args(["discovery", "--registries=", "--configDir"]).arg(folder);
    command.args(["--grpcAddr", &address(port), "--httpAddr", &address(free_port()?)]);
    command.args([
        "--monitoringAddr",
        &address(free_port()?),
        "--secureGRPCAddr",
        "",
        "--httpsAddr",
        "",
    ]);
    let server = Server::start(&mut command)?;
    listening(port).await?;
    Ok((server, format!("http://{}", address(port))))
}

async fn start_replay(folder: &Path) -> Result<(Server, String)> {
    let port = free_port()?;
    let own: PathBuf = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(own);
    command
        .arg("replay")
        .arg(folder)
        .args(["--listen", &format!("127.0.0.1:{port}")]);
    let server = Server::start(&mut command)?;
    listening(port).await?;
    Ok((server, format!("http://127.0.0.1:{port}")))
}

/// The whole table; writes `report.json` and `report.md`.
pub async fn run(istiod: &Path, sizes: &[usize], shape: Shape, out: &Path) -> Result<()> {
    let (mesh_folder, recording) = (out.join("mesh"), out.join("recording"));
    std::fs::remove_dir_all(&recording).ok();
    mesh::write(&mesh_folder, shape)?;
    let mut report = Report {
        about: about(shape),
        ..Report::default()
    };
    for &sidecars in sizes {
        eprintln!("{sidecars} sidecars: control plane …");
        let (server, address) = start_istiod(istiod, &mesh_folder).await?;
        // The first answer makes everything once; what is measured is serving it to all.
        recorded(&address, &recording, shape).await?;
        let load = Load {
            address,
            sidecars,
            shape,
            timeout: 300,
        };
        let figures = measure(&load, Some(server.pid()?), Some(&mesh_folder), ROUNDS).await?;
        report.sidecars.insert(sidecars.to_string(), figures);
        server.stop().await?;
        eprintln!("{sidecars} sidecars: floor …");
        let (server, address) = start_replay(&recording).await?;
        let load = Load { address, ..load };
        report.floor.insert(
            sidecars.to_string(),
            measure(&load, Some(server.pid()?), None, 0).await?,
        );
        server.stop().await?;
    }
    std::fs::write(out.join("report.json"), serde_json::to_string_pretty(&report)?)?;
    std::fs::write(out.join("report.md"), report.markdown())?;
    println!("{}", report.markdown());
    Ok(())
}

fn about(shape: Shape) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} services × {} pods in {} namespaces, plaintext, control plane and sidecars on one machine with {cores} cores.",
        shape.services, shape.pods, shape.namespaces
    )
}
