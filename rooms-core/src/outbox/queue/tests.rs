use proptest::prelude::*;

use super::*;
use crate::{bus::Position, metrics::Overflows};

const BOUNDS: Bounds = Bounds { messages: 8, bytes: 1_000 };

fn source(room: &str, overflow: Overflow) -> Source {
    Source {
        room: room.parse().unwrap(),
        overflow,
        heals: false,
        resync: |_, _| Message::text("resync"),
        recorded: Overflows::default(),
    }
}

/// What waits, with where it comes from.
fn waiting(queue: &Queue) -> Vec<(Option<Tag>, Message)> {
    let places = queue.tags.iter().cloned().zip(queue.messages.iter().cloned());
    places.filter(|(_, message)| !message.is_gone()).collect()
}

fn texts(queue: &Queue) -> Vec<String> {
    waiting(queue).iter().map(|(_, message)| message.as_text().unwrap_or_default().to_owned()).collect()
}

fn fill(queue: &mut Queue, source: &Source, numbers: std::ops::Range<usize>) -> Result<(), Overrun> {
    numbers.into_iter().try_for_each(|number| {
        queue.offer_from(&Message::text(format!("{number}")), About::Content, source, BOUNDS).map(drop)
    })
}

#[test]
fn close_takes_up_to_the_bound() {
    let mut queue = Queue::default();
    let source = source("post:1", Overflow::Close);
    fill(&mut queue, &source, 0..8).unwrap();
    assert_eq!(fill(&mut queue, &source, 8..9), Err(Overrun));
    assert_eq!(queue.len(), 8);
}

#[test]
fn the_oldest_go_and_one_resync_stands_in_their_place() {
    let mut queue = Queue::default();
    let source = source("post:1", Overflow::DropOldest);
    queue.offer(&Message::text("alone"), BOUNDS).unwrap();
    fill(&mut queue, &source, 0..8).unwrap();
    assert_eq!(texts(&queue), ["alone", "resync", "3", "4", "5", "6", "7"]);
    fill(&mut queue, &source, 8..10).unwrap();
    assert_eq!(texts(&queue), ["alone", "resync", "5", "6", "7", "8", "9"], "one resync is enough");
}

#[test]
fn resync_drops_all_of_the_room_and_nothing_else() {
    let mut queue = Queue::default();
    let (ours, other) = (source("post:1", Overflow::Resync), source("post:2", Overflow::Resync));
    fill(&mut queue, &other, 100..102).unwrap();
    fill(&mut queue, &ours, 0..7).unwrap();
    assert_eq!(texts(&queue), ["100", "101", "resync", "6"]);
}

#[test]
fn what_the_log_has_is_left_out_but_for_one_and_its_memory_is_given_back() {
    let bounds = Bounds { messages: 1_000, bytes: 1_000_000 };
    let ours = Source { heals: true, ..source("post:1", Overflow::Resync) };
    let logged = |number| About::Logged(Position::new(7, number));
    let mut queue = Queue::default();
    let mut offer = |number, about| queue.offer_from(&Message::text(format!("{number}")), about, &ours, bounds);
    offer(0, About::Content).unwrap();
    let offered = (1..=1_000).map(|number| offer(number, logged(number)).unwrap());
    let behind: Vec<_> = offered.filter(|offered| *offered != Offered::Queued).take(1).collect();
    assert_eq!(behind, [Offered::Behind(NonZeroU64::new(2).unwrap())]);
    assert_eq!(texts(&queue), ["0", "1"]);
    assert!(queue.messages.capacity() <= 4, "{}", queue.messages.capacity());

    // A word of a loss covers what was before it.
    let mut queue = Queue::default();
    let mut offer = |number, about| queue.offer_from(&Message::text(format!("{number}")), about, &ours, BOUNDS);
    for number in 1..=8 {
        offer(number, if number == 4 { About::Loss(None) } else { logged(number) }).unwrap();
    }
    assert_eq!(offer(9, logged(9)), Ok(Offered::Behind(NonZeroU64::new(5).unwrap())));
    assert_eq!(texts(&queue), ["1", "4"]);
}

