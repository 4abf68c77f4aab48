//! One room on one node.

use serde::{Deserialize, Serialize};

use super::{Incident, LoadReport};
use crate::{
    node::{ConnectionId, NodeId},
    room_key::RoomKey,
};

/// The members of a room that a node reports. 50: the slowest of them; the others are counted.
pub(crate) const MAX_MEMBERS: usize = 50;

/// One room, as one node knows it. Where nobody is in it on that node, `here` is `false` and the numbers are zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoomReport {
    /// The node that reports.
    pub node: NodeId,
    /// Which room.
    pub room: RoomKey,
    /// Whether the node has the room: somebody is in it, or was a moment ago.
    pub here: bool,
    /// How the room stands with the bus.
    pub subscription: SubscriptionReport,
    /// Connections in it on this node, joining ones and subscriptions of the server itself included.
    pub memberships: usize,
    /// Viewers on all nodes, as far as this one knows.
    pub viewers: usize,
    /// What its log has counted since the room is on this node: messages, and changes of the viewers.
    pub log_head: u64,
    /// Messages that not all members have been handed.
    pub log_messages: usize,
    /// The bytes of those.
    pub log_bytes: usize,
    /// How long ago the last message came for the room, in seconds; `None` where none came since it is on this node.
    pub quiet_s: Option<u64>,
    /// Where it stands in its history, as its text; `None` without one.
    pub position: Option<Box<str>>,
    /// Its members on this node, those for which most waits first; at most 50.
    pub members: Vec<MemberReport>,
    /// Members that are not listed.
    pub members_left_out: usize,
    /// What happened in the room on this node lately, the newest first.
    pub incidents: Vec<Incident>,
}

/// How a room stands with the bus of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SubscriptionReport {
    /// Not subscribed: nobody wants it, or the bus refused it.
    None,
    /// The bus was asked, and has not confirmed it.
    Asked,
    /// The bus has confirmed it, and the other nodes are asked for their counts.
    Confirmed,
    /// Subscribed: what is broadcast arrives.
    Live,
}

/// One connection in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Which.
    pub connection: ConnectionId,
    /// Whose; of a subscription of the server itself a name that nobody has.
    pub user: Box<str>,
    /// Messages of the room's log that it was not handed yet.
    pub lag: u64,
    /// It is not told yet that it joined.
    pub joining: bool,
    /// It is given what it missed from the history once its socket takes something.
    pub behind: bool,
    /// It is not counted.
    pub observer: bool,
    /// It is the server itself, by [`RoomManager::subscribe`](crate::RoomManager::subscribe): no connection, and not to be kicked.
    #[serde(default)]
    pub server: bool,
    /// It is given no messages of the room, as its page is hidden.
    #[serde(default)]
    pub paused: bool,
    /// What waits in its outbox, of all its rooms.
    pub load: LoadReport,
}
