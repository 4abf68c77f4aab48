//! A room as an outbox knows it: what its messages are about, and what happens where too many wait.

use std::num::NonZeroU64;

use crate::{bus::Position, message::Message, metrics::Overflows, room_key::RoomKey};

/// What happens to a member that does not keep up with a room, once `Limits::max_outbox_bytes` or `max_outbox_messages` wait for
/// it; set for a kind with [`Kind::overflow`](crate::Kind::overflow).
///
/// A connection that is still joining when so much waits is closed, but where a history has it. The room's other members do not
/// notice. What waits for the connection from other rooms, and what it was sent alone, stays; where that fills the outbox
/// by itself, the connection is closed as with [`Close`](Self::Close).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is closed with 1013 `slow consumer`. Its client comes back and begins afresh.
    #[default]
    Close,
    /// The room's oldest messages are dropped, a quarter of the outbox at a time, and one `resync` stands in their place.
    DropOldest,
    /// For rooms where each message replaces the one before: while the socket is full, only the newest waits. What it
    /// replaced is not announced.
    Latest,
    /// All the room's messages that wait are dropped, and one `resync` stands in their place.
    ///
    /// Of a kind with a [history](crate::Kind::history) the member is given them later, once its socket takes something
    /// again: from this node's copy of the log, or by one read of it. There is a `resync` only where the log does not have
    /// them any more. Until then it holds none of them, and what else happens in the room, such as the number of viewers,
    /// is told before them.
    Resync,
}

/// The room that a batch comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) room: RoomKey,
    pub(crate) overflow: Overflow,
    /// What the log of the room has is not dropped but left out, and given later.
    pub(crate) heals: bool,
    /// Makes the message that tells the member that it missed something, and that it is given everything after a position.
    pub(crate) resync: fn(&RoomKey, Option<Position>) -> Message,
    pub(crate) recorded: Overflows,
}

/// What a room's message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Something of the application's.
    Content,
    /// The same, which the log of the room has at this position; its offset is not 0.
    Logged(Position),
    /// How many viewers there are: while it waits, the next one replaces it.
    Viewers,
    /// Which users came and went: no other message stands for it.
    Names,
    /// How things stand in the room: the answer to a join.
    Standing,
    /// What a join is given behind its answer: of the history, and the state.
    Replayed,
    /// That something is missing, of what came up to a position where that is known: everything after it is given.
    Loss(Option<Position>),
}

impl About {
    pub(crate) const fn offset(self) -> Option<NonZeroU64> {
        match self {
            Self::Logged(position) => NonZeroU64::new(position.offset()),
            Self::Content | Self::Viewers | Self::Names | Self::Standing | Self::Replayed | Self::Loss(_) => None,
        }
    }

    pub(crate) const fn is_loss(self) -> bool {
        matches!(self, Self::Loss(_))
    }

    /// Whether it is about who is in the room, and not what is sent there.
    pub(crate) const fn is_of_viewers(self) -> bool {
        matches!(self, Self::Viewers | Self::Names)
    }

    /// Whether the one may replace the other.
    pub(super) fn is_of_the_sort_of(self, other: Self) -> bool {
        use About::{Content, Logged, Loss};
        self == other || matches!((self, other), (Content | Logged(_), Content | Logged(_)) | (Loss(_), Loss(_)))
    }
}

impl Overflow {
    /// What it is called in the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
            Self::Resync => "resync",
        }
    }
}

impl Source {
    /// Whether a message of this sort takes the place of those that wait.
    pub(super) fn replaces(&self, about: About) -> bool {
        match about {
            About::Viewers => true,
            About::Names | About::Standing | About::Replayed => false,
            About::Content | About::Logged(_) | About::Loss(_) => self.overflow == Overflow::Latest,
        }
    }
}
