//! From hyper's upgraded connection to frames.

use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use rooms_core::{
    Limits,
    ws::{self, FrameSink, FrameStream},
};
use tokio::{net::TcpStream, time::timeout};

/// Waits for the upgrade and takes the socket out of hyper's hands: the raw TCP stream where it is one, any byte stream
/// otherwise. `None` when the client went away meanwhile.
pub(crate) async fn open(upgrade: OnUpgrade, limits: &Limits) -> Option<(FrameStream, FrameSink)> {
    let upgraded = match timeout(limits.handshake, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an upgrade failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(within = ?limits.handshake, "an upgrade took too long");
            return None;
        }
    };
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => match ws::tcp(parts.io.into_inner(), &parts.read_buf, limits) {
            Ok(halves) => Some(halves),
            Err(error) => {
                tracing::debug!(%error, "a socket failed before its first frame");
                None
            }
        },
        Err(upgraded) => Some(ws::over(TokioIo::new(upgraded), &[], limits)),
    }
}
