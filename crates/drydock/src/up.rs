//! `drydock up`: starts the serving process in the background and returns when the cluster is ready.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster_file::ClusterFile;
use crate::data_dir::DataDir;
use crate::process::Process;
use crate::report::Report;
use crate::{images, logs, machine, out};

/// Starts the cluster; `with_images` also loads what was built beside this program.
///
/// # Errors
/// The cluster does not come up; the message says why.
pub fn run(dir: &DataDir, with_images: bool) -> Result<()> {
    machine::become_root(dir)?;
    machine::check_programs()?;
    let began = Instant::now();
    dir.own()?;
    ClusterFile::of_cluster(dir)?;
    if with_images {
        images::load_built(dir)?;
    }
    if let Some(process) = Process::of(dir).filter(|process| process.stays()) {
        return out::line(format_args!(
            "The cluster in {} is up already (process {}).",
            dir.path().display(),
            process.pid()
        ));
    }
    start(dir, began)?;
    out::line(format_args!(
        "The cluster is ready after {:.2} s.\n  export KUBECONFIG={}",
        began.elapsed().as_secs_f64(),
        dir.kubeconfig().display()
    ))
}

fn start(dir: &DataDir, began: Instant) -> Result<()> {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.log());
    let log = log.with_context(|| format!("cannot write {}", dir.log().display()))?;
    machine::give_to_caller(&dir.log());
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut child = Command::new(program)
        .args(["serve", "--daemon", "--data-dir"])
        .arg(dir.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the serving process")?;
    let reports = child.stdout.take().context("the serving process has no output")?;
    // Output that cannot be written is told when the cluster is up.
    let mut written = Ok(());
    for line in BufReader::new(reports).lines() {
        match Report::parse(&line.unwrap_or_default()) {
            Some(Report::Part { name, detail }) => {
                let took = began.elapsed().as_secs_f64();
                written = written.and(out::line(format_args!("  {name:<12} {detail:<28} {took:.2} s")));
            }
            Some(Report::Ready) => return written,
            Some(Report::Failed(why)) => bail!("{why}"),
            None => {}
        }
    }
    // The pipe was closed without a word: it is gone.
    let status = wait_briefly(&mut child);
    let last = logs::tail(&dir.log(), 5).unwrap_or_default();
    bail!("the serving process ended ({status}); its last words:\n{last}");
}

fn wait_briefly(child: &mut std::process::Child) -> String {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return error.to_string(),
        }
    }
    "still running without a word".into()
}
