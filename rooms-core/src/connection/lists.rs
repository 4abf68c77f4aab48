//! How often a connection is sent the list of a room's members.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::room_key::RoomKey;

/// In this time a room's list is sent [`MOST`] times. 5 s: a list is up to 75 kB, and a command 30 bytes; a hundred
/// connections of one user once drew 3 GB for 2.5 MB.
const WITHIN: Duration = Duration::from_secs(5);
/// Two: the join, and one more for a page that has to look again just after it came.
const MOST: usize = 2;

/// The lists that were sent in the last five seconds, oldest first, of rooms that may have been left since.
#[derive(Debug, Default)]
pub(super) struct Lists(VecDeque<(Instant, RoomKey)>);

impl Lists {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a room's list may be sent now, which is then counted. `rooms` is how many rooms a connection may be in: so
    /// many lists are remembered, each as often as it is sent, and more are not sent.
    pub(super) fn may_send(&mut self, room: &RoomKey, rooms: usize, now: Instant) -> bool {
        while self.0.front().is_some_and(|(sent, _)| *sent + WITHIN <= now) {
            self.0.pop_front();
        }
        let sent = self.0.iter().filter(|(_, of)| of == room).count();
        let may = sent < MOST && self.0.len() < rooms.saturating_mul(MOST);
        if may {
            self.0.push_back((now, room.clone()));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_is_sent_twice_in_five_seconds_and_no_more_lists_are_than_rooms_allow() {
        let (mut lists, now) = (Lists::default(), Instant::now());
        let room = |number: usize| RoomKey::new("chat", number).unwrap();
        let mut sent = |number, after| lists.may_send(&room(number), 3, now + Duration::from_millis(after));
        assert_eq!([sent(1, 0), sent(1, 0), sent(1, 0), sent(1, 4_999)], [true, true, false, false]);
        assert_eq!([sent(1, 5_000), sent(1, 5_000), sent(1, 5_000)], [true, true, false]);
        assert_eq!([2, 2, 3, 3, 4].map(|number| sent(number, 5_001)), [true, true, true, true, false]);
        assert!(sent(4, 10_000));
    }
}
