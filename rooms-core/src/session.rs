//! The life of one connection that is for one room.

mod heartbeat;
mod rate;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt as _, Sink, Stream, StreamExt as _,
    future::{BoxFuture, Either},
};
use tokio::time::timeout;

use self::{
    heartbeat::{Beat, Heartbeat, Terms},
    rate::Rate,
};
use crate::{
    auth::Identity,
    close::{Close, CloseCode},
    connection::Connection,
    limits::Limits,
    manager::{RoomManager, Shared},
    message::Message,
    outbox::{Outbox, Progress, Waiting, write_sink},
    protocol::{self, Command, ErrorCode},
    room_key::RoomKey,
    ws::{Incoming, WsError},
};

impl<S: Sink<Message> + Unpin + Send + 'static> RoomManager<S> {
    /// Serves a connection that is for one room, from the join to the close frame; returns why it ended.
    ///
    /// This is what the adapters run, and what runs behind any other socket: `stream` yields what the client sends, and
    /// `sink` is given frames, a close frame last. The returned future is one small task's; dropping it leaves the room.
    pub fn serve_room<R>(
        &self,
        stream: R,
        sink: S,
        identity: Identity,
        room: RoomKey,
    ) -> impl Future<Output = Close> + Send + use<R, S>
    where
        R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send,
    {
        // Built outside the async block and used there in place: a future keeps what it moves twice, and this one lives
        // as long as its connection.
        match self.try_connect(identity, sink) {
            Ok(connection) => {
                let shared = Arc::clone(self.shared());
                let mut session = Session { shared, connection, stream, room, work: None };
                Either::Left(async move {
                    let end = session.run().await;
                    let close = session.end(end).await;
                    tracing::debug!(connection = %session.connection.id(), %close, "a connection ended");
                    close
                })
            }
            Err((error, sink)) => {
                let limits = self.limits().clone();
                Either::Right(Box::pin(async move {
                    refuse(stream, sink, error.close(), &limits).await;
                    error.close()
                }))
            }
        }
    }
}

/// Tells a client why it is not let in: one close frame, and time for it to arrive.
///
/// A browser sees the code and the reason of a close frame; of a refused upgrade it sees nothing.
pub async fn refuse<R, S>(stream: R, sink: S, close: Close, limits: &Limits)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
    S: Sink<Message> + Unpin,
{
    let outbox = Outbox::new(sink, write_sink, limits);
    outbox.close(close, Waiting::Drop);
    _ = timeout(limits.close_within, farewell(&outbox, stream)).await;
}

/// Gets the close frame out, and lets the client read it: whoever closes a TCP socket with unread input sends a reset,
/// which overtakes what is still on its way.
async fn farewell<R, S>(outbox: &Outbox<S>, mut stream: R)
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin,
    S: Sink<Message> + Unpin,
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

struct Session<R, S: Sink<Message> + Unpin + Send + 'static> {
    shared: Arc<Shared<S>>,
    connection: Connection<S>,
    stream: R,
    room: RoomKey,
    /// A hook at work on a message; the next message waits for it, and the heartbeat does not.
    work: Option<BoxFuture<'static, Result<(), Close>>>,
}

/// How a connection ends.
enum End {
    /// With a close frame.
    Closing(Close),
    /// The client has gone without a word; there is nobody to tell.
    Gone,
}

enum Event {
    Incoming(Option<Result<Incoming, WsError>>),
    Beat(Beat),
    Worked(Result<(), Close>),
    /// Somebody closed the outbox, or its sink failed.
    Closing(Close),
}

