//! Fleets of nodes whose members are channels, and what is true of all of them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use rooms_core::{Kind, RoomKey, RoomManagerBuilder, testing::fleet::Fleet};
use serde_json::Value;

use super::rig::{Client, Sink};

pub(crate) type Nodes = Fleet<Sink>;

/// Nodes with kinds `post` (counted), `chat` (named) and `desk` (named, and kept for two seconds), for as many connections of one user as a test wants.
pub(crate) fn nodes(count: usize) -> Nodes {
    Fleet::new(count, |_, node| with_kinds(node))
}

pub(crate) fn with_kinds(node: RoomManagerBuilder<Sink>) -> RoomManagerBuilder<Sink> {
    node.kind("post", Kind::authenticated())
        .kind("chat", Kind::authenticated().list_members())
        .kind("desk", Kind::authenticated().list_members().leave_grace(Duration::from_secs(2)))
        .limits(|limits| limits.max_connections_per_user = usize::MAX)
}

/// Past every window, and every word that is under way.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// What every one of these nodes says of a room's viewers, once all agree.
pub(crate) async fn agreed(fleet: &Nodes, of: impl IntoIterator<Item = usize>, room: &RoomKey) -> usize {
    let mut counts = Vec::new();
    for node in of {
        let count = fleet.node(node).viewers(room).await;
        assert!(count.exact, "node {node} is not sure");
        counts.push(count.viewers);
    }
    assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
    counts[0]
}

/// The numbers in the viewer events that a member was given.
pub(crate) async fn told(client: &mut Client) -> Vec<u64> {
    let viewers = |event: &Value| event["viewers"].as_u64();
    client.inbox.all().await.iter().filter_map(viewers).collect()
}
