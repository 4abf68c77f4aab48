use tokio::time::Instant;

use super::*;
use crate::{bus::ReadFrom, room::logged::Read};

const fn at(offset: u64) -> Position {
    Position::new(7, offset)
}

fn logged(offset: u64) -> Logged {
    Logged { position: at(offset), at: Instant::now(), size: 4, content: None }
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
    let seen = crate::room::history::Seen { reads: replay.reads(), failures: 0 };
    let ready = |replay: &Replay| replay.look(need, seen).0 == crate::room::history::Ready::Yes;
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