#[test]
fn a_room_that_drops_messages_leaves_space_for_a_ping() {
    let bounds = Bounds { messages: 32, bytes: 1_000_000 };
    for overflow in [Overflow::DropOldest, Overflow::Resync] {
        let (mut queue, source) = (Queue::default(), source("post:1", overflow));
        for number in 0..100 {
            queue.offer_from(&Message::text(number.to_string()), About::Content, &source, bounds).unwrap();
            assert!(queue.len() <= 30, "{overflow:?}");
        }
        queue.offer(&Message::ping(), bounds).unwrap();
    }
}

#[test]
fn a_room_that_drops_messages_is_no_reason_to_close_before_the_bound() {
    let bounds = Bounds { messages: 32, bytes: 1_000_000 };
    let (mut queue, other) = (Queue::default(), source("post:2", Overflow::Close));
    for number in 0..31 {
        queue.offer_from(&Message::text(number.to_string()), About::Content, &other, bounds).unwrap();
    }
    let lossy = source("post:1", Overflow::DropOldest);
    queue.offer_from(&Message::text("the last place"), About::Content, &lossy, bounds).unwrap();
    assert_eq!(queue.offer_from(&Message::text("over"), About::Content, &other, bounds), Err(Overrun));
}

#[test]
fn answers_in_more_than_half_of_what_may_wait_are_a_backlog_and_what_rooms_send_is_none() {
    let mut queue = Queue::default();
    let look = |queue: &mut Queue| (queue.look(BOUNDS).heavy, queue.look(BOUNDS).taken);
    fill(&mut queue, &source("post:1", Overflow::DropOldest), 0..9).unwrap();
    assert_eq!(look(&mut queue), (false, false), "what was dropped was not taken");
    queue.written(queue.len());
    assert!(queue.look(BOUNDS).taken);
    for count in 1..=5 {
        queue.offer(&Message::text("alone"), BOUNDS).unwrap();
        assert_eq!(look(&mut queue), (count > 4, false));
    }
    queue.written(1);
    assert_eq!(queue.look(BOUNDS), Backlog { taken: true, ..Backlog::default() });
    assert_eq!(queue.look(BOUNDS), Backlog::default());
}

#[test]
fn latest_keeps_the_newest_of_each_sort() {
    let mut queue = Queue::default();
    let (ours, other) = (source("post:1", Overflow::Latest), source("post:2", Overflow::Latest));
    fill(&mut queue, &ours, 0..20).unwrap();
    queue.offer_from(&Message::text("2 viewers"), About::Viewers, &ours, BOUNDS).unwrap();
    fill(&mut queue, &other, 50..60).unwrap();
    queue.offer_from(&Message::text("3 viewers"), About::Viewers, &ours, BOUNDS).unwrap();
    assert_eq!(texts(&queue), ["19", "59", "3 viewers"]);
}

#[test]
fn what_is_not_the_rooms_is_never_dropped_for_it() {
    for overflow in [Overflow::Close, Overflow::DropOldest, Overflow::Latest, Overflow::Resync] {
        let mut queue = Queue::default();
        for _ in 0..8 {
            queue.offer(&Message::text("alone"), BOUNDS).unwrap();
        }
        assert_eq!(fill(&mut queue, &source("post:1", overflow), 0..1), Err(Overrun), "{overflow:?}");
        assert_eq!(texts(&queue), ["alone"; 8]);
    }
}