impl<R, S> Session<R, S>
where
    R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send,
    S: Sink<Message> + Unpin + Send + 'static,
{
    /// Runs until the connection has to end.
    async fn run(&mut self) -> End {
        if let Err(close) = self.join().await {
            return End::Closing(close);
        }
        let mut rate = Rate::new();
        let mut heartbeat = Heartbeat::new(self.terms());
        loop {
            let event = std::future::poll_fn(|cx| self.poll_event(cx, &mut heartbeat)).await;
            let step = match event {
                Event::Incoming(Some(Ok(incoming))) => {
                    heartbeat.heard();
                    if rate.allows(&self.shared.limits) { self.take(incoming) } else { Err(Close::TOO_MANY_MESSAGES) }
                }
                Event::Incoming(Some(Err(error))) => match error.close() {
                    Some(close) => Err(close),
                    None => return End::Gone,
                },
                Event::Incoming(None) => return End::Gone,
                Event::Beat(Beat::Ping) => {
                    self.connection.send(&Message::ping());
                    Ok(())
                }
                Event::Beat(Beat::Over(close)) | Event::Closing(close) => Err(close),
                Event::Worked(result) => result,
            };
            if let Err(close) = step {
                return End::Closing(close);
            }
        }
    }

    /// Joins the room, unless the connection is closed first.
    async fn join(&mut self) -> Result<(), Close> {
        let outbox = Arc::clone(self.connection.outbox());
        // Boxed: joining needs more memory than all that follows, and the task would keep it for the connection's life.
        let mut join = self.connection.join(&self.room).boxed();
        let joined = std::future::poll_fn(|cx| {
            if let Progress::Broken | Progress::Closing(_) | Progress::Closed(_) = outbox.drive(cx) {
                return Poll::Ready(Err(outbox.closing().unwrap_or(GONE)));
            }
            join.as_mut().poll(cx).map(|joined| match joined {
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "a connection did not get into its room");
                    Err(error.close())
                }
            })
        })
        .await;
        drop(join);
        if let Some(room) = self.connection.rooms().next() {
            // The room's own key, so that its members share one.
            self.room = room.clone();
        }
        joined
    }

    fn terms(&self) -> Terms<'_> {
        let Shared { limits, clock, .. } = &*self.shared;
        Terms { limits, expires_at: self.connection.identity().expires_at(), clock: &**clock }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, heartbeat: &mut Heartbeat) -> Poll<Event> {
        match self.connection.outbox().drive(cx) {
            Progress::Open => {}
            Progress::Broken => return Poll::Ready(Event::Closing(GONE)),
            Progress::Closing(close) | Progress::Closed(close) => return Poll::Ready(Event::Closing(close)),
        }
        if let Some(work) = &mut self.work {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                self.work = None;
                return Poll::Ready(Event::Worked(result));
            }
        } else if let Poll::Ready(incoming) = self.stream.poll_next_unpin(cx) {
            return Poll::Ready(Event::Incoming(incoming));
        }
        let reading = self.work.is_none();
        heartbeat.poll_beat(cx, self.terms(), reading).map(Event::Beat)
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), Close> {
        match incoming {
            Incoming::Text(text) => self.command(&text),
            Incoming::Binary(_) => {
                self.connection.send(&protocol::error(ErrorCode::Unsupported, "binary messages are not taken here"));
            }
            Incoming::Ping(payload) => self.connection.send(&Message::pong(&payload)),
            Incoming::Pong => {}
            // RFC 6455 section 5.5.1: the answer is a close frame, with the code that was sent.
            Incoming::Close(close) => return Err(close.map_or(Close::NORMAL, |close| Close::new(close.code(), ""))),
        }
        Ok(())
    }

    fn command(&mut self, text: &str) {
        match Command::parse(text) {
            Ok(Command::Ping) => self.connection.send(&protocol::pong()),
            Ok(Command::Application(message)) => match self.shared.kinds.get(self.room.kind()) {
                Some(kind) if kind.takes_messages() => {
                    let member = self.connection.member(&self.room);
                    self.work = Some(kind.message(member, message, self.shared.limits.hook));
                }
                _ => {
                    self.connection.send(&protocol::error(ErrorCode::UnknownType, "nothing answers to this type here"))
                }
            },
            Err(fault) => self.connection.send(&protocol::error(ErrorCode::BadMessage, fault.0)),
        }
    }

    /// Leaves the room at once, and then says good-bye if anybody is there; returns why it ended.
    async fn end(&mut self, end: End) -> Close {
        let outbox = Arc::clone(self.connection.outbox());
        let close = match end {
            End::Closing(close) => close,
            End::Gone => {
                self.connection.leave(&self.room);
                return outbox.closing().unwrap_or(GONE);
            }
        };
        outbox.close(close.clone(), Waiting::Drop);
        self.connection.leave(&self.room);
        // Boxed, so that a connection that lives holds no memory for its end.
        let farewell = Box::pin(farewell(&outbox, &mut self.stream));
        _ = timeout(self.shared.limits.close_within, farewell).await;
        outbox.closing().unwrap_or(close)
    }
}

/// What the end of a client that says nothing is called.
const GONE: Close = Close::known(CloseCode::GOING_AWAY, "");
