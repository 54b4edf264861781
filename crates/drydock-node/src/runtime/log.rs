//! Container output in the CRI log format: `TIME STREAM P|F TEXT`, bounded by rotation.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A file is set aside as `.1` when it has grown to this (bytes); the one set aside before is dropped.
const MAX_FILE: u64 = 10 << 20;
/// Longer lines are written in parts (bytes), as containerd does.
const MAX_LINE: usize = 16 << 10;

/// Writer shared by a container's two streams.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    state: Mutex<(File, u64)>,
}

/// Where the older half of a log is.
pub(crate) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Log {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            state: Mutex::new(open(path)?),
        })
    }

    fn write(&self, stream: &str, tag: char, text: &[u8]) {
        let mut record = format!("{:.9} {stream} {tag} ", jiff::Timestamp::now()).into_bytes();
        record.extend_from_slice(text);
        record.push(b'\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1 + record.len() as u64 > MAX_FILE
            && std::fs::rename(&self.path, rotated(&self.path)).is_ok()
            && let Ok(fresh) = open(&self.path)
        {
            *state = fresh;
        }
        // A full disk loses log lines, not the container.
        if state.0.write_all(&record).is_ok() {
            state.1 += record.len() as u64;
        }
    }

    /// Copies a stream into the log until it ends.
    pub(super) fn copy(&self, stream: &str, mut from: impl Read) {
        let (mut line, mut buffer) = (Vec::with_capacity(1024), vec![0; 64 << 10]);
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                // A terminal whose last user has gone answers EIO.
                Err(_) => break,
            };
            for piece in buffer[..n].split_inclusive(|b| *b == b'\n') {
                let whole = piece.ends_with(b"\n");
                line.extend_from_slice(if whole { &piece[..piece.len() - 1] } else { piece });
                while line.len() > MAX_LINE {
                    let rest = line.split_off(MAX_LINE);
                    self.write(stream, 'P', &line);
                    line = rest;
                }
                if whole {
                    self.write(stream, 'F', &line);
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            self.write(stream, 'P', &line);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_parts_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let log = Log::open(&path).unwrap();
        log.copy("stdout", "one\n\ntwo".as_bytes());
        let text = std::fs::read_to_string(&path).unwrap();
        let tails: Vec<&str> = text.lines().map(|l| l.split_once(' ').unwrap().1).collect();
        assert_eq!(tails, ["stdout F one", "stdout F ", "stdout P two"]);
        let long = vec![b'x'; MAX_LINE + 1];
        log.copy("stderr", [&long[..], b"\n"].concat().as_slice());
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("stderr F x\n"));
        for _ in 0..(MAX_FILE as usize / MAX_LINE + 2) {
            log.copy("stdout", &long[..MAX_LINE]);
        }
        assert!(rotated(&path).is_file() && std::fs::metadata(&path).unwrap().len() < MAX_FILE);
    }
}
