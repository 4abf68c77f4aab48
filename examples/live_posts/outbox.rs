//! What is stored and not told yet. A broadcast to a room with a history is an error while the bus is down, and this tries
//! again until it is none: so those who watch miss nothing, also through an outage.
//!
//! In memory, as the posts are. With a database this is a table that is written in the transaction of what it tells of.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use rooms::{RoomKey, RoomManager};
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

/// Events that may wait: some minutes of a busy site. What is more is not told, and pages see it when they fetch.
const WAITING: usize = 10_000;

/// The pause before an event is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes events, and has one task tell them in their order.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(mpsc::Sender<(RoomKey, Value)>);

impl Outbox {
    pub(crate) fn new(rooms: RoomManager) -> Self {
        let (outbox, mut waiting) = mpsc::channel::<(RoomKey, Value)>(WAITING);
        // Events are numbered anew by each process. Rows of a database have ids.
        let process = RandomState::new().hash_one("live_posts");
        tokio::spawn(async move {
            let mut number = 0_u64;
            while let Some((room, event)) = waiting.recv().await {
                number += 1;
                // One that came through without an answer is not told again.
                let key = format!("{process:x}-{number}");
                while let Err(error) = rooms.to(&room).idempotency_key(&key).json(&event).await {
                    tracing::warn!(%error, "the viewers are told later");
                    sleep(PAUSE).await;
                }
            }
        });
        Self(outbox)
    }

    /// Tells the viewers of a post, soon.
    pub(crate) fn tell(&self, post_id: u64, event: Value) {
        let Ok(room) = RoomKey::new("post", post_id) else { return };
        if self.0.try_send((room, event)).is_err() {
            tracing::error!("too much waits: the viewers are not told");
        }
    }
}
