//! What is told of a node to whoever operates it: plain data, bounded in size, without tokens, claims and payloads.

mod connection;
mod explanation;
mod fleet;
mod incident;
mod link;
mod node;
mod room;
mod top;

pub use self::{
    connection::{ConnectionReport, LoadReport, MembershipReport, UserReport},
    explanation::{Explanation, Finding, Weight},
    fleet::{FleetReport, NodeSummary, TurnedAway},
    incident::{Incident, IncidentKind},
    link::LinkReport,
    node::{KindReport, NodeReport, PeerReport, RoomSize, RuleSort, SlowConnection},
    room::{MemberReport, RoomReport, SubscriptionReport},
};
pub(crate) use self::{
    connection::{MAX_CONNECTIONS, MAX_MEMBERSHIPS},
    fleet::{Found, Search},
    incident::MAX_INCIDENTS,
    link::MAX_LINKS,
    node::{LARGEST, MAX_PEERS, SLOWEST},
    room::MAX_MEMBERS,
    top::Top,
};
