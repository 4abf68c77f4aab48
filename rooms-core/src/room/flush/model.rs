//! Every order in which publishers, flushers and members that come and go can meet at a room's log, tried by `loom`.
//!
//! Chunks are of one member and every member is worth a flusher (see the constants), so a room of two has all there is
//! to get wrong. Flushers are threads here; else the code is the one that runs.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Sink;
use loom::thread;

use super::{Chunk, Flusher, Next};
use crate::{
    auth::Identity,
    envelope::Carried,
    join_options::JoinOptions,
    kind::{Kind, Rights},
    limits::Limits,
    lock::lock,
    message::Message,
    node::ConnectionId,
    outbox::{Outbox, Recipient, Transport},
    presence::{Listing, Share},
    room::{Arriving, Effects, Room, WentLive},
};

/// A sink that keeps what it is given.
#[derive(Clone, Default)]
struct Kept(Arc<std::sync::Mutex<Vec<String>>>);

impl Sink<Message> for Kept {
    type Error = Infallible;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Infallible> {
        self.0.lock().unwrap().push(message.as_text().unwrap_or_default().to_owned());
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

/// A room, and threads that do what its effects ask for.
#[derive(Clone)]
struct Bed(Arc<Room>);

struct Seat {
    kept: Kept,
    recipient: Arc<Recipient>,
    slot: usize,
}

impl Bed {
    fn new() -> Self {
        let limits = Limits::default();
        let kind = Arc::new(Kind::authenticated());
        let share = Share::new(kind.counting(&limits), Arc::default());
        Self(Arc::new(Room::new("post:1".parse().unwrap(), kind, Arc::new(limits), share)))
    }

    fn enter(&self, number: u64) -> Seat {
        let kept = Kept::default();
        let outbox = Outbox::new(Transport::boxed(kept.clone()), &Limits::default());
        let identity = Identity::new("5").unwrap();
        let recipient = Arc::new(Recipient::new(ConnectionId::for_test(number), identity, outbox));
        let (slot, _) = self.0.enter(Arc::clone(&recipient));
        Seat { kept, recipient, slot }
    }

    fn go_live(&self, seat: &Seat) {
        let arriving = Arriving { arrival: None, listing: Listing::Names, rights: Rights::MEMBER };
        let WentLive { effects, .. } =
            self.0.go_live(seat.slot, arriving, &JoinOptions::new(), |_| Message::text("welcome"));
        self.act(effects);
    }

    fn live(&self, number: u64) -> Seat {
        let seat = self.enter(number);
        self.go_live(&seat);
        seat.drive();
        seat
    }

    fn publish(&self, text: &str) {
        let (kept, effects) = self.0.append(Message::text(text), None, Carried::Bare, None);
        assert!(kept);
        self.act(effects);
    }

    fn act(&self, effects: Effects) {
        if effects.flush {
            serve(Flusher::counted(&self.0));
        }
    }

    /// Nobody flushes any more, and nothing is left to flush.
    fn is_at_rest(&self) -> bool {
        let state = lock(&self.0.state);
        state.progress.flushers == 0 && state.progress.delivering == 0 && state.log.since(0).next().is_none()
    }
}

impl Seat {
    /// A turn of the connection's task.
    fn drive(&self) {
        self.recipient.drive(&mut Context::from_waker(Waker::noop()));
    }

    /// What it got of what was published.
    fn got(&self) -> Vec<String> {
        self.drive();
        let kept = self.kept.0.lock().unwrap();
        assert_eq!(kept.iter().position(|text| text == "welcome"), Some(0), "the welcome is the first: {kept:?}");
        kept.iter().filter(|text| text.len() == 1).cloned().collect()
    }
}

/// `flush`, on this thread and others.
fn serve(mut flusher: Flusher) {
    let mut chunk = Chunk::new(flusher.room.source());
    let mut threads = Vec::new();
    while let Next::Deliver { helpers } = flusher.next(&mut chunk, 2) {
        for _ in 0..helpers {
            let helper = Flusher::counted(&flusher.room);
            threads.push(thread::spawn(move || serve(helper)));
        }
        chunk.deliver();
    }
    drop(flusher);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn all_members_get_all_messages_once_in_one_order() {
    loom::model(|| {
        let bed = Bed::new();
        let seats = [bed.live(1), bed.live(2)];
        let publisher = thread::spawn({
            let bed = bed.clone();
            move || bed.publish("a")
        });
        bed.publish("b");
        publisher.join().unwrap();
        let [first, second] = seats.map(|seat| seat.got());
        assert!(first == ["a", "b"] || first == ["b", "a"], "{first:?}");
        assert_eq!(first, second, "one order");
        assert!(bed.is_at_rest());
    });
}

#[test]
fn a_member_that_joins_meanwhile_gets_an_end_of_what_the_others_get() {
    loom::model(|| {
        let bed = Bed::new();
        let there = bed.live(1);
        let publisher = thread::spawn({
            let bed = bed.clone();
            move || bed.publish("a")
        });
        let newcomer = bed.enter(2);
        bed.publish("b");
        bed.go_live(&newcomer);
        newcomer.drive();
        publisher.join().unwrap();
        let (all, got) = (there.got(), newcomer.got());
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.ends_with(&got), "{got:?} is no end of {all:?}");
        assert!(got.contains(&"b".to_owned()), "it was in the room when b was published");
        assert!(bed.is_at_rest());
    });
}

#[test]
fn a_member_that_leaves_meanwhile_gets_a_beginning() {
    loom::model(|| {
        let bed = Bed::new();
        let (stays, leaves) = (bed.live(1), bed.live(2));
        let publisher = thread::spawn({
            let bed = bed.clone();
            move || {
                bed.publish("a");
                bed.publish("b");
            }
        });
        let effects = bed.0.leave(leaves.slot);
        bed.act(effects);
        publisher.join().unwrap();
        assert_eq!(stays.got(), ["a", "b"]);
        let got = leaves.got();
        assert!(["a", "b"].starts_with(&got.iter().map(String::as_str).collect::<Vec<_>>()), "{got:?}");
        assert!(bed.is_at_rest());
    });
}
