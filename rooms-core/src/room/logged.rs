//! A message of a room's log, and what was read of one.

use std::time::Duration;

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
    /// For those who are told no positions.
    pub(crate) bare: Message,
    pub(crate) positioned: Message,
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
                let bare = match carried {
                    Carried::Bare => Message::text_of(&[payload]),
                    Carried::Binary => Message::binary(payload),
                    Carried::Wrapped | Carried::Refresh => positioned.clone(),
                };
                (Some(Content { bare, positioned, except }), None)
            }
            Err(fault) => (None, Some(fault)),
        };
        let left_out = fault.as_ref().is_some_and(BadPayload::was_meant);
        (Self { position, at, size: payload.len(), content, left_out }, fault)
    }

    /// The position before it.
    pub(super) fn before(&self) -> Position {
        Position::new(self.position.epoch(), self.position.offset().saturating_sub(1))
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
