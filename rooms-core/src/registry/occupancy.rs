//! Telling the application that a room is occupied, or empty.

use std::{sync::Arc, time::Duration};

use crate::{presence::Due, room::Room};

/// Runs a room's hooks one after another until they have told the state that is.
pub(super) async fn run_hooks(room: Arc<Room>, within: Duration) {
    while let (Some(news), _) = room.change_share(|share| (share.next_occupancy(), Due::default())) {
        for occupancy in news {
            room.kind.occupancy(occupancy, &room.key, within).await;
        }
    }
}
