//! Asking once more about rooms that somebody came into.
//!
//! Two nodes may each lose the entry in which the other says that it has members in a room. Neither then knows of a room
//! that they have in common, so their digests agree, and no heartbeat shows the loss. Therefore a node that published such
//! an entry asks all others for theirs, a heartbeat later: of two nodes it is the second to publish that finds the entry of
//! the first, and from then on their digests differ until both know.

use std::{collections::BTreeSet, mem, time::Duration};

use tokio::time::Instant;

use crate::room_key::RoomKey;

/// Rooms that wait for it by name. 65,536: some megabytes. Where more were filled within one heartbeat, all entries are
/// asked for, which costs little more.
const NAMED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Rechecks {
    rooms: BTreeSet<RoomKey>,
    too_many: bool,
    due: Option<Instant>,
}

/// What is to be asked for again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    Rooms(Vec<RoomKey>),
    All,
}

impl Rechecks {
    /// Asks for a room again, `after` from now at most.
    pub(super) fn add(&mut self, room: RoomKey, now: Instant, after: Duration) {
        if self.rooms.len() < NAMED {
            self.rooms.insert(room);
        } else {
            self.too_many |= !self.rooms.contains(&room);
        }
        self.due.get_or_insert(now + after);
    }

    /// When there is something to take.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes what is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Recheck> {
        self.due.filter(|due| *due <= now)?;
        let Self { rooms, too_many, .. } = mem::take(self);
        Some(if too_many { Recheck::All } else { Recheck::Rooms(rooms.into_iter().collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(2);

    fn room(number: usize) -> RoomKey {
        RoomKey::new("post", number).unwrap()
    }

    #[test]
    fn a_room_that_fills_often_is_asked_for_once() {
        let (mut rechecks, now) = (Rechecks::default(), Instant::now());
        rechecks.add(room(1), now, AFTER);
        rechecks.add(room(1), now + AFTER / 2, AFTER);
        assert_eq!(rechecks.take(now + AFTER / 2), None);
        assert_eq!(rechecks.due(), Some(now + AFTER));
        assert_eq!(rechecks.take(now + AFTER), Some(Recheck::Rooms(vec![room(1)])));
        assert_eq!((rechecks.due(), rechecks.take(now + 2 * AFTER)), (None, None));
    }

    #[test]
    fn of_more_rooms_than_are_named_all_are_asked_for() {
        let (mut rechecks, now) = (Rechecks::default(), Instant::now());
        (0..NAMED).for_each(|number| rechecks.add(room(number), now, AFTER));
        rechecks.add(room(0), now, AFTER);
        assert!(!rechecks.too_many, "it is named already");
        rechecks.add(room(NAMED), now, AFTER);
        assert_eq!(rechecks.rooms.len(), NAMED);
        assert_eq!(rechecks.take(now + AFTER), Some(Recheck::All));
        assert_eq!(rechecks.take(now + AFTER), None);
    }
}
