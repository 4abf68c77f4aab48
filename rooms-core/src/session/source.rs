//! Where a session reads from, and how many bytes that was.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};

use crate::{
    close::Close,
    events::EventInput,
    ws::{FrameStream, Incoming, WsError},
};

/// The bytes of the header of a client's frame with a short payload: what is counted for a message whose frames nobody saw.
pub(super) const HEADER: usize = 6;

/// What a client sends, and its size.
pub(crate) trait Source: Stream<Item = Result<Incoming, WsError>> + Unpin + Send + 'static {
    /// The bytes that were read since the last call.
    fn bytes(&mut self) -> u32;

    /// Notes with what close its client was put out of its last room; `None` once it is in a room.
    fn note_put_out(&mut self, _: Option<Close>) {}

    /// The close that was noted, where nothing more is asked for: then a connection without a room has nothing left to do.
    fn last_word(&mut self) -> Option<Close> {
        None
    }
}

/// Counts what is read from the socket: headers, empty fragments and control frames as well.
impl Source for FrameStream {
    fn bytes(&mut self) -> u32 {
        self.bytes()
    }
}

/// It says nothing that was not in its request.
impl Source for EventInput {
    fn bytes(&mut self) -> u32 {
        0
    }

    fn note_put_out(&mut self, close: Option<Close>) {
        self.put_out = close;
    }

    fn last_word(&mut self) -> Option<Close> {
        self.put_out.take_if(|_| self.said.is_empty())
    }
}

/// Any stream of messages. What it read for them can't be seen, so it is taken from their payloads.
pub(super) struct Estimated<R> {
    stream: R,
    bytes: u32,
}

impl<R> Estimated<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self { stream, bytes: 0 }
    }
}

impl<R: Stream<Item = Result<Incoming, WsError>> + Unpin> Stream for Estimated<R> {
    type Item = Result<Incoming, WsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(incoming))) = &next {
            let payload = match incoming {
                Incoming::Text(text) => text.len(),
                Incoming::Binary(bytes) => bytes.len(),
                Incoming::Ping(bytes) => bytes.len(),
                Incoming::Pong | Incoming::Close(_) => 0,
            };
            self.bytes = self.bytes.saturating_add(u32::try_from(payload + HEADER).unwrap_or(u32::MAX));
        }
        next
    }
}

impl<R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send + 'static> Source for Estimated<R> {
    fn bytes(&mut self) -> u32 {
        std::mem::take(&mut self.bytes)
    }
}
