//! The viewer windows that are open: one task looks at each room when its window ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use futures::Sink;
use tokio::time::{Instant, sleep_until};

use super::Registry;
use crate::{
    lock::{Mutex, lock},
    message::Message,
    room::Room,
};

/// All windows are equally long, so they end in the order in which they opened: a queue is enough. A room is in it once.
pub(super) struct Windows<S> {
    queue: Mutex<Queue<S>>,
}

struct Queue<S> {
    ends: VecDeque<(Instant, Weak<Room<S>>)>,
    /// A task is at work; it ends when the queue is empty.
    running: bool,
}

impl<S: Sink<Message> + Unpin + Send + 'static> Windows<S> {
    pub(super) fn open(&self, registry: &Arc<Registry<S>>, room: &Arc<Room<S>>) {
        let mut queue = lock(&self.queue);
        queue.ends.push_back((Instant::now() + registry.limits.viewer_window, Arc::downgrade(room)));
        if !std::mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
    }

    fn next(&self) -> Option<(Instant, Weak<Room<S>>)> {
        let mut queue = lock(&self.queue);
        let next = queue.ends.pop_front();
        if next.is_none() {
            *queue = Queue::default();
        }
        next
    }
}

async fn run<S: Sink<Message> + Unpin + Send + 'static>(registry: Arc<Registry<S>>) {
    while let Some((end, room)) = registry.windows.next() {
        sleep_until(end).await;
        if let Some(room) = room.upgrade() {
            let effects = room.window_ended();
            registry.act(&room, effects);
        }
    }
}

impl<S> Default for Windows<S> {
    fn default() -> Self {
        Self { queue: Mutex::default() }
    }
}

impl<S> Default for Queue<S> {
    fn default() -> Self {
        Self { ends: VecDeque::new(), running: false }
    }
}
