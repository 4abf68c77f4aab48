//! What tells one process, and one connection, from all others.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    num::ParseIntError,
    str::FromStr,
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

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    node: NodeId,
    number: u64,
}

impl ConnectionId {
    pub(crate) const fn new(node: NodeId, number: u64) -> Self {
        Self { node, number }
    }

    /// The node that the connection is on.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    #[cfg(test)]
    pub(crate) const fn for_test(number: u64) -> Self {
        Self::new(NodeId(0), number)
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
    fn two_incarnations_differ() {
        assert_ne!(NodeId::random(), NodeId::random());
    }
}
