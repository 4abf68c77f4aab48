//! Joins over a bus that refuses, panics or gives no answer, and beside nodes that reply to nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/rig.rs"]
mod rig;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rooms_core::{
    JoinError, Kind, Limits, RoomManager,
    testing::faults::{Faults, FaultyBus},
};
use tokio::time::{Instant, sleep, timeout};

use faulty::{Faulty, rooms};
use rig::{Client, Rooms, idle, key};

#[tokio::test(start_paused = true)]
async fn a_subscription_that_fails_is_the_joiners_error_and_the_next_try_works() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let room = key("post:42");
    let mut client = Client::connect(&rooms, "a");
    for fault in [&bus.refuse_subscriptions, &bus.hang_subscriptions] {
        fault.store(true, Ordering::Relaxed);
        assert_eq!(client.connection.join(&room).await, Err(JoinError::Unavailable { room: room.clone() }));
        fault.store(false, Ordering::Relaxed);
        assert_eq!(client.connection.join(&room).await, Ok(1));
        rooms.broadcast(&room, &1).await.unwrap();
        client.connection.leave(&room);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(rooms.stats().rooms, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_panics_fails_one_join_and_not_the_next() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    bus.panic_subscriptions.store(true, Ordering::Relaxed);
    let mut client = Client::connect(&rooms, "a");
    let failed = client.connection.join(&key("post:42")).await;
    assert_eq!(failed, Err(JoinError::Unavailable { room: key("post:42") }));
    bus.panic_subscriptions.store(false, Ordering::Relaxed);
    assert_eq!(client.connection.join(&key("post:42")).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_join_waits_for_a_bus_that_hangs_no_longer_than_the_limit() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    bus.hang_subscriptions.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let mut joining = Vec::new();
    // Three calls of the bus, each of which takes its whole time.
    for n in 0..1_200 {
        let mut client = Client::connect(&rooms, &format!("u{n}"));
        let room = key(&format!("post:{n}"));
        joining.push(tokio::spawn(async move { client.connection.join(&room).await }));
    }
    for joining in joining {
        assert!(matches!(joining.await.unwrap(), Err(JoinError::Unavailable { .. })));
    }
    assert!(start.elapsed() <= rooms.limits().subscribe_timeout + Duration::from_millis(10), "{:?}", start.elapsed());
}

/// A node, and another one that replies to nothing.
async fn beside_a_frozen_node(bus: Arc<Faulty>, limits: impl Fn(&mut Limits)) -> (Rooms, Rooms) {
    let faults = Faults::new(1);
    let frozen = rooms(FaultyBus::new(bus.inner.peer(), faults.clone()));
    let build = RoomManager::build_for().kind("post", Kind::authenticated()).limits(limits).bus(bus);
    let node: Rooms = build.build().unwrap();
    sleep(Duration::from_secs(1)).await;
    faults.freeze();
    (node, frozen)
}

/// Begins a join that waits for the other node's reply, and gives it up: with it goes the room.
async fn give_up_a_join(node: &Rooms) {
    let mut client = Client::connect(node, "a");
    let room = key("post:42");
    assert!(timeout(Duration::from_millis(20), client.connection.join(&room)).await.is_err());
    drop(client);
    idle().await;
    assert_eq!(node.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_outlives_its_room_opens_none_that_is_not_subscribed() {
    let bus = Arc::new(Faulty::default());
    let (node, _frozen) = beside_a_frozen_node(Arc::clone(&bus), |limits| limits.linger = Duration::ZERO).await;
    give_up_a_join(&node).await;
    bus.withhold.store(true, Ordering::Relaxed);
    let mut client = Client::connect(&node, "b");
    let joins = tokio::spawn(async move { client.connection.join(&key("post:42")).await.map(|_| client) });
    // Past the end of the first query, and before the join is given up.
    sleep(Limits::default().answer_timeout + Duration::from_secs(1)).await;
    assert!(!joins.is_finished(), "the bus has not answered for this room");
    bus.answer();
    let mut client = joins.await.unwrap().unwrap();
    node.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(client.inbox.all().await.last().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_waits_for_the_replies_to_its_own_query_and_not_to_one_of_the_room_before() {
    let bus = Arc::new(Faulty::default());
    let (node, _frozen) = beside_a_frozen_node(bus, |limits| limits.linger = Duration::ZERO).await;
    give_up_a_join(&node).await;
    let start = Instant::now();
    let _client = Client::join(&node, "b", "post:42").await;
    assert!(start.elapsed() >= Limits::default().answer_timeout, "{:?}", start.elapsed());
}
