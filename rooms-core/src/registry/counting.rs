//! The rooms, as counting over nodes sees them.

use std::sync::Arc;

use super::Registry;
use crate::{
    presence::{Due, Rooms, Share},
    room_key::RoomKey,
};

impl Rooms for Arc<Registry> {
    fn keys(&self) -> Vec<RoomKey> {
        self.parts().flatten().map(|room| room.key.clone()).collect()
    }

    fn change<T>(&self, room: &RoomKey, change: impl FnOnce(&mut Share) -> (T, Due)) -> Option<T> {
        let room = self.find(room)?;
        let (result, effects) = room.change_share(change);
        self.act(&room, effects);
        Some(result)
    }

    fn open(&self, room: &RoomKey, query: u64) {
        if let Some(room) = self.find(room) {
            room.open_by(query);
        }
    }
}
