//! The messages of a room between the first member that gets them and the last.

use std::{collections::VecDeque, sync::Arc};

use super::deflated::Deflated;
use crate::{message::Message, node::ConnectionId, outbox::About, presence::For, protocol::multi, room_key::RoomKey};

/// Messages in their order, each with its position. What every member has been given is trimmed off the front.
#[derive(Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the first entry.
    first: u64,
    bytes: usize,
    /// Space that publishers were promised.
    reserved: Span,
}

pub(super) struct Entry {
    pub(super) message: Message,
    /// The one member that does not get it.
    pub(super) except: Option<ConnectionId>,
    pub(super) about: About,
    /// Which of the members it is for.
    pub(super) to: For,
    /// The same for members that are in many rooms; made when the first of them is given it, if not before.
    pub(super) multi: Option<Message>,
    /// The same for members that take what is compressed; there once there is one of them.
    pub(super) deflated: Option<Arc<Deflated>>,
    /// It is the state of the room, or what has changed in it.
    pub(super) state: bool,
    /// Open until every member has been given it, where its trace is followed.
    pub(super) fan_out: Option<Box<tracing::Span>>,
}

impl Entry {
    pub(super) const fn new(message: Message, except: Option<ConnectionId>, about: About) -> Self {
        Self { message, except, about, to: For::All, multi: None, deflated: None, state: false, fan_out: None }
    }

    /// The message as it is for a member that is in many rooms.
    pub(super) fn multi(&mut self, room: &RoomKey) -> &Message {
        self.multi.get_or_insert_with(|| match self.about {
            About::Content | About::Logged(_) => multi::payload(room, &self.message),
            About::Viewers | About::Names => multi::with_room(room, &self.message),
            // It names its room already.
            About::Standing | About::Replayed | About::Loss(_) => self.message.clone(),
        })
    }

    /// Where the message is compressed for members that take that, if its payload has at least this length.
    pub(super) fn deflated(&mut self, from: usize) -> Option<Arc<Deflated>> {
        let long = self.message.payload().len() >= from;
        long.then(|| Arc::clone(self.deflated.get_or_insert_default()))
    }
}

/// A number of messages and their bytes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Log {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is in it.
    pub(super) fn span(&self) -> Span {
        Span { messages: self.entries.len(), bytes: self.bytes }
    }

    /// The position of the first message that is here still.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The position of the next message.
    pub(super) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.message.frame().len();
        self.entries.push_back(entry);
    }

    /// Puts an entry in the place of the one at a position, if that is there still.
    pub(super) fn replace(&mut self, position: u64, entry: Entry) {
        let at = position.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(place) = at.and_then(|at| self.entries.get_mut(at)) else { return };
        self.bytes = self.bytes - place.message.frame().len() + entry.message.frame().len();
        *place = entry;
    }

    /// The entries from a position on.
    pub(super) fn since(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    pub(super) fn since_mut(&mut self, position: u64) -> impl Iterator<Item = &mut Entry> {
        let skip = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.range_mut(skip.min(self.entries.len())..)
    }

    /// Forgets what lies before a position; the spans of its fan-outs are for the caller to close, without a lock.
    pub(super) fn trim(&mut self, position: u64, given: &mut Vec<tracing::Span>) {
        while self.first < position {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes -= entry.message.frame().len();
            self.first += 1;
            given.extend(entry.fan_out.map(|span| *span));
        }
        if self.entries.is_empty() {
            // One allocation for a burst of messages, whatever the members; none for a room that is quiet.
            self.entries = VecDeque::new();
        }
    }

    /// Forgets everything; positions go on.
    pub(super) fn clear(&mut self, given: &mut Vec<tracing::Span>) {
        self.trim(self.head(), given);
    }

    /// Whether a message fits into `bounds` with what is there and what was promised. An empty log takes any.
    pub(super) fn fits(&self, bytes: usize, bounds: Span) -> bool {
        let messages = self.entries.len() + self.reserved.messages;
        let held = self.bytes + self.reserved.bytes;
        messages == 0 || (messages < bounds.messages && held + bytes <= bounds.bytes)
    }

    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserved.messages += 1;
        self.reserved.bytes += bytes;
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved.messages -= 1;
        self.reserved.bytes -= bytes;
    }
}
