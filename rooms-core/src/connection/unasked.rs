//! Rooms with a history that the server has the connection enter, and that its client has not joined yet.

use super::Connection;
use crate::{join_options::JoinOptions, room_key::RoomKey};

impl Connection {
    /// Notes that it enters a room which its client did not ask for.
    pub(crate) fn enters_unasked(&mut self, room: &RoomKey) {
        if self.shared.kinds.get(room.kind()).is_none_or(|kind| kind.history.is_none()) {
            return;
        }
        // Those that it did not get into are forgotten, so these are no more than it may be in, and one.
        let mut unasked = std::mem::take(&mut self.rare_mut().unasked);
        unasked.retain(|noted| noted != room && self.place(noted).is_some());
        unasked.push(room.clone());
        self.rare_mut().unasked = unasked;
    }

    /// Its client joins a room. One that it was given without having asked was entered at the end of the history, and the
    /// client may have missed what came before: where it says from where, the room is left, so that this join resumes it.
    pub(crate) fn is_asked_for(&mut self, room: &RoomKey, options: &JoinOptions) {
        let noted = self.rare().and_then(|rare| rare.unasked.iter().position(|noted| noted == room));
        let Some(noted) = noted else { return };
        self.rare_mut().unasked.swap_remove(noted);
        if options.since.is_some() {
            self.leave(room);
        }
    }

    /// It has left a room.
    pub(super) fn is_not_unasked(&mut self, room: &RoomKey) {
        if self.rare().is_some() {
            self.rare_mut().unasked.retain(|noted| noted != room);
        }
    }
}
