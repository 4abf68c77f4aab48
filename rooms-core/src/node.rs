//! What tells one process, and one connection, from all others.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    num::ParseIntError,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One process in one incarnation: a node that restarts is another node.
///
/// 64 random bits from the standard library's seed for hash maps, which the operating system provides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

impl NodeId {
    pub(crate) fn random() -> Self {
        Self(RandomState::new().hash_one(std::process::id()))
    }

    #[cfg(test)]
    pub(crate) const fn for_test(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A text that is no [`NodeId`]: a hexadecimal number of up to 64 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id is a hexadecimal number of up to 64 bits")]
#[non_exhaustive]
pub struct NodeIdError;

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NodeIdError)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// One live connection, unique over all nodes.
///
/// As text, and with serde, it is the node's id and a number that nobody can guess: clients send it along, for
/// [`except`](crate::Broadcast::except), and whoever could name the connection of somebody else could hide a message from
/// them. It is no secret of much worth beyond that; do not take it for a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    node: NodeId,
    number: u64,
}

impl ConnectionId {
    const fn new(node: NodeId, number: u64) -> Self {
        Self { node, number }
    }

    /// The node that the connection is on.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// What [`ConnectionIds::next`] was given for it, if this process made it.
    pub(crate) const fn mark(&self) -> usize {
        self.number as usize % MARKS
    }

    #[cfg(test)]
    pub(crate) const fn for_test(number: u64) -> Self {
        Self::new(NodeId(0), number)
    }
}

/// The marks that an id may have. 64: a connection is found by its id in a 64th of the time.
pub(crate) const MARKS: usize = 64;

/// Gives out the ids of one node's connections.
///
/// A number is a keyed hash (SipHash) of a counter. The key is 128 bits that the operating system gave the standard
/// library for its hash maps, and is never told, so from some numbers nobody can tell another; and no call to the system
/// is needed for each connection. Two of a million connections are given the same number once in some ten million times,
/// as with any 64 random bits. The lowest of them are a mark, by which the connection is found: a keyed hash of its user, so
/// nobody can tell anything from them either.
#[derive(Debug)]
pub(crate) struct ConnectionIds {
    node: NodeId,
    key: RandomState,
    next: AtomicU64,
}

impl ConnectionIds {
    pub(crate) fn of(node: NodeId) -> Self {
        Self { node, key: RandomState::new(), next: AtomicU64::new(0) }
    }

    /// An id with this mark, which is less than [`MARKS`].
    pub(crate) fn next(&self, mark: usize) -> ConnectionId {
        let random = self.key.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        ConnectionId::new(self.node, random - random % MARKS as u64 + (mark % MARKS) as u64)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.node, self.number)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// A text that is no [`ConnectionId`]: two hexadecimal numbers with a `-` between.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a connection id is two hexadecimal numbers with a `-` between")]
#[non_exhaustive]
pub struct ConnectionIdError;

impl From<ParseIntError> for ConnectionIdError {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for ConnectionId {
    type Err = ConnectionIdError;

    fn from_str(text: &str) -> Result<Self, ConnectionIdError> {
        let (node, number) = text.split_once('-').ok_or(ConnectionIdError)?;
        Ok(Self::new(NodeId(u64::from_str_radix(node, 16)?), u64::from_str_radix(number, 16)?))
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_reads_as_it_prints() {
        let id = ConnectionId::new(NodeId::random(), 42);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "-", "1", "1-", "x-1", "1-2-3", "11111111111111111-1"] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(ConnectionIdError), "{bad}");
        }
    }

    #[test]
    fn serde_is_the_string() {
        let id = ConnectionId::new(NodeId::random(), 42);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ConnectionId>(&text).unwrap(), id);
        assert_eq!(serde_json::from_value::<ConnectionId>(serde_json::json!(id)).unwrap(), id, "from an owned string");
        assert!(serde_json::from_str::<ConnectionId>("\"1\"").is_err());
        assert!(serde_json::from_str::<ConnectionId>("1").is_err());
    }

    #[test]
    fn a_connection_is_not_guessed_from_the_ones_before_it() {
        let node = NodeId::random();
        let (ids, other) = (ConnectionIds::of(node), ConnectionIds::of(node));
        let mark = RandomState::new();
        let next = |ids: &ConnectionIds, user: u32| ids.next(mark.hash_one(user) as usize).number;
        let numbers: Vec<_> = (0..10_000).map(|user| next(&ids, user)).collect();
        let mut differ = numbers.clone();
        differ.sort_unstable();
        differ.dedup();
        assert_eq!(differ.len(), numbers.len());
        let mut steps: Vec<_> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), numbers.len() - 1, "no step comes twice");
        for bit in 0..64 {
            let set = numbers.iter().filter(|number| *number >> bit & 1 == 1).count();
            // Ten times the standard deviation of a coin that is thrown ten thousand times.
            assert!((4_500..=5_500).contains(&set), "bit {bit} is set in {set} of 10,000");
        }
        assert!((0..10_000).all(|user| !numbers.contains(&next(&other, user))), "each manager has a key of its own");
    }

    #[test]
    fn the_short_numbers_of_earlier_releases_are_read() {
        let node = NodeId::random();
        let id: ConnectionId = format!("{node}-2a").parse().unwrap();
        assert_eq!(id, ConnectionId::new(node, 42));
        assert_eq!(size_of::<ConnectionId>(), 16, "every member of a room has one");
    }

    #[test]
    fn two_incarnations_differ() {
        assert_ne!(NodeId::random(), NodeId::random());
    }
}
