//! Orders to all nodes, whatever they are: rooms entered by the server, and which orders count, are refused, or too old.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/board.rs"]
mod board;
#[path = "support/log.rs"]
#[allow(dead_code, reason = "this file uses a part of it")]
mod log;
#[path = "support/rig.rs"]
mod rig;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use futures::FutureExt as _;
use rooms_core::{
    Close, ConnectionId, Kind, OrderError, Reach, WallClock,
    testing::{faults::NetworkFaults, fleet::Fleet},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use board::{App, Nodes, Talk, id_of, settle};
use rig::{idle, key, who};

#[tokio::test(start_paused = true)]
async fn the_server_has_a_user_enter_and_leave_a_room_on_all_nodes() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talks = [Talk::multi(&nodes, 0, who("b")), Talk::multi(&nodes, 1, who("b"))];
    let mut single = Talk::single(&nodes, 1, "b", "post:1");
    single.next_of("room_joined").await;
    settle().await;
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    for talk in &mut talks {
        let joined = talk.next_of("room_joined").await;
        assert_eq!((&joined["room"], joined.get("ref")), (&json!("board:7"), None));
    }
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    settle().await;
    assert!(talks[0].others().await.is_empty(), "it is in it already");
    nodes.node(1).leave("b", &key("board:7")).await.unwrap();
    for talk in &mut talks {
        assert_eq!(talk.next_of("room_left").await, json!({"type": "room_left", "room": "board:7", "reason": "left"}));
    }
    assert!(single.others().await.is_empty() && !single.ended.is_finished());

    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    settle().await;
    assert!(talks[0].others().await.is_empty(), "the rule says no, and nobody is told");
}

#[tokio::test(start_paused = true)]
async fn of_orders_about_one_room_the_last_one_counts() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    // So that the entering waits behind a command.
    talk.say(&json!({"type": "join", "room": "slow:1"}));
    idle().await;
    nodes.node(0).enter("b", &key("board:7")).await.unwrap();
    nodes.node(0).kick(&key("board:7"), "b", "").await.unwrap();
    talk.next_of("room_joined").await;
    settle().await;
    assert!(talk.others().await.is_empty());
    assert_eq!(nodes.node(0).local_viewers(&key("board:7")), 0);
}

#[tokio::test(start_paused = true)]
async fn more_orders_than_may_wait_close_a_connection_that_comes_back() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    for room in 0..256 {
        let room = key(&format!("post:{room}"));
        nodes.node(0).enter("b", &room).now_or_never().unwrap().unwrap();
    }
    idle().await;
    assert!(!talk.ended.is_finished());
    settle().await;
    assert_eq!(nodes.node(0).stats().rooms, 128, "as many as it may be in");
    for room in 0..257 {
        let room = key(&format!("post:{room}"));
        nodes.node(0).leave("b", &room).now_or_never().unwrap().unwrap();
    }
    assert_eq!(talk.inbox.close().await, Close::UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_comes_twice_is_carried_out_once() {
    let app = App::default();
    let nodes: Nodes = Fleet::new(2, |_, node| {
        let me = Kind::authenticated().on_join(|member| async move { Ok(json!({"me": member.connection()})) });
        app.kinds(node).kind("me", me)
    });
    settle().await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    let id = id_of(&mut talk).await;
    nodes.network_faults(&NetworkFaults { doubled: 100, ..NetworkFaults::calm() });
    for n in 0..10 {
        nodes.node(1).send_to(id, &n).await.unwrap();
    }
    settle().await;
    let told: Vec<_> = talk.others().await.into_iter().map(|event| event["data"].clone()).collect();
    assert_eq!(told, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_ordered_is_refused_with_words() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let rooms = nodes.node(0);
    let long = "x".repeat(124);
    let of = |result: Result<Reach, OrderError>| result.unwrap_err().to_string();
    assert_eq!(of(rooms.kick(&key("board:7"), "no user", "").await), "no user has this id");
    assert_eq!(
        of(rooms.kick(&key("board:7"), "b", &long).await),
        "the reason has 124 bytes, and at most 123 are allowed, 64 levels deep"
    );
    assert!(rooms.kick(&key("board:7"), "b", &long[1..]).await.is_ok());
    assert!(matches!(rooms.disconnect_user("", Close::NORMAL).await, Err(OrderError::User(_))));
    let name = "x".repeat(257);
    assert!(matches!(rooms.disconnect_where(&name, 1, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let value = "x".repeat(1_023);
    assert!(matches!(rooms.disconnect_where("sid", value, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(rooms.disconnect_where("sid", deep, Close::NORMAL).await, Err(OrderError::TooBig { .. })));
    let gone: ConnectionId = format!("{}-1", rooms.node()).parse().unwrap();
    let long = "x".repeat(64 * 1024);
    assert!(matches!(rooms.send_to(gone, &long).await, Err(OrderError::TooBig { what: "the payload", .. })));
    let unencodable = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(rooms.send_to(gone, &unencodable).await, Err(OrderError::Encode(_))));
    assert!(matches!(rooms.send_to(gone, &1).await, Err(OrderError::NoConnection { .. })));
}

/// So far ahead of the fleet's.
#[derive(Debug)]
struct Ahead(Duration);

impl WallClock for Ahead {
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.0
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_wrong_clock_makes_too_old_is_counted_and_logged() {
    let log = log::Log::start();
    let nodes: Nodes = Fleet::new(3, |number, node| {
        let node = node.kind("post", Kind::authenticated());
        // Only the last one's is wrong.
        if number == 2 { node.clock(Arc::new(Ahead(Duration::from_secs(90)))) } else { node }
    });
    let mut talks = Vec::new();
    for number in 0..3 {
        talks.push(Talk::multi(&nodes, number, who("5")));
        talks[number].join("post:1").await;
    }
    sleep(Duration::from_secs(5)).await;
    for _ in 0..3 {
        assert_eq!(nodes.node(0).kick(&key("post:1"), "5", "out").await.unwrap(), Reach::AllNodes);
        idle().await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!([0, 1, 2].map(|node| nodes.node(node).stats().too_old), [0, 0, 3]);
    assert_eq!(nodes.node(2).inspect().await.too_old, 3);
    assert!(talks[2].others().await.is_empty(), "it stays");
    for talk in &mut talks[..2] {
        talk.next_of("room_left").await;
    }
    let lines = log.lines();
    let warned = lines.iter().filter(|line| line.contains("is not carried out here"));
    assert_eq!(warned.count(), 1, "{lines:#?}");
}
