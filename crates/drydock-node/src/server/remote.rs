//! A remote command's streams, whatever carries them.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Which streams the client asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Session {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// The server's ends. `stdin` ends (returns `None`) when the client has closed it; when `gone` says so, the client has
/// left altogether.
pub(super) struct Remote {
    pub(super) stdin: mpsc::Receiver<Bytes>,
    /// Terminal sizes: columns, rows.
    pub(super) sizes: mpsc::Receiver<(u16, u16)>,
    pub(super) out: mpsc::Sender<(Channel, Bytes)>,
}

/// Pieces of output in flight per session.
pub(super) const DEPTH: usize = 16;

/// How a remote command ended, as the `Status` object that the error channel carries.
#[derive(Debug)]
pub(super) enum Ending {
    Exit(i32),
    Failed(String),
}

impl Ending {
    /// `metav1.Status`.
    pub(super) fn status(&self) -> Value {
        match self {
            Self::Exit(0) => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(message) => {
                json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500, "details": {"causes": [{"message": message}]}})
            }
        }
    }
}

/// The text of a resize message: `{"Width":80,"Height":24}`.
pub(super) fn size(data: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(data).ok()?;
    let of = |name: &str| value[name].as_u64().and_then(|n| u16::try_from(n).ok());
    Some((of("Width")?, of("Height")?))
}
