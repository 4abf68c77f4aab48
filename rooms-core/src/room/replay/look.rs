//! What those find who look whether the log was read: members that are joining, and members that are behind.

use super::{Has, Need, Replay, Wants};
use crate::bus::Position;

/// How many reads there were when somebody began to wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(in crate::room) reads: u64,
    pub(in crate::room) failures: u64,
}

/// Whether the history is known that one who joins needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    NotYet,
    /// It could not be read.
    Failed,
}

/// How far a member has come that takes less than the room gives.
#[derive(Debug)]
pub(in crate::room) struct Behind {
    /// The position in the room's log of what it is to be told next, other than what the history has.
    pub(in crate::room) cursor: u64,
    /// The last message of the history that it was given.
    pub(in crate::room) since: Position,
    /// What had been read when it first asked for a read, and when it last did.
    pub(in crate::room) asked: Option<[Seen; 2]>,
    /// The log was asked for, and can't be read.
    pub(in crate::room) given_up: bool,
}

impl Replay {
    /// Whether what somebody needs is known, who has seen so many reads; and where not, what is to be read.
    pub(in crate::room) fn look(&self, need: Need, seen: Seen) -> (Ready, Wants) {
        match self.has(need) {
            Has::All => (Ready::Yes, Wants::Later),
            _ if self.failures() > seen.failures => (Ready::Failed, Wants::Later),
            // A read has begun after the position was given out, and ended, and does not know it.
            Has::Unsure if self.reads() > seen.reads + 1 => (Ready::Yes, Wants::Later),
            Has::Unsure => (Ready::NotYet, Wants::Later),
            Has::Not { whole } => (Ready::NotYet, Wants::Any { whole }),
        }
    }
}

impl Behind {
    /// The log can't be read: if the member waits for that, it waits no longer.
    pub(super) const fn give_up(&mut self) {
        self.given_up = self.asked.is_some();
    }
}
