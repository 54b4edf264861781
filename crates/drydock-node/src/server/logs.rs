//! `/containerLogs`: reading CRI logs back as plain text.

use super::routes::{Query, problem};
use crate::agent::Node;
use crate::pod::{View, every_container, key};
use crate::runtime::{Place, log_path, rotated};
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Longest termination message (bytes), and how much of the log serves as one.
const MAX_MESSAGE: u64 = 4096;
const MAX_LOG_MESSAGE: usize = 2048;
const LOG_MESSAGE_LINES: usize = 80;

#[derive(Debug, Clone, Default)]
struct Options {
    follow: bool,
    timestamps: bool,
    previous: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
    stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &Query) -> Result<Self, String> {
        let number = |name: &str| {
            query
                .first(name)
                .map(|v| v.parse::<i64>().map_err(|_| format!("{name} is not a number")))
                .transpose()
        };
        let since = match (number("sinceSeconds")?, query.first("sinceTime")) {
            (Some(seconds), _) => Timestamp::now()
                .checked_sub(jiff::SignedDuration::from_secs(seconds))
                .ok(),
            (None, Some(time)) => Some(time.parse().map_err(|e| format!("sinceTime: {e}"))?),
            (None, None) => None,
        };
        let size = |value: Option<i64>| value.and_then(|v| usize::try_from(v).ok());
        Ok(Self {
            follow: query.flag(&["follow"]),
            timestamps: query.flag(&["timestamps"]),
            previous: query.flag(&["previous"]),
            tail: size(number("tailLines")?),
            since,
            limit: size(number("limitBytes")?),
            stream: match query.first("stream") {
                Some("Stdout") => Some("stdout"),
                Some("Stderr") => Some("stderr"),
                _ => None,
            },
        })
    }

    /// The text of one CRI line, `None` if it is not wanted.
    fn render(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if self.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
            return None;
        }
        if let Some(since) = self.since {
            let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if at < since {
                return None;
            }
        }
        let mut out = Vec::with_capacity(line.len());
        if self.timestamps {
            out.extend(time);
            out.push(b' ');
        }
        out.extend(text);
        if tag == b"F" {
            out.push(b'\n');
        }
        Some(out)
    }
}

/// Answers a request for a container's log.
pub(super) async fn answer(
    node: &Arc<Node>,
    found: Option<(Arc<Pod>, View)>,
    container: &str,
    query: &Query,
) -> Response {
    let Some((pod, _)) = found else {
        return problem(StatusCode::NOT_FOUND, "pod does not exist".into());
    };
    let (_, name, uid) = key(&pod);
    if !every_container(&pod).any(|c| c.name == container) {
        return problem(
            StatusCode::NOT_FOUND,
            format!("container \"{container}\" not found in pod \"{name}\""),
        );
    }
    let options = match Options::parse(query) {
        Ok(options) => options,
        Err(message) => return problem(StatusCode::BAD_REQUEST, message),
    };
    let dir = node.config.pods_dir().join(uid);
    let newest = attempts(&dir, container);
    let attempt = if options.previous {
        newest.and_then(|n| n.checked_sub(1))
    } else {
        newest
    };
    let Some(attempt) = attempt else {
        let what = if options.previous {
            format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
        } else {
            format!(
                "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
                waiting(&pod, container)
            )
        };
        return problem(StatusCode::BAD_REQUEST, what);
    };
    let path = log_path(&dir, container, attempt);
    let exit = Place::new(&dir, &node.config.run_dir(), uid, container, attempt).exit_file();
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    tokio::spawn(send(path, exit, options, sender));
    let body = Body::from_stream(futures::stream::unfold(receiver, |mut r| async {
        r.recv().await.map(|piece| (piece, r))
    }));
    ([("content-type", "text/plain")], body).into_response()
}

/// The number of the newest run that has written a log.
fn attempts(dir: &Path, container: &str) -> Option<u32> {
    let names = std::fs::read_dir(dir.join("logs").join(container)).ok()?;
    names
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .max()
}

fn waiting(pod: &Pod, container: &str) -> String {
    let status = pod.status.iter().flat_map(|s| {
        s.container_statuses
            .iter()
            .flatten()
            .chain(s.init_container_statuses.iter().flatten())
            .chain(s.ephemeral_container_statuses.iter().flatten())
    });
    let waiting = status
        .filter(|s| s.name == container)
        .find_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.unwrap_or_else(|| "ContainerCreating".into())
}

