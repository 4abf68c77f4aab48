//! The life of one connection that is for one room.

mod heartbeat;
mod rate;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt as _, Sink, Stream, StreamExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::time::timeout;

use self::{
    heartbeat::{Beat, Heartbeat, Reading, Terms},
    rate::Rate,
};
use crate::{
    auth::Identity,
    close::{Close, CloseCode},
    connection::Connection,
    limits::Limits,
    manager::RoomManager,
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
        let mut session = match self.try_connect(identity, sink) {
            Ok(connection) => Ok(Session::new(connection, stream, room)),
            Err((error, sink)) => {
                let limits = self.limits().clone();
                Err(Box::pin(async move {
                    refuse(stream, sink, error.close(), &limits).await;
                    error.close()
                }))
            }
        };
        async move {
            match &mut session {
                Ok(session) => session.serve().await,
                Err(refused) => refused.await,
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

/// All that an idle connection keeps, besides its outbox and its place in the room.
struct Session<R, S: Sink<Message> + Unpin + Send + 'static> {
    connection: Connection<S>,
    stream: R,
    doing: Doing,
    heartbeat: Heartbeat,
    rate: Rate,
}

enum Doing {
    /// It has not joined its room yet.
    Joining(Box<RoomKey>),
    /// It waits for what comes.
    Nothing,
    /// A hook is at work on a message; the next message waits for it, and the heartbeat does not.
    Working(BoxFuture<'static, Result<(), Close>>),
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
    fn new(connection: Connection<S>, stream: R, room: RoomKey) -> Self {
        let heartbeat = Heartbeat::new(&connection.shared().limits);
        Self { connection, stream, doing: Doing::Joining(Box::new(room)), heartbeat, rate: Rate::new() }
    }

    /// The whole life of the connection; returns why it ended.
    async fn serve(&mut self) -> Close {
        // Boxed, both: a task keeps the memory of its largest moment for as long as it lives, and these are short.
        let end = if let Err(close) = self.join().boxed().await {
            End::Closing(close)
        } else {
            std::future::poll_fn(|cx| self.poll_end(cx)).await
        };
        let close = self.end(end).boxed().await;
        tracing::debug!(connection = %self.connection.id(), %close, "a connection ended");
        close
    }

    /// Joins the room, unless the connection is closed first.
    async fn join(&mut self) -> Result<(), Close> {
        let Doing::Joining(room) = std::mem::replace(&mut self.doing, Doing::Nothing) else { return Ok(()) };
        let outbox = Arc::clone(self.connection.outbox());
        let (shared, identity) = (Arc::clone(self.connection.shared()), self.connection.shared_identity());
        let heartbeat = &mut self.heartbeat;
        let mut join = pin!(self.connection.join(&room));
        std::future::poll_fn(|cx| {
            // A token may end, and a proxy cut what is silent, while a rule or a hook takes its time.
            while let Poll::Ready(beat) = heartbeat.poll_beat(cx, Terms::of(&shared, &identity), Reading::Paused) {
                match beat {
                    Beat::Ping => outbox.deliver(&[Message::ping()]),
                    Beat::Over(close) => return Poll::Ready(Err(close)),
                }
            }
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
        .await
    }

    /// Runs until the connection has to end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let step = match ready!(self.poll_event(cx)) {
                Event::Incoming(Some(Ok(incoming))) => {
                    self.heartbeat.heard();
                    let allowed = self.rate.allows(&self.connection.shared().limits);
                    if allowed { self.take(incoming) } else { Err(Close::TOO_MANY_MESSAGES) }
                }
                Event::Incoming(Some(Err(error))) => match error.close() {
                    Some(close) => Err(close),
                    None => return Poll::Ready(End::Gone),
                },
                Event::Incoming(None) => return Poll::Ready(End::Gone),
                Event::Beat(Beat::Ping) => {
                    self.connection.send(&Message::ping());
                    Ok(())
                }
                Event::Beat(Beat::Over(close)) | Event::Closing(close) => Err(close),
                // What the hook sent before it closed goes out first.
                Event::Worked(result) => result.inspect_err(|close| self.connection.close(close.clone())),
            };
            if let Err(close) = step {
                return Poll::Ready(End::Closing(close));
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.connection.outbox().drive(cx) {
            Progress::Open => {}
            Progress::Broken => return Poll::Ready(Event::Closing(GONE)),
            Progress::Closing(close) | Progress::Closed(close) => return Poll::Ready(Event::Closing(close)),
        }
        let reading = match &mut self.doing {
            Doing::Working(work) => {
                if let Poll::Ready(result) = work.as_mut().poll(cx) {
                    self.doing = Doing::Nothing;
                    return Poll::Ready(Event::Worked(result));
                }
                Reading::Paused
            }
            _ => match self.stream.poll_next_unpin(cx) {
                Poll::Ready(incoming) => return Poll::Ready(Event::Incoming(incoming)),
                Poll::Pending => Reading::Now,
            },
        };
        let terms = Terms::of(self.connection.shared(), self.connection.identity());
        self.heartbeat.poll_beat(cx, terms, reading).map(Event::Beat)
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
            Ok(Command::Application(message)) => match self.hook(message) {
                Some(work) => self.doing = Doing::Working(work),
                None => {
                    self.connection.send(&protocol::error(ErrorCode::UnknownType, "nothing answers to this type here"))
                }
            },
            Err(fault) => self.connection.send(&protocol::error(ErrorCode::BadMessage, fault.0)),
        }
    }

    /// The application's answer to a message; `None` where the kind takes none.
    fn hook(&self, message: Value) -> Option<BoxFuture<'static, Result<(), Close>>> {
        let room = self.connection.rooms().next()?;
        let kind = self.connection.shared().kinds.get(room.kind()).filter(|kind| kind.takes_messages())?;
        Some(kind.message(self.connection.member(room), message, self.connection.shared().limits.hook))
    }

    /// Leaves the room at once, and then says good-bye if anybody is there; returns why it ended.
    async fn end(&mut self, end: End) -> Close {
        let outbox = Arc::clone(self.connection.outbox());
        // A hook under way is dropped before the leaving begins: it may hold what `on_leave` waits for.
        self.doing = Doing::Nothing;
        let close = match end {
            End::Closing(close) => close,
            End::Gone => {
                self.connection.leave_all();
                return outbox.closing().unwrap_or(GONE);
            }
        };
        outbox.close(close.clone(), Waiting::Drop);
        self.connection.leave_all();
        _ = timeout(self.connection.shared().limits.close_within, farewell(&outbox, &mut self.stream)).await;
        outbox.closing().unwrap_or(close)
    }
}

/// What the end of a client that says nothing is called.
const GONE: Close = Close::known(CloseCode::GOING_AWAY, "");
