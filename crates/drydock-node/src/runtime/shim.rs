//! The process beside every container: it outlives the node process and remembers how the container ended.
//!
//! The node starts it with the container's folder as its only argument. It creates and starts the container through the
//! OCI runtime (as subreaper, so that the container's first process becomes its child), tells the node on its standard
//! output whether that worked, copies the container's output into the log, waits, and leaves `exit.json`. Its socket
//! stays open exactly as long: whoever holds a connection sees the end as end of file.

use super::Place;
use super::log::Log;
use super::runc::Runtime;
use crate::error::{Error, Result};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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
    pub(crate) at: jiff::Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Started(Started),
    Failed(String),
}

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
    let Streams { readers, stdin, terminal } = create(&job)?;
    let (done_tx, done_rx) = std::sync::mpsc::channel();
    let listeners = Listeners::default();
    for (name, reader) in readers {
        let (log, done) = (log.clone(), done_tx.clone());
        let tee = Tee { reader, stream: if name == "stderr" { 2 } else { 1 }, listeners: listeners.clone() };
        std::thread::spawn(move || {
            log.copy(name, tee);
            let _ = done.send(());
        });
    }
    drop(done_tx);
    let pid_file = job.bundle.join("pid");
    let pid = std::fs::read_to_string(&pid_file).map_err(Error::io("read", &pid_file))?;
    let pid: i32 = pid.trim().parse().map_err(|_| Error::Pod(format!("{}: not a process ID", pid_file.display())))?;
    if let Err(error) = runtime(&job, &["start", &job.id]) {
        let _ = runtime(&job, &["delete", "--force", &job.id]);
        return Err(error);
    }
    report(&Report::Started(Started { pid, at: jiff::Timestamp::now() }));
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

struct Streams {
    readers: Vec<(&'static str, Box<dyn Read + Send>)>,
    stdin: Option<std::fs::File>,
    terminal: Option<OwnedFd>,
}

/// `runc create` with pipes, or with a terminal whose other end comes back over a socket.
fn create(job: &Job) -> Result<Streams> {
    let io = |e| Error::Pod(format!("cannot make pipes: {e}"));
    let mut command = Command::new(&job.program);
    let runtime_log = job.bundle.join("runtime.log");
    command.arg("--root").arg(&job.root).arg("--log").arg(&runtime_log).arg("create").arg("--bundle").arg(&job.bundle);
    command.arg("--pid-file").arg(job.bundle.join("pid"));
    let failed = |e: std::io::Error| Error::Command { command: job.program.display().to_string(), message: e.to_string() };
    if job.tty {
        let console = job.socket.with_extension("tty");
        let _ = std::fs::remove_file(&console);
        let listener = UnixListener::bind(&console).map_err(Error::io("listen on", &console))?;
        command.arg("--console-socket").arg(&console).arg(&job.id);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(failed)?;
        let _ = std::fs::remove_file(&console);
        if !status.success() {
            return Err(last_words(&runtime_log, "create"));
        }
        let master = receive_terminal(&listener).map_err(io)?;
        let copy = |fd: &OwnedFd| fd.try_clone().map(std::fs::File::from).map_err(io);
        let reader: Box<dyn Read + Send> = Box::new(copy(&master)?);
        return Ok(Streams { readers: vec![("stdout", reader)], stdin: job.stdin.then(|| copy(&master)).transpose()?, terminal: Some(master) });
    }
    let (out_r, out_w) = std::io::pipe().map_err(io)?;
    let (err_r, err_w) = std::io::pipe().map_err(io)?;
    command.arg(&job.id).stdout(out_w).stderr(err_w).stdin(Stdio::null());
    let mut stdin = None;
    if job.stdin {
        let (r, w) = std::io::pipe().map_err(io)?;
        command.stdin(r);
        stdin = Some(std::fs::File::from(OwnedFd::from(w)));
    }
    let status = command.status().map_err(failed)?;
    // The command holds the write ends; only the container may, or end of file never comes.
    drop(command);
    if !status.success() {
        return Err(last_words(&runtime_log, "create"));
    }
    Ok(Streams { readers: vec![("stdout", Box::new(out_r)), ("stderr", Box::new(err_r))], stdin, terminal: None })
}

fn runtime(job: &Job, args: &[&str]) -> Result<()> {
    let log = job.bundle.join("runtime.log");
    let mut command = Command::new(&job.program);
    command.arg("--root").arg(&job.root).arg("--log").arg(&log).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(last_words(&log, args[0])),
    }
}

