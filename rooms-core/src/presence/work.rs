//! The rooms that the driver is to look at.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::room_key::RoomKey;

/// Each room is in each queue once at most, so these are bounded by the rooms that there are.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Whose entry is to be published.
    pub(super) entries: VecDeque<RoomKey>,
    /// Whose window is open. All windows are equally long, so they end in the order in which they opened.
    windows: VecDeque<(Instant, RoomKey)>,
}

impl Work {
    /// Whether the driver is to be woken for it.
    pub(super) fn add_entry(&mut self, room: RoomKey) -> bool {
        self.entries.push_back(room);
        self.entries.len() == 1
    }

    /// Whether the driver is to be woken for it.
    pub(super) fn add_window(&mut self, end: Instant, room: RoomKey) -> bool {
        self.windows.push_back((end, room));
        self.windows.len() == 1
    }

    /// Takes some rooms whose window has ended, or is to be ended; and when the next one does.
    pub(super) fn take_windows(&mut self, now: Instant, most: usize, all: bool) -> (Vec<RoomKey>, Option<Instant>) {
        let due = self.windows.iter().take_while(|(end, _)| all || *end <= now).take(most).count();
        let rooms = self.windows.drain(..due).map(|(_, room)| room).collect();
        if self.windows.is_empty() {
            self.windows = VecDeque::new();
        }
        (rooms, self.windows.front().map(|(end, _)| *end))
    }
}
