//! Hooks about a room as a whole: somebody is in it, nobody is.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};

use super::guarded;
use crate::room_key::RoomKey;

type OnRoom = dyn Fn(RoomKey) -> BoxFuture<'static, ()> + Send + Sync;

/// What became of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupancy {
    /// The first member is on this node.
    OccupiedHere,
    /// The first member of all nodes is on this node.
    OccupiedAnywhere,
    /// This node has no member any more.
    EmptyHere,
    /// No node has a member any more.
    EmptyEverywhere,
}

#[derive(Clone, Default)]
pub(super) struct RoomHooks {
    occupied: Option<Arc<OnRoom>>,
    occupied_anywhere: Option<Arc<OnRoom>>,
    empty: Option<Arc<OnRoom>>,
    empty_everywhere: Option<Arc<OnRoom>>,
}

impl RoomHooks {
    pub(super) fn set<F, Fut>(&mut self, when: Occupancy, hook: F)
    where
        F: Fn(RoomKey) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let hook: Arc<OnRoom> = Arc::new(move |room| hook(room).boxed());
        *match when {
            Occupancy::OccupiedHere => &mut self.occupied,
            Occupancy::OccupiedAnywhere => &mut self.occupied_anywhere,
            Occupancy::EmptyHere => &mut self.empty,
            Occupancy::EmptyEverywhere => &mut self.empty_everywhere,
        } = Some(hook);
    }

    pub(super) const fn are_there(&self) -> bool {
        self.occupied.is_some()
            || self.occupied_anywhere.is_some()
            || self.empty.is_some()
            || self.empty_everywhere.is_some()
    }

    /// Runs a hook; nothing happens where there is none, and a panic of it is logged.
    pub(super) async fn run(&self, when: Occupancy, room: &RoomKey, within: Duration) {
        let (name, hook) = match when {
            Occupancy::OccupiedHere => ("on_room_occupied", &self.occupied),
            Occupancy::OccupiedAnywhere => ("on_room_occupied_anywhere", &self.occupied_anywhere),
            Occupancy::EmptyHere => ("on_room_empty", &self.empty),
            Occupancy::EmptyEverywhere => ("on_room_empty_everywhere", &self.empty_everywhere),
        };
        if let Some(hook) = hook {
            let room = room.clone();
            guarded(name, within, async { hook(room).await }).await;
        }
    }
}
