//! Classic channels, or sharded ones.

/// Which channels of a cluster carry the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PubSub {
    /// `PUBLISH` and `SUBSCRIBE`: the nodes of the cluster send every message to all others. For foreign publishers that
    /// know no other, and may publish to any node, and for clusters of Redis 6. The bus itself publishes and subscribes
    /// each room at the node that has its slot, as otherwise the messages of one room had several orders. Where that node
    /// changes, members are told to `resync`; a message that was on its way between nodes may then come late, or again,
    /// and one that is lost there is lost without a sign.
    Classic,
    /// `SPUBLISH` and `SSUBSCRIBE`, of Redis 7 and newer: each room is the business of one node, so that a cluster carries
    /// more the larger it is. Foreign publishers use `SPUBLISH` too.
    Sharded,
}
