//! Going round the members of a room, giving each what it has not had.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::Sink;

use super::{Room, State};
use crate::{
    lock::lock,
    message::Message,
    node::ConnectionId,
    outbox::{About, Outbox, Source},
};

/// Members served between two looks at the room and two turns of the runtime: at some 9 µs a write about half a
/// millisecond, so that neither a join nor another task waits longer.
const CHUNK: usize = 64;

/// Serves the room until every member is at the head of its log. One runs for a room at a time.
///
/// What is published meanwhile is in what the next member gets, so batches grow by themselves under load.
pub(crate) async fn flush<S: Sink<Message> + Unpin>(room: Arc<Room<S>>, delivered: Arc<AtomicU64>) {
    let mut round = Round { room: &room, slot: 0, goal: 0, finished: false };
    let mut chunk = Chunk::new(room.source());
    while round.next(&mut chunk) {
        let count = chunk.deliver();
        delivered.fetch_add(count, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// The flusher's place. Dropped before the end (a runtime going down) it lets the next publish start another.
struct Round<'a, S> {
    room: &'a Room<S>,
    slot: usize,
    /// The log's head when this round began: after it nobody is behind that.
    goal: u64,
    finished: bool,
}

/// Some members, and what each has not had.
struct Chunk<S> {
    source: Source,
    members: Vec<Due<S>>,
    messages: Vec<Message>,
    about: Vec<About>,
    /// The position of the first message.
    first: u64,
    /// The messages that one member does not get: rarely any.
    excepts: Vec<(usize, ConnectionId)>,
}

struct Due<S> {
    connection: ConnectionId,
    outbox: Arc<Outbox<S>>,
    cursor: u64,
}

impl<S: Sink<Message> + Unpin> Round<'_, S> {
    /// Fills the next chunk; `false` once every member is at the head, and then the flusher is over.
    fn next(&mut self, chunk: &mut Chunk<S>) -> bool {
        chunk.clear();
        let mut state = lock(&self.room.state);
        loop {
            if self.slot >= state.members.len() {
                state.log.trim(self.goal);
                self.room.changed.notify_waiters();
                let head = state.log.head();
                if head == self.goal || state.members.is_empty() {
                    state.flushing = false;
                    self.finished = true;
                    return false;
                }
                (self.slot, self.goal) = (0, head);
            }
            self.slot = state.fill(self.slot, self.room, chunk);
            if !chunk.members.is_empty() {
                return true;
            }
        }
    }
}

impl<S: Sink<Message> + Unpin> State<S> {
    /// Puts the members from `slot` on into the chunk, with what they have not had; returns the slot after the last.
    fn fill(&mut self, slot: usize, room: &Room<S>, chunk: &mut Chunk<S>) -> usize {
        let head = self.log.head();
        chunk.first = head;
        let mut next = slot;
        for place in self.members.iter_mut().skip(slot) {
            if chunk.members.len() == CHUNK {
                break;
            }
            next += 1;
            let Some(member) = place else { continue };
            if member.cursor == head {
                continue;
            }
            if member.held.is_some() {
                member.hold(&self.log, room.bounds);
            } else {
                chunk.first = chunk.first.min(member.cursor);
                chunk.members.push(Due {
                    connection: member.connection,
                    outbox: Arc::clone(&member.outbox),
                    cursor: member.cursor,
                });
            }
            member.cursor = head;
        }
        for (index, entry) in self.log.since(chunk.first).enumerate() {
            chunk.messages.push(entry.message.clone());
            chunk.about.push(entry.about);
            if let Some(connection) = entry.except {
                chunk.excepts.push((index, connection));
            }
        }
        next
    }
}

impl<S> Drop for Round<'_, S> {
    fn drop(&mut self) {
        if !self.finished {
            lock(&self.room.state).flushing = false;
        }
    }
}

impl<S: Sink<Message> + Unpin> Chunk<S> {
    const fn new(source: Source) -> Self {
        Self { source, members: Vec::new(), messages: Vec::new(), about: Vec::new(), first: 0, excepts: Vec::new() }
    }

    /// Gives each member its messages, outside every lock but its own; returns how many.
    fn deliver(&self) -> u64 {
        let mut count = 0;
        for due in &self.members {
            let mut from = usize::try_from(due.cursor - self.first).unwrap_or(usize::MAX);
            let skipped = self.excepts.iter().filter(|(_, connection)| *connection == due.connection);
            let ends = skipped.map(|(index, _)| *index).chain([self.messages.len()]);
            for end in ends {
                // A skipped message may lie before the member's cursor.
                let place = from..end.max(from);
                if let (Some(batch @ [_, ..]), Some(about)) = (self.messages.get(place.clone()), self.about.get(place))
                {
                    due.outbox.deliver_from(&self.source, batch, about);
                    count += batch.len() as u64;
                }
                from = from.max(end + 1);
            }
        }
        count
    }

    fn clear(&mut self) {
        self.members.clear();
        self.messages.clear();
        self.about.clear();
        self.excepts.clear();
    }
}
