//! The process beside every container: it outlives the node process and remembers how the container ended.
//!
//! The node starts it with the container's folder as its only argument. It creates and starts the container through the
//! OCI runtime (as subreaper, so that the container's first process becomes its child), tells the node on its standard
//! output whether that worked, copies the container's output into the log, waits, and leaves `exit.json`. Its socket
//! stays open exactly as long: whoever holds a connection sees the end as end of file.

mod connections;
mod container;
mod process;

pub(crate) use connections::set_size;
pub use process::main;

use super::Place;
use super::runc::Runtime;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long output may keep coming after the container's end (a grandchild that holds the pipe).
const DRAIN: Duration = Duration::from_secs(1);
/// How long creating and starting a container may take before the node gives up on it.
const START: Duration = Duration::from_secs(60);
/// First byte of a connection: wait for the end, see the output as it comes, write to the container's stdin, resize its
/// terminal.
const WAIT: u8 = b'w';
const OUTPUT: u8 = b'o';
const STDIN: u8 = b'i';
const RESIZE: u8 = b'r';

/// What the shim reads from `shim.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    program: PathBuf,
    root: PathBuf,
    id: String,
    bundle: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    exit: PathBuf,
    cgroup: String,
    stdin: bool,
    stdin_once: bool,
    tty: bool,
}

/// A container that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) at: jiff::Timestamp,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Exit code; 128 + signal if it was killed.
    pub(crate) code: i32,
    #[serde(default)]
    pub(crate) out_of_memory: bool,
    /// The program could not even be started.
    #[serde(default)]
    pub(crate) never_ran: bool,
    pub(crate) at: jiff::Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Started(Started),
    Failed(String),
}

/// How a container is connected to the outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terminal {
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
}

/// Starts the container in `place` (its bundle is complete) and returns once it runs.
///
/// # Errors
/// With the runtime's own words if the container could not be created or started.
pub(crate) async fn start(
    shim: &[String],
    runtime: &Runtime,
    place: &Place,
    cgroup: &str,
    terminal: Terminal,
) -> Result<Started> {
    let job = Job {
        program: runtime.program.clone(),
        root: runtime.root.clone(),
        id: place.id.clone(),
        bundle: place.bundle(),
        log: place.log.clone(),
        socket: place.socket.clone(),
        exit: place.exit_file(),
        cgroup: cgroup.to_string(),
        stdin: terminal.stdin,
        stdin_once: terminal.stdin_once,
        tty: terminal.tty,
    };
    let path = place.dir.join("shim.json");
    let data = serde_json::to_vec(&job).map_err(|e| Error::Pod(e.to_string()))?;
    std::fs::write(&path, data).map_err(Error::io("write", &path))?;
    let [program, args @ ..] = shim else {
        return Err(Error::Pod("the shim command is empty".into()));
    };
    let failed = |message: String| Error::Command {
        command: shim.join(" "),
        message,
    };
    let errors = std::fs::File::create(place.dir.join("shim.log")).map_err(|e| failed(e.to_string()))?;
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .arg(&place.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let mut line = String::new();
    if let Some(mut out) = child.stdout.take() {
        let mut text = Vec::new();
        let read = async {
            let mut byte = [0];
            while let Ok(1) = out.read(&mut byte).await {
                if byte[0] == b'\n' || text.len() > 64 << 10 {
                    break;
                }
                text.push(byte[0]);
            }
        };
        if tokio::time::timeout(START, read).await.is_err() {
            let _ = child.start_kill();
            runtime.delete(&place.id).await;
            return Err(failed(format!("the container did not start within {START:?}")));
        }
        line = String::from_utf8_lossy(&text).into_owned();
    }
    // Somebody has to reap it while this process lives.
    tokio::spawn(async move { drop(child.wait().await) });
    match serde_json::from_str(&line) {
        Ok(Report::Started(started)) => Ok(started),
        Ok(Report::Failed(message)) => Err(Error::Pod(message)),
        Err(_) => Err(failed(format!(
            "said {line:?}; see {}",
            place.dir.join("shim.log").display()
        ))),
    }
}

/// Numbers of the shims whose containers' folders are below `pods`.
pub(crate) fn of_pods(pods: &Path) -> Vec<i32> {
    let pods = pods.canonicalize().unwrap_or_else(|_| pods.to_path_buf());
    let is_shim = |command: &[u8]| {
        let last = command
            .strip_suffix(b"\0")
            .unwrap_or(command)
            .rsplit(|byte| *byte == 0)
            .next();
        last.is_some_and(|folder| Path::new(OsStr::from_bytes(folder)).starts_with(&pods))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| std::fs::read(process.path().join("cmdline")).is_ok_and(|command| is_shim(&command)))
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// Waits for the end of a container that this or an earlier node process started.
///
/// `None` if the container was lost: its shim died without leaving an exit code.
pub(crate) async fn wait_exit(place: &Place) -> Option<Exit> {
    if let Ok(mut stream) = connect(place, WAIT).await {
        let mut rest = [0; 16];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    }
    read_exit(place)
}

/// The exit record, if the container has ended.
pub(crate) fn read_exit(place: &Place) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(place.exit_file()).ok()?).ok()
}

async fn connect(place: &Place, kind: u8) -> std::io::Result<tokio::net::UnixStream> {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::UnixStream::connect(&place.socket).await?;
    stream.write_all(&[kind]).await?;
    Ok(stream)
}

/// A connection on which the container's output comes as it is written.
pub(crate) async fn output(place: &Place) -> std::io::Result<tokio::net::UnixStream> {
    connect(place, OUTPUT).await
}

/// A connection that feeds the container's standard input.
pub(crate) async fn stdin(place: &Place) -> std::io::Result<tokio::net::UnixStream> {
    connect(place, STDIN).await
}

/// A connection that takes terminal sizes (columns, rows: two big-endian 16-bit numbers each).
pub(crate) async fn sizes(place: &Place) -> std::io::Result<tokio::net::UnixStream> {
    connect(place, RESIZE).await
}
