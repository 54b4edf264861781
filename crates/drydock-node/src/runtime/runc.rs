//! The OCI runtime's commands, as the node calls them.

use super::Place;
use crate::error::{Error, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a command other than exec may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `runc` or `crun` with this cluster's state folder.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) program: PathBuf,
    pub(crate) root: PathBuf,
}

/// A process to start in a running container.
#[derive(Debug)]
pub(crate) struct Exec<'a> {
    pub(crate) place: &'a Place,
    pub(crate) command: &'a [String],
    /// The process gets a terminal; the runtime passes on what its own terminal (`stdio`) says.
    pub(crate) tty: bool,
    /// Standard input, output and error.
    pub(crate) stdio: [Stdio; 3],
}

impl Runtime {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.root)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let failed = |message: String| Error::Command {
            command: format!("{} {}", self.program.display(), args.join(" ")),
            message,
        };
        let output = tokio::time::timeout(PATIENCE, self.command(args).output()).await;
        let output = output
            .map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?
            .map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))
        }
    }

    /// Sends a signal to the container's first process.
    pub(crate) async fn kill(&self, id: &str, signal: Signal) -> Result<()> {
        self.run(&["kill", id, &(signal as i32).to_string()]).await.map(drop)
    }

    /// Ends whatever is left of a container. Nothing there is fine.
    pub(crate) async fn delete(&self, id: &str) {
        let _ = self.run(&["delete", "--force", id]).await;
    }

    /// Number of the container's first process.
    pub(crate) async fn pid(&self, id: &str) -> Result<i32> {
        let out = self.run(&["state", id]).await?;
        let state: Value = serde_json::from_slice(&out).map_err(|e| Error::Pod(format!("state of {id}: {e}")))?;
        let pid = state["pid"].as_i64().and_then(|p| i32::try_from(p).ok());
        pid.filter(|p| *p > 0)
            .ok_or_else(|| Error::Pod(format!("container {id} does not run")))
    }

    /// IDs of all containers of this cluster.
    pub(crate) async fn list(&self) -> Result<Vec<String>> {
        let out = self.run(&["list", "--quiet"]).await?;
        Ok(String::from_utf8_lossy(&out)
            .lines()
            .map(str::to_string)
            .filter(|l| !l.is_empty())
            .collect())
    }

    /// Starts a process in a container, with the container's own user, environment and capabilities.
    pub(crate) fn exec(&self, exec: Exec<'_>) -> Result<Process> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config_path = exec.place.bundle().join("config.json");
        let config = std::fs::read(&config_path).map_err(Error::io("read", &config_path))?;
        let config: Value =
            serde_json::from_slice(&config).map_err(|e| Error::Pod(format!("{}: {e}", config_path.display())))?;
        let mut process = config["process"].clone();
        process["args"] = json!(exec.command);
        process["terminal"] = json!(exec.tty);
        if let (true, Some(env)) = (exec.tty, process["env"].as_array_mut()) {
            env.push(json!("TERM=xterm"));
        }
        let file = exec.place.dir.join(format!(
            "exec-{}-{}.json",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        super::write_private(&file, process.to_string().as_bytes())?;
        let [stdin, stdout, stderr] = exec.stdio;
        let pid_file = file.with_extension("pid");
        let log = file.with_extension("log");
        let mut command = self.command(&[]);
        if self.program.ends_with("runc") {
            // With its log elsewhere it says plainly why it could not start the process.
            command.arg("--log").arg(&log);
        }
        command
            .args(["exec", "--process"])
            .arg(&file)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&exec.place.id)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let child = command.spawn().map_err(|e| Error::Command {
            command: format!("{} exec", self.program.display()),
            message: e.to_string(),
        })?;
        Ok(Process {
            child,
            pid_file,
            ended: false,
        })
    }
}

/// A process in a container. Dropped before it has ended, it is killed, with what it has started in its session.
#[derive(Debug)]
pub(crate) struct Process {
    /// The runtime's command, which waits for the process and ends as it does.
    pub(crate) child: Child,
    pid_file: PathBuf,
    ended: bool,
}

impl Process {
    /// What tells, by being there, that the process has started: its number, which the runtime writes then.
    pub(crate) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// Why the runtime could not start the process; `None` if it could, or does not say.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.pid_file.exists() {
            return None;
        }
        std::fs::read_to_string(self.pid_file.with_extension("log")).ok()
    }

    /// Waits for the end; the exit code is the process's own.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.ended = status.is_ok();
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The runtime's command is there and has not asked for the process: the number is still its own.
        let pid = std::fs::read_to_string(&self.pid_file)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.filter(|pid| *pid > 1) {
            let pid = Pid::from_raw(pid);
            let _ = killpg(pid, Signal::SIGKILL).or_else(|_| kill(pid, Signal::SIGKILL));
        }
    }
}

/// Removes the files that finished execs left in a container's folder.
pub(crate) fn sweep_execs(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("exec-"))
    {
        let _ = std::fs::remove_file(entry.path());
    }
}
