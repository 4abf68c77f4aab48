//! Handing a batch of messages to a sink, in place.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::Sink;

use crate::{message::Message, ws::FrameSink};

/// How a batch of messages is handed to a sink in place: how many it took, and whether it is full now.
///
/// A function and not a trait, because it differs for one sink only: [`FrameSink`] writes a batch in one system call.
pub(crate) type WriteBatch<S> = fn(&mut S, &mut Context<'_>, &[Message]) -> Result<(usize, Full), Broken>;

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
pub(crate) fn write_frames(
    sink: &mut FrameSink,
    cx: &mut Context<'_>,
    batch: &[Message],
) -> Result<(usize, Full), Broken> {
    match sink.write_batch(cx, batch) {
        Ok((taken, full)) => Ok((taken, if full { Full::Yes } else { Full::No })),
        Err(_) => Err(Broken),
    }
}

/// [`WriteBatch`] for any sink: `start_send` for each message, then one flush.
pub(crate) fn write_sink<S: Sink<Message> + Unpin>(
    sink: &mut S,
    cx: &mut Context<'_>,
    batch: &[Message],
) -> Result<(usize, Full), Broken> {
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
        Ok((taken, full))
    }))
    .unwrap_or(Err(Broken))
}
