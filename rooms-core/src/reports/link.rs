//! What leads from a node to its backplane.

use serde::{Deserialize, Serialize};

/// Links that are listed. 128: of a larger backplane the others are counted.
pub(crate) const MAX_LINKS: usize = 128;

/// A link: a server of the backplane, and the connections of this node to it. A bus makes it, in [`Bus::links`](crate::Bus::links).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkReport {
    /// Which server. It is shown to whoever operates the node: an address may be in it, a password never.
    pub name: Box<str>,
    /// Whether what is published by it comes back by it.
    pub up: bool,
    /// The time that a message took last through the server and back, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Topics that are subscribed by it.
    pub subscribed: usize,
    /// Messages that wait to be published by it.
    pub queued_messages: usize,
    /// Bytes of them.
    pub queued_bytes: usize,
    /// How often a connection of it was lost, or was not made.
    pub losses: u64,
    /// What went wrong last.
    pub last_fault: Option<Box<str>>,
}

impl LinkReport {
    /// A link of which nothing else is known yet; the fields say the rest.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, up: bool) -> Self {
        Self {
            name: name.into(),
            up,
            round_trip_us: None,
            subscribed: 0,
            queued_messages: 0,
            queued_bytes: 0,
            losses: 0,
            last_fault: None,
        }
    }
}
