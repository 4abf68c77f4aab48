//! What went otherwise than a client wished, lately.

use serde::{Deserialize, Serialize};

use crate::{node::ConnectionId, room_key::RoomKey};

/// The incidents in one report: some 20 kB with ordinary names.
pub(crate) const MAX_INCIDENTS: usize = 100;

/// Something that happened to a connection, a user or a room of a node.
///
/// A node keeps the newest 256 of each [kind](IncidentKind), in memory alone: some hundred kilobytes, and a storm of one kind
/// does not push out the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Incident {
    /// When, in milliseconds since 1970, by the clock of the node.
    pub at: u64,
    /// What.
    pub kind: IncidentKind,
    /// Whom it happened to, where that is known: who has a bad token is nobody.
    pub user: Option<Box<str>>,
    /// Which connection, where it is about one.
    pub connection: Option<ConnectionId>,
    /// Which room, where it is about one.
    pub room: Option<RoomKey>,
    /// The close code that the client was given, or would have been.
    pub code: Option<u16>,
    /// Why, in words; at most 300 bytes.
    pub reason: Box<str>,
}

/// What an [`Incident`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IncidentKind {
    /// A connection ended because its client went, or said good-bye.
    Left,
    /// A connection was closed by this node.
    Closed,
    /// A token of this user was refused, or a connection was not taken.
    Refused,
    /// A token was refused, and nobody knows whose it was.
    BadToken,
    /// A join failed.
    Denied,
    /// A user was put out of a room.
    PutOut,
    /// The members of a room, or one of them, were told to fetch again what they may have missed.
    Resync,
    /// The bus went down, or came up.
    Bus,
    /// An upgrade was refused over HTTP for another reason than its token: its origin, a limit, more than one token. A browser
    /// tells its page nothing of the reason.
    UpgradeRefused,
}

impl IncidentKind {
    pub(crate) const COUNT: usize = Self::UpgradeRefused as usize + 1;
}
