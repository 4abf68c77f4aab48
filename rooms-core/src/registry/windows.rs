//! The viewer windows that are open: one task looks at each room when its window ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use tokio::time::{Instant, sleep_until};

use super::Registry;
use crate::{
    lock::{Mutex, lock},
    room::Room,
};

/// All windows are equally long, so they end in the order in which they opened: a queue is enough. A room is in it once.
#[derive(Default)]
pub(super) struct Windows {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    ends: VecDeque<(Instant, Weak<Room>)>,
    /// A task is at work; it ends when the queue is empty.
    running: bool,
}

impl Windows {
    pub(super) fn open(&self, registry: &Arc<Registry>, room: &Arc<Room>) {
        let mut queue = lock(&self.queue);
        queue.ends.push_back((Instant::now() + registry.limits.viewer_window, Arc::downgrade(room)));
        if !std::mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
    }

    fn next(&self) -> Option<(Instant, Weak<Room>)> {
        let mut queue = lock(&self.queue);
        let next = queue.ends.pop_front();
        if next.is_none() {
            *queue = Queue::default();
        }
        next
    }
}

async fn run(registry: Arc<Registry>) {
    while let Some((end, room)) = registry.windows.next() {
        sleep_until(end).await;
        if let Some(room) = room.upgrade() {
            let effects = room.window_ended();
            registry.act(&room, effects);
        }
    }
}
