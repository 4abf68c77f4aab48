//! The rooms that a connection is to enter without having asked.

use super::Connection;
use crate::room_key::RoomKey;

impl Connection {
    /// Notes a room that it is to enter, where it is not in it.
    pub(crate) fn is_to_enter(&mut self, room: RoomKey) {
        // As many as may be entered, and the bound for those that are refused.
        let most = self.shared.limits.max_rooms_per_connection;
        let waiting = &mut self.rare_mut().to_enter;
        if !waiting.contains(&room) && waiting.len() < most {
            waiting.push_back(room);
        }
    }

    /// Forgets that it is to enter a room.
    pub(crate) fn is_not_to_enter(&mut self, room: &RoomKey) {
        if self.rare().is_some() {
            self.rare_mut().to_enter.retain(|entering| entering != room);
        }
    }

    /// Whether there are rooms that it is to enter.
    pub(crate) fn has_rooms_to_enter(&self) -> bool {
        self.rare().is_some_and(|rare| !rare.to_enter.is_empty())
    }

    /// The next room that it is to enter.
    pub(crate) fn next_to_enter(&mut self) -> Option<RoomKey> {
        self.seldom.as_mut()?.rare.as_mut()?.to_enter.pop_front()
    }
}