async fn send(path: PathBuf, exit: PathBuf, options: Options, sender: mpsc::Sender<Result<Bytes, std::io::Error>>) {
    let mut left = options.limit.unwrap_or(usize::MAX);
    let (first, mut position) = {
        let (path, options) = (path.clone(), options.clone());
        tokio::task::spawn_blocking(move || existing(&path, &options))
            .await
            .unwrap_or_default()
    };
    let mut pieces = first;
    loop {
        for piece in pieces {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() || left == 0 {
                return;
            }
        }
        if !options.follow || sender.is_closed() {
            return;
        }
        // Looked at before reading: what is written before the exit is recorded is read after it was seen.
        let over = exit.exists() || !path.exists();
        let (file, wanted) = (path.clone(), options.clone());
        let read = tokio::task::spawn_blocking(move || {
            let pieces = position.more(&file, &wanted);
            (pieces, position)
        });
        let Ok(read) = read.await else { return };
        (pieces, position) = read;
        if pieces.is_empty() {
            if over {
                return;
            }
            tokio::select! { () = tokio::time::sleep(POLL) => {}, () = sender.closed() => return }
        }
    }
}

/// How far a log has been read.
#[derive(Debug, Default)]
struct Position {
    inode: u64,
    offset: u64,
}

impl Position {
    /// Whole lines written since, also across a rotation.
    fn more(&mut self, path: &Path, options: &Options) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if std::fs::metadata(path).is_ok_and(|m| m.ino() != self.inode) {
            out.extend(self.read(&rotated(path), options));
            if let Ok(meta) = std::fs::metadata(path) {
                *self = Self {
                    inode: meta.ino(),
                    offset: 0,
                };
            }
        }
        out.extend(self.read(path, options));
        out
    }

    fn read(&mut self, path: &Path, options: &Options) -> Vec<Vec<u8>> {
        let Ok(mut file) = std::fs::File::open(path) else {
            return vec![];
        };
        if file.metadata().map(|m| m.ino()).ok() != Some(self.inode) || file.seek(SeekFrom::Start(self.offset)).is_err()
        {
            return vec![];
        }
        let (mut reader, mut line, mut out) = (BufReader::new(file), Vec::new(), Vec::new());
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if line.pop_if(|b| *b == b'\n').is_none() {
                break;
            }
            self.offset += line.len() as u64 + 1;
            out.extend(options.render(&line));
            line.clear();
        }
        out
    }
}

/// What is there now, cut to the last lines.
fn existing(path: &Path, options: &Options) -> (Vec<Vec<u8>>, Position) {
    let mut lines: VecDeque<Vec<u8>> = VecDeque::new();
    let keep = options.tail.unwrap_or(usize::MAX);
    let mut position = Position::default();
    for file in [rotated(path), path.to_path_buf()] {
        position = Position {
            inode: std::fs::metadata(&file).map(|m| m.ino()).unwrap_or_default(),
            offset: 0,
        };
        for line in position.read(&file, options) {
            lines.push_back(line);
            if lines.len() > keep {
                lines.pop_front();
            }
        }
    }
    (lines.into(), position)
}

/// A container's termination message: its file, or after an error (if it asks for that) the end of its log.
pub(crate) fn last_words(container: &Container, place: &Place, failed: bool) -> Option<String> {
    let mut text = Vec::new();
    let _ = std::fs::File::open(place.termination_log()).and_then(|f| f.take(MAX_MESSAGE).read_to_end(&mut text));
    let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if text.is_empty() && failed && fallback {
        let options = Options {
            tail: Some(LOG_MESSAGE_LINES),
            ..Options::default()
        };
        text = existing(&place.log, &options).0.concat();
        text.drain(..text.len().saturating_sub(MAX_LOG_MESSAGE));
    }
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01.000000000Z stderr F two\n2026-01-01T00:00:02.000000000Z stdout P thr\n2026-01-01T00:00:02.000000000Z stdout F ee\n";

    fn check(options: Options, want: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(
            String::from_utf8(existing(&path, &options).0.concat()).unwrap(),
            want,
            "{options:?}"
        );
    }

    #[test]
    fn every_option() {
        check(Options::default(), "one\ntwo\nthree\n");
        check(
            Options {
                tail: Some(1),
                ..Options::default()
            },
            "ee\n",
        );
        check(
            Options {
                since: Some("2026-01-01T00:00:01Z".parse().unwrap()),
                ..Options::default()
            },
            "two\nthree\n",
        );
        check(
            Options {
                stream: Some("stderr"),
                timestamps: true,
                ..Options::default()
            },
            "2026-01-01T00:00:01.000000000Z two\n",
        );
    }

    #[test]
    fn following_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
        std::fs::write(&path, line("a")).unwrap();
        let options = Options::default();
        let (_, mut position) = existing(&path, &options);
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(line("b").as_bytes())
            .unwrap();
        std::fs::rename(&path, rotated(&path)).unwrap();
        std::fs::write(&path, line("c")).unwrap();
        assert_eq!(position.more(&path, &options).concat(), b"b\nc\n");
        assert!(position.more(&path, &options).is_empty());
    }
}
