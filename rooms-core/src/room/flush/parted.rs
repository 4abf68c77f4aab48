//! Connections that left while a flusher may have had something for them in hand. What it gives them comes behind the leave;
//! so that it does not come behind the welcome of a new membership too, a join waits until the round is over.

use std::collections::HashSet;

use super::Progress;
use crate::{lock::lock, node::ConnectionId, room::Room};

/// Those who left since the round began. Each is there once, however often it comes back, as it waits for the end of the round.
/// None while nobody left: nearly all rounds are over before somebody does.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a node has many rooms, and nearly none of them has it")]
pub(super) struct Parted(Option<Box<HashSet<ConnectionId>>>);

impl Progress {
    /// Notes that the member in this place is taken out.
    pub(in crate::room) fn part(&mut self, slot: usize, connection: ConnectionId) {
        if self.delivering > 0 && slot < self.slot {
            self.parted.0.get_or_insert_default().insert(connection);
        }
    }
}

impl Room {
    /// Whether a flusher may have something for the connection in hand, from before it left.
    pub(crate) fn is_in_hand(&self, connection: ConnectionId) -> bool {
        let state = lock(&self.state);
        let Progress { delivering, parted, .. } = &state.progress;
        *delivering > 0 && parted.0.as_ref().is_some_and(|parted| parted.contains(&connection))
    }

    /// Waits until none has.
    pub(crate) async fn put_down(&self, connection: ConnectionId) {
        loop {
            let mut round_over = std::pin::pin!(self.round_over());
            round_over.as_mut().enable();
            if !self.is_in_hand(connection) {
                return;
            }
            round_over.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::super::{Chunk, Flusher, Next};
    use crate::{envelope::Carried, message::Message, room::bed::Bed};

    #[tokio::test]
    async fn who_left_while_a_flusher_has_something_for_it_in_hand_comes_back_once_it_has_that() {
        let bed = Bed::new();
        let (room, mut leaves, stays) = (&bed.0, bed.live(1), bed.live(2));
        _ = room.append(Message::text("1"), None, Carried::Bare, None);
        let (mut flusher, mut chunk) = (Flusher::counted(room), Chunk::new(room.source()));
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Deliver { .. }));
        _ = room.leave(leaves.slot);
        (leaves.slot, _) = room.enter(Arc::clone(&leaves.recipient));
        assert!(!room.is_in_hand(stays.recipient.id()), "it did not leave");
        let mut waits = std::pin::pin!(room.put_down(leaves.recipient.id()));
        assert!(waits.as_mut().now_or_never().is_none());
        chunk.deliver();
        assert!(waits.as_mut().now_or_never().is_none(), "what it could not be given is still to be noted");
        assert!(matches!(flusher.next(&mut chunk, 1), Next::Over));
        assert!(waits.now_or_never().is_some());
        bed.go_live(&leaves);
        assert_eq!(leaves.takes()[1..], ["1", "welcome"]);
    }
}
