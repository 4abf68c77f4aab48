//! RFC 6455 over any byte stream: small when idle, shared frames out.
//!
//! The server's side of a WebSocket after its handshake, split in two: a [`FrameStream`] that reads what the client
//! sends, and a [`FrameSink`] that writes shared [`Message`](crate::Message)s. Three things differ from a general codec:
//!
//! - **Idle costs nothing.** Reads use a buffer on the stack; bytes are kept only while a client's frame is unfinished.
//! - **Frames are written as they are.** A frame is the same bytes for every member, so several go out in one `writev`,
//!   without a copy, and [`FrameSink`] can do that in the caller's own time slice.
//! - **A close frame follows every fault.** A [`WsError`] knows the [`Close`] that it deserves.

mod cork;
mod decoder;
mod deflate;
mod frame;
mod sink;
mod stream;

use std::io;

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub use self::{
    cork::{Cork, CorkedStream},
    decoder::Incoming,
    sink::FrameSink,
    stream::FrameStream,
};
pub(crate) use self::{deflate::deflated, sink::Written};
use crate::{
    close::{Close, CloseCode},
    limits::Limits,
};

/// What ended the reading of a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WsError {
    /// The client broke RFC 6455; the text names the rule.
    #[error("WebSocket protocol error: {0}")]
    Protocol(&'static str),
    /// A message, or the sum of its fragments, is over the limit.
    #[error("a message is over the limit of {limit} bytes")]
    TooBig {
        /// `Limits::max_message_bytes`.
        limit: usize,
    },
    /// One message came in more fragments than are taken.
    #[error("a message came in more than {limit} fragments")]
    TooManyFragments {
        /// `Limits::max_fragments`.
        limit: usize,
    },
    /// A text message or a close reason is not UTF-8.
    #[error("text that is not UTF-8")]
    InvalidText,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
}

impl WsError {
    /// The close that the client is sent; `None` where the socket is past sending.
    #[must_use]
    pub fn close(&self) -> Option<Close> {
        match self {
            Self::Protocol(rule) => Some(Close::known(CloseCode::PROTOCOL, rule)),
            Self::TooBig { .. } => Some(Close::known(CloseCode::TOO_BIG, "message too big")),
            Self::TooManyFragments { .. } => Some(Close::known(CloseCode::TOO_BIG, "too many fragments")),
            Self::InvalidText => Some(Close::known(CloseCode::INVALID_TEXT, "invalid UTF-8")),
            Self::Io(_) => None,
        }
    }
}

/// The two halves over a TCP stream, which is read and written in place.
///
/// `early` is what was already read behind the handshake. Switches Nagle's algorithm off: a room's message is whole when
/// it is written. Sets the size of the socket's send buffer to [`Limits::send_buffer_bytes`](crate::Limits::send_buffer_bytes).
///
/// # Errors
/// Those of `setsockopt`. A send buffer over what the system allows is one on some systems; Linux takes the most that it
/// allows (`net.core.wmem_max`).
pub fn tcp(stream: TcpStream, early: &[u8], limits: &Limits) -> io::Result<(FrameStream, FrameSink)> {
    stream.set_nodelay(true)?;
    if let Some(bytes) = limits.send_buffer_bytes {
        SockRef::from(&stream).set_send_buffer_size(bytes)?;
    }
    let (read, write) = stream.into_split();
    Ok((FrameStream::tcp(read, early, limits.inbound()), FrameSink::tcp(write)))
}

/// The two halves over any byte stream: TLS, a pipe in a test, a proxy. Where a socket is below it, its send buffer is set
/// by whoever made it; the kernel's own choice is up to 4 MiB for a client that does not read.
///
/// ```
/// use futures::StreamExt as _;
/// use rooms_core::{Limits, ws::{self, Incoming}};
/// use tokio::io::AsyncWriteExt as _;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (mut client, server) = tokio::io::duplex(64);
/// let (mut stream, _sink) = ws::over(server, &[], &Limits::default());
/// client.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap(); // a masked text frame
/// assert_eq!(stream.next().await.unwrap().unwrap(), Incoming::Text("hi".into()));
/// # }
/// ```
pub fn over<T>(io: T, early: &[u8], limits: &Limits) -> (FrameStream, FrameSink)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(io);
    (FrameStream::boxed(Box::pin(read), early, limits.inbound()), FrameSink::boxed(Box::pin(write)))
}
