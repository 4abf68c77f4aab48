//! Why a user hears nothing: the answer.

use serde::{Deserialize, Serialize};

use crate::{node::NodeId, room_key::RoomKey};

/// What is known of a user who hears nothing; see [`RoomManager::explain`](crate::RoomManager::explain).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The user.
    pub user: Box<str>,
    /// The room that it is about, if it is about one.
    pub room: Option<RoomKey>,
    /// When it was asked, in milliseconds since 1970.
    pub at: u64,
    /// What is known, in the order in which a connection comes by: the bus and the nodes, tokens and upgrades, connections, joins,
    /// rooms, messages.
    pub findings: Vec<Finding>,
    /// Nodes that left a question unanswered, about the user, the room or themselves, and so may know more.
    pub silent: Vec<NodeId>,
}

/// One thing that is known, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// Whether it may be the reason.
    pub weight: Weight,
    /// The sentence.
    pub text: String,
    /// When it happened, in milliseconds since 1970; `None` for how things stand now.
    pub at: Option<u64>,
    /// The node that knows it; `None` where that is all of them.
    pub node: Option<NodeId>,
}

/// Whether a [`Finding`] may be the reason why nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Weight {
    /// All is well with it.
    Fine,
    /// It may be a part of the reason, or was one for a while.
    Notice,
    /// While it is so, nothing is heard.
    Problem,
}
