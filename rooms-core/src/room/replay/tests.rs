use tokio::time::Instant;

use super::{reading::ATTEMPTS, *};
use crate::{
    bus::{Missing, ReadFrom},
    room::logged::Read,
};

const fn at(offset: u64) -> Position {
    Position::new(7, offset)
}

fn logged(offset: u64) -> Logged {
    Logged { position: at(offset), at: Instant::now(), size: 4, content: None, left_out: false }
}

fn read(offsets: std::ops::RangeInclusive<u64>) -> Read {
    Read { head: at(*offsets.end()), earlier: Vec::new(), messages: offsets.map(logged).collect() }
}

/// Of a log with three messages, of which the last has passed; four may wait.
fn replay(retention: Retention) -> Replay {
    let mut replay = Replay::new(retention, Waiting { messages: 4, bytes: 1_000 });
    assert!(replay.want(true));
    assert_eq!(replay.begin(), Some(ReadFrom::Newest(usize::MAX)));
    replay.read(read(1..=3));
    assert_eq!(replay.begin(), None);
    replay
}

fn offsets<'a>(logged: impl IntoIterator<Item = &'a Logged>) -> Vec<u64> {
    logged.into_iter().map(|logged| logged.position.offset()).collect()
}

#[test]
fn more_than_may_wait_while_the_log_is_read_is_read_next() {
    let mut replay = replay(Retention::messages(100));
    assert!(matches!(replay.arrive(logged(5)), Arrived::Waits { read: true }));
    assert_eq!(replay.begin(), Some(ReadFrom::After(at(3))));
    for offset in 6..=20 {
        assert!(matches!(replay.arrive(logged(offset)), Arrived::Waits { read: false }));
    }
    // The log had no more when it was read.
    assert_eq!(offsets(&replay.read(read(4..=5)).passes), [4, 5, 6, 7, 8]);
    replay.begin();
    assert_eq!(offsets(&replay.read(read(9..=20)).passes), [9, 10]);
    // No more of them pass at once than may wait.
    assert_eq!(replay.begin(), Some(ReadFrom::After(at(10))));
}

#[test]
fn what_is_missing_before_one_that_came_while_the_log_was_read_is_read_next() {
    let mut replay = replay(Retention::messages(100));
    replay.arrive(logged(5));
    replay.begin();
    replay.arrive(logged(7));
    assert_eq!(offsets(&replay.read(read(4..=5)).passes), [4, 5]);
    assert_eq!(replay.begin(), Some(ReadFrom::After(at(5))));
    assert_eq!(offsets(&replay.read(read(6..=7)).passes), [6, 7]);
    assert_eq!(replay.begin(), None);
}

#[test]
fn a_position_that_nobody_has_heard_of_is_none_only_after_a_read_that_began_later() {
    let mut replay = replay(Retention::messages(100));
    let need = Need { since: Some(at(4)), newest: 0 };
    replay.want(false);
    replay.begin();
    let seen = Seen { reads: replay.reads(), failures: 0 };
    let ready = |replay: &Replay| replay.look(need, seen).0 == Ready::Yes;
    assert!(!ready(&replay));
    // It may have been appended since this one began.
    replay.want(false);
    replay.read(read(1..=3));
    assert!(!ready(&replay));
    replay.begin();
    replay.read(read(1..=3));
    assert!(ready(&replay));
}

#[test]
fn the_copy_of_a_log_has_no_more_messages_and_bytes_than_the_log() {
    for (retention, most) in [(Retention::messages(100).bytes(21), 5), (Retention::messages(2), 2)] {
        let mut replay = replay(retention);
        for offset in 4..=50 {
            replay.arrive(logged(offset));
            assert!(replay.kept.len() <= most && replay.bytes == 4 * replay.kept.len());
        }
        assert_eq!(offsets(replay.newest(at(50))).len(), most);
    }
}

fn of_epoch(epoch: u64, offset: u64) -> Logged {
    Logged { position: Position::new(epoch, offset), ..logged(offset) }
}

/// A read of a log that begins another epoch, where the one before ended as is said.
fn read_of(epoch: u64, offsets: std::ops::RangeInclusive<u64>, earlier: &[Position]) -> Read {
    let head = Position::new(epoch, *offsets.end());
    Read { head, earlier: earlier.to_vec(), messages: offsets.map(|offset| of_epoch(epoch, offset)).collect() }
}

#[test]
fn what_has_passed_is_known_and_what_is_next_passes() {
    let mut replay = replay(Retention::messages(100));
    for offset in 0..=3 {
        assert!(matches!(replay.arrive(logged(offset)), Arrived::Known), "{offset}");
    }
    assert!(matches!(replay.arrive(logged(4)), Arrived::Passes(_)));
    assert!(matches!(replay.arrive(logged(6)), Arrived::Waits { read: true }));
    assert!(
        matches!(replay.arrive(of_epoch(8, 5)), Arrived::Waits { read: false }),
        "the same offset of another epoch"
    );
}

