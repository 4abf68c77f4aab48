//! A room with a history for unit tests: members whose sockets take nothing until they are opened.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Sink;
use tokio::time::Instant;

use super::{Arriving, Effects, Flusher, Room, State, flush, logged::Logged};
use crate::{
    auth::Identity,
    bus::{Position, Retention},
    envelope::Carried,
    join_options::JoinOptions,
    kind::{Kind, Rights},
    limits::Limits,
    lock::{Mutex, lock},
    message::Message,
    node::ConnectionId,
    outbox::{Outbox, Overflow, Recipient, Transport},
    presence::{Listing, Share},
};

/// Messages that may wait for a member: few, so that it falls behind soon.
const OUTBOX: usize = 8;

#[derive(Default)]
struct Door {
    open: bool,
    taken: Vec<String>,
}

#[derive(Clone, Default)]
struct DoorSink(Arc<Mutex<Door>>);

impl Sink<Message> for DoorSink {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if lock(&self.0).open { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
        lock(&self.0).taken.push(message.as_text().unwrap_or_default().to_owned());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

pub(super) struct Bed(pub(super) Arc<Room>);

/// A member, or one who was.
pub(super) struct Seat {
    sink: DoorSink,
    pub(super) recipient: Arc<Recipient>,
    pub(super) slot: usize,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self::of(Kind::authenticated().history(Retention::messages(100)).overflow(Overflow::Resync))
    }

    pub(super) fn of(kind: Kind) -> Self {
        let limits = Limits { max_outbox_messages: OUTBOX, ..Limits::default() };
        let share = Share::new(kind.counting(&limits), Arc::default());
        Self(Arc::new(Room::new("post:1".parse().unwrap(), Arc::new(kind), Arc::new(limits), share)))
    }

    /// One who joins.
    pub(super) fn enter(&self, number: u64) -> Seat {
        let sink = DoorSink::default();
        let limits = Limits { max_outbox_messages: OUTBOX, ..Limits::default() };
        let outbox = Outbox::new(Transport::boxed(sink.clone()), &limits);
        let identity = Identity::new("5").unwrap();
        let recipient = Arc::new(Recipient::new(ConnectionId::for_test(number), identity, outbox));
        let (slot, _) = self.0.enter(Arc::clone(&recipient));
        Seat { sink, recipient, slot }
    }

    pub(super) fn go_live(&self, seat: &Seat) {
        let arriving = Arriving { arrival: None, listing: Listing::Names, rights: Rights::MEMBER };
        _ = self.0.go_live(seat.slot, arriving, &JoinOptions::new(), |_| Message::text("welcome"));
    }

    /// A member that has read its welcome, and nothing since.
    pub(super) fn live(&self, number: u64) -> Seat {
        let seat = self.enter(number);
        self.go_live(&seat);
        assert_eq!(seat.takes(), ["welcome"]);
        seat
    }

    /// Messages of the history come, and the members are given them.
    pub(super) async fn arrive(&self, offsets: std::ops::RangeInclusive<u64>) {
        for offset in offsets {
            let (logged, _) =
                Logged::read(&self.0.key, offset.to_string().as_bytes(), at(offset), Instant::now(), 1_000);
            let effects = self.0.arrive(logged, None).1;
            self.act(effects).await;
        }
    }

    /// A message that the history does not have.
    pub(super) async fn say(&self, text: &str) {
        let effects = self.0.append(Message::text(text), None, Carried::Bare, None).1;
        self.act(effects).await;
    }

    pub(super) async fn act(&self, effects: Effects) {
        if effects.flush {
            flush(Flusher::counted(&self.0)).await;
        }
    }

    pub(super) fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut lock(&self.0.state))
    }

    /// The slots of the members that are behind.
    pub(super) fn behind(&self) -> Vec<usize> {
        self.state(|state| state.replay.as_ref().unwrap().behind.keys().copied().collect())
    }

    /// Has a member take all that there is for it.
    pub(super) fn heal(&self, seat: &Seat) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            told.extend(seat.takes());
            if seat.recipient.behind().is_empty() {
                break;
            }
            _ = self.0.heal(seat.slot, &seat.recipient);
        }
        told.extend(seat.takes());
        told
    }
}

impl Seat {
    /// What its socket takes, and then no more.
    pub(super) fn takes(&self) -> Vec<String> {
        lock(&self.sink.0).open = true;
        _ = self.recipient.drive(&mut Context::from_waker(Waker::noop()));
        let mut door = lock(&self.sink.0);
        door.open = false;
        std::mem::take(&mut door.taken)
    }
}

pub(super) const fn at(offset: u64) -> Position {
    Position::new(7, offset)
}
