//! The rooms, as counting over nodes sees them.

use std::sync::Arc;

use super::Registry;
use crate::{
    lock::lock,
    presence::{Due, Rooms, Share},
    room_key::RoomKey,
};

impl Rooms for Arc<Registry> {
    fn keys(&self) -> Vec<RoomKey> {
        self.shards.iter().flat_map(|shard| lock(shard).keys().cloned().collect::<Vec<_>>()).collect()
    }

    fn change<T>(&self, room: &RoomKey, change: impl FnOnce(&mut Share) -> (T, Due)) -> Option<T> {
        let room = self.find(room)?;
        let (result, effects) = room.change_share(change);
        self.act(&room, effects);
        Some(result)
    }

    fn open(&self, room: &RoomKey) {
        if let Some(room) = self.find(room) {
            room.open();
        }
    }
}