#[test]
fn what_comes_late_of_an_epoch_that_is_over_is_nothing_new() {
    let mut replay = replay(Retention::messages(100));
    let mut ended = at(3);
    for epoch in 8..=16 {
        assert!(replay.want(false));
        replay.begin();
        let outcome = replay.read(read_of(epoch, 4..=epoch - 4, &[ended]));
        assert_eq!((outcome.lost, outcome.passes.len()), (None, 1));
        assert_eq!(replay.begin(), None);
        ended = replay.head().unwrap();
    }
    for epoch in 8..16 {
        assert!(matches!(replay.arrive(of_epoch(epoch, 100)), Arrived::Known), "{epoch}");
    }
    assert!(matches!(replay.arrive(of_epoch(7, 100)), Arrived::Waits { read: true }), "eight are remembered");
    // An epoch that is the log's again is not over.
    replay.begin();
    replay.read(read_of(15, 4..=20, &[]));
    replay.begin();
    assert!(matches!(replay.arrive(of_epoch(15, 21)), Arrived::Passes(_)));
}

#[test]
fn what_is_missing_between_what_passed_and_what_was_read_is_a_loss_from_one_message_on() {
    for (first, lost) in [(4, None), (5, Some(Lost::Missing(Missing::Trimmed)))] {
        let mut replay = replay(Retention::messages(100));
        replay.want(false);
        replay.begin();
        let outcome = replay.read(read(first..=5));
        assert_eq!((outcome.lost, replay.head()), (lost, Some(at(5))));
        assert_eq!(offsets(&outcome.passes).len(), if lost.is_some() { 0 } else { 2 });
    }
    // Of another epoch, by where this one ended.
    for (ended, lost) in [
        (at(3), None),
        (at(2), Some(Lost::Missing(Missing::Epoch))),
        (Position::new(6, 3), Some(Lost::Missing(Missing::Epoch))),
    ] {
        let mut replay = replay(Retention::messages(100));
        replay.want(false);
        replay.begin();
        assert_eq!(replay.read(read_of(8, 4..=5, &[ended])).lost, lost, "{ended}");
    }
}

#[test]
fn the_copy_has_what_came_after_a_position_that_is_just_before_it_and_not_after_an_older_one() {
    let mut replay = replay(Retention::messages(3));
    replay.arrive(logged(4));
    let need = |since| Need { since: Some(since), newest: 0 };
    replay.begin();
    assert_eq!((replay.has(need(at(1))), replay.has(need(at(4)))), (Has::All, Has::All));
    assert_eq!(replay.has(need(at(5))), Has::Unsure);
    assert_eq!(replay.has(need(Position::new(8, 3))), Has::Unsure);
    let since = |offset, up_to| replay.since(at(offset), at(up_to)).map(offsets);
    assert_eq!(since(1, 4), Ok(vec![2, 3, 4]));
    assert_eq!(since(2, 3), Ok(vec![3]));
    assert_eq!(since(4, 4), Ok(vec![]));
    assert_eq!(since(0, 4), Err(Missing::Trimmed));
    assert_eq!(replay.since(Position::new(8, 3), at(4)).map(offsets), Err(Missing::Epoch));
    assert_eq!(offsets(replay.newest(at(3))), [3, 2]);
    assert_eq!(offsets(replay.newest(at(4))), [4, 3, 2]);
    // A copy of less than the log is asked for more.
    let mut part = Replay::new(Retention::messages(3), Waiting { messages: 4, bytes: 1_000 });
    for offset in 8..=9 {
        part.arrive(logged(offset));
    }
    let newest = |newest| part.has(Need { since: None, newest });
    assert_eq!((newest(2), newest(3)), (Has::All, Has::Not { whole: true }));
    assert_eq!((part.has(need(at(7))), part.has(need(at(6)))), (Has::All, Has::Not { whole: true }));
}

#[test]
fn a_log_that_can_not_be_read_is_tried_six_times_and_then_a_loss_to_who_missed_something() {
    for doubts in [false, true] {
        let mut replay = replay(Retention::messages(100));
        assert!(if doubts { replay.doubt() } else { replay.want(false) });
        for _ in 1..ATTEMPTS {
            assert!(replay.begin().is_some());
            assert!(replay.failed(Down::No).is_none());
            // A bus that is down is not counted.
            assert!(replay.begin().is_some());
            assert!(replay.failed(Down::Yes).is_none());
        }
        replay.begin();
        let outcome = replay.failed(Down::No).expect("it is given up");
        assert_eq!(outcome.lost, doubts.then_some(Lost::Unread));
        assert_eq!((replay.begin(), replay.head().is_some()), (None, !doubts));
        // Once it can't be read, what comes next may pass, and is a jump.
        let next = replay.arrive(logged(9));
        assert_eq!(matches!(next, Arrived::Jumps(_)), doubts, "{next:?}");
    }
}

