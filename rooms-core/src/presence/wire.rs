//! What nodes tell each other, as JSON in one envelope with a version.
//!
//! A message of another version, or one that can't be decoded, is counted and dropped: in a fleet of mixed releases each
//! node counts the nodes that it understands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{digest::Digest, entry::Entry, kinds::Kinds, order::NodeOrder};
use crate::{
    auth::Ending,
    json,
    node::NodeId,
    reports::{Found, Search},
    room_key::RoomKey,
};

/// The version of this format.
const VERSION: u32 = 1;

/// The longest message between nodes, in bytes. 1 MiB: a thousand named users with all that may be told of each.
pub(crate) const MAX_PACKET: usize = 1024 * 1024;

/// The longest payload of an order, in bytes: where each of them is escaped, it still fits in a message between nodes.
pub(crate) const MAX_PAYLOAD: usize = MAX_PACKET / 2 - 1024;

/// Rooms in one query. 512, as in one call of the bus: some ten kilobytes.
pub(crate) const ROOMS: usize = 512;

/// Revocations in one message. 1,000, with the longest names there are some 600 kB.
pub(crate) const REVOCATIONS: usize = 1000;

/// A message, and the node that sent it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packet {
    #[serde(rename = "v")]
    version: u32,
    pub(crate) node: NodeId,
    pub(crate) message: NodeMessage,
}

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeMessage {
    /// A node has started: the others send a heartbeat soon.
    Hello {},
    /// The node is alive.
    Heartbeat {
        number: u64,
        /// For each other node, the digest of the sender's entries in the rooms that they share.
        /// None is zero.
        digests: BTreeMap<NodeId, Digest>,
        /// The sender's application, where it has rooms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kinds: Option<Kinds>,
        /// Of all revocations that the sender has; 0 for none.
        #[serde(default, skip_serializing_if = "is_zero")]
        revoked: u64,
    },
    /// The node stops.
    Goodbye {},
    /// Asks for the entries of rooms.
    Query { id: u64, rooms: Vec<RoomKey> },
    /// The entries of those rooms that the sender has members in. It has none in the others, as of `version`.
    Reply {
        id: u64,
        version: u64,
        entries: Vec<Entry>,
        /// Rooms that found no place in this message: ask for them again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<RoomKey>,
    },
    /// An entry that changed.
    Entry(Entry),
    /// Something to be done to connections, once: who has heard this `id` does nothing. `at` is the time of day of the sender,
    /// in milliseconds since 1970.
    Order { id: u64, at: u64, order: NodeOrder },
    /// Asks for all revocations of a node, of one that has those of this digest.
    RevocationQuery { digest: u64 },
    /// Revocations. In a reply to a query, how many parts of it follow.
    Revocations {
        entries: Vec<Ending>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parts_left: Option<u32>,
    },
    /// Asks for what whoever operates the nodes wants to know. `at` is as that of an order; the answer is for the asker alone.
    Search { id: u64, at: u64, search: Search },
    /// The answer to a search.
    Found { id: u64, found: Box<Found> },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(digest: &u64) -> bool {
    *digest == 0
}

/// The place for entries in one reply. The rest is for the names of the rooms that are left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    bytes: usize,
    taken: bool,
}

impl Default for Space {
    fn default() -> Self {
        Self { bytes: MAX_PACKET - ROOMS * 256, taken: false }
    }
}

impl Space {
    /// So many bytes, for the first entry too.
    pub(crate) const fn strictly(bytes: usize) -> Self {
        Self { bytes, taken: true }
    }

    /// Whether an entry fits; then its place is taken. The first one always does: it has at most `Limits::max_named_users` users.
    pub(crate) fn takes(&mut self, entry: &Entry) -> bool {
        let fits = entry.size() <= self.bytes || !self.taken;
        if fits {
            (self.bytes, self.taken) = (self.bytes.saturating_sub(entry.size()), true);
        }
        fits
    }
}

/// Why a message between nodes is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("too long")]
    TooLong,
    #[error("not a message of this format")]
    Malformed,
    #[error("another version")]
    OtherVersion,
}

pub(super) fn encode(node: NodeId, message: NodeMessage) -> Vec<u8> {
    let packet = Packet { version: VERSION, node, message };
    // Strings, numbers and JSON that was checked: it always encodes.
    serde_json::to_vec(&packet).unwrap_or_default()
}

pub(super) fn decode(payload: &[u8]) -> Result<Packet, WireError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }

    if payload.len() > MAX_PACKET {
        return Err(WireError::TooLong);
    }
    let text = std::str::from_utf8(payload).map_err(|_| WireError::Malformed)?;
    json::check_depth(text.as_bytes()).map_err(|_| WireError::Malformed)?;
    match serde_json::from_str::<Packet>(text) {
        Ok(packet) if packet.version == VERSION => Ok(packet),
        _ => match serde_json::from_str::<Version>(text) {
            Ok(Version { v: VERSION }) | Err(_) => Err(WireError::Malformed),
            Ok(_) => Err(WireError::OtherVersion),
        },
    }
}

#[cfg(test)]
mod tests;
