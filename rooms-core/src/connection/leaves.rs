//! The hooks about rooms that a connection has left.

use std::convert::Infallible;

use futures::{FutureExt as _, future::Shared};
use tokio::sync::oneshot;

use crate::room_key::RoomKey;

/// Those that are at work: no more than a client can leave while one runs. Behind a pointer, because every connection has a
/// place for it, and nearly all have none.
#[derive(Default)]
pub(super) struct Leaves(Option<Box<Running>>);

#[derive(Default)]
struct Running {
    rooms: Vec<(RoomKey, Shared<oneshot::Receiver<Infallible>>)>,
}

impl Leaves {
    /// Notes one that begins; it is over when what is returned is dropped.
    pub(super) fn begin(&mut self, room: RoomKey) -> oneshot::Sender<Infallible> {
        let (running, over) = oneshot::channel();
        let rooms = &mut self.0.get_or_insert_default().rooms;
        rooms.retain(|(_, over)| over.clone().now_or_never().is_none());
        rooms.push((room, over.shared()));
        running
    }

    /// Resolves when the last one about that room has run.
    pub(super) fn over(&self, room: &RoomKey) -> impl Future<Output = ()> + Send + use<> {
        let last = self.0.as_ref().and_then(|running| running.rooms.iter().rev().find(|(left, _)| left == room));
        let over = last.map(|(_, over)| over.clone());
        async move {
            if let Some(over) = over {
                // An error, as nothing is ever sent.
                _ = over.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_have_run_are_forgotten() {
        let mut leaves = Leaves::default();
        for number in 0..1000 {
            drop(leaves.begin(RoomKey::new("post", number).unwrap()));
        }
        assert!(leaves.0.unwrap().rooms.len() <= 1);
    }
}