#[test]
fn who_comes_while_the_log_is_read_waits_for_that_read_if_it_will_do() {
    let mut replay = replay(Retention::messages(100));
    assert!(replay.want_what(Wants::Any { whole: false }), "somebody has to begin");
    assert!(!replay.want_what(Wants::Any { whole: false }), "somebody is about to");
    assert_eq!(replay.begin(), Some(ReadFrom::After(at(3))));
    replay.want_what(Wants::Any { whole: false });
    replay.read(read(1..=3));
    assert_eq!(replay.begin(), None, "that read was enough");
    replay.want(false);
    replay.begin();
    replay.want_what(Wants::Any { whole: true });
    replay.read(read(1..=3));
    assert_eq!(replay.begin(), Some(ReadFrom::Newest(usize::MAX)), "that was not the whole");
    replay.want_what(Wants::Later);
    replay.read(read(1..=3));
    assert!(replay.begin().is_some(), "one that begins later was asked for");
}

#[test]
fn messages_that_wait_are_as_many_bytes_as_may_be_and_the_rest_is_read() {
    let mut replay = Replay::new(Retention::messages(100), Waiting { messages: 100, bytes: 12 });
    replay.want(true);
    replay.begin();
    for offset in 5..=8 {
        replay.arrive(logged(offset));
    }
    assert_eq!(offsets(&replay.waiting), [5, 6, 7]);
    // The log had none of these yet when it was read.
    let outcome = replay.read(read(1..=4));
    assert_eq!((offsets(&outcome.passes), outcome.begun), (vec![5, 6, 7], Some(at(4))));
    assert_eq!(replay.begin(), Some(ReadFrom::After(at(7))), "of the fourth the log is asked");
}

#[test]
fn what_waits_and_is_in_what_was_read_passes_by_itself_to_who_begins_there() {
    let mut replay = Replay::new(Retention::messages(100), Waiting { messages: 100, bytes: 1_000 });
    replay.want(true);
    replay.begin();
    replay.arrive(of_epoch(6, 3));
    for offset in 3..=4 {
        replay.arrive(logged(offset));
    }
    let outcome = replay.read(read(1..=3));
    assert_eq!(
        (offsets(&outcome.passes), outcome.begun),
        (vec![3, 4], Some(at(2))),
        "one of another epoch does not count"
    );
}

#[test]
fn what_has_passed_while_the_log_was_read_is_not_undone_by_the_read() {
    let mut replay = replay(Retention::messages(100));
    replay.want(true);
    assert_eq!(replay.begin(), Some(ReadFrom::Newest(usize::MAX)));
    for offset in 4..=5 {
        assert!(matches!(replay.arrive(logged(offset)), Arrived::Passes(_)));
    }
    let outcome = replay.read(read(2..=4));
    assert_eq!((outcome.lost, offsets(&outcome.passes), replay.head()), (None, vec![], Some(at(5))));
    assert_eq!(offsets(replay.since(at(1), at(5)).unwrap()), [2, 3, 4, 5], "with what it had already");
    assert_eq!(replay.bytes, 16);
}

#[test]
fn what_passed_while_the_log_was_read_and_is_not_kept_leaves_no_hole_in_the_copy() {
    let sized = |offset, size| Logged { size, ..logged(offset) };
    let mut replay = replay(Retention::messages(100).bytes(100));
    replay.want(true);
    replay.begin();
    for (offset, size) in [(4, 60), (5, 90)] {
        assert!(matches!(replay.arrive(sized(offset, size)), Arrived::Passes(_)));
    }
    // As it was before these two.
    replay.read(Read { messages: (1..=3).map(|offset| sized(offset, 1)).collect(), ..read(1..=3) });
    assert_eq!((offsets(replay.newest(at(5))), replay.bytes), (vec![5], 90));
    assert_eq!(replay.since(at(3), at(5)).err(), Some(Missing::Trimmed));
    assert_eq!(offsets(replay.since(at(4), at(5)).unwrap()), [5]);
    // Nor where nothing of what passed is kept.
    let mut replay = self::replay(Retention::messages(100).bytes(100));
    replay.want(true);
    replay.begin();
    assert!(matches!(replay.arrive(sized(4, 200)), Arrived::Passes(_)));
    replay.read(Read { messages: (1..=3).map(|offset| sized(offset, 1)).collect(), ..read(1..=3) });
    assert_eq!(offsets(replay.newest(at(4))), [0; 0]);
    assert_eq!(replay.since(at(3), at(4)).err(), Some(Missing::Trimmed));
}
