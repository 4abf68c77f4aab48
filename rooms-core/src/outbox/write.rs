//! Handing a batch of messages to a sink, in place.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::Sink;

use crate::{
    message::Message,
    ws::{FrameSink, Written},
};

/// How a batch of messages is handed to a sink in place, and what became of it.
///
/// A function and not a trait, because it differs for one sink only: [`FrameSink`] writes a batch in one system call.
pub(crate) type WriteBatch<S> = fn(&mut S, &mut Context<'_>, &[Message]) -> Result<Wrote, Broken>;

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

/// [`WriteBatch`] for the sink of this crate.
pub(crate) fn write_frames(sink: &mut FrameSink, cx: &mut Context<'_>, batch: &[Message]) -> Result<Wrote, Broken> {
    let Written { taken, full, moved } = sink.write_batch(cx, batch).map_err(|_| Broken)?;
    Ok(Wrote { taken, full: if full { Full::Yes } else { Full::No }, moved })
}

/// [`WriteBatch`] for any sink: `start_send` for each message, then one flush.
pub(crate) fn write_sink<S: Sink<Message> + Unpin>(
    sink: &mut S,
    cx: &mut Context<'_>,
    batch: &[Message],
) -> Result<Wrote, Broken> {
    // The sink is the application's code, and the caller may be the flusher of a whole room.
    catch_unwind(AssertUnwindSafe(|| {
        let mut sink = Pin::new(sink);
        let mut taken = 0;
        let mut full = Full::No;
        for message in batch {
            match sink.as_mut().poll_ready(cx) {
                Poll::Ready(ready) => ready.map_err(|_| Broken)?,
                Poll::Pending => {
                    full = Full::Yes;
                    break;
                }
            }
            sink.as_mut().start_send(message.clone()).map_err(|_| Broken)?;
            taken += 1;
        }
        match sink.poll_flush(cx) {
            Poll::Ready(flushed) => flushed.map_err(|_| Broken)?,
            Poll::Pending => full = Full::Yes,
        }
        // What it does with a message that it took is not seen from here.
        Ok(Wrote { taken, full, moved: taken > 0 })
    }))
    .unwrap_or(Err(Broken))
}
