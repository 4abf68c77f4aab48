//! What a subscription has not read yet: bounded, and never full, as the oldest make room.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Sink;

use super::{Missed, Received};
use crate::{
    limits::Limits,
    lock::{Mutex, lock},
    message::{Message, MessageKind},
};

/// The events that are for a subscription begin so, as they are made here; others are not kept.
const KEPT: [&[u8]; 3] = [br#"{"type":"message","#, br#"{"type":"resync","#, br#"{"type":"refresh","#];

pub(super) struct Buffer {
    state: Mutex<State>,
    /// As much as a member's outbox may hold: a reader in this process is to be no slower than one behind a socket.
    messages: usize,
    bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    bytes: usize,
    /// The oldest were dropped since the last look.
    dropped: bool,
    ended: bool,
    reader: Option<Waker>,
}

impl Buffer {
    pub(super) fn new(limits: &Limits) -> Self {
        let (messages, bytes) = (limits.max_outbox_messages, limits.max_outbox_bytes);
        Self { state: Mutex::default(), messages, bytes }
    }

    /// The next; `None` once the connection has ended. Where there is none yet, the reader is woken when there is.
    pub(super) fn take(&self, reader: Option<&mut Context<'_>>) -> Poll<Option<Received>> {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.dropped) {
            return Poll::Ready(Some(Received::Missed(Missed::SlowConsumer)));
        }
        while let Some(message) = state.queue.pop_front() {
            state.bytes -= message.payload().len();
            if let Some(received) = Received::read(&message) {
                return Poll::Ready(Some(received));
            }
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.queue = VecDeque::new();
        if let Some(cx) = reader {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn push(&self, message: Message) {
        let mut state = lock(&self.state);
        if message.kind() == MessageKind::Close {
            state.ended = true;
        } else if message.kind() == MessageKind::Binary || KEPT.iter().any(|start| message.payload().starts_with(start))
        {
            state.bytes += message.payload().len();
            state.queue.push_back(message);
            // One always fits, whatever its length.
            while state.queue.len() > self.messages || (state.bytes > self.bytes && state.queue.len() > 1) {
                let Some(oldest) = state.queue.pop_front() else { break };
                state.bytes -= oldest.payload().len();
                state.dropped = true;
            }
        } else {
            return;
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The sink of a subscription's place in the room.
pub(super) struct Feed(pub(super) Arc<Buffer>);

impl Sink<Message> for Feed {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
        self.0.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}
