//! What nodes ask each other for whoever operates them.

use serde::{Deserialize, Serialize};

use super::{RoomReport, UserReport};
use crate::{node::NodeId, room_key::RoomKey};

/// What all nodes say of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetReport<T> {
    /// What each node says that answered: this one first.
    pub nodes: Vec<T>,
    /// Nodes that are live as far as this one knows, and gave no answer within `Limits::answer_timeout`: what they have is
    /// unknown. A node of an earlier release never answers.
    pub silent: Vec<NodeId>,
}

/// One node in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeSummary {
    /// Which.
    pub node: NodeId,
    /// Connections that are open.
    pub connections: usize,
    /// Rooms that are subscribed, lingering ones included.
    pub rooms: usize,
    /// Messages that were given to members, one for each member, since the node began.
    pub delivered: u64,
    /// Whether its bus is known to be down.
    pub bus_down: bool,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Whom it turned away lately without knowing who that was. Of a node of an earlier release: nobody.
    #[serde(default)]
    pub turned_away: TurnedAway,
}

/// What a node refused to clients that it does not know, in the last hour: of the newest 256 of each sort.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TurnedAway {
    /// Upgrades.
    pub upgrades: usize,
    /// Tokens that are nobody's, as far as the node can tell.
    pub tokens: usize,
    /// The most frequent reasons of both, at most 5, each with how often it was.
    pub reasons: Vec<(Box<str>, usize)>,
}

/// What a node asks the others for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Search {
    User(Box<str>),
    Room(RoomKey),
    Node {},
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Found {
    User(UserReport),
    Room(RoomReport),
    Node(NodeSummary),
}
