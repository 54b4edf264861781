//! Creating a container with its streams in the shim's hands.

use super::Job;
use crate::error::{Error, Result};
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) struct Streams {
    pub(super) readers: Vec<(&'static str, Box<dyn Read + Send>)>,
    pub(super) stdin: Option<std::fs::File>,
    pub(super) terminal: Option<OwnedFd>,
}

/// `runc create` with pipes, or with a terminal whose other end comes back over a socket.
pub(super) fn create(job: &Job) -> Result<Streams> {
    let io = |e| Error::Pod(format!("cannot make pipes: {e}"));
    let mut command = Command::new(&job.program);
    let runtime_log = job.bundle.join("runtime.log");
    command
        .arg("--root")
        .arg(&job.root)
        .arg("--log")
        .arg(&runtime_log)
        .arg("create")
        .arg("--bundle")
        .arg(&job.bundle);
    command.arg("--pid-file").arg(job.bundle.join("pid"));
    let failed = |e: std::io::Error| Error::Command {
        command: job.program.display().to_string(),
        message: e.to_string(),
    };
    if job.tty {
        let console = job.socket.with_extension("tty");
        let _ = std::fs::remove_file(&console);
        let listener = UnixListener::bind(&console).map_err(Error::io("listen on", &console))?;
        command.arg("--console-socket").arg(&console).arg(&job.id);
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(failed)?;
        let _ = std::fs::remove_file(&console);
        if !status.success() {
            return Err(last_words(&runtime_log, "create"));
        }
        let master = receive_terminal(&listener).map_err(io)?;
        let copy = |fd: &OwnedFd| fd.try_clone().map(std::fs::File::from).map_err(io);
        let reader: Box<dyn Read + Send> = Box::new(copy(&master)?);
        return Ok(Streams {
            readers: vec![("stdout", reader)],
            stdin: job.stdin.then(|| copy(&master)).transpose()?,
            terminal: Some(master),
        });
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
    Ok(Streams {
        readers: vec![("stdout", Box::new(out_r)), ("stderr", Box::new(err_r))],
        stdin,
        terminal: None,
    })
}

pub(super) fn runtime(job: &Job, args: &[&str]) -> Result<()> {
    let log = job.bundle.join("runtime.log");
    let mut command = Command::new(&job.program);
    command
        .arg("--root")
        .arg(&job.root)
        .arg("--log")
        .arg(&log)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(last_words(&log, args[0])),
    }
}

/// The runtime's last error line: `time="…" level=error msg="…"`.
fn last_words(log: &Path, action: &str) -> Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text
        .lines()
        .rev()
        .find(|l| l.contains("level=error") || !l.contains("level="))
        .unwrap_or("it did not say why");
    let message = line
        .split_once("msg=")
        .map_or(line, |(_, m)| m)
        .trim_matches('"')
        .replace("\\\"", "\"");
    Error::Command {
        command: format!("container {action}"),
        message,
    }
}

/// The terminal's file descriptor, sent by the runtime as ancillary data.
fn receive_terminal(listener: &UnixListener) -> std::io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (stream, _) = listener.accept()?;
    let mut name = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return Ok(own(*fd));
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
