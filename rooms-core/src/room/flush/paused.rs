//! The part of a round that members have who are paused: the news of who comes and goes.
//!
//! Most rounds have none, and pass them by as they do those who have had everything.

use std::{num::NonZeroU64, slice, sync::Arc};

use super::{CHUNK, Chunk, Due, Given};
use crate::{
    kind::Rights,
    message::Form,
    outbox::Recipient,
    room::{Member, log::Log},
};

impl Chunk {
    /// Takes a member, if it is paused and was not told all news; whether the chunk is full then.
    pub(super) fn take_paused(&mut self, slot: usize, member: &mut Member, log: &Log, goal: u64, hides: bool) -> bool {
        let head = log.head();
        let Some(cursor) = member.passed_by_from().filter(|from| *from < head) else { return false };
        // What lies before the log was none of its news.
        let cursor = cursor.max(log.first());
        self.first = self.first.min(cursor);
        let rights = if hides { member.rights() } else { Rights::MEMBER };
        self.paused.push(Due { recipient: Arc::clone(&member.recipient), slot, cursor, rights });
        member.pass_by_from(head);
        member.in_hand_until(goal);
        self.paused.len() == CHUNK
    }

    /// Tells those who are paused the news.
    pub(super) fn tell_paused(&self, mut given: Given, behind: &mut Vec<(usize, Arc<Recipient>, NonZeroU64)>) -> Given {
        for due in &self.paused {
            let messages = match due.recipient.form() {
                Form::Single => &self.messages,
                Form::Multi | Form::Positioned => &self.multi,
            };
            let from = usize::try_from(due.cursor - self.first).unwrap_or(usize::MAX);
            for (at, (message, about)) in messages.iter().zip(&self.about).enumerate().skip(from) {
                let excepted = self.excepts.iter().any(|(index, except)| *index == at && except.is(due));
                if excepted || !about.is_of_viewers() {
                    continue;
                }
                let message = slice::from_ref(message);
                given.bytes += self.bytes_in(at..at + 1);
                let left_out = due.recipient.deliver_from(&self.source, message, slice::from_ref(about));
                given.messages += 1;
                behind.extend(left_out.map(|offset| (due.slot, Arc::clone(&due.recipient), offset)));
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;
    use crate::{
        auth::Identity,
        envelope::Carried,
        join_options::JoinOptions,
        kind::Kind,
        limits::Limits,
        message::Message,
        node::ConnectionId,
        outbox::{Outbox, Transport},
        presence::{Change, Due as Counted, Event, For, Listing, Share, entry::Name},
        protocol::Standing,
        room::{
            Again, Arriving, Room,
            flush::{Flusher, Next},
        },
    };

    struct Seat {
        recipient: Arc<Recipient>,
        slot: usize,
        received: mpsc::UnboundedReceiver<Message>,
    }

    fn room() -> Arc<Room> {
        let (limits, kind) = (Limits::default(), Arc::new(Kind::authenticated()));
        let share = Share::new(kind.counting(&limits), Arc::default());
        Arc::new(Room::new("post:1".parse().unwrap(), kind, Arc::new(limits), share))
    }

    fn join(room: &Arc<Room>, number: u64, options: &JoinOptions) -> Seat {
        let (sink, received) = mpsc::unbounded::<Message>();
        let outbox = Outbox::new(Transport::boxed(sink), &Limits::default()).framed(options.form().into());
        let id = ConnectionId::for_test(number);
        let recipient = Arc::new(Recipient::new(id, Identity::new("5").unwrap(), outbox));
        let (slot, _) = room.enter(Arc::clone(&recipient));
        let arriving = Arriving { arrival: None, listing: Listing::Names, rights: Rights::MEMBER };
        if room.go_live(slot, arriving, options, |_| Message::text("welcome")).effects.flush {
            // Those who are there are told.
            let (mut flusher, mut chunk) = (Flusher::counted(room), Chunk::new(room.source()));
            while let Next::Deliver { .. } = flusher.next(&mut chunk, 1) {
                chunk.deliver();
            }
        }
        Seat { recipient, slot, received }
    }

    fn publish(room: &Room, text: &str) -> bool {
        room.append(Message::text(text), None, Carried::Bare, None).1.flush
    }

    /// The viewers have changed.
    fn news(room: &Room) -> bool {
        let event = Event { change: Change::Joined, viewers: 9, users: Vec::new(), except: None, to: For::All };
        room.change_share(|_| ((), Counted { events: vec![event], ..Counted::default() })).1.flush
    }

    impl Seat {
        fn got(&mut self) -> Vec<String> {
            self.recipient.drive(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            std::iter::from_fn(|| self.received.try_recv().ok())
                .filter_map(|message| message.as_text().map(str::to_owned))
                .collect()
        }

        fn go_on(&self, room: &Room) -> Again {
            let welcome = |standing: Standing| Message::text(format!("{:?}", standing.recovered));
            let who = (&Name("5".into()), Listing::Nothing);
            room.resume_paused(self.slot, &self.recipient, &JoinOptions::new(), who, welcome)
        }
    }

    #[tokio::test]
    async fn who_goes_on_while_a_flusher_has_something_for_it_in_hand_is_given_that_before() {
        let room = room();
        let mut seat = join(&room, 1, &JoinOptions::new());
        assert!(publish(&room, "1"));
        let (mut flusher, mut chunk) = (Flusher::counted(&room), Chunk::new(room.source()));
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Deliver { .. }));
        room.pause(seat.slot);
        publish(&room, "2");
        assert!(matches!(seat.go_on(&room), Again::InHand));
        chunk.deliver();
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Over));
        assert!(matches!(seat.go_on(&room), Again::Resumed { .. }));
        assert!(matches!(seat.go_on(&room), Again::NotPaused));
        let got = seat.got();
        assert_eq!(got[..3], ["welcome", "1", "Some(false)"], "{got:?}");
        assert!(got[3].contains("resync") && got.len() == 4, "{got:?}");

        // The same with news.
        room.pause(seat.slot);
        assert!(news(&room));
        let mut flusher = Flusher::counted(&room);
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Deliver { .. }));
        assert!(matches!(seat.go_on(&room), Again::InHand));
        chunk.deliver();
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Over));
        assert!(matches!(seat.go_on(&room), Again::Resumed { .. }));
        let got = seat.got();
        assert!(got[0].contains(r#""viewers":9"#) && got[1] == "Some(true)" && got.len() == 2, "{got:?}");
    }

    #[cfg(feature = "metrics")]
    #[tokio::test]
    async fn bytes_are_counted_as_on_a_connection_for_one_room_whatever_a_member_is_given() {
        let room = room();
        let positions = JoinOptions::new().since("");
        let (one, paused) = (join(&room, 1, &positions), join(&room, 2, &positions.clone().paused()));
        assert_ne!(one.recipient.form(), Form::Single);
        let delivered = || {
            let (mut flusher, mut chunk) = (Flusher::counted(&room), Chunk::new(room.source()));
            assert!(matches!(flusher.next(&mut chunk, 1), Next::Deliver { .. }));
            let Given { messages, bytes } = chunk.deliver();
            (messages, bytes, chunk.messages.last().unwrap().frame().len() as u64)
        };
        publish(&room, "1");
        assert_eq!(delivered(), (1, 3, 3), "all of a batch: two bytes of a header, and one");
        _ = room.append(Message::text("22"), Some(one.recipient.id()), Carried::Bare, None);
        publish(&room, "333");
        assert_eq!(delivered(), (1, 5, 5), "a part of it");
        news(&room);
        let (messages, bytes, last) = delivered();
        assert_eq!((messages, bytes), (2, 2 * last), "one of them is paused");
        drop(paused);
    }

    #[tokio::test]
    async fn a_message_is_no_work_for_a_room_whose_members_are_paused_and_news_come_in_chunks() {
        let room = room();
        let mut seats: Vec<_> = (0..100).map(|number| join(&room, number, &JoinOptions::new().paused())).collect();
        for seat in &mut seats {
            assert_eq!(seat.got()[0], "welcome");
        }
        let mut chunk = Chunk::new(room.source());
        assert!(publish(&room, "1"));
        assert!(matches!(Flusher::counted(&room).next(&mut chunk, 1), Next::Over), "nobody is looked at");

        assert!(news(&room));
        let mut flusher = Flusher::counted(&room);
        let mut rounds = Vec::new();
        while let Next::Deliver { .. } = flusher.next(&mut chunk, 1) {
            assert!(chunk.members.is_empty());
            rounds.push(chunk.paused.len());
            chunk.deliver();
            publish(&room, "2");
        }
        assert_eq!(rounds, [CHUNK, 100 - CHUNK], "each once");
        for seat in &mut seats {
            assert_eq!(seat.got().len(), 1);
        }
    }
}
