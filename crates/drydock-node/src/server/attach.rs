//! Attaching to a container's own process: the shim has its streams.

use super::remote::{Channel, Ending, Remote, Session};
use crate::runtime::Place;
use crate::runtime::shim;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Largest piece the shim sends (bytes); more is a broken connection.
const MAX_PIECE: usize = 1 << 20;

/// Carries streams until the container ends or the client goes away.
pub(super) async fn run(place: &Place, session: Session, remote: Remote) -> Ending {
    let Remote {
        mut stdin,
        mut sizes,
        out,
    } = remote;
    let mut output = match shim::output(place).await {
        Ok(output) => output,
        Err(error) => return Ending::Failed(format!("cannot attach: {error}")),
    };
    let typing = async {
        if session.stdin
            && let Ok(mut to) = shim::stdin(place).await
        {
            while let Some(data) = stdin.recv().await {
                if to.write_all(&data).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let resizing = async {
        if let Ok(mut to) = shim::sizes(place).await {
            while let Some((columns, rows)) = sizes.recv().await {
                let _ = to
                    .write_all(&[columns.to_be_bytes(), rows.to_be_bytes()].concat())
                    .await;
            }
        }
        std::future::pending::<()>().await;
    };
    let reading = async {
        loop {
            let Ok(stream) = output.read_u8().await else { return };
            let Ok(length) = output.read_u32().await else { return };
            let mut data = vec![0; (length as usize).min(MAX_PIECE)];
            if output.read_exact(&mut data).await.is_err() {
                return;
            }
            let wanted = if stream == 2 { session.stderr } else { session.stdout };
            let channel = if stream == 2 { Channel::Stderr } else { Channel::Stdout };
            if wanted && out.send((channel, Bytes::from(data))).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = typing => {}
        () = resizing => {}
        () = out.closed() => return Ending::Failed("the client went away".into()),
    }
    // How the container ended is for the pod's status to say; attaching has succeeded.
    Ending::Exit(0)
}
