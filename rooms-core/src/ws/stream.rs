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
    limits: Inbound,
    /// What lies between two messages; none while the connection is idle.
    begun: Option<Box<Begun>>,
}

/// With the bytes that were read and not asked for yet; here, where they take no memory of their own.
enum ReadHalf {
    Tcp(OwnedReadHalf, u32),
    /// Boxed twice: a thin pointer, so that a TCP stream, the common one, is no larger for it.
    Boxed(Box<Pin<Box<dyn AsyncRead + Send>>>, u32),
}

#[derive(Default)]
struct Begun {
    decoder: Decoder,
    /// Bytes that were read behind the last message.
    rest: Bytes,
    /// Nothing is yielded any more.
    over: bool,
}

impl Begun {
    /// Decodes the rest of an earlier read.
    fn decode_rest(&mut self, limits: Inbound) -> Result<Option<Incoming>, WsError> {
        let mut input = &*self.rest;
        let found = self.decoder.decode(&mut input, limits);
        let taken = self.rest.len() - input.len();
        self.rest.advance(taken);
        found
    }

    fn keep(&mut self, rest: &[u8]) {
        // Copied: even empty, what is read early keeps the 8 KiB read buffer of an HTTP server alive.
        self.rest = if rest.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(rest) };
    }

    fn boxed(self) -> Option<Box<Self>> {
        let empty = self.decoder.is_empty() && self.rest.is_empty() && !self.over;
        (!empty).then(|| Box::new(self))
    }
}

impl FrameStream {
    pub(super) fn tcp(io: OwnedReadHalf, early: &[u8], limits: Inbound) -> Self {
        Self::new(ReadHalf::Tcp(io, 0), early, limits)
    }

    pub(super) fn boxed(io: Pin<Box<dyn AsyncRead + Send>>, early: &[u8], limits: Inbound) -> Self {
        Self::new(ReadHalf::Boxed(Box::new(io), 0), early, limits)
    }

    fn new(io: ReadHalf, early: &[u8], limits: Inbound) -> Self {
        let mut begun = Begun::default();
        begun.keep(early);
        let mut stream = Self { io, limits, begun: begun.boxed() };
        stream.count(early.len());
        stream
    }

    /// The bytes that were read since the last call, whatever they were; of a compressed message twice as many, or those that it
    /// has when it is unpacked, where these are more.
    pub(crate) fn bytes(&mut self) -> u32 {
        let (ReadHalf::Tcp(_, bytes) | ReadHalf::Boxed(_, bytes)) = &mut self.io;
        std::mem::take(bytes)
    }

    fn count(&mut self, more: usize) {
        let (ReadHalf::Tcp(_, bytes) | ReadHalf::Boxed(_, bytes)) = &mut self.io;
        *bytes = bytes.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }

    /// Takes compressed messages, too: permessage-deflate was agreed on (RFC 7692).
    pub(crate) const fn takes_deflated(&mut self) {
        self.limits = self.limits.deflated();
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            ReadHalf::Tcp(io, _) => Pin::new(io).poll_read(cx, buffer),
            ReadHalf::Boxed(io, _) => Pin::new(&mut **io).poll_read(cx, buffer),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>, begun: &mut Begun) -> Poll<Option<Result<Incoming, WsError>>> {
        if !begun.rest.is_empty()
            && let Some(found) = begun.decode_rest(self.limits).transpose()
        {
            return Poll::Ready(Some(found));
        }
        loop {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            if let Err(error) = ready!(self.poll_read(cx, &mut buffer)) {
                // Whoever was told of a fault often breaks the socket next, which is no second fault.
                return Poll::Ready((!begun.over).then(|| Err(error.into())));
            }
            let mut input = buffer.filled();
            self.count(input.len());
            if input.is_empty() {
                return Poll::Ready(None);
            }
            if begun.over {
                continue;
            }
            if let Some(found) = begun.decoder.decode(&mut input, self.limits).transpose() {
                begun.keep(input);
                return Poll::Ready(Some(found));
            }
        }
    }
}

impl Stream for FrameStream {
    type Item = Result<Incoming, WsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut begun = self.begun.take().map(|begun| *begun).unwrap_or_default();
        let found = self.poll_message(cx, &mut begun);
        self.count(std::mem::take(&mut begun.decoder.unpacked) as usize);
        if matches!(found, Poll::Ready(Some(Err(_) | Ok(Incoming::Close(_))))) {
            begun = Begun { over: true, ..Begun::default() };
        }
        self.begun = begun.boxed();
        found
    }
}

impl fmt::Debug for FrameStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match &self.io {
            ReadHalf::Tcp(..) => "tcp",
            ReadHalf::Boxed(..) => "boxed",
        };
        f.debug_struct("FrameStream")
            .field("io", &over)
            .field("over", &self.begun.as_ref().is_some_and(|begun| begun.over))
            .finish_non_exhaustive()
    }
}
