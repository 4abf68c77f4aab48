//! The life of one connection, for one room or for many.

mod binary;
mod commands;
mod ending;
mod farewell;
mod heartbeat;
mod orders;
mod pausing;
mod rate;
mod served;
mod source;
mod work;

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Sink, Stream, StreamExt as _};

pub use self::farewell::refuse;
use self::{
    ending::End,
    farewell::turn_away,
    heartbeat::{Beat, Heartbeat, PongTime, Terms},
    rate::{Rate, TooMany},
    source::Estimated,
    work::{Done, Work},
};
pub(crate) use self::{served::Served, source::Source};
use crate::{
    auth::{Identity, SignIn},
    close::Close,
    connection::{Beside, ConnectError, Connection},
    join_options::JoinOptions,
    manager::RoomManager,
    message::{Form, Message},
    network::Network,
    outbox::{Framing, GONE, Order, Progress},
    protocol::{self, Fault},
    room_key::RoomKey,
    timers::Moment,
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
        R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send + 'static,
    {
        self.serve_room_with(stream, sink, identity, room, JoinOptions::new())
    }

    /// [`serve_room`](Self::serve_room), for a client that says more than the room, such as where it stood. Where it asks for
    /// positions, by [`since`](JoinOptions::since) or [`newest`](JoinOptions::newest), what happens in the room is told as on
    /// a connection that is for many: payloads in the event `message`, with their `offset`.
    pub fn serve_room_with<R>(
        &self,
        stream: R,
        sink: S,
        identity: Identity,
        room: RoomKey,
        options: JoinOptions,
    ) -> impl Future<Output = Close> + Send + use<R, S>
    where
        R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send + 'static,
    {
        self.serve_in(
            options.form().into(),
            Estimated::new(stream),
            sink,
            (identity, None),
            Some((room, options)),
            None,
        )
    }

    /// Serves a connection whose client joins and leaves rooms by itself; returns why it ended. What is said is in
    /// [`protocol`](crate::protocol), and the rest is as with [`serve_room`](Self::serve_room).
    ///
    /// The user's own room, such as `user:5`, is joined first, where there is a kind `user` whose rule lets them in; it
    /// counts as one of `Limits::max_rooms_per_connection`.
    ///
    /// ```
    /// use futures::{StreamExt as _, channel::mpsc};
    /// use rooms_core::{Identity, Kind, Message, RoomManager, ws::Incoming};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build()?;
    /// let (client, stream) = mpsc::unbounded();
    /// let (sink, mut received) = mpsc::unbounded();
    /// tokio::spawn(rooms.serve(stream, sink, Identity::new("5")?));
    ///
    /// client.unbounded_send(Ok(Incoming::Text(r#"{"type":"join","room":"post:42","ref":1}"#.into())))?;
    /// let answer: Message = received.next().await.unwrap();
    /// assert_eq!(answer.as_text(), Some(r#"{"type":"room_joined","room":"post:42","viewers":1,"ref":1}"#));
    /// # Ok(()) }
    /// ```
    pub fn serve<R>(&self, stream: R, sink: S, identity: Identity) -> impl Future<Output = Close> + Send + use<R, S>
    where
        R: Stream<Item = Result<Incoming, WsError>> + Unpin + Send + 'static,
    {
        let first = self.user_room(identity.user()).map(|room| (room, JoinOptions::new()));
        self.serve_in(Form::Multi.into(), Estimated::new(stream), sink, (identity, None), first, None)
    }

    pub(crate) fn serve_in<R: Source>(
        &self,
        framing: Framing,
        stream: R,
        sink: S,
        (identity, from): (Identity, Option<Network>),
        first: Option<(RoomKey, JoinOptions)>,
        sign_in: Option<Arc<SignIn>>,
    ) -> Served<R> {
        match self.try_connect(identity, from, sink, framing) {
            Ok(mut connection) => {
                connection.signed_in(sign_in);
                Served::Session(Session::new(connection, stream, first))
            }
            Err((error, transport)) => {
                let limits = self.limits().clone();
                let (last, close) = self.no_place(error);
                Served::Ending(Box::pin(async move {
                    turn_away(last, stream, transport, close.clone(), &limits).await;
                    close
                }))
            }
        }
    }

    /// What is said to a client for whom there is no place: a message perhaps, and the close.
    fn no_place(&self, error: ConnectError) -> (Option<Message>, Close) {
        match (error, self.drain()) {
            (ConnectError::Draining, Some(drain)) => (Some(drain.come_back()), drain.close.clone()),
            _ => (None, error.close()),
        }
    }
}

