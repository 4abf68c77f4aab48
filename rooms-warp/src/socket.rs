//! From hyper's upgraded connection to frames.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use rooms_core::{
    RoomManager,
    ws::{self, CorkedStream, FrameSink, FrameStream},
};
use tokio::net::TcpStream;

/// Waits for the upgrade and takes the socket out of hyper's hands: the raw TCP stream where it is one, any byte stream
/// otherwise.
///
/// The other adapter has the same lines: core names no HTTP server, and adapters do not know each other.
pub(crate) async fn open(upgrade: OnUpgrade, rooms: RoomManager) -> io::Result<(FrameStream, FrameSink)> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    // From `serve`; from hyper's own server; and from that of hyper-util, which wraps the stream.
    let upgraded = match upgraded.downcast::<TokioIo<CorkedStream>>() {
        Ok(parts) => return parts.io.into_inner().split(&parts.read_buf, rooms.limits()),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return ws::tcp(parts.io.into_inner(), &parts.read_buf, rooms.limits()),
        Err(upgraded) => upgraded,
    };
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => ws::tcp(parts.io.into_inner(), &parts.read_buf, rooms.limits()),
        Err(upgraded) => Ok(ws::over(TokioIo::new(upgraded), &[], rooms.limits())),
    }
}
