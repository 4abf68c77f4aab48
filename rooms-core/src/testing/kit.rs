//! Tests of an application's rooms: its own kinds and hooks, users that talk to them, and no sockets.
//!
//! ```
//! use rooms_core::{Kind, RoomManagerBuilder, testing::kit::RoomsTest};
//! use serde_json::json;
//!
//! fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
//!     let team = Kind::new().join_rule(|who, room| async move { who.user() != "mallory" && room.id() == "blue" });
//!     rooms.kind("team", team.allow_publish())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let test = RoomsTest::new(kinds);
//! let mut ada = test.connect("ada").await;
//! let mut bob = test.connect("bob").await;
//! ada.join("team:blue").await;
//! bob.join("team:blue").await;
//! ada.publish("team:blue", &json!({"type": "said", "text": "hi"})).await;
//! assert_eq!(bob.expect_event("said").await["text"], "hi");
//! let refused = test.connect("mallory").await.try_join("team:blue").await.unwrap_err();
//! assert_eq!(refused["code"], "not_allowed");
//! # }
//! ```
//!
//! Bytes are published by [`publish_binary`](TestUser::publish_binary), and expected by
//! [`expect_binary`](TestUser::expect_binary).
//!
//! A user speaks the multi-room endpoint through a real session: rules, hooks, limits and heartbeats are the ones that
//! run behind a socket.
//!
//! # Paused time or real time
//! The test chooses, by its attribute:
//!
//! - `#[tokio::test(start_paused = true)]` where rules and hooks stay inside the process. Time jumps to the next timer as soon
//!   as every task waits, so a lease, a grace period or a token of an hour takes no time.
//! - `#[tokio::test]` where a rule or a hook asks something outside: a database, a service over HTTP. In paused time the wait
//!   for its answer would count as idle: the clock jumps over the timeout of the client, and `sqlx` says `PoolTimedOut`
//!   before the database had a chance. In real time everything here works the same and takes as long as it says:
//!   [`advance`](RoomsTest::advance) all of its time, [`TestUser::expect_nothing`] a second. Give tokens, grace periods and
//!   limits of the test short times.
//!
//! A test may also pause where it needs nothing from outside any more: `tokio::time::pause()`, then `test.advance(hour).await`.

use std::time::{Duration, SystemTime};

use super::{
    faults::{Faults, NetworkFaults},
    fleet::Fleet,
    user::TestUser,
};
use crate::{
    auth::Identity,
    manager::{RoomManager, RoomManagerBuilder},
    ws::FrameSink,
};

/// One node, or several, of an application's rooms.
#[derive(Debug)]
pub struct RoomsTest {
    fleet: Fleet<FrameSink>,
}

impl RoomsTest {
    /// One node, of what `make` makes of a builder: the function with which the application registers its kinds.
    ///
    /// # Panics
    /// Outside a tokio runtime, and where the builder has a mistake in it.
    pub fn new(make: impl Fn(RoomManagerBuilder) -> RoomManagerBuilder) -> Self {
        Self::with_nodes(1, make)
    }

    /// So many nodes. Their bus is the kit's; see [`faults`](Self::faults).
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_nodes(nodes: usize, make: impl Fn(RoomManagerBuilder) -> RoomManagerBuilder) -> Self {
        Self { fleet: Fleet::new(nodes, |_, builder| make(builder)) }
    }

    /// The rooms, on the first node: what the application's handlers have.
    #[must_use]
    pub fn rooms(&self) -> &RoomManager {
        self.node(0)
    }

    /// The rooms on a node, by its number from 0.
    ///
    /// # Panics
    /// Where there is none of that number.
    #[must_use]
    pub fn node(&self, number: usize) -> &RoomManager {
        self.fleet.node(number)
    }

    /// The time of day, by which tokens end: it goes with the time that [`advance`](Self::advance) lets pass.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.fleet.now()
    }

    /// What happens to the messages between a node and the others: cuts, freezes, losses, and its end.
    ///
    /// # Panics
    /// Where there is none of that number.
    #[must_use]
    pub fn faults(&self, number: usize) -> &Faults {
        self.fleet.faults(number)
    }

    /// Sets what happens to the messages between all nodes.
    pub fn network_faults(&self, network_faults: &NetworkFaults) {
        self.fleet.network_faults(network_faults);
    }

    /// Connects a user to the first node.
    ///
    /// # Panics
    /// Where the name is no user's.
    pub async fn connect(&self, user: &str) -> TestUser {
        self.connect_to(0, Identity::new(user).expect("a user")).await
    }

    /// Connects somebody, with claims and an expiry as the test likes, to a node.
    ///
    /// # Panics
    /// Where there is none of that number.
    pub async fn connect_to(&self, node: usize, identity: Identity) -> TestUser {
        // Whatever was begun before comes first.
        tokio::task::yield_now().await;
        TestUser::connect(self.node(node), identity)
    }

    /// Lets time pass, with all that happens meanwhile. In paused time that takes none; in real time it takes this long.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
