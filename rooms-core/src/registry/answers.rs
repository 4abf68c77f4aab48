//! Answering the other nodes: one task looks up what this one has in the rooms that they ask for.

use std::{collections::VecDeque, sync::Arc};

use futures::Sink;

use super::Registry;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    message::Message,
    node::NodeId,
    nodes::wire::{Row, Say, Space},
    room_key::RoomKey,
};

/// Questions that wait. 128, each for at most 512 rooms: some megabytes of names; whoever is not answered asks again.
const WAITING: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Questions {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Question>,
    /// A task is at work; it ends when the queue is empty.
    running: bool,
}

#[derive(Debug)]
struct Question {
    from: NodeId,
    ask: u64,
    rooms: Vec<RoomKey>,
}

impl Questions {
    fn next(&self) -> Option<Question> {
        let mut queue = lock(&self.queue);
        let next = queue.waiting.pop_front();
        if next.is_none() {
            *queue = Queue::default();
        }
        next
    }
}

impl<S: Sink<Message> + Unpin + Send + 'static> Registry<S> {
    /// Answers a node, soon.
    pub(crate) fn answer(self: &Arc<Self>, from: NodeId, ask: u64, rooms: Vec<RoomKey>) {
        let mut queue = lock(&self.questions.queue);
        if queue.waiting.len() >= WAITING {
            return;
        }
        queue.waiting.push_back(Question { from, ask, rooms });
        if !std::mem::replace(&mut queue.running, true) {
            self.runtime.spawn(run(Arc::clone(self)));
        }
    }

    /// The rows of these rooms, and which of them found no place in one message.
    fn rows_of(self: &Arc<Self>, rooms: Vec<RoomKey>) -> (Vec<Row>, Vec<RoomKey>) {
        let mut rows = Vec::new();
        let mut space = Space::default();
        let mut rooms = rooms.into_iter();
        for key in rooms.by_ref() {
            let Some(room) = self.find(&key) else { continue };
            let (row, effects) = room.row();
            self.act(&room, effects);
            let Some(row) = row else { continue };
            if !space.takes(&row) {
                return (rows, std::iter::once(key).chain(rooms).collect());
            }
            rows.push(row);
        }
        (rows, Vec::new())
    }
}

async fn run<S: Sink<Message> + Unpin + Send + 'static>(registry: Arc<Registry<S>>) {
    while let Some(Question { from, ask, rooms }) = registry.questions.next() {
        // Above every row that was given out, so that "none" is news of a room that was left while this node was alone and
        // told nobody; and below what changes from here on.
        let version = registry.nodes.next_version();
        let (rows, left_out) = registry.rows_of(rooms);
        registry.say(&Topic::Node(from), Say::Answer { ask, version, rows, left_out }).await;
        tokio::task::yield_now().await;
    }
}
