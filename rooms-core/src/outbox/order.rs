//! What somebody else wants done by a connection's own task, which has its places in rooms.

use crate::room_key::RoomKey;

/// Orders that wait for the task. 256: a member can be in half as many rooms, by default. One with more to do comes back.
pub(super) const WAITING: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    Enter(RoomKey),
    Leave(RoomKey),
    /// Leave at once, for a reason that the client is told.
    Kick(RoomKey, Box<str>),
    /// Ask the rule of this room again, or those of all.
    Recheck(Option<RoomKey>),
}
