//! What the application is told about a room as a whole: it is occupied, it is empty.

/// What happened to a room as a whole, for [`Kind::on_occupancy`](crate::Kind::on_occupancy).
///
/// *Here* is about the members on this node, and exact. *Anywhere* and *everywhere* are about all nodes, best effort:
/// each node goes by what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Occupancy {
    /// The room has its first member on this node.
    OccupiedHere,
    /// The room has its first member of all nodes. Told on the node of that member, as far as it knows: where two
    /// members join on two nodes at once, both nodes tell it.
    OccupiedAnywhere,
    /// The last member on this node left. Another may have joined since.
    EmptyHere,
    /// The last member of all nodes left. Told on every node that had a member within `Limits::linger`, as far as each
    /// knows. Told nowhere if the node that had the only members was killed and no other node had any.
    EmptyEverywhere,
}
