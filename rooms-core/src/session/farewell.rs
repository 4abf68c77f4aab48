//! The last words of a connection.

use std::task::Poll;

use futures::{Sink, Stream, StreamExt as _};
use tokio::time::timeout;

use crate::{
    close::Close,
    limits::Limits,
    manager::come_back,
    message::Message,
    outbox::{Outbox, Progress, Transport, Waiting},
    ws::{Incoming, WsError},
};

/// Tells a client why it is not let in: one close frame, and time for it to arrive. Where the close is
/// [`Close::RESTART`], it is told before that when to come back, as the members of a process that goes down are.
///
/// A browser sees the code and the reason of a close frame; of a refused upgrade it sees nothing.
pub async fn refuse<R, S>(stream: R, sink: S, close: Close, limits: &Limits)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
    S: Sink<Message> + Unpin + Send + 'static,
{
    turn_away(stream, Transport::boxed(sink), close, limits).await;
}

/// [`refuse`], for a connection that the manager did not take.
pub(super) async fn turn_away<R>(stream: R, transport: Transport, close: Close, limits: &Limits)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
{
    let outbox = Outbox::new(transport, limits);
    if close == Close::RESTART {
        outbox.close_after(come_back(), close);
    } else {
        outbox.close(close, Waiting::Drop);
    }
    _ = timeout(limits.close_within, farewell(&outbox, stream)).await;
}

/// Gets the close frame out, and lets the client read it: whoever closes a TCP socket with unread input sends a reset,
/// which overtakes what is still on its way.
pub(super) async fn farewell<R>(outbox: &Outbox, mut stream: R)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
{
    let (mut shut, mut ended) = (false, false);
    std::future::poll_fn(|cx| {
        if !shut {
            shut = match outbox.drive(cx) {
                Progress::Closed(_) => outbox.poll_shut(cx).is_ready(),
                Progress::Broken => return Poll::Ready(()),
                _ => false,
            };
        }
        while !ended {
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(Incoming::Close(_)))) if shut => return Poll::Ready(()),
                Poll::Ready(Some(Err(WsError::Io(_))) | None) => ended = true,
                Poll::Ready(Some(_)) => {}
                Poll::Pending => break,
            }
        }
        if shut && ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits until the close frame is out, or can't be sent any more.
pub(super) async fn flushed(outbox: &Outbox) {
    std::future::poll_fn(|cx| match outbox.drive(cx) {
        Progress::Closed(_) | Progress::Broken => Poll::Ready(()),
        _ => Poll::Pending,
    })
    .await;
}