/// All that an idle connection keeps, besides what others know of it and its place in the room.
pub(crate) struct Session<R> {
    /// What is at work on a command; the next one waits for it, and the heartbeat does not. It is dropped before the
    /// connection, as it may hold what `on_leave` waits for.
    work: Option<Work>,
    connection: Connection,
    stream: R,
    /// The next command, until it has its turn. While there is none, what the client sends is read: its pings, its
    /// pongs, its good-bye. Boxed, because an idle connection has none.
    next: Option<Box<Said>>,
    heartbeat: Heartbeat,
    rate: Rate,
}

/// What a client said, until it has its turn.
enum Said {
    Text(String),
    Binary(Vec<u8>),
}

enum Event {
    Incoming(Option<Result<Incoming, WsError>>),
    /// The next command has its turn.
    Next(Box<Said>),
    Beat(Beat),
    /// Somebody else wants something done.
    Orders(Vec<Order>),
    /// Something that goes on beside the commands has come to an end.
    Beside(Beside),
    /// The command at work is done; perhaps it was a join of this room, whose rule is to be asked again.
    Done(Done, Option<RoomKey>),
    /// Somebody closed the outbox, or its sink failed.
    Closing(Close),
}

impl<R: Source> Session<R> {
    fn new(mut connection: Connection, stream: R, first: Option<(RoomKey, JoinOptions)>) -> Self {
        connection.recipient().serve();
        connection.watch_token();
        let shared = connection.shared();
        let heartbeat = Heartbeat::new(shared.timers.now(), &shared.limits);
        let mut session = Self { connection, stream, work: None, next: None, heartbeat, rate: Rate::new() };
        let join = first.map(|(room, options)| session.first_join(&room, options));
        session.work = join;
        session
    }

