//! Asking once more about rooms that somebody came into.
//!
//! Two nodes may each lose the row in which the other says that it has members in a room. Neither then knows of a room
//! that they have in common, so their digests agree, and no heartbeat tells that anything is amiss. Therefore a node that
//! published such a row asks all others for theirs, a heartbeat later: of two nodes it is the second to publish that
//! finds the row of the first, and from then on their digests differ until both know.

use std::{collections::HashSet, mem, sync::Arc};

use tokio::time::sleep;

use super::{Registry, asks::ROOMS};
use crate::{
    lock::{Mutex, lock},
    room_key::RoomKey,
};

/// Rooms that wait for it by name. 65,536: some megabytes. Where more were filled within one heartbeat, all rows are asked
/// for, which costs little more.
const NAMED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Rechecks {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    rooms: HashSet<RoomKey>,
    too_many: bool,
    /// A task is at work; it ends when the queue is empty.
    running: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Recheck {
    Rooms(Vec<RoomKey>),
    All,
}

impl Queue {
    fn add(&mut self, room: RoomKey) {
        if self.rooms.len() < NAMED {
            self.rooms.insert(room);
        } else {
            self.too_many |= !self.rooms.contains(&room);
        }
    }

    fn next(&mut self) -> Option<Recheck> {
        let Self { rooms, too_many, .. } = mem::replace(self, Self { running: true, ..Self::default() });
        if too_many {
            return Some(Recheck::All);
        }
        self.running = !rooms.is_empty();
        self.running.then(|| Recheck::Rooms(rooms.into_iter().collect()))
    }
}

impl Rechecks {
    /// Looks at a room again, a heartbeat from now at most.
    pub(super) fn want(&self, registry: &Arc<Registry>, room: RoomKey) {
        let mut queue = lock(&self.queue);
        queue.add(room);
        if !mem::replace(&mut queue.running, true) {
            registry.runtime.spawn(run(Arc::clone(registry)));
        }
    }

    fn next(&self) -> Option<Recheck> {
        lock(&self.queue).next()
    }
}

async fn run(registry: Arc<Registry>) {
    loop {
        sleep(registry.limits.heartbeat_interval).await;
        match registry.rechecks.next() {
            Some(Recheck::Rooms(keys)) => {
                for keys in keys.chunks(ROOMS) {
                    let rooms: Vec<_> = keys.iter().filter_map(|key| registry.find(key)).collect();
                    // They may all be gone again.
                    if !rooms.is_empty() {
                        registry.learn(&rooms).await;
                    }
                }
            }
            Some(Recheck::All) => registry.nodes.live().iter().for_each(|peer| registry.want_rows(peer)),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: usize) -> RoomKey {
        RoomKey::new("post", number).unwrap()
    }

    #[test]
    fn a_room_that_fills_often_is_looked_at_once() {
        let mut queue = Queue::default();
        queue.add(room(1));
        queue.add(room(1));
        assert_eq!(queue.next(), Some(Recheck::Rooms(vec![room(1)])));
        assert!(queue.running);
        assert_eq!(queue.next(), None);
        assert!(!queue.running, "the next begins a task of its own");
    }

    #[test]
    fn more_rooms_than_are_named_are_all_looked_at() {
        let mut queue = Queue::default();
        (0..NAMED).for_each(|number| queue.add(room(number)));
        queue.add(room(0));
        assert!(!queue.too_many, "it is named already");
        queue.add(room(NAMED));
        assert_eq!(queue.rooms.len(), NAMED);
        assert_eq!(queue.next(), Some(Recheck::All));
        assert_eq!(queue.next(), None);
    }
}
