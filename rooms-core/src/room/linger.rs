//! How long an empty room is kept.

use tokio::time::Instant;

use super::Room;
use crate::lock::lock;

/// The answer to [`Room::linger_over`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    /// Empty for long enough.
    Over,
    /// Empty, but only since then.
    Since(Instant),
    /// Empty, but somebody is still counted, or the others or the application are still to be told.
    Uncounted,
    /// Not empty.
    Occupied,
}

impl Room {
    /// Whether the room has lingered long enough to be forgotten, asked when its time in the queue is over.
    pub(crate) fn linger_over(&self, since: Instant) -> Linger {
        let mut state = lock(&self.state);
        let over = state.share.is_over();
        match state.empty_since {
            // What is left of its members is to be counted out first, under this room's versions.
            Some(_) if !over => Linger::Uncounted,
            Some(empty) if empty <= since => {
                state.share.end();
                Linger::Over
            }
            Some(empty) => Linger::Since(empty),
            None => {
                state.lingering = false;
                Linger::Occupied
            }
        }
    }
}