proptest! {
    #[test]
    fn the_bounds_hold_and_loss_is_told(
        steps in prop::collection::vec((0..3usize, 0..3u8, 0..300usize, 0..4usize), 1..200),
    ) {
        let rooms = [
            source("post:1", Overflow::DropOldest), source("post:2", Overflow::Resync), source("post:3", Overflow::Latest),
        ];
        let mut queue = Queue::default();
        let (mut given, mut out) = ([0; 3], Vec::<(Option<Tag>, Message)>::new());
        for (room, kind, length, written) in steps {
            let about = if kind == 0 { About::Viewers } else { About::Content };
            if queue.offer_from(&Message::text("x".repeat(length)), about, &rooms[room], BOUNDS).is_ok() {
                given[room] += usize::from(about == About::Content);
            }
            prop_assert!(!queue.exceeds(BOUNDS) || queue.len() == 1);
            prop_assert_eq!(queue.bytes(), queue.messages.iter().map(|m| m.frame().len()).sum::<usize>());
            prop_assert_eq!(queue.messages.len(), queue.tags.len());
            let written = written.min(queue.len());
            out.extend(waiting(&queue).into_iter().take(written));
            queue.written(written);
        }
        out.extend(waiting(&queue));
        for (number, room) in rooms.iter().enumerate().take(2) {
            let of = |about| out.iter().filter(|(tag, _)| tag.as_ref() == Some(&Tag::new(room, about))).count();
            prop_assert!(of(About::Content) == given[number] || of(About::Loss(None)) > 0, "dropped without a word");
        }
    }

    /// Behind a word of a loss comes everything that comes after its position.
    #[test]
    fn a_position_holds_for_all_that_was_dropped(
        steps in prop::collection::vec((0..10u8, 0..6usize), 1..200),
    ) {
        let resync = |_: &RoomKey, position: Option<Position>| {
            Message::text(position.map(|position| position.offset().to_string()).unwrap_or_default())
        };
        let (ours, other) = (
            Source { resync, ..source("post:1", Overflow::DropOldest) }, source("post:2", Overflow::DropOldest),
        );
        let mut queue = Queue::default();
        let (mut head, mut out) = (0, Vec::<(Option<Tag>, Message)>::new());
        let offset = |message: &Message| message.as_text().unwrap_or_default().parse::<u64>().ok();
        for (kind, written) in steps {
            let about = match kind {
                0 => About::Names,
                1 => {
                    // Told to all members.
                    let about = About::Loss(Some(Position::new(7, head)));
                    let told = resync(&ours.room, Some(Position::new(7, head)));
                    _ = queue.offer_from(&told, about, &ours, BOUNDS);
                    continue;
                }
                2 => {
                    _ = queue.offer_from(&Message::text("x"), About::Content, &other, BOUNDS);
                    continue;
                }
                3 => {
                    // It left, and is told where it begins again.
                    if queue.offer_standing(&Message::text(head.to_string()), &ours.room, BOUNDS).is_ok() {
                        queue.part_with(&ours.room);
                    }
                    continue;
                }
                _ => About::Logged(Position::new(7, head + 1)),
            };
            // Not all words of losses have space here, of so many joins.
            let is_taken = queue.offer_from(&Message::text("y"), about, &ours, BOUNDS).is_ok();
            head += u64::from(is_taken && about != About::Names);
            let written = written.min(queue.len()) / 2;
            out.extend(waiting(&queue).into_iter().take(written));
            queue.written(written);
        }
        out.extend(waiting(&queue));
        let mut last = 0;
        for (tag, message) in out {
            match tag.filter(|tag| tag.room == ours.room).map(|tag| tag.about) {
                Some(About::Logged(position)) => {
                    prop_assert_eq!(position.offset(), last + 1);
                    last += 1;
                }
                Some(About::Loss(position)) => {
                    prop_assert_eq!(offset(&message), position.map(|at| at.offset()));
                    last = position.map_or(last, |at| at.offset());
                }
                Some(About::Standing) => last = offset(&message).unwrap(),
                _ => {}
            }
        }
        prop_assert_eq!(last, head, "the last is given, or told of");
    }

    #[test]
    fn what_waits_is_what_a_plain_list_has(
        steps in prop::collection::vec((0..12u8, 0..4usize, 0..100usize, 0..90usize), 1..600),
    ) {
        let rooms = [
            source("post:1", Overflow::Latest), source("post:2", Overflow::Latest),
            source("post:3", Overflow::Close), source("post:4", Overflow::Resync),
        ];
        let bounds = Bounds { messages: 10_000, bytes: 10_000_000 };
        let (mut queue, mut list) = (Queue::default(), Vec::<(Option<(usize, About)>, Message)>::new());
        for (number, (step, room, length, written)) in steps.into_iter().enumerate() {
            let message = Message::text(format!("{number} {}", "x".repeat(length)));
            let about = match step {
                0 => {
                    queue.offer(&message, bounds).unwrap();
                    list.push((None, message));
                    continue;
                }
                1 => {
                    // As the connection's task does: what lies side by side, and then the next.
                    let mut left = written.min(list.len());
                    while left > 0 {
                        let some = queue.messages();
                        prop_assert!(!some.is_empty() && some.iter().all(|message| !message.is_gone()));
                        let some: Vec<_> = some.iter().take(left).cloned().collect();
                        let expected: Vec<_> = list.drain(..some.len()).map(|(_, message)| message).collect();
                        prop_assert_eq!(&some, &expected);
                        queue.written(some.len());
                        left -= some.len();
                    }
                    continue;
                }
                2 => About::Viewers,
                3 => About::Names,
                4 => About::Loss(None),
                _ => About::Content,
            };
            if rooms[room].replaces(about) {
                list.retain(|(of, _)| *of != Some((room, about)));
            }
            queue.offer_from(&message, about, &rooms[room], bounds).unwrap();
            list.push((Some((room, about)), message));

            prop_assert_eq!(queue.len(), list.len());
            prop_assert_eq!(queue.bytes(), list.iter().map(|(_, message)| message.frame().len()).sum::<usize>());
            prop_assert_eq!(queue.own.messages, list.iter().filter(|(of, _)| of.is_none()).count());
            prop_assert!(queue.messages.len() <= 2 * list.len() + SPARE, "empty places are dropped");
            prop_assert!(queue.latest.len() <= list.len(), "and forgotten");
        }
        let left: Vec<_> = waiting(&queue).into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(left, list.into_iter().map(|(_, message)| message).collect::<Vec<_>>());
    }
}

