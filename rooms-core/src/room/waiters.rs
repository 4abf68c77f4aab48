//! Those who wait for something of a room.

use std::sync::Arc;

use tokio::sync::{Notify, futures::OwnedNotified};

/// None while nobody waits: a node has many rooms, and in nearly all of them nobody does.
#[derive(Default)]
pub(super) struct Waiters(Option<Arc<Notify>>);

impl Waiters {
    /// Resolves once those are [woken](Self::wake) who wait from this call on.
    pub(super) fn wait(&mut self) -> OwnedNotified {
        Arc::clone(self.0.get_or_insert_default()).notified_owned()
    }

    /// Takes out all who wait, to be woken without the room's lock.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    pub(super) fn wake(self) {
        if let Some(waiters) = self.0 {
            waiters.notify_waiters();
        }
    }
}
