//! Space in a room's log that a publisher waits for.

use std::sync::Arc;

use super::{Room, log::Span};
use crate::lock::lock;

/// Space in a room's log, kept for one publisher until its message is through the bus.
pub(crate) struct Reservation {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let waiting = {
            let mut state = lock(&self.room.state);
            state.log.release(self.bytes);
            state.for_space.take()
        };
        waiting.wake();
    }
}

impl Room {
    /// Waits until the log has space for a message, and keeps it for the caller.
    ///
    /// May be dropped at any time.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: usize) -> Reservation {
        let bounds = Span { messages: self.limits.max_log_messages, bytes: self.limits.max_log_bytes };
        loop {
            let space = {
                let mut state = lock(&self.state);
                if state.members.is_empty() || state.log.fits(bytes, bounds) {
                    state.log.reserve(bytes);
                    break;
                }
                state.for_space.wait()
            };
            space.await;
        }
        Reservation { room: self, bytes }
    }
}