#[test]
fn answers_to_joins_have_the_bounds_for_themselves_and_one_may_be_longer() {
    let room: RoomKey = "post:9".parse().unwrap();
    let source = source("post:1", Overflow::Close);
    let mut queue = Queue::default();
    let stand = |queue: &mut Queue, length: usize| {
        // A frame has 4 bytes before these.
        queue.offer_standing(&Message::text("x".repeat(length - 4)), &room, BOUNDS)
    };
    fill(&mut queue, &source, 0..4).unwrap();
    assert_eq!([stand(&mut queue, 400), stand(&mut queue, 600)], [Ok(()), Ok(())]);
    assert_eq!(stand(&mut queue, 200), Err(Overrun));
    assert!(queue.look(BOUNDS).heavy, "no command is carried out that would have one more");
    fill(&mut queue, &source, 4..8).unwrap();
    assert_eq!(fill(&mut queue, &source, 8..9), Err(Overrun), "what rooms send has its bounds as always");
    queue.written(10);
    assert_eq!((queue.own, queue.standing, queue.waiting), Default::default());

    fill(&mut queue, &source, 0..8).unwrap();
    assert_eq!(stand(&mut queue, 5_000), Ok(()));
    assert_eq!(stand(&mut queue, 200), Err(Overrun));
    queue.written(9);
    for _ in 0..8 {
        stand(&mut queue, 100).unwrap();
    }
    assert_eq!(stand(&mut queue, 100), Err(Overrun), "as many messages");
}

#[test]
fn what_waits_of_a_membership_that_is_over_is_not_left_out_for_the_next() {
    let ours = Source { heals: true, ..source("post:1", Overflow::Resync) };
    let logged = |number| About::Logged(Position::new(7, number));
    let mut queue = Queue::default();
    let offer = |queue: &mut Queue, number: u64| {
        queue.offer_from(&Message::text(number.to_string()), logged(number), &ours, BOUNDS).unwrap()
    };
    for number in 1..=3 {
        offer(&mut queue, number);
    }
    queue.part_with(&ours.room);
    queue.offer_standing(&Message::text("welcome"), &ours.room, BOUNDS).unwrap();
    for number in 2..=6 {
        offer(&mut queue, number);
    }
    assert_eq!(offer(&mut queue, 7), Offered::Behind(NonZeroU64::new(3).unwrap()));
    assert_eq!(texts(&queue), ["1", "2", "3", "welcome", "2"]);
}

#[test]
fn a_client_waits_with_its_commands_where_what_its_rooms_sent_leaves_no_space_for_an_answer() {
    let mut queue = Queue::default();
    let bounds = Bounds { messages: 32, bytes: 10_000 };
    let source = source("post:1", Overflow::Resync);
    for _ in 0..30 {
        queue.offer_from(&Message::text("said"), About::Content, &source, bounds).unwrap();
    }
    assert!(!queue.look(bounds).heavy, "a command may be the one to leave the room");
    queue.offer(&Message::text("answer"), bounds).unwrap();
    assert!(queue.look(bounds).heavy);
    queue.written(1);
    assert!(!queue.look(bounds).heavy);
}
