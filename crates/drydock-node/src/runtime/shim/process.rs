//! The shim process itself: no threads but those that copy, no asynchronous runtime.

use super::connections::{Listeners, Tee, accept};
use super::container::{Streams, create, runtime};
use super::{DRAIN, Exit, Job, Report, Started};
use crate::error::{Error, Result};
use crate::runtime::log::Log;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Entry of the shim process: `<shim command> <container folder>`.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let Some(dir) = args.into_iter().next() else {
        eprintln!("usage: shim CONTAINER-FOLDER (started by the node, not by hand)");
        return ExitCode::from(2);
    };
    match run(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&Report::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn report(report: &Report) {
    let mut out = std::io::stdout();
    let _ = serde_json::to_writer(&mut out, report);
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}

fn run(dir: &Path) -> Result<()> {
    let path = dir.join("shim.json");
    let job = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let job: Job = serde_json::from_slice(&job).map_err(|e| Error::Pod(format!("{}: {e}", path.display())))?;
    // A session of its own: signals for the node's terminal do not reach it.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true).map_err(Error::errno("become subreaper for", dir))?;
    let _ = std::fs::remove_file(&job.socket);
    let listener = UnixListener::bind(&job.socket).map_err(Error::io("listen on", &job.socket))?;
    let log = Arc::new(Log::open(&job.log).map_err(Error::io("open", &job.log))?);
    let Streams {
        readers,
        stdin,
        terminal,
    } = create(&job)?;
    let (done_tx, done_rx) = std::sync::mpsc::channel();
    let listeners = Listeners::default();
    for (name, reader) in readers {
        let (log, done) = (log.clone(), done_tx.clone());
        let tee = Tee {
            reader,
            stream: if name == "stderr" { 2 } else { 1 },
            listeners: listeners.clone(),
        };
        std::thread::spawn(move || {
            log.copy(name, tee);
            let _ = done.send(());
        });
    }
    drop(done_tx);
    let pid_file = job.bundle.join("pid");
    let pid = std::fs::read_to_string(&pid_file).map_err(Error::io("read", &pid_file))?;
    let pid: i32 = pid
        .trim()
        .parse()
        .map_err(|_| Error::Pod(format!("{}: not a process ID", pid_file.display())))?;
    if let Err(error) = runtime(&job, &["start", &job.id]) {
        let _ = runtime(&job, &["delete", "--force", &job.id]);
        return Err(error);
    }
    report(&Report::Started(Started {
        pid,
        at: jiff::Timestamp::now(),
    }));
    silence();
    let once = job.stdin_once;
    std::thread::spawn(move || accept(&listener, stdin, once, terminal, &listeners));
    let mut exit = wait(pid);
    exit.out_of_memory = exit.code == 137 && killed_by_memory(&job.cgroup);
    let deadline = std::time::Instant::now() + DRAIN;
    while let Ok(()) = done_rx.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {}
    let _ = runtime(&job, &["delete", "--force", &job.id]);
    let partial = job.exit.with_extension("partial");
    let data = serde_json::to_vec(&exit).map_err(|e| Error::Pod(e.to_string()))?;
    std::fs::write(&partial, data).map_err(Error::io("write", &partial))?;
    std::fs::rename(&partial, &job.exit).map_err(Error::io("rename", &partial))?;
    let _ = std::fs::remove_file(&job.socket);
    Ok(())
}

/// After the report nobody reads the shim's output: a full pipe must not stop it.
fn silence() {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
        let _ = nix::unistd::dup2_stdin(&null);
    }
}

/// Reaps until the container's first process has ended.
fn wait(pid: i32) -> Exit {
    loop {
        let code = match waitpid(None, None) {
            Ok(WaitStatus::Exited(p, code)) if p == Pid::from_raw(pid) => code,
            Ok(WaitStatus::Signaled(p, signal, _)) if p == Pid::from_raw(pid) => 128 + signal as i32,
            // Nobody left to wait for: it was never ours.
            Err(nix::Error::ECHILD) => 255,
            _ => continue,
        };
        return Exit {
            code,
            out_of_memory: false,
            never_ran: false,
            at: jiff::Timestamp::now(),
        };
    }
}

fn killed_by_memory(cgroup: &str) -> bool {
    let group = cgroup.trim_start_matches('/');
    let v2 = Path::new("/sys/fs/cgroup").join(group).join("memory.events");
    let v1 = Path::new("/sys/fs/cgroup/memory")
        .join(group)
        .join("memory.oom_control");
    let counts = |path: &Path| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"))
    };
    counts(&v2) || counts(&v1)
}
