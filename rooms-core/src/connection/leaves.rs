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
/// and one.
#[derive(Default)]
pub(super) struct Leaves(Vec<(RoomKey, Shared<oneshot::Receiver<Infallible>>)>);

impl Leaves {
    /// Notes one that begins; it is over when what is returned is dropped.
    pub(super) fn begin(&mut self, room: RoomKey) -> Leaving {
        let (running, over) = oneshot::channel();
        self.tidy();
        self.0.push((room, over.shared()));
        running
    }

    /// Forgets those that are over; says whether none is left.
    pub(super) fn tidy(&mut self) -> bool {
        self.0.retain(|(_, over)| over.clone().now_or_never().is_none());
        self.0.is_empty()
    }

    /// Resolves when all about that room have run that have begun by now; `None` where there are none.
    pub(super) fn over(&self, room: &RoomKey) -> Option<impl Future<Output = ()> + Send + use<>> {
        let over: Vec<_> = self.0.iter().filter(|(left, _)| left == room).map(|(_, over)| over.clone()).collect();
        // Errors, as nothing is ever sent.
        (!over.is_empty()).then(|| join_all(over).map(drop))
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
        assert!(leaves.0.len() <= 1);
        assert!(leaves.tidy());
    }

    #[test]
    fn one_that_never_ran_does_not_hide_the_one_before_it() {
        let (mut leaves, room) = (Leaves::default(), RoomKey::new("post", 1).unwrap());
        let running = leaves.begin(room.clone());
        drop(leaves.begin(room.clone()));
        assert!(leaves.over(&room).unwrap().now_or_never().is_none());
        drop(running);
        assert!(leaves.over(&room).unwrap().now_or_never().is_some());
    }
}
