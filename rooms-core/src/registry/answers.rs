//! Answering the other nodes: one task looks up what this one has in the rooms that they ask for.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Registry;
use crate::{
    bus::Topic,
    lock::{Mutex, lock},
    node::NodeId,
    nodes::{
        Allowance,
        wire::{Row, Say, Space},
    },
    room_key::RoomKey,
};

/// Questions that wait. 128, each for at most 512 rooms: some megabytes of names; whoever is not answered asks again.
const WAITING: usize = 128;

#[derive(Debug)]
pub(super) struct Questions {
    queue: Mutex<Queue>,
    newcomers: Mutex<Allowance>,
}

impl Default for Questions {
    fn default() -> Self {
        let newcomers = Mutex::new(Allowance::new(FOR_NEWCOMERS, Duration::from_secs(1)));
        Self { queue: Mutex::default(), newcomers }
    }
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
    asker: Asker,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Proven,
    /// Perhaps nobody at all.
    New,
}

/// Rooms in a question of a node that is not proven yet. 16: what somebody joins on a node in the moments in which it
/// begins; for more it asks again.
const ROOMS_OF_A_NEWCOMER: usize = 16;

/// Bytes of rows, and of names of rooms, for one question of a node that is not proven yet, and in a second for all of
/// them. Some hundred rooms without names: what is sent to nodes that somebody invents is not worth their invention.
const FOR_A_NEWCOMER: usize = 16 * 1024;
const FOR_NEWCOMERS: usize = 64 * 1024;

impl Questions {
    fn newcomers_may_have(&self, bytes: usize) -> bool {
        lock(&self.newcomers).take(bytes, Instant::now())
    }

    fn next(&self) -> Option<Question> {
        let mut queue = lock(&self.queue);
        let next = queue.waiting.pop_front();
        if next.is_none() {
            *queue = Queue::default();
        }
        next
    }
}

impl Registry {
    /// Answers a node, soon; one that is not proven yet, within bounds, and otherwise not at all: it asks again.
    pub(crate) fn answer(self: &Arc<Self>, from: NodeId, asker: Asker, ask: u64, rooms: Vec<RoomKey>) {
        if asker == Asker::New && rooms.len() > ROOMS_OF_A_NEWCOMER {
            return;
        }
        let mut queue = lock(&self.questions.queue);
        if queue.waiting.len() >= WAITING {
            return;
        }
        queue.waiting.push_back(Question { from, ask, rooms, asker });
        if !std::mem::replace(&mut queue.running, true) {
            self.runtime.spawn(run(Arc::clone(self)));
        }
    }

    /// The rows of these rooms, and which of them found no place in one message.
    fn rows_of(self: &Arc<Self>, rooms: Vec<RoomKey>, mut space: Space) -> (Vec<Row>, Vec<RoomKey>) {
        let mut rows = Vec::new();
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

async fn run(registry: Arc<Registry>) {
    while let Some(Question { from, ask, rooms, asker }) = registry.questions.next() {
        let space = match asker {
            Asker::Proven => Space::default(),
            // The question that a node is to prove itself by is answered in any case: it is as long as its answer.
            Asker::New if rooms.is_empty() => Space::strictly(0),
            Asker::New if registry.questions.newcomers_may_have(FOR_A_NEWCOMER) => Space::strictly(FOR_A_NEWCOMER / 2),
            Asker::New => continue,
        };
        // Above every row that was given out, so that "none" is news of a room that was left while this node was alone and
        // told nobody; and below what changes from here on.
        let version = registry.nodes.next_version();
        let (rows, left_out) = registry.rows_of(rooms, space);
        registry.say(&Topic::Node(from), Say::Answer { ask, version, rows, left_out }).await;
        tokio::task::yield_now().await;
    }
}
