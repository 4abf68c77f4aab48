//! The last words of a connection.

use std::task::{Context, Poll};

use futures::{Sink, Stream, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    close::Close,
    drain::come_back_some_time,
    limits::Limits,
    message::Message,
    outbox::{Outbox, Progress, Transport, Waiting},
    ws::{Incoming, WsError},
};

/// Tells a client why it is not let in: one close frame, and time for it to arrive and to be answered.
///
/// A browser sees the code and the reason of a close frame; of a refused upgrade it sees nothing. Where the close is
/// [`Close::RESTART`], it is told before that when to come back, as the members of a process that goes down are.
pub async fn refuse<R, S>(stream: R, sink: S, close: Close, limits: &Limits)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
    S: Sink<Message> + Unpin + Send + 'static,
{
    let last = (close == Close::RESTART).then(come_back_some_time);
    turn_away(last, stream, Transport::boxed(sink), close, limits).await;
}

/// [`refuse`], for a connection that the manager did not take, with a message in front of the close frame.
pub(super) async fn turn_away<R>(last: Option<Message>, stream: R, transport: Transport, close: Close, limits: &Limits)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
{
    let outbox = Outbox::new(transport, limits);
    match last {
        Some(last) => outbox.close_after(last, close),
        None => outbox.close(close, Waiting::Drop),
    }
    farewell(&outbox, &mut Peer::new(stream), limits, None).await;
}

/// What is left of the other end of a connection that closes: what it sends is dropped, but for its close frame.
///
/// It is read to its end: whoever closes a TCP socket with unread input sends a reset, which overtakes what is on its way.
pub(super) struct Peer<R> {
    stream: R,
    said: Said,
}

/// What the other end has said about the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// It was the first to say good-bye; it now waits for the stream to end.
    GoodBye,
    /// It has answered our close frame, so nothing more comes.
    Answer,
    /// Its side of the stream has ended.
    End,
}

impl<R: Stream<Item = Result<Incoming, WsError>> + Unpin> Peer<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self { stream, said: Said::Nothing }
    }

    /// One whose close frame was read already.
    pub(super) const fn that_left(stream: R) -> Self {
        Self { stream, said: Said::GoodBye }
    }

    fn poll_said(&mut self, cx: &mut Context<'_>) -> Said {
        while self.said != Said::End {
            match self.stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(Incoming::Close(_)))) => self.said = Said::Answer,
                Poll::Ready(Some(Err(WsError::Io(_))) | None) => self.said = Said::End,
                Poll::Ready(Some(_)) => {}
                Poll::Pending => break,
            }
        }
        self.said
    }

    /// Resolves once it has said enough.
    async fn says(&mut self, enough: fn(Said) -> bool) {
        std::future::poll_fn(|cx| if enough(self.poll_said(cx)) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// What one look at a closing outbox shows.
enum Step {
    /// The close frame is out.
    Out,
    /// The client took something of what is in front of it.
    Moved,
    Broken,
}

/// Gets the close frame out, gives the client time to answer it, and then ends the stream (RFC 6455 section 7.1.1).
///
/// `flush_by` is for a process that goes down: until then what waits may go out, however slowly.
pub(super) async fn farewell<R>(outbox: &Outbox, peer: &mut Peer<R>, limits: &Limits, flush_by: Option<Instant>)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
{
    let until = flush_by.map_or_else(|| Instant::now() + limits.close_total_timeout, |by| by + limits.close_timeout);
    // What waits may fill the time of a slow client alone; half of it is for the close frame.
    let mut drop_at = Some(flush_by.unwrap_or_else(|| Instant::now() + limits.close_total_timeout / 2));
    let mut slow = false;
    loop {
        let stalled_by =
            if flush_by.is_some() { until } else { until.min(Instant::now() + limits.close_stall_timeout) };
        let step = std::future::poll_fn(|cx| {
            // What it sends must not fill its side of the connection meanwhile.
            peer.poll_said(cx);
            let step = match outbox.drive_on(cx) {
                (Progress::Closed(_), _) => Step::Out,
                (Progress::Broken, _) => Step::Broken,
                (_, true) => Step::Moved,
                (_, false) => {
                    slow = true;
                    return Poll::Pending;
                }
            };
            Poll::Ready(step)
        });
        match timeout_at(drop_at.map_or(stalled_by, |at| at.min(stalled_by)), step).await {
            Ok(Step::Out) => break,
            Ok(Step::Moved) => {}
            Err(_) if drop_at.is_some_and(|at| at < stalled_by) => {
                outbox.drop_waiting();
                drop_at = None;
            }
            Ok(Step::Broken) | Err(_) => return,
        }
    }
    // What the kernel holds of a slow client's messages goes out before the close frame, and that can't be watched.
    let until = if slow { until } else { until.min(Instant::now() + limits.close_timeout) };
    _ = timeout(limits.close_answer_timeout, timeout_at(until, peer.says(|said| said != Said::Nothing))).await;
    // The end of the stream is queued behind the close frame.
    _ = timeout_at(until, std::future::poll_fn(|cx| outbox.poll_shut(cx))).await;
    _ = timeout_at(until, peer.says(|said| matches!(said, Said::Answer | Said::End))).await;
}
