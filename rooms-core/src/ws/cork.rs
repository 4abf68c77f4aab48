//! The answer to an upgrade and the first messages behind it, in one write.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{FrameSink, FrameStream, tcp};
use crate::limits::Limits;

/// How the answer to an upgrade begins: what an HTTP server writes first, in one piece with the rest of the head.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// The TCP stream of an HTTP/1.1 connection, which may hold the answer to an upgrade back until the first messages follow it.
///
/// An HTTP server writes that answer before it hands the socket over, so that each client is woken for an answer that tells
/// it nothing, and again for its first message. Here [`Cork::hold`] has the answer wait in this process until the socket is
/// [split](Self::split), and then for the first write: at most until the session has to wait for something. Whatever else is
/// done with the stream, as by an application that upgrades it itself, sends the answer first.
#[derive(Debug)]
pub struct CorkedStream {
    stream: TcpStream,
    cork: Cork,
    /// The answer, while it is held back.
    held: Bytes,
}

/// Holds the next answer of a [`CorkedStream`] back, if that is 101.
#[derive(Debug, Clone, Default)]
pub struct Cork(Arc<AtomicBool>);

impl Cork {
    /// From here on the stream holds a 101 back, if that is what is written next.
    pub fn hold(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        // Without a write to it for the many answers that are not held.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

impl CorkedStream {
    /// Nothing is held back until its [`cork`](Self::cork) says so.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, cork: Cork::default(), held: Bytes::new() }
    }

    /// For whoever answers its requests.
    #[must_use]
    pub fn cork(&self) -> Cork {
        self.cork.clone()
    }

    /// [`ws::tcp`](super::tcp), with the answer that is held back in front of all messages.
    ///
    /// # Errors
    /// Those of [`ws::tcp`](super::tcp).
    pub fn split(self, early: &[u8], limits: &Limits) -> io::Result<(FrameStream, FrameSink)> {
        let (stream, sink) = tcp(self.stream, early, limits)?;
        Ok((stream, sink.behind(self.held)))
    }

    /// Sends what is held back.
    fn poll_uncork(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.held.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for CorkedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CorkedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_uncork(cx))?;
        if self.cork.take()
            && let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && first.starts_with(SWITCHING)
        {
            self.held = Bytes::copy_from_slice(first);
            return Poll::Ready(Ok(first.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    /// The HTTP server flushes its answer, too: what is held back stays so.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
