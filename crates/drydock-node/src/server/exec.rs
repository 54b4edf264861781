//! Running a command in a container and carrying its streams.

use super::remote::{Channel, Ending, Remote, Session};
use crate::runtime::shim::set_size;
use crate::runtime::{Exec, Place, Runtime};
use bytes::Bytes;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Runs the command to its end, or until the client goes away.
pub(super) async fn run(
    runtime: &Runtime,
    place: &Place,
    command: &[String],
    session: Session,
    remote: Remote,
) -> Ending {
    let result = if session.tty {
        with_terminal(runtime, place, command, remote).await
    } else {
        with_pipes(runtime, place, command, session, remote).await
    };
    match result {
        Ok(ended) => ended,
        Err(message) => Ending::Failed(message),
    }
}

/// How a command ended, in numbers as a shell gives them: 127 when there is no such program, 126 when it cannot be run.
fn ending(status: ExitStatus, refusal: Option<&str>) -> Ending {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ending::Exit(match refusal {
        Some(text) if code != 0 && text.contains("level=error") => {
            if text.contains("executable file not found") || text.contains("no such file or directory") {
                127
            } else {
                126
            }
        }
        _ => code,
    })
}

async fn with_pipes(
    runtime: &Runtime,
    place: &Place,
    command: &[String],
    session: Session,
    remote: Remote,
) -> Result<Ending, String> {
    let stdio = [
        if session.stdin { Stdio::piped() } else { Stdio::null() },
        Stdio::piped(),
        Stdio::piped(),
    ];
    let mut process = runtime
        .exec(Exec {
            place,
            command,
            tty: false,
            stdio,
        })
        .map_err(|e| e.to_string())?;
    let Remote { stdin, out, .. } = remote;
    let feeding = process.child.stdin.take().map(|pipe| tokio::spawn(feed(stdin, pipe)));
    let copies = (
        process
            .child
            .stdout
            .take()
            .map(|s| copy(s, Channel::Stdout, out.clone())),
        process
            .child
            .stderr
            .take()
            .map(|s| copy_errors(s, process.pid_file().to_owned(), out.clone())),
    );
    let both = async { tokio::join!(optional(copies.0), optional(copies.1)) };
    // The process is killed when it is dropped before its end; `closed` tells that nobody listens any more.
    let status = tokio::select! {
        (status, _) = async { tokio::join!(process.wait(), both) } => status.map_err(|e| e.to_string()),
        () = out.closed() => Err("the client went away".into()),
    };
    if let Some(task) = feeding {
        task.abort();
    }
    status.map(|status| ending(status, process.refusal().as_deref()))
}

async fn optional<F: Future<Output = ()>>(work: Option<F>) {
    if let Some(work) = work {
        work.await;
    }
}

async fn feed(mut stdin: mpsc::Receiver<Bytes>, mut pipe: impl AsyncWrite + Unpin) {
    while let Some(data) = stdin.recv().await {
        if pipe.write_all(&data).await.is_err() || pipe.flush().await.is_err() {
            return;
        }
    }
    let _ = pipe.shutdown().await;
}

async fn copy(mut from: impl AsyncRead + Unpin, channel: Channel, out: mpsc::Sender<(Channel, Bytes)>) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if out.send((channel, Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
            return;
        }
    }
}

/// As [`copy`]; what the runtime says of a process that it could not start is in the words of Kubernetes.
async fn copy_errors(mut from: impl AsyncRead + Unpin, pid_file: PathBuf, out: mpsc::Sender<(Channel, Bytes)>) {
    let mut buffer = vec![0; 32 << 10];
    let Ok(n @ 1..) = from.read(&mut buffer).await else {
        return;
    };
    let mut first = buffer[..n].to_vec();
    if first.starts_with(b"exec failed: ") && !pid_file.exists() {
        first.splice(0..0, *b"OCI runtime exec failed: ");
    }
    if out.send((Channel::Stderr, first.into())).await.is_ok() {
        copy(from, Channel::Stderr, out).await;
    }
}

/// The runtime passes on what its own terminal says, so it is given one: a pair whose other end is the client.
async fn with_terminal(runtime: &Runtime, place: &Place, command: &[String], remote: Remote) -> Result<Ending, String> {
    let Remote { stdin, mut sizes, out } = remote;
    let pair = nix::pty::openpty(None, None).map_err(|e| format!("no terminal: {e}"))?;
    let dup = |fd: &OwnedFd| fd.try_clone().map_err(|e| e.to_string());
    let stdio = [
        Stdio::from(dup(&pair.slave)?),
        Stdio::from(dup(&pair.slave)?),
        Stdio::from(dup(&pair.slave)?),
    ];
    if let Ok(Some((columns, rows))) = tokio::time::timeout(std::time::Duration::from_millis(100), sizes.recv()).await {
        set_size(pair.master.as_raw_fd(), columns, rows);
    }
    let mut process = runtime
        .exec(Exec {
            place,
            command,
            tty: true,
            stdio,
        })
        .map_err(|e| e.to_string())?;
    drop(pair.slave);
    let pid = process.child.id();
    let (reader, writer) = (dup(&pair.master)?, dup(&pair.master)?);
    let reading = tokio::spawn(copy(
        tokio::fs::File::from_std(reader.into()),
        Channel::Stdout,
        out.clone(),
    ));
    let feeding = tokio::spawn(type_in(stdin, tokio::fs::File::from_std(writer.into())));
    let resizing = async {
        while let Some((columns, rows)) = sizes.recv().await {
            set_size(pair.master.as_raw_fd(), columns, rows);
            // The runtime has no controlling terminal that would tell it.
            if let Some(pid) = pid.and_then(|p| i32::try_from(p).ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGWINCH);
            }
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = process.wait() => status.map_err(|e| e.to_string()),
        () = out.closed() => Err("the client went away".into()),
        () = resizing => Err("unreachable".into()),
    };
    // What the terminal still holds; its end is an error (EIO) once the last user is gone.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(500), reading).await;
    feeding.abort();
    status.map(|status| ending(status, process.refusal().as_deref()))
}

/// Unlike a pipe, a terminal is not closed but told: end of input is a character.
async fn type_in(mut stdin: mpsc::Receiver<Bytes>, mut terminal: tokio::fs::File) {
    while let Some(data) = stdin.recv().await {
        if terminal.write_all(&data).await.is_err() || terminal.flush().await.is_err() {
            return;
        }
    }
    let _ = terminal.write_all(&[4]).await;
    let _ = terminal.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_cannot_start_have_the_numbers_of_a_shell() {
        let check = |code: i32, refusal: Option<&str>, expected: i32| {
            let ended = ending(ExitStatus::from_raw(code << 8), refusal);
            assert!(
                matches!(ended, Ending::Exit(got) if got == expected),
                "{code} {refusal:?}: {ended:?}"
            );
        };
        check(3, None, 3);
        check(255, None, 255);
        let missing = r#"level=error msg="exec failed: … exec: \"x\": executable file not found in $PATH""#;
        check(255, Some(missing), 127);
        check(255, Some("level=error msg=\"exec failed: … permission denied\""), 126);
        check(0, Some(""), 0);
    }
}
