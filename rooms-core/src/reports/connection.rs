//! One user's connections on one node.

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::{
    node::{ConnectionId, NodeId},
    room_key::RoomKey,
};

/// The connections of one user that a node reports. 16: more tabs than somebody has open; the others are counted.
pub(crate) const MAX_CONNECTIONS: usize = 16;

/// The rooms of one connection that a node reports. 32, as all of a user's, with the longest names, have to fit in one message
/// between nodes; the others are counted.
pub(crate) const MAX_MEMBERSHIPS: usize = 32;

/// One user, as one node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserReport {
    /// The node that reports.
    pub node: NodeId,
    /// The user's id.
    pub user: Box<str>,
    /// The user's connections on this node, at most 16.
    pub connections: Vec<ConnectionReport>,
    /// Connections of the user on this node that are not listed.
    pub connections_left_out: usize,
    /// What happened to this user on this node lately, the newest first; see
    /// [`Incident`].
    pub incidents: Vec<Incident>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionReport {
    /// Its id, which names its node.
    pub connection: ConnectionId,
    /// The user's id.
    pub user: Box<str>,
    /// When it connected, in seconds since 1970.
    pub connected_at: u64,
    /// When its token ends, in seconds since 1970; `None` where it does not.
    pub expires_at: Option<u64>,
    /// Whether it joins and leaves rooms by itself; else it is for one room.
    pub many_rooms: bool,
    /// The code of the close that is under way; `None` while it is open.
    pub closing: Option<u16>,
    /// Messages that wait because its socket is full, and their bytes.
    pub load: LoadReport,
    /// As many messages may wait: `Limits::max_outbox_messages`.
    pub max_outbox_messages: usize,
    /// As many bytes may wait: `Limits::max_outbox_bytes`.
    pub max_outbox_bytes: usize,
    /// The rooms that it is in, at most 32.
    pub rooms: Vec<MembershipReport>,
    /// Rooms that it is in and that are not listed.
    pub rooms_left_out: usize,
    /// The rooms that it may be in: `Limits::max_rooms_per_connection`.
    pub max_rooms: usize,
}

/// A connection in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MembershipReport {
    /// The room.
    pub room: RoomKey,
    /// Messages of the room's log that it was not handed yet. They are not in its outbox.
    pub lag: u64,
    /// It is not told yet that it joined: its `on_join` hook runs, or the bus is waited for.
    pub joining: bool,
    /// It takes less than the room gives, and is given what it missed from the room's history once its socket takes
    /// something.
    pub behind: bool,
    /// It is not counted, by `observe` of its join.
    pub observer: bool,
    /// It is given no messages of the room, by `paused` of its join: its page is hidden.
    #[serde(default)]
    pub paused: bool,
}

/// What waits for a connection whose socket is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// Bytes that wait, frame headers included.
    pub bytes: usize,
    /// Messages that wait.
    pub messages: usize,
    /// How often what waited was dropped since it connected, each time with a `resync` in its place.
    pub resyncs: u32,
}