    /// Runs until the connection has to end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // It has never asked to be woken.
        let is_first_turn = self.connection.wakes_at() == Moment::START;
        loop {
            let now = self.connection.shared().timers.now();
            let Poll::Ready(event) = self.poll_event(cx, now) else {
                if is_first_turn {
                    // The first join takes a while, or there is none: the answer to the upgrade does not wait for it.
                    self.connection.recipient().uncork();
                }
                return Poll::Pending;
            };
            let step = match event {
                Event::Incoming(Some(Ok(incoming))) => {
                    self.heartbeat.heard();
                    let limits = &self.connection.shared().limits;
                    match self.rate.took_message(now, self.stream.bytes(), limits) {
                        Ok(()) => self.take(incoming),
                        Err(TooMany) => Err(End::Closing(Close::TOO_MANY_MESSAGES)),
                    }
                }
                Event::Incoming(Some(Err(error))) => Err(error.close().map_or(End::Gone, End::Closing)),
                Event::Incoming(None) => Err(End::Gone),
                Event::Next(said) => {
                    let carried_out = match *said {
                        Said::Text(text) => self.carry_out(&text, now),
                        Said::Binary(bytes) => self.carry_out_binary(&bytes.into(), now),
                    };
                    carried_out.map_err(|TooMany| End::Closing(Close::TOO_MANY_MESSAGES))
                }
                Event::Beat(Beat::Ping) => {
                    self.connection.tidy();
                    self.connection.send(&Message::ping());
                    Ok(())
                }
                Event::Beat(Beat::Expiring(left)) => {
                    self.connection.was_told();
                    self.connection.send(&protocol::token_expiring(left));
                    Ok(())
                }
                Event::Beat(Beat::AskAgain) => {
                    self.connection.ask_again();
                    Ok(())
                }
                Event::Orders(orders) => {
                    self.obey(orders);
                    Ok(())
                }
                Event::Beside(done) => self.beside(done),
                Event::Beat(Beat::Over(close)) | Event::Closing(close) => Err(End::Closing(close)),
                Event::Done(done, again) => {
                    let finished = self.finish(done).map_err(End::Closing);
                    self.end_without_rooms();
                    if let Some(room) = again {
                        self.connection.begin_recheck(Some(&room));
                    }
                    finished
                }
            };
            if let Err(end) = step {
                return Poll::Ready(end);
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, now: Moment) -> Poll<Event> {
        let backlog = match self.connection.shared().drive(self.connection.recipient(), cx) {
            Progress::Open(backlog) => backlog,
            Progress::Broken => return Poll::Ready(Event::Closing(GONE)),
            Progress::Closing(close) | Progress::Closed(close) => return Poll::Ready(Event::Closing(close)),
        };
        if backlog.taken {
            // As good as a pong, which may stand behind all that waits.
            self.heartbeat.heard();
        }
        // Where commands wait for one at work, a pong behind them can't be seen. Where they wait for the client to read,
        // its pong's time runs: one that takes nothing is gone. Where it sends too much and is not read, its pong waits too.
        let unread = self.rate.is_paused() || (self.next.is_some() && !backlog.heavy);
        let pong = if unread { PongTime::Stands } else { PongTime::Runs };
        // Before anything else, so that nothing is done for a token that has ended, however busy the client is.
        if let Some(beat) = self.beat(now, pong) {
            if beat == Beat::Over(Close::NO_PONG)
                && self.next.is_none()
                && let Poll::Ready(incoming) = self.stream.poll_next_unpin(cx)
            {
                // It is there, and this process was too busy to look.
                return Poll::Ready(Event::Incoming(incoming));
            }
            return Poll::Ready(Event::Beat(beat));
        }
        if backlog.orders {
            return Poll::Ready(Event::Orders(self.connection.recipient().take_orders()));
        }
        if let Poll::Ready(done) = self.connection.poll_beside(cx) {
            return Poll::Ready(Event::Beside(done));
        }
        if let Poll::Ready(event) = self.poll_work(cx, backlog.heavy) {
            return Poll::Ready(event);
        }
        if self.next.is_some() {
            return Poll::Pending;
        }
        if self.rate.poll_open(cx, now, &self.connection.shared().limits).is_pending() {
            if let Some(wait) = self.rate.untold(now) {
                self.connection.shared().limiters.note_refusal();
                self.connection.send(&protocol::error(&Fault::rate_limited("too many messages", wait), None));
            }
            return Poll::Pending;
        }
        let incoming = self.stream.poll_next_unpin(cx);
        if incoming.is_pending() {
            self.rate.found_nothing(now, &self.connection.shared().limits);
        }
        incoming.map(Event::Incoming)
    }

    /// Goes on with the command at work, or with the next one.
    fn poll_work(&mut self, cx: &mut Context<'_>, heavy: bool) -> Poll<Event> {
        loop {
            if let Some(work) = &mut self.work {
                let done = ready!(work.as_mut().poll(cx));
                let recheck = self.work.take().is_some_and(|work| work.is_to_recheck());
                let again = if recheck { done.joined().cloned() } else { None };
                return Poll::Ready(Event::Done(done, again));
            }
            if heavy || !self.enter_next() {
                break;
            }
        }
        match self.next.take_if(|_| !heavy) {
            Some(said) => Poll::Ready(Event::Next(said)),
            None => Poll::Pending,
        }
    }

    /// What it is time for, if anything; where not, the task is woken when it is.
    fn beat(&mut self, now: Moment, pong: PongTime) -> Option<Beat> {
        let shared = self.connection.shared();
        if shared.timers.have_ended() {
            // Nobody would wake it, and nothing is sent any more.
            return Some(Beat::Over(Close::UNAVAILABLE));
        }
        if now < self.connection.wakes_at() {
            return None;
        }
        match self.heartbeat.due(now, Terms::of(shared, &self.connection), pong) {
            Ok(beat) => Some(beat),
            Err(next) => {
                self.connection.wake_at(next);
                None
            }
        }
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Text(text) => self.next = Some(Box::new(Said::Text(text))),
            Incoming::Binary(bytes) => self.next = Some(Box::new(Said::Binary(bytes))),
            Incoming::Ping(payload) => self.connection.send(&Message::pong(&payload)),
            Incoming::Pong => {}
            // RFC 6455 section 5.5.1: the answer is a close frame, with the code that was sent.
            Incoming::Close(close) => {
                return Err(End::Left(close.map_or(Close::NORMAL, |close| Close::new(close.code(), ""))));
            }
        }
        Ok(())
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::{connection::NewRooms, ws::FrameStream};

    /// A task of tokio's is this, some 100 bytes of its own, and then up to the next multiple of 128 bytes.
    #[test]
    fn the_future_of_a_connection_is_small() {
        let size = size_of::<Served<FrameStream>>();
        assert!(size <= 152, "{size}: every connection has one");
    }

    /// From 1,024 bytes on an allocation makes glibc put its small free chunks together first, and each join would pay for
    /// that. What it leaves is also taken by the next connection, where it is no larger.
    #[tokio::test]
    async fn a_join_is_small() {
        let rooms = RoomManager::build_for().kind("post", crate::Kind::authenticated()).build().unwrap();
        let (sink, _received) = futures::channel::mpsc::unbounded::<Message>();
        let mut connection = rooms.connect(Identity::new("5").unwrap(), sink).unwrap();
        let size = size_of_val(&connection.begin_join(
            &RoomKey::new("post", 1).unwrap(),
            JoinOptions::new(),
            None,
            NewRooms::Counted,
        ));
        assert!(size < 1000, "{size}");
    }
}
