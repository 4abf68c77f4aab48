//! Reading the histories of rooms: one task for each room that needs it, for as long as it does.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{interval, sleep},
};

use super::{Registry, SHARDS};
use crate::{
    bus::{BusError, BusFault, ReadFrom, Topic},
    lock::lock,
    room::{Read, Room},
};

/// Reads at once on this node. 64: enough to hide a round trip to the backplane, and few enough that a loss in all rooms
/// does not fill its queue.
const AT_ONCE: usize = 64;

/// The pause after a read that failed, which doubles with each, and the longest.
pub(super) const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// How often the head of each room with members here is looked at, in rounds over the shards: so the last message before a
/// silence, which the bus lost without a word, is found missing within half a minute. Nodes begin their rounds when they
/// are built, and each has its rooms in other shards, so they ask at different times.
const ROUND: Duration = Duration::from_secs(25);

/// Shards that are looked at together.
const TOGETHER: usize = 4;

/// How many may read.
pub(super) struct Reads(Semaphore);

impl Default for Reads {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Reads {
    /// Waits for one's turn, which ends when this is dropped.
    pub(super) async fn begin(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.0.acquire().await.ok()
    }
}

/// Reads a room's history until the room has what it needs. A room that is gone needs nothing.
pub(super) async fn read(registry: Arc<Registry>, room: Arc<Room>) {
    let [shortest, longest] = PAUSES;
    let mut pause = shortest;
    while let Some(from) = room.begin_read() {
        // What was read before is given to the members first, so that what is read now finds space.
        drop(Arc::clone(&room).reserve(0).await);
        match registry.read(&room, from).await {
            Ok(read) => {
                pause = shortest;
                registry.act(&room, room.end_read(Ok(read)));
            }
            Err(error) => {
                tracing::debug!(room = %room.key, %error, "the history of a room was not read");
                registry.act(&room, room.end_read(Err(&error)));
                sleep(pause).await;
                pause = longest.min(2 * pause);
            }
        }
        if !registry.find(&room.key).is_some_and(|here| Arc::ptr_eq(&here, &room)) {
            return;
        }
    }
}

impl Registry {
    /// Looks for messages and states that the bus lost without a word, for as long as the registry is there.
    pub(crate) fn check_histories(self: &Arc<Self>) {
        let registry = Arc::downgrade(self);
        self.runtime.spawn(async move {
            let mut ticks = interval(ROUND * TOGETHER as u32 / SHARDS as u32);
            for shards in (0..SHARDS).step_by(TOGETHER).cycle() {
                ticks.tick().await;
                let Some(registry) = registry.upgrade() else { return };
                for shard in registry.shards.iter().skip(shards).take(TOGETHER) {
                    let kept = |room: &&Arc<Room>| room.has_history() || room.keeps_state();
                    let rooms: Vec<_> = lock(shard).iter().filter(kept).cloned().collect();
                    for room in rooms {
                        registry.act(&room, room.check());
                        registry.act(&room, room.check_state());
                    }
                }
            }
        });
    }

    async fn read(&self, room: &Room, from: ReadFrom) -> Result<Read, BusError> {
        let (Some(history), Some(retention)) = (self.presence.bus().history(), room.kind.history) else {
            return Err(BusError::Refused("the bus keeps no histories".into()));
        };
        let _one_of = self.reads.begin().await;
        let topic = Topic::Room(room.key.clone());
        let read = self.presence.bus().answer(history.read(&topic, from, retention)).await;
        match read {
            Ok(excerpt) => Ok(Read::of(&room.key, excerpt, self.limits.max_broadcast_bytes)),
            Err(BusFault::Refused(error)) => Err(error),
            Err(fault) => Err(BusError::Unknown(Box::new(fault))),
        }
    }
}
