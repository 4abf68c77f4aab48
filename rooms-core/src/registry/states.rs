//! Reading the states of rooms: one task for each room that needs it, for as long as it does.

use std::sync::Arc;

use tokio::time::sleep;

use super::{Registry, history::PAUSES};
use crate::{
    bus::{BusError, BusFault, Topic},
    room::{Revision, Room},
};

/// Reads a room's state until the room has what it needs. A room that is gone needs nothing.
pub(super) async fn read(registry: Arc<Registry>, room: Arc<Room>) {
    let [shortest, longest] = PAUSES;
    let mut pause = shortest;
    while room.begin_state_read() {
        match registry.read_state(&room).await {
            Ok(read) => {
                pause = shortest;
                registry.act(&room, room.end_state_read(Ok(read)));
            }
            Err(error) => {
                tracing::debug!(room = %room.key, %error, "the state of a room was not read");
                registry.act(&room, room.end_state_read(Err(&error)));
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
    async fn read_state(&self, room: &Room) -> Result<Option<Revision>, BusError> {
        let (Some(states), Some(keep)) = (self.presence.bus().states(), room.kind.state) else {
            return Err(BusError::Refused("the bus keeps no states".into()));
        };
        let _one_of = self.reads.begin().await;
        let topic = Topic::Room(room.key.clone());
        let kept = match self.presence.bus().answer(states.state(&topic, keep)).await {
            Ok(kept) => kept,
            Err(BusFault::Refused(error)) => return Err(error),
            Err(fault) => return Err(BusError::Unknown(Box::new(fault))),
        };
        let limit = self.limits.max_broadcast_bytes;
        let read = |kept| Revision::read(&room.key, &kept, None, limit);
        kept.map(read).transpose().map_err(|fault| BusError::Refused(Box::new(fault)))
    }
}
