//! What rooms, publishers and slow members are held to, and that nobody waits for another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/valve.rs"]
mod valve;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use rooms_core::{BroadcastError, BuildError, Close, ConnectError, JoinError, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::sync::Notify;

use rig::{Client, Rooms, idle, key};

fn posts() -> Rooms {
    RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn rooms_and_connections_have_their_bounds() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| (limits.max_rooms_per_connection, limits.max_connections_per_user) = (3, 2))
        .build()
        .unwrap();
    let mut client = Client::connect(&rooms, "a");
    for n in 0..3 {
        assert!(client.connection.join(&key(&format!("post:{n}"))).await.is_ok());
    }
    let refused = client.connection.join(&key("post:3")).await.unwrap_err();
    assert_eq!(refused, JoinError::TooManyRooms { room: key("post:3"), limit: 3 });
    let second = Client::connect(&rooms, "a");
    let connect = |user| rooms.connect(rig::who(user), futures::channel::mpsc::unbounded().0).map(drop);
    assert_eq!(connect("a"), Err(ConnectError::TooManyConnections { limit: 2 }));
    assert_eq!(connect("b"), Ok(()));
    drop(second);
    assert_eq!(connect("a"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_over_the_bound_is_an_error_that_says_so() {
    let rooms = posts();
    let room = key("post:42");
    let limit = rooms.limits().max_broadcast_bytes;
    assert!(rooms.broadcast(&room, &"x".repeat(limit - 2)).await.is_ok());
    let error = rooms.broadcast(&room, &"x".repeat(limit - 1)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("post:42: the payload has {} bytes, and at most {limit} are allowed", limit + 1)
    );
    let not_json = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(rooms.broadcast(&room, &not_json).await, Err(BroadcastError::Encode { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_for_space_in_the_log() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 4)
        .build()
        .unwrap();
    let room = key("post:42");
    let mut member = Client::join(&rooms, "a", "post:42").await;
    idle().await;
    // Nothing else runs between these, so nobody is served.
    for n in 0..4 {
        assert!(rooms.broadcast(&room, &n).now_or_never().is_some());
    }
    let mut fifth = std::pin::pin!(rooms.broadcast(&room, &4));
    assert!(fifth.as_mut().now_or_never().is_none());
    fifth.await.unwrap();
    assert_eq!(member.inbox.all().await, [0, 1, 2, 3, 4]);
    // Who stops waiting keeps no space.
    for n in 0..4 {
        assert!(rooms.broadcast(&room, &n).now_or_never().is_some());
    }
    assert!(rooms.broadcast(&room, &4).now_or_never().is_none());
    idle().await;
    for n in 0..4 {
        assert!(rooms.broadcast(&room, &n).now_or_never().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_is_named() {
    let builder = || RoomManager::<rig::Sink>::build_for();
    assert!(
        matches!(builder().kind("Post", Kind::new()).build(), Err(BuildError::Kind { kind, .. }) if kind == "Post")
    );
    let twice = builder().kind("post", Kind::new()).kind("post", Kind::new()).build();
    assert!(matches!(twice, Err(BuildError::KindTwice { kind }) if kind == "post"));
    let zero = builder().limits(|limits| limits.max_outbox_messages = 0).build();
    assert!(matches!(zero, Err(BuildError::ZeroLimit { limit: "outbox_messages" })));
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_sink_takes_nothing_holds_up_nobody() {
    let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let room = key("post:42");
    let mut members = Vec::new();
    for member in 0..3 {
        let (valve, sink) = valve::new();
        let mut connection = rooms.connect(rig::who("a"), sink).unwrap();
        connection.join(&room).await.unwrap();
        valve.open(if member == 1 { 0 } else { usize::MAX / 2 });
        let driven = tokio::spawn(connection.drive());
        members.push((valve, connection, driven));
    }
    idle().await;
    // More than an outbox holds. No time may go by meanwhile.
    let start = tokio::time::Instant::now();
    let count = rooms.limits().max_outbox_messages + 10;
    for n in 0..count {
        rooms.broadcast(&room, &json!({"n": n})).await.unwrap();
        tokio::task::yield_now().await;
    }
    let contents = |valve: &valve::Valve| valve.taken().iter().filter(|m| m.payload().starts_with(b"{\"n\"")).count();
    while members.iter().step_by(2).any(|(valve, ..)| contents(valve) < count) {
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::time::Instant::now(), start);
    let (valve, _connection, driven) = members.swap_remove(1);
    valve.open(usize::MAX / 2);
    assert_eq!(driven.await.unwrap(), Some(Close::SLOW_CONSUMER));
    assert_eq!(valve.taken().len(), 1, "what waited is dropped for the close frame");
}

#[tokio::test(start_paused = true)]
async fn a_large_welcome_does_not_make_a_slow_member() {
    let snapshot = "x".repeat(3 * 1024 * 1024);
    let kind = Kind::authenticated().on_join(move |_| {
        let snapshot = snapshot.clone();
        async move { Ok(json!({"snapshot": snapshot})) }
    });
    let rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut client = Client::join(&rooms, "a", "post:42").await;
    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    assert_eq!(client.inbox.next().await, 1);
}

#[tokio::test(start_paused = true)]
async fn as_much_as_an_outbox_holds_may_come_during_a_join() {
    for (over, lives) in [(0, true), (1, false)] {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, wait) = (Arc::clone(&entered), Arc::clone(&go));
        let kind = Kind::authenticated().on_join(move |_| {
            let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
            async move {
                told.notify_one();
                wait.notified().await;
                Ok(Value::Null)
            }
        });
        let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
        let (publisher, most) = (rooms.clone(), rooms.limits().max_outbox_messages);
        let mut client = Client::connect(&rooms, "a");
        let publish = async move {
            entered.notified().await;
            // One place is the welcome's.
            for n in 0..most - 1 + over {
                publisher.broadcast(&key("post:42"), &n).await.unwrap();
                tokio::task::yield_now().await;
            }
            go.notify_one();
        };
        let room = key("post:42");
        _ = futures::future::join(client.connection.join(&room), publish).await;
        if lives {
            assert_eq!(client.inbox.all().await.len(), most);
        } else {
            assert_eq!(client.inbox.close().await, Close::SLOW_CONSUMER);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_may_be_never() {
    let forever = |limits: &mut rooms_core::Limits| {
        (limits.ping_interval, limits.pong_timeout, limits.linger) = (Duration::MAX, Duration::MAX, Duration::MAX);
        (limits.viewer_window, limits.subscribe_timeout, limits.hook_timeout) =
            (Duration::MAX, Duration::MAX, Duration::MAX);
    };
    let rooms: Rooms = RoomManager::build_for().kind("post", Kind::authenticated()).limits(forever).build().unwrap();
    let mut client = Client::join(&rooms, "a", "post:42").await;
    let draining = rooms.clone();
    let shutdown = tokio::spawn(async move { draining.shutdown(Duration::MAX).await });
    assert_eq!(client.inbox.close().await, Close::RESTART);
    drop(client);
    shutdown.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_long_fan_out_gives_way_to_a_join_a_leave_and_another_rooms_broadcast() {
    const MEMBERS: usize = 10_000;
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = usize::MAX)
        .build()
        .unwrap();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(Client::join(&rooms, "a", "post:42").await);
    }
    let mut other = Client::join(&rooms, "b", "post:7").await;
    let mut guest = Client::connect(&rooms, "c");
    // Past the viewer windows, so that only the broadcast is delivered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rooms.stats().delivered;
    let delivered = || usize::try_from(rooms.stats().delivered - before).unwrap();

    rooms.broadcast(&key("post:42"), &1).await.unwrap();
    let mut steps = Vec::new();
    while delivered() < MEMBERS / 4 {
        let had = delivered();
        tokio::task::yield_now().await;
        steps.push(delivered() - had);
    }
    guest.connection.join(&key("post:42")).await.unwrap();
    assert!(guest.connection.leave(&key("post:42")));
    rooms.broadcast(&key("post:7"), &2).await.unwrap();
    assert_eq!(other.inbox.next().await, 2);
    assert!(delivered() < MEMBERS, "they waited for the whole fan-out");
    assert!(steps.iter().all(|step| *step <= 64), "a step of {} members", steps.iter().max().unwrap());
    for member in &mut members {
        assert!(member.inbox.all().await.contains(&json!(1)));
    }
}
