//! What a client sends, as a stream.

use std::{
    fmt, io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures::Stream;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use super::{
    WsError,
    decoder::{Decoder, Incoming},
};
use crate::limits::Inbound;

/// The buffer of one read, on the stack: a chat message fits, and an idle connection owns none.
const READ: usize = 4096;

/// The messages of one client.
///
/// After an error, and after [`Incoming::Close`], it yields nothing more, reads on and drops what comes, and ends when
/// the client has closed its side: so a close frame that was sent in answer is not overtaken by a TCP reset.
pub struct FrameStream {
    io: ReadHalf,
    decoder: Decoder,
    /// Bytes that were read behind the last message; boxed, because an idle connection has none.
    rest: Option<Box<Bytes>>,
    over: bool,
}

enum ReadHalf {
    Tcp(OwnedReadHalf),
    Boxed(Pin<Box<dyn AsyncRead + Send>>),
}

impl FrameStream {
    pub(super) fn tcp(io: OwnedReadHalf, early: &[u8], limits: Inbound) -> Self {
        Self::new(ReadHalf::Tcp(io), early, limits)
    }

    pub(super) fn boxed(io: Pin<Box<dyn AsyncRead + Send>>, early: &[u8], limits: Inbound) -> Self {
        Self::new(ReadHalf::Boxed(io), early, limits)
    }

    fn new(io: ReadHalf, early: &[u8], limits: Inbound) -> Self {
        // Copied: even empty, `early` keeps the 8 KiB read buffer of an HTTP server alive.
        Self { io, decoder: Decoder::new(limits), rest: kept(early), over: false }
    }

    fn decode_rest(&mut self) -> Result<Option<Incoming>, WsError> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let mut input = &***rest;
        let found = self.decoder.decode(&mut input);
        let taken = rest.len() - input.len();
        rest.advance(taken);
        self.rest.take_if(|rest| rest.is_empty());
        found
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            ReadHalf::Tcp(io) => Pin::new(io).poll_read(cx, buffer),
            ReadHalf::Boxed(io) => io.as_mut().poll_read(cx, buffer),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, WsError>>> {
        if let Some(found) = self.decode_rest().transpose() {
            return Poll::Ready(Some(found));
        }
        loop {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            if let Err(error) = ready!(self.poll_read(cx, &mut buffer)) {
                // Whoever was told of a fault often breaks the socket next, which is no second fault.
                return Poll::Ready((!self.over).then(|| Err(error.into())));
            }
            let mut input = buffer.filled();
            if input.is_empty() {
                return Poll::Ready(None);
            }
            if self.over {
                continue;
            }
            if let Some(found) = self.decoder.decode(&mut input).transpose() {
                self.rest = kept(input);
                return Poll::Ready(Some(found));
            }
        }
    }
}

fn kept(bytes: &[u8]) -> Option<Box<Bytes>> {
    (!bytes.is_empty()).then(|| Box::new(Bytes::copy_from_slice(bytes)))
}

impl Stream for FrameStream {
    type Item = Result<Incoming, WsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let found = ready!(self.poll_message(cx));
        if matches!(found, Some(Err(_) | Ok(Incoming::Close(_)))) {
            self.over = true;
            self.rest = None;
        }
        Poll::Ready(found)
    }
}

impl fmt::Debug for FrameStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match &self.io {
            ReadHalf::Tcp(_) => "tcp",
            ReadHalf::Boxed(_) => "boxed",
        };
        f.debug_struct("FrameStream").field("io", &over).field("over", &self.over).finish_non_exhaustive()
    }
}
