//! Runs servers, loads them, collects figures.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::fleet::Fleet;
use crate::mutual::Authority;
use crate::place::Place;
use crate::process::{busy, usage};
use crate::report::{Figures, MutualFigures, ReconnectFigures, Report, StartFigures};
use crate::server::Server;
use crate::sidecar::Load;
use crate::statistics::quantile;
use crate::{Shape, change, churn, limits, mesh, plot, record, targets};

/// Endpoint changes at each size.
const ROUNDS: usize = 9;
/// Sidecars at which other changes, churn and rest are measured.
const CHANGED: usize = 500;
/// Sidecars from which there is no floor: what matters is that it goes on as before.
const MANY: usize = 5000;
/// Longest time until all sidecars are in sync, in seconds.
const TIMEOUT: u64 = 300;
/// The mesh of the start: 30,000 pods and as many endpoint slices.
const START: Shape = Shape {
    services: 30_000,
    pods: 1,
    namespaces: 300,
};

/// What to measure.
pub struct Plan {
    /// The control plane's program.
    pub program: PathBuf,
    /// Numbers of sidecars.
    pub sizes: Vec<usize>,
    pub shape: Shape,
    /// Folder for the report.
    pub out: PathBuf,
    /// The cluster that feeds the control plane; files do without it.
    pub kubeconfig: Option<PathBuf>,
    /// Less of everything.
    pub quick: bool,
}