/// The runtime's last error line: `time="…" level=error msg="…"`.
fn last_words(log: &Path, action: &str) -> Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|l| l.contains("level=error") || !l.contains("level=")).unwrap_or("it did not say why");
    let message = line.split_once("msg=").map_or(line, |(_, m)| m).trim_matches('"').replace("\\\"", "\"");
    Error::Command { command: format!("container {action}"), message }
}

/// The terminal's file descriptor, sent by the runtime as ancillary data.
pub(crate) fn receive_terminal(listener: &UnixListener) -> std::io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (stream, _) = listener.accept()?;
    let mut name = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            if let Some(fd) = fds.first() {
                return Ok(own(*fd));
            }
        }
    }
    Err(std::io::Error::other("the runtime sent no terminal"))
}

/// Takes over a descriptor that the kernel has just made for us.
#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the descriptor comes out of SCM_RIGHTS, so it is open, new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// After the report nobody reads the shim's output: a full pipe must not stop it.
fn silence() {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
        let _ = nix::unistd::dup2_stdin(&null);
    }
}

/// Connections that see the output.
type Listeners = Arc<Mutex<Vec<UnixStream>>>;

/// Passes on what is read to everyone who is attached: stream number, length, data. Who does not read is cut off.
struct Tee {
    reader: Box<dyn Read + Send>,
    stream: u8,
    listeners: Listeners,
}

impl Read for Tee {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buf)?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if n > 0 && !listeners.is_empty() {
            let length = u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
            let piece = [&[self.stream], &length[..], &buf[..n]].concat();
            listeners.retain_mut(|l| l.write_all(&piece).is_ok());
        }
        Ok(n)
    }
}

fn accept(listener: &UnixListener, stdin: Option<std::fs::File>, once: bool, terminal: Option<OwnedFd>, listeners: &Listeners) {
    let stdin = Arc::new(Mutex::new(stdin));
    let terminal = Arc::new(terminal);
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let (stdin, terminal, listeners) = (stdin.clone(), terminal.clone(), listeners.clone());
        std::thread::spawn(move || {
            let mut kind = [0];
            if stream.read_exact(&mut kind).is_err() {
                return;
            }
            match kind[0] {
                STDIN => feed(&mut stream, &stdin, once),
                RESIZE => resize(&mut stream, terminal.as_ref().as_ref()),
                OUTPUT => {
                    let _ = stream.set_write_timeout(Some(DRAIN));
                    listeners.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
                }
                // Keeps the connection until the process ends; the peer never sends more.
                WAIT => drop(std::io::copy(&mut stream, &mut std::io::sink())),
                _ => {}
            }
        });
    }
}

fn feed(stream: &mut UnixStream, stdin: &Mutex<Option<std::fs::File>>, once: bool) {
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        let mut target = stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = target.as_mut() else { return };
        if file.write_all(&buffer[..n]).is_err() {
            *target = None;
            return;
        }
    }
    if once {
        *stdin.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn resize(stream: &mut UnixStream, terminal: Option<&OwnedFd>) {
    let mut size = [0; 4];
    while stream.read_exact(&mut size).is_ok() {
        if let Some(fd) = terminal {
            set_size(fd.as_fd().as_raw_fd(), u16::from_be_bytes([size[0], size[1]]), u16::from_be_bytes([size[2], size[3]]));
        }
    }
}

/// Sets a terminal's size in characters.
#[allow(unsafe_code)]
pub(crate) fn set_size(fd: RawFd, columns: u16, rows: u16) {
    let size = nix::libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for the time of the call, and the kernel only reads the struct.
    let _ = unsafe { nix::libc::ioctl(fd, nix::libc::TIOCSWINSZ, &raw const size) };
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
        return Exit { code, out_of_memory: false, at: jiff::Timestamp::now() };
    }
}

fn killed_by_memory(cgroup: &str) -> bool {
    let group = cgroup.trim_start_matches('/');
    let v2 = Path::new("/sys/fs/cgroup").join(group).join("memory.events");
    let v1 = Path::new("/sys/fs/cgroup/memory").join(group).join("memory.oom_control");
    let counts = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"));
    counts(&v2) || counts(&v1)
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
pub(crate) async fn start(shim: &[String], runtime: &Runtime, place: &Place, cgroup: &str, terminal: Terminal) -> Result<Started> {
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
    let [program, args @ ..] = shim else { return Err(Error::Pod("the shim command is empty".into())) };
    let failed = |message: String| Error::Command { command: shim.join(" "), message };
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
        Err(_) => Err(failed(format!("said {line:?}; see {}", place.dir.join("shim.log").display()))),
    }
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
