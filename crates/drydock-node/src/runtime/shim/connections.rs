//! Who is connected to a shim, and for what.

use super::{DRAIN, OUTPUT, RESIZE, STDIN, WAIT};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that see the output.
pub(super) type Listeners = Arc<Mutex<Vec<UnixStream>>>;

/// Passes on what is read to everyone who is attached: stream number, length, data. Who does not read is cut off.
pub(super) struct Tee {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) stream: u8,
    pub(super) listeners: Listeners,
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

pub(super) fn accept(
    listener: &UnixListener,
    stdin: Option<std::fs::File>,
    once: bool,
    terminal: Option<OwnedFd>,
    listeners: &Listeners,
) {
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
            set_size(
                fd.as_fd().as_raw_fd(),
                u16::from_be_bytes([size[0], size[1]]),
                u16::from_be_bytes([size[2], size[3]]),
            );
        }
    }
}

/// Sets a terminal's size in characters.
#[allow(unsafe_code)]
pub(crate) fn set_size(fd: RawFd, columns: u16, rows: u16) {
    let size = nix::libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the time of the call, and the kernel only reads the struct.
    let _ = unsafe { nix::libc::ioctl(fd, nix::libc::TIOCSWINSZ, &raw const size) };
}
