//! Rooms as a stream of server-sent events, for clients that have no WebSocket.
//!
//! A connection has two halves, as a WebSocket has: what the client says, and a sink for what it is sent. Here the client
//! says nothing; that it takes what it is sent stands for its pongs. The sink ends in an [`EventBody`], which the adapter
//! gives to its framework as the body of the answer. What is written is specified in [`protocol`](crate::protocol).

mod encode;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::{Sink, Stream};

use self::encode::Encoder;
pub(crate) use self::encode::{Ids, LastId};
use crate::{
    close::Close,
    lock::{Mutex, lock},
    message::{Message, MessageKind},
    metrics::One,
    ws::{Incoming, WsError},
};

/// What waits between two looks of the body, besides the member's outbox: messages, and their bytes. A socket's kernel
/// buffer is larger; a client that reads takes all of it at once.
const MAX_MESSAGES: usize = 16;
const MAX_BYTES: usize = 64 * 1024;

/// The two halves of a connection and the body that they end in. `said` are the commands that the request stands for.
pub(crate) fn open(said: Vec<String>, ids: Ids, counted: One) -> (EventInput, EventSink, EventBody) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let input = EventInput { said: said.into(), put_out: None, shared: Arc::clone(&shared) };
    (input, EventSink(Arc::clone(&shared), counted), EventBody { shared, encoder: Encoder::new(ids) })
}

#[derive(Default)]
struct Shared {
    queue: VecDeque<Message>,
    bytes: usize,
    /// Nothing more is sent.
    ended: bool,
    /// The body was dropped: the client has gone, or the server gave up on it.
    gone: bool,
    /// The body has taken a ping since the input was asked last.
    ponged: bool,
    /// The body has taken the close.
    closed: bool,
    sink: Option<Waker>,
    body: Option<Waker>,
    input: Option<Waker>,
}

/// What a message goes into, until the body takes it.
pub(crate) struct EventSink(Arc<Mutex<Shared>>, #[expect(dead_code, reason = "counts itself out")] One);

/// The client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Sink<Message> for EventSink {
    type Error = Gone;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut shared = lock(&self.0);
        if shared.gone {
            return Poll::Ready(Err(Gone));
        }
        if shared.queue.len() < MAX_MESSAGES && shared.bytes < MAX_BYTES {
            return Poll::Ready(Ok(()));
        }
        shared.sink = Some(cx.waker().clone());
        Poll::Pending
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Gone> {
        let mut shared = lock(&self.0);
        shared.bytes += message.payload().len();
        shared.queue.push_back(message);
        let body = shared.body.take();
        drop(shared);
        wake(body);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl EventSink {
    fn end(&self) {
        let mut shared = lock(&self.0);
        shared.ended = true;
        let body = shared.body.take();
        drop(shared);
        wake(body);
    }
}

/// A connection whose task is dropped ends its answer.
impl Drop for EventSink {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the client says: first what its request stands for, and then a pong for each ping that it took, its answer to the
/// close, and its end.
pub(crate) struct EventInput {
    pub(crate) said: VecDeque<String>,
    /// How the stream ends, unless it gets into a room once more.
    pub(crate) put_out: Option<Close>,
    shared: Arc<Mutex<Shared>>,
}

impl Stream for EventInput {
    type Item = Result<Incoming, WsError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(text) = self.said.pop_front() {
            return Poll::Ready(Some(Ok(Incoming::Text(text))));
        }
        let mut shared = lock(&self.shared);
        if shared.gone {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut shared.closed) {
            return Poll::Ready(Some(Ok(Incoming::Close(None))));
        }
        if std::mem::take(&mut shared.ponged) {
            return Poll::Ready(Some(Ok(Incoming::Pong)));
        }
        shared.input = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The body of an answer that is an event stream: its bytes, as they come. The stream ends behind the event `close`.
///
/// It is dropped when the client has gone; the connection has left its rooms a moment later.
#[must_use = "it is the body of the answer"]
pub struct EventBody {
    shared: Arc<Mutex<Shared>>,
    encoder: Encoder,
}

impl Stream for EventBody {
    /// It never fails; frameworks want a result.
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let mut shared = lock(&this.shared);
            if shared.queue.is_empty() {
                if shared.ended {
                    return Poll::Ready(None);
                }
                shared.body = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // One allocation for all that waits, and none for an idle stream.
            let queue = std::mem::take(&mut shared.queue);
            shared.bytes = 0;
            shared.ponged |= queue.iter().any(|message| message.kind() == MessageKind::Ping);
            shared.closed |= queue.iter().any(|message| message.kind() == MessageKind::Close);
            let wakers = [shared.sink.take(), shared.input.take()];
            drop(shared);
            wakers.into_iter().for_each(wake);
            let mut bytes = Vec::new();
            for message in &queue {
                this.encoder.encode(message, &mut bytes);
            }
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes.into())));
            }
        }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.gone = true;
        shared.queue = VecDeque::new();
        let wakers = [shared.sink.take(), shared.input.take()];
        drop(shared);
        wakers.into_iter().for_each(wake);
    }
}

impl fmt::Debug for EventBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody").finish_non_exhaustive()
    }
}

/// Outside of the lock, as what it wakes may run at once.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, SinkExt as _, StreamExt as _};

    use super::*;

    fn text(bytes: Option<Result<Bytes, Infallible>>) -> String {
        String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_ping_that_is_taken_is_answered_and_so_is_the_close() {
        let (mut input, mut sink, mut body) = open(vec!["first".into()], Ids::One, One::of(&Arc::default()));
        assert_eq!(input.next().now_or_never().flatten().unwrap().unwrap(), Incoming::Text("first".into()));
        sink.send(Message::ping()).now_or_never().unwrap().unwrap();
        assert!(input.next().now_or_never().is_none(), "nobody has taken it");
        assert_eq!(text(body.next().now_or_never().unwrap()), ":\n\n");
        assert_eq!(input.next().now_or_never().flatten().unwrap().unwrap(), Incoming::Pong);
        sink.send(Message::close(&Close::RESTART)).now_or_never().unwrap().unwrap();
        let close = text(body.next().now_or_never().unwrap());
        assert_eq!(close, "event: close\ndata: {\"code\":1012,\"reason\":\"restart\"}\n\n");
        assert_eq!(input.next().now_or_never().flatten().unwrap().unwrap(), Incoming::Close(None));
        assert!(body.next().now_or_never().is_none(), "not before the sink is closed");
        drop(sink);
        assert_eq!(body.next().now_or_never(), Some(None));
    }

    #[test]
    fn a_client_that_reads_nothing_fills_the_queue_and_no_more() {
        let (_input, mut sink, mut body) = open(Vec::new(), Ids::One, One::of(&Arc::default()));
        let small = Message::text("1");
        for _ in 0..MAX_MESSAGES {
            sink.feed(small.clone()).now_or_never().unwrap().unwrap();
        }
        assert!(sink.feed(small.clone()).now_or_never().is_none());
        assert!(body.next().now_or_never().is_some());
        sink.feed(Message::text("x".repeat(MAX_BYTES))).now_or_never().unwrap().unwrap();
        assert!(sink.feed(small).now_or_never().is_none());
    }

    #[test]
    fn a_client_that_has_gone_ends_both_halves() {
        let (mut input, mut sink, body) = open(Vec::new(), Ids::One, One::of(&Arc::default()));
        drop(body);
        assert!(input.next().now_or_never().unwrap().is_none());
        assert_eq!(sink.send(Message::text("1")).now_or_never(), Some(Err(Gone)));
    }
}
