//! Telling the application that a room is occupied, or empty.

use std::{sync::Arc, time::Duration};

use crate::room::Room;

/// Runs a room's hooks one after another until they have told the state that is.
pub(super) async fn tell(room: Arc<Room>, within: Duration) {
    while let Some(news) = room.next_occupancy() {
        for occupancy in news {
            room.kind.occupancy(occupancy, &room.key, within).await;
        }
    }
}
