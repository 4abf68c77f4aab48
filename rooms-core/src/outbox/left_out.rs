//! What waits of a room whose log has it too.

use std::num::NonZeroU64;

use super::Outbox;
use crate::{lock::lock, room_key::RoomKey};

impl Outbox {
    /// Takes out what waits of a room's log, but for the first; gives the offset from which on the member lacks it.
    pub(crate) fn leave_out(&self, room: &RoomKey) -> Option<NonZeroU64> {
        lock(&self.state).waiting()?.leave_out(room)
    }
}
