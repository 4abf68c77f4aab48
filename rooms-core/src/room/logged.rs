//! A message of a room's log, and what was read of one.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

use crate::{
    bus::{Excerpt, Position},
    envelope::{self, BadPayload, Carried, Opened},
    message::Message,
    node::ConnectionId,
    protocol::{self, binary, multi},
    room_key::RoomKey,
};

/// One message of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) position: Position,
    /// When it was appended, as far as this node knows: at the latest when it came here.
    pub(crate) at: Instant,
    /// The bytes that it has on the bus, by which the log is trimmed.
    pub(crate) size: usize,
    /// None where it is no message for members.
    pub(crate) content: Option<Content>,
    /// It was meant for the members, and this node can't give it to them: whoever misses it is to be told.
    pub(crate) left_out: bool,
}

/// What members are given of it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    positioned: Message,
    /// For those who are told no positions.
    bare: OnceLock<Message>,
    carried: Carried,
    /// The bytes of the payload in both.
    length: usize,
    pub(crate) except: Option<ConnectionId>,
}

/// What was read of the log; the messages follow each other up to the head.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) head: Position,
    pub(crate) earlier: Vec<Position>,
    pub(crate) messages: Vec<Logged>,
}

impl Logged {
    /// Reads a payload of the log, which was appended at a time, and may have so many bytes. One that is no message keeps
    /// its place.
    pub(crate) fn read(
        room: &RoomKey,
        payload: &[u8],
        position: Position,
        at: Instant,
        limit: usize,
    ) -> (Self, Option<BadPayload>) {
        let (content, fault) = match envelope::read(payload, limit) {
            Ok(Opened { payload, except, carried, .. }) => {
                let positioned = match carried {
                    Carried::Bare | Carried::Wrapped => multi::message_at(room, position, payload),
                    Carried::Refresh => protocol::refresh(room, Some(position)),
                    Carried::Binary => binary::message(room, Some(position), payload),
                };
                let content = Content { positioned, bare: OnceLock::new(), carried, length: payload.len(), except };
                // Here, where no lock is held.
                content.bare();
                (Some(content), None)
            }
            Err(fault) => (None, Some(fault)),
        };
        let left_out = fault.as_ref().is_some_and(BadPayload::was_meant);
        (Self { position, at, size: payload.len(), content, left_out }, fault)
    }

    /// It, as the copy of the log has it: without what can be made of the rest, so that it has no payload twice.
    pub(super) fn slim(mut self) -> Self {
        if let Some(content) = &mut self.content {
            content.bare.take();
        }
        self
    }

    /// The position before it.
    pub(super) fn before(&self) -> Position {
        Position::new(self.position.epoch(), self.position.offset().saturating_sub(1))
    }
}

impl Content {
    /// For those who are told positions, or are in many rooms.
    pub(super) const fn positioned(&self) -> &Message {
        &self.positioned
    }

    /// For those who are told no positions. Made once: where one of them is behind, others may be.
    pub(super) fn bare(&self) -> &Message {
        self.bare.get_or_init(|| {
            let all = self.positioned.payload();
            let payload = |behind: usize| {
                let end = all.len().saturating_sub(behind);
                all.get(end.saturating_sub(self.length)..end).unwrap_or_default()
            };
            match self.carried {
                // It stands in an object, as its last value.
                Carried::Bare => Message::text_of(&[payload(1)]),
                Carried::Binary => Message::binary_of(&[payload(0)]),
                Carried::Wrapped | Carried::Refresh => self.positioned.clone(),
            }
        })
    }
}

impl Read {
    /// What a bus has read, of a room whose messages may have so many bytes.
    pub(crate) fn of(room: &RoomKey, excerpt: Excerpt, limit: usize) -> Self {
        let now = Instant::now();
        let ages = excerpt.ages.iter().copied().chain(std::iter::repeat(Duration::ZERO));
        let logged = excerpt.messages.iter().zip(excerpt.first()..).zip(ages).map(|((payload, offset), age)| {
            // A clock may begin with the machine, and a message be older.
            let at = now.checked_sub(age).unwrap_or(now);
            Logged::read(room, payload, excerpt.position(offset), at, limit).0
        });
        Self { messages: logged.collect(), head: excerpt.head, earlier: excerpt.earlier }
    }
}
