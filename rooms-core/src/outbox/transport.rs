//! What is behind an outbox: the only place that knows what a member's messages go into.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Sink, SinkExt as _};

use crate::{
    message::Message,
    ws::{FrameSink, Written},
};

/// A member's sink. Members of one room may have different ones.
pub(crate) enum Transport {
    /// The sink of this crate, which writes a batch in one system call.
    Frames(FrameSink),
    /// Any other. Boxed, so that nothing above this has to know its type; the branch is taken once for each batch.
    Boxed(Box<dyn Sink<Message, Error = Broken> + Unpin + Send>),
}

/// What a sink did with a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wrote {
    /// How many of the messages it took.
    pub(crate) taken: usize,
    pub(crate) full: Full,
    /// It took something, be it a part of a message that it began earlier.
    pub(crate) moved: bool,
}

/// Whether the sink takes more now. When it is full, the context's waker is told once it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Yes,
    No,
}

/// The sink failed, or panicked; nothing more can be sent.
#[derive(Debug)]
pub(crate) struct Broken;

impl Transport {
    pub(crate) fn boxed<S: Sink<Message> + Unpin + Send + 'static>(sink: S) -> Self {
        Self::Boxed(Box::new(sink.sink_map_err(|_| Broken)))
    }

    /// Drops the sink of a client that is gone.
    pub(super) fn discard(self) {
        match self {
            Self::Frames(sink) => sink.discard(),
            Self::Boxed(sink) => drop(sink),
        }
    }

    /// Hands a batch over in place.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, batch: &[Message]) -> Result<Wrote, Broken> {
        match self {
            Self::Frames(sink) => {
                let Written { taken, full, moved } = sink.write_batch(cx, batch).map_err(|_| Broken)?;
                Ok(Wrote { taken, full: if full { Full::Yes } else { Full::No }, moved })
            }
            // The sink is the application's code, and the caller may be the flusher of a whole room.
            Self::Boxed(sink) => catch_unwind(AssertUnwindSafe(|| write_each(sink, cx, batch))).unwrap_or(Err(Broken)),
        }
    }

    /// Shuts the sink; ready also where that fails.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Frames(sink) => Pin::new(sink).poll_close(cx).map(|_| ()),
            // A panic in its last call must not take the connection's task along.
            Self::Boxed(sink) => {
                catch_unwind(AssertUnwindSafe(|| Pin::new(sink).poll_close(cx).map(|_| ()))).unwrap_or(Poll::Ready(()))
            }
        }
    }
}

/// `start_send` for each message, then one flush.
fn write_each(
    sink: &mut (impl Sink<Message, Error = Broken> + Unpin),
    cx: &mut Context<'_>,
    batch: &[Message],
) -> Result<Wrote, Broken> {
    let mut sink = Pin::new(sink);
    let mut taken = 0;
    let mut full = Full::No;
    for message in batch {
        match sink.as_mut().poll_ready(cx) {
            Poll::Ready(ready) => ready?,
            Poll::Pending => {
                full = Full::Yes;
                break;
            }
        }
        sink.as_mut().start_send(message.clone())?;
        taken += 1;
    }
    match sink.poll_flush(cx) {
        Poll::Ready(flushed) => flushed?,
        Poll::Pending => full = Full::Yes,
    }
    // What it does with a message that it took is not seen from here.
    Ok(Wrote { taken, full, moved: taken > 0 })
}
