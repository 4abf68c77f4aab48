//! One node as a whole.

use serde::{Deserialize, Serialize};

use super::{Incident, LinkReport, LoadReport};
use crate::{
    node::{ConnectionId, NodeId},
    room_key::RoomKey,
};

/// The largest rooms that are listed. 50: what is looked at without scrolling far.
pub(crate) const LARGEST: usize = 50;

/// The slowest connections that are listed.
pub(crate) const SLOWEST: usize = 20;

/// Peers that are listed. 128: of a larger fleet the others are counted.
pub(crate) const MAX_PEERS: usize = 128;

/// One node at a moment: its numbers, its largest rooms, its slowest connections, what happened lately.
///
/// It is put together a part at a time while the node goes on, so its numbers are not all of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// Which node.
    pub node: NodeId,
    /// When it was put together, in milliseconds since 1970.
    pub at: u64,
    /// How long that took, in microseconds, with the time in which other tasks had their turns.
    pub took_us: u64,
    /// How long the node runs, in seconds.
    pub uptime_s: u64,
    /// Connections that are open.
    pub connections: usize,
    /// As many may be: `Limits::max_connections`.
    pub max_connections: usize,
    /// Rooms on this node, lingering ones included.
    pub rooms: usize,
    /// Connections in rooms, one for each room that a connection is in.
    pub memberships: usize,
    /// Messages that were given to members, one for each member, since the node began.
    pub delivered: u64,
    /// What limits refused since the node began.
    pub limited: u64,
    /// Messages from the bus that were dropped because they were not JSON, too long or too deep.
    pub bad_payloads: u64,
    /// Node messages that could not be decoded.
    pub undecodable: u64,
    /// Node messages that were not signed with this fleet's key.
    pub unsigned: u64,
    /// Orders and searches of other nodes that were dropped because they are more than a minute from this node's clock; as
    /// [`Stats::too_old`](crate::Stats::too_old).
    pub too_old: u64,
    /// Whether the bus is known to be down.
    pub bus_down: bool,
    /// Whether what is known of the other nodes is all there is to know.
    pub settled: bool,
    /// Whether the process is shutting down.
    pub draining: bool,
    /// Whether the tokio runtime that the manager was built in has ended.
    pub runtime_ended: bool,
    /// The other nodes, at most 128.
    pub peers: Vec<PeerReport>,
    /// Other nodes that are not listed.
    pub peers_left_out: usize,
    /// The links of the bus to its backplane, at most 128; none where the bus tells of none, as a [`LocalBus`](crate::LocalBus).
    pub links: Vec<LinkReport>,
    /// Links that are not listed.
    pub links_left_out: usize,
    /// The kinds of the application, with the rooms that there are of each.
    pub kinds: Vec<KindReport>,
    /// The rooms with most connections on this node, the largest first; at most 50.
    pub largest: Vec<RoomSize>,
    /// The connections for which most waits, the slowest first; at most 20, and none for which nothing waits.
    pub slowest: Vec<SlowConnection>,
    /// What happened lately, the newest first; at most 100.
    pub incidents: Vec<Incident>,
}

/// Another node, as this one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// Which.
    pub node: NodeId,
    /// Whether it answered this node, and so is counted. A peer that never did may be somebody's invention.
    pub proven: bool,
    /// How long ago it was heard, in milliseconds.
    pub heard_ms: u64,
}

/// A kind of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KindReport {
    /// Its name.
    pub kind: Box<str>,
    /// Who may join.
    pub rule: RuleSort,
    /// Whether it keeps a history.
    pub history: bool,
    /// Whether it keeps a state.
    pub state: bool,
    /// Rooms of it on this node.
    pub rooms: usize,
    /// Connections in them.
    pub memberships: usize,
}

/// Who may join rooms of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RuleSort {
    /// Nobody: the kind has no rule.
    Nobody,
    /// Everybody, guests too.
    Everybody,
    /// Everybody who is no guest.
    Authenticated,
    /// The user whose id is the room's.
    Owner,
    /// Whoever has a token that names the room.
    Claim,
    /// Whoever the application's own rule lets in.
    Application,
}

/// A room and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoomSize {
    /// Which.
    pub room: RoomKey,
    /// Connections in it on this node, joining ones included.
    pub memberships: usize,
    /// Viewers on all nodes, as far as this one knows.
    pub viewers: usize,
    /// Bytes of messages that not all of them have been handed.
    pub log_bytes: usize,
    /// How long ago the last message came for the room, in seconds; `None` where none came since it is on this node.
    pub quiet_s: Option<u64>,
}

/// A connection for which something waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlowConnection {
    /// Which.
    pub connection: ConnectionId,
    /// Whose.
    pub user: Box<str>,
    /// What waits.
    pub load: LoadReport,
}
