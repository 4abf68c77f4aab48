//! Telling the other nodes what changed: one task publishes the rows that rooms have queued.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::join_all;

use super::Registry;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    nodes::wire::Say,
    room::{Outgoing, Room},
};

/// Rows published at once. 128: enough to hide a round trip to the backplane, and few enough to hold in hand.
const BATCH: usize = 128;

/// Rooms whose row is to be published. A room is in it once, however often it changes.
#[derive(Default)]
pub(super) struct Rows {
    queue: Mutex<Queue>,
    published: AtomicU64,
}

#[derive(Default)]
struct Queue {
    rooms: VecDeque<Arc<Room>>,
    /// A task is at work; it ends when the queue is empty.
    running: bool,
}

impl Rows {
    pub(super) fn publish(&self, registry: &Arc<Registry>, room: &Arc<Room>) {
        let mut queue = lock(&self.queue);
        queue.rooms.push_back(Arc::clone(room));
        if !std::mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    fn next(&self) -> Option<Vec<Arc<Room>>> {
        let mut queue = lock(&self.queue);
        if queue.rooms.is_empty() {
            *queue = Queue::default();
            return None;
        }
        let batch = queue.rooms.len().min(BATCH);
        Some(queue.rooms.drain(..batch).collect())
    }
}

async fn run(registry: Arc<Registry>) {
    while let Some(rooms) = registry.rows.next() {
        let rows = rooms.iter().filter_map(|room| room.take_row());
        join_all(rows.map(|outgoing| registry.publish_row(outgoing))).await;
    }
}

impl Registry {
    async fn publish_row(self: &Arc<Self>, Outgoing { row, first }: Outgoing) {
        self.rows.published.fetch_add(1, Ordering::Relaxed);
        let room = row.room.clone();
        // One that is lost makes the digests differ, and is asked for.
        self.say(&Topic::Control(room.clone()), Say::Row(row)).await;
        if first {
            self.rechecks.want(self, room);
        }
    }
}