/// Brings a fleet into sync and measures what that took; where the mesh is known, changes an endpoint in it as well.
pub async fn measure(
    fleet: &mut Fleet,
    load: &Load,
    pid: Option<u32>,
    place: Option<&Place>,
    rounds: usize,
) -> Result<Figures> {
    let usage = || pid.map(usage).transpose().map(Option::unwrap_or_default);
    let before = usage()?;
    let syncs = fleet.synced().await;
    // Acknowledgements of the last responses are still on their way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = usage()?;
    let each = load.sidecars.max(1) as u64;
    let received = &fleet.received;
    let mut figures = Figures {
        synced: syncs.len(),
        sync_p50_s: quantile(&syncs, 0.5),
        sync_max_s: quantile(&syncs, 1.0),
        cpu_s: after.cpu - before.cpu,
        kib_per_sidecar: (after.memory - before.memory) / each as f64,
        mib_received: received.bytes.load(Relaxed) as f64 / each as f64 / f64::from(1 << 20),
        clusters: received.clusters.load(Relaxed) / each,
        endpoint_sets: received.endpoint_sets.load(Relaxed) / each,
        listeners: received.listeners.load(Relaxed) / each,
        routes: received.routes.load(Relaxed) / each,
        reconnects: received
            .reconnects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
        syncs,
        ..Figures::default()
    };
    let Some(place) = place else { return Ok(figures) };
    let mut rows = Vec::new();
    for round in 0..rounds {
        let ready = load.shape.pods - (round + 1) % 2;
        let (delays, cpu) = change::endpoint(place, load.shape, ready, fleet, pid).await?;
        rows.push([
            quantile(&delays, 0.5),
            quantile(&delays, 0.99),
            quantile(&delays, 1.0),
            cpu,
        ]);
        figures.delays.extend(delays);
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
    Ok(figures)
}

/// The whole table; writes `report.json`, `report.md` and the plots.
///
/// # Errors
/// A part could not be measured, or a server did not send what the work is: the report is written all the same.
pub async fn run(plan: &Plan) -> Result<()> {
    let began = Instant::now();
    let mut report = Report {
        about: about(plan),
        commit: commit(),
        usual: plan.kubeconfig.is_none() && plan.shape == Shape::default(),
        quick: plan.quick,
        sidecars_changed: CHANGED,
        limits: limits::measure()?,
        ..Report::default()
    };
    let place = match &plan.kubeconfig {
        Some(kubeconfig) => Place::cluster(kubeconfig).await?,
        None => Place::Folder(plan.out.join("mesh")),
    };
    place.is_free(plan.shape).await?;
    let largest = plan.sizes.iter().copied().filter(|size| *size < MANY).max();
    for &sidecars in &plan.sizes {
        eprintln!("{sidecars} sidecars: control plane …");
        let measured = control_plane(plan, &place, sidecars, largest == Some(sidecars), &mut report).await;
        let measured = report.failed(&format!("{sidecars} sidecars"), measured);
        if measured.is_some() && sidecars < MANY {
            eprintln!("{sidecars} sidecars: floor …");
            let measured = floor(plan, sidecars, &mut report).await;
            report.failed(&format!("floor of {sidecars} sidecars"), measured);
        }
        write(plan, &mut report, began)?;
    }
    // What is measured from here on is fed from files.
    let plain = report
        .sidecars
        .get(&CHANGED.to_string())
        .filter(|_| plan.kubeconfig.is_none());
    if let Some(plain) = plain.cloned() {
        eprintln!("{CHANGED} sidecars: mutual TLS …");
        let measured = mutual(plan, &plain).await;
        report.mutual = report.failed("mutual TLS", measured);
    }
    if !plan.quick && plan.kubeconfig.is_none() {
        eprintln!("start …");
        let measured = start(plan).await;
        report.start = report.failed("start", measured);
    }
    write(plan, &mut report, began)?;
    plots(plan, &report)?;
    println!("{}", report.markdown());
    let wrong: Vec<String> = targets::of(&report)
        .iter()
        .filter(|target| target.is_the_work() && !target.is_met())
        .map(|target| format!("{} is {:.3} and not {}", target.name, target.measured, target.bound))
        .chain(report.failures.iter().cloned())
        .collect();
    if !wrong.is_empty() {
        bail!("this run says nothing about speed: {}", wrong.join("; "));
    }
    Ok(())
}

/// Writes what is known by now.
fn write(plan: &Plan, report: &mut Report, began: Instant) -> Result<()> {
    report.ratios = report.ratios();
    report.took_s = began.elapsed().as_secs_f64();
    std::fs::write(plan.out.join("report.json"), serde_json::to_string_pretty(report)?)?;
    Ok(std::fs::write(plan.out.join("report.md"), report.markdown())?)
}

fn load(plan: &Plan, address: &str, sidecars: usize) -> Load {
    Load {
        address: address.to_owned(),
        sidecars,
        shape: plan.shape,
        timeout: TIMEOUT,
        authority: None,
    }
}

async fn control_plane(plan: &Plan, place: &Place, sidecars: usize, again: bool, report: &mut Report) -> Result<()> {
    let recording = plan.out.join("recording");
    std::fs::remove_dir_all(&recording).ok();
    place.write(plan.shape).await?;
    let server = Server::control_plane(&plan.program, place, None)?;
    let pid = server.pid()?;
    server.ready().await?;
    // The first answer makes everything once; what is measured is serving it to all.
    record::record(&server.address, &recording, plan.shape).await?;
    let load = load(plan, &server.address, sidecars);
    let mut fleet = Fleet::start(&load);
    let figures = measure(&mut fleet, &load, Some(pid), Some(place), ROUNDS).await?;
    report.sidecars.insert(sidecars.to_string(), figures);
    if sidecars == CHANGED {
        report.changes = change::kinds(place, plan.shape, &mut fleet, pid).await?;
        let rest = Duration::from_secs(if plan.quick { 5 } else { 20 });
        let before = busy(pid)?;
        tokio::time::sleep(rest).await;
        report.idle_cpu_share = Some((busy(pid)? - before) / rest.as_secs_f64());
        let time = Duration::from_secs(if plan.quick { 10 } else { 60 });
        report.churn = Some(churn::run(place, plan.shape, &mut fleet, pid, time).await?);
    }
    if again {
        let before = usage(pid)?;
        let syncs = fleet.reconnect().await;
        let (median, slowest) = (quantile(&syncs, 0.5), quantile(&syncs, 1.0));
        let figures = ReconnectFigures {
            sync_p50_s: median,
            sync_max_s: slowest,
            cpu_s: usage(pid)?.cpu - before.cpu,
            slowest_to_median: slowest / median,
        };
        report.reconnect.insert(sidecars.to_string(), figures);
    }
    server.stop().await
}

/// The same sidecars with certificates, and once more with sessions that they remember.
async fn mutual(plan: &Plan, plain: &Figures) -> Result<MutualFigures> {
    let (place, recording) = (Place::Folder(plan.out.join("mesh")), plan.out.join("recording-mutual"));
    place.write(plan.shape).await?;
    let keys = plan.out.join("authority");
    let authority = Authority::write(&keys)?;
    // The control plane has a folder of its own to be in, and takes the other as it is told.
    let server = Server::control_plane(&plan.program, &place, Some(&std::fs::canonicalize(&keys)?))?;
    let pid = server.pid()?;
    server.ready().await?;
    record::record(&server.address, &recording, plan.shape).await?;
    let load = Load {
        authority: Some(authority.clone()),
        ..load(plan, &server.secure, CHANGED)
    };
    let mut fleet = Fleet::start(&load);
    let first = measure(&mut fleet, &load, Some(pid), None, 0).await?;
    let (full, before) = (authority.full.load(Relaxed), usage(pid)?);
    let again = fleet.reconnect().await;
    let figures = MutualFigures {
        synced: first.synced,
        sync_max_s: first.sync_max_s,
        cpu_s: first.cpu_s,
        kib_per_sidecar: first.kib_per_sidecar,
        sync_to_plaintext: first.sync_max_s / plain.sync_max_s,
        cpu_ms_per_sidecar: (first.cpu_s - plain.cpu_s) * 1e3 / CHANGED as f64,
        full_handshakes: full,
        again_sync_max_s: quantile(&again, 1.0),
        again_cpu_s: usage(pid)?.cpu - before.cpu,
        again_resumed: authority.resumed.load(Relaxed),
    };
    server.stop().await?;
    Ok(figures)
}

async fn floor(plan: &Plan, sidecars: usize, report: &mut Report) -> Result<()> {
    let server = Server::replay(&plan.out.join("recording")).await?;
    let load = load(plan, &server.address, sidecars);
    let mut fleet = Fleet::start(&load);
    let figures = measure(&mut fleet, &load, Some(server.pid()?), None, 0).await?;
    report.floor.insert(sidecars.to_string(), figures);
    server.stop().await
}

async fn start(plan: &Plan) -> Result<StartFigures> {
    let folder = plan.out.join("mesh-start");
    mesh::write(&folder, START)?;
    let began = Instant::now();
    let server = Server::control_plane(&plan.program, &Place::Folder(folder.clone()), None)?;
    server.ready().await?;
    let ready_s = began.elapsed().as_secs_f64();
    let used = usage(server.pid()?)?;
    server.stop().await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(StartFigures {
        pods: START.services * START.pods,
        endpoint_slices: START.services,
        ready_s,
        cpu_s: used.cpu,
        memory_mib: used.memory / 1024.0,
    })
}

fn plots(plan: &Plan, report: &Report) -> Result<()> {
    for (sidecars, ours) in &report.sidecars {
        let mut series: Vec<(String, &[f64])> = vec![("control plane".to_owned(), &ours.syncs)];
        series.extend(
            report
                .floor
                .get(sidecars)
                .map(|floor| ("floor".to_owned(), &*floor.syncs)),
        );
        let title = format!("{sidecars} sidecars: time until in sync");
        std::fs::write(
            plan.out.join(format!("sync-{sidecars}.svg")),
            plot::histogram(&title, "s", &series),
        )?;
        let series = [("all rounds".to_owned(), &*ours.delays)];
        let title = format!("{sidecars} sidecars: time until an endpoint change is known");
        std::fs::write(
            plan.out.join(format!("change-{sidecars}.svg")),
            plot::histogram(&title, "ms", &series),
        )?;
    }
    Ok(())
}

fn about(plan: &Plan) -> String {
    let (shape, fed) = (
        plan.shape,
        if plan.kubeconfig.is_some() {
            "a Kubernetes API"
        } else {
            "files"
        },
    );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    format!(
        "{} services × {} pods in {} namespaces, fed from {fed}, plaintext, control plane and sidecars on one machine with {cores} cores ({model}).",
        shape.services, shape.pods, shape.namespaces
    )
}

/// The commit that the working folder is at, if it is one.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    match git(&["rev-parse", "--short", "HEAD"]) {
        Some(commit) if changed => format!("{commit} and changes"),
        Some(commit) => commit,
        None => "unknown".to_owned(),
    }
}
