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
        lock(&self.room.state).log.release(self.bytes);
        self.room.space.notify_waiters();
    }
}

impl Room {
    /// Waits until the log has space for a message, and keeps it for the caller.
    ///
    /// May be dropped at any time.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: usize) -> Reservation {
        let bounds = Span { messages: self.bounds.log_messages, bytes: self.bounds.log_bytes };
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            let reserved = {
                let mut state = lock(&self.state);
                let free = state.members.is_empty() || state.log.fits(bytes, bounds);
                if free {
                    state.log.reserve(bytes);
                }
                free
            };
            if reserved {
                break;
            }
            space.await;
        }
        Reservation { room: self, bytes }
    }
}
