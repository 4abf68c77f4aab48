//! The hooks about rooms that a connection has left.

use std::convert::Infallible;

use futures::{
    FutureExt as _,
    future::{Shared, join_all},
};
use tokio::sync::oneshot;

use crate::room_key::RoomKey;

/// A hook that runs, or may have to; dropped when it is over.
pub(super) type Leaving = oneshot::Sender<Infallible>;

/// Those that are at work, or may have to be for a join that is under way: no more than a client can leave while one runs,
/// and one. Behind a pointer, because every connection has a place for it, and nearly all have none.
#[derive(Default)]
pub(super) struct Leaves(Option<Box<Running>>);

#[derive(Default)]
struct Running {
    rooms: Vec<(RoomKey, Shared<oneshot::Receiver<Infallible>>)>,
}

impl Leaves {
    /// Notes one that begins; it is over when what is returned is dropped.
    pub(super) fn begin(&mut self, room: RoomKey) -> Leaving {
        let (running, over) = oneshot::channel();
        self.tidy();
        self.0.get_or_insert_default().rooms.push((room, over.shared()));
        running
    }

    /// Forgets those that are over.
    pub(super) fn tidy(&mut self) {
        self.0.take_if(|running| {
            running.rooms.retain(|(_, over)| over.clone().now_or_never().is_none());
            running.rooms.is_empty()
        });
    }

    /// Resolves when all about that room have run that have begun by now.
    pub(super) fn over(&self, room: &RoomKey) -> impl Future<Output = ()> + Send + use<> {
        let running = self.0.iter().flat_map(|running| &running.rooms);
        let over: Vec<_> = running.filter(|(left, _)| left == room).map(|(_, over)| over.clone()).collect();
        async move {
            // Errors, as nothing is ever sent.
            _ = join_all(over).await;
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
        assert!(leaves.0.as_ref().unwrap().rooms.len() <= 1);
        leaves.tidy();
        assert!(leaves.0.is_none());
    }

    #[test]
    fn one_that_never_ran_does_not_hide_the_one_before_it() {
        let (mut leaves, room) = (Leaves::default(), RoomKey::new("post", 1).unwrap());
        let running = leaves.begin(room.clone());
        drop(leaves.begin(room.clone()));
        assert!(leaves.over(&room).now_or_never().is_none());
        drop(running);
        assert!(leaves.over(&room).now_or_never().is_some());
    }
}
