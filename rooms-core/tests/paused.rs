//! Members whose pages are hidden: they are in the room, and are given none of its messages until they go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::Duration;

use rooms_core::{JoinOptions, Kind, Overflow, RoomKey, RoomManagerBuilder, bus::Retention, testing::kit::RoomsTest};
use serde_json::{Value, json};

fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let log = Kind::authenticated().allow_publish().history(Retention::messages(20));
    rooms
        .kind("post", Kind::authenticated())
        .kind("log", log.clone())
        .kind("patient", log.overflow(Overflow::Resync))
        .kind("chat", Kind::authenticated().list_members())
        .kind("board", Kind::authenticated().keep_state(Duration::from_secs(60)))
}

fn room(name: &str) -> RoomKey {
    name.parse().unwrap()
}

async fn broadcast(test: &RoomsTest, name: &str, numbers: impl IntoIterator<Item = u32>) {
    for n in numbers {
        test.rooms().broadcast(&room(name), &json!({"type": "n", "n": n})).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_paused_is_counted_and_hears_of_viewers_alone() {
    let test = RoomsTest::with_nodes(2, kinds);
    let (mut ada, mut bob) = (test.connect("ada").await, test.connect("bob").await);
    ada.join("post:1").await;
    bob.join("post:1").await;
    ada.expect_event("viewer_joined").await;
    let paused = ada.pause("post:1").await;
    assert_eq!(
        paused,
        json!({"type": "room_joined", "room": "post:1", "viewers": 2, "paused": true, "recovered": true})
    );
    broadcast(&test, "post:1", [1, 2]).await;
    assert_eq!(bob.expect_event("n").await["n"], 1);
    assert_eq!(test.rooms().local_viewers(&room("post:1")), 2);
    let mut eve = test.connect_to(1, rooms_core::Identity::new("eve").unwrap()).await;
    eve.join("post:1").await;
    assert_eq!(ada.expect_event("viewer_joined").await["viewers"], 3);
    drop(eve);
    assert_eq!(ada.expect_event("viewer_left").await["viewers"], 2);
    ada.expect_nothing().await;
    ada.leave("post:1").await;
    assert_eq!(test.rooms().local_viewers(&room("post:1")), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_history_it_is_told_once_that_it_missed_something_and_only_then() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    ada.join("post:1").await;
    ada.pause("post:1").await;
    let resumed = ada.resume("post:1").await;
    assert_eq!(resumed, json!({"type": "room_joined", "room": "post:1", "viewers": 1, "recovered": true}));
    broadcast(&test, "post:1", [1]).await;
    assert_eq!(ada.expect_event("n").await["n"], 1);
    ada.pause("post:1").await;
    broadcast(&test, "post:1", 2..=9).await;
    assert_eq!(ada.resume("post:1").await["recovered"], false);
    let resync = ada.expect_event("resync").await;
    assert_eq!(resync, json!({"type": "resync", "room": "post:1", "reason": "history_gap"}));
    broadcast(&test, "post:1", [10]).await;
    assert_eq!(ada.expect_event("n").await["n"], 10);
    ada.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_history_it_is_given_what_it_missed_in_order_and_once() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    for name in ["log:1", "patient:1"] {
        ada.join(name).await;
        broadcast(&test, name, 1..=3).await;
        for n in 1..=3 {
            assert_eq!(ada.expect_event("n").await["n"], n);
        }
        let paused = ada.pause(name).await;
        assert_eq!(ada.pause(name).await, paused, "and so it stays");
        broadcast(&test, name, 4..=9).await;
        ada.expect_nothing().await;
        let resumed = ada.resume(name).await;
        assert_eq!(resumed["recovered"], json!(true), "{resumed}");
        assert!(resumed["position"].as_str().is_some_and(|at| at.ends_with(".3")), "{resumed}");
        broadcast(&test, name, [10]).await;
        for n in 4..=10 {
            assert_eq!(ada.expect_event("n").await["n"], n);
        }
        assert_eq!(ada.join(name).await["recovered"], Value::Null, "it goes on already");
        ada.pause(name).await;
        broadcast(&test, name, 11..=40).await;
        assert_eq!(ada.resume(name).await["recovered"], false);
        assert_eq!(ada.expect_event("resync").await["reason"], "history_gap");
        ada.expect_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_by_the_bus_own_means_beside_a_history_is_missed_and_said_so() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    ada.join("log:1").await;
    ada.pause("log:1").await;
    let topic = rooms_core::bus::Topic::Room(room("log:1"));
    let sent = br#"{"type":"n","n":1}"#;
    rooms_core::bus::Bus::publish(&test.bus(), &topic, sent.as_slice().into()).await.unwrap();
    broadcast(&test, "log:1", [2]).await;
    assert_eq!(ada.resume("log:1").await["recovered"], false);
    assert_eq!(ada.expect_event("resync").await["reason"], "bus_gap");
    ada.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_may_enter_a_room_as_paused_and_be_given_what_it_missed_before_that_too() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    let before = ada.join("log:1").await["position"].clone();
    broadcast(&test, "log:1", 1..=2).await;
    drop(ada);
    let mut ada = test.connect("ada").await;
    let join = |since: &Value| json!({"type": "join", "room": "log:1", "since": since, "paused": true, "ref": 1});
    ada.send(&join(&before));
    let joined = ada.expect_event("room_joined").await;
    assert_eq!((&joined["paused"], &joined["position"]), (&json!(true), &before), "{joined}");
    broadcast(&test, "log:1", 3..=4).await;
    ada.expect_nothing().await;
    assert_eq!(ada.resume("log:1").await["recovered"], true);
    for n in 1..=4 {
        assert_eq!(ada.expect_event("n").await["n"], n);
    }
    ada.leave("log:1").await;
    ada.send(&join(&json!("nonsense")));
    assert_eq!(ada.expect_event("room_joined").await["paused"], true);
    assert_eq!(ada.resume("log:1").await["recovered"], false);
    assert_eq!(ada.expect_event("resync").await["reason"], "epoch");

    let mut bob = test.connect("bob").await;
    bob.pause("post:1").await;
    broadcast(&test, "post:1", [1]).await;
    bob.expect_nothing().await;
    assert_eq!(bob.resume("post:1").await["recovered"], false);
    assert_eq!(bob.try_join("nowhere:1").await.unwrap_err()["code"], "not_allowed");
}

#[tokio::test(start_paused = true)]
async fn the_list_of_members_is_told_while_it_is_paused_and_the_state_when_it_goes_on() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    ada.join("chat:1").await;
    ada.pause("chat:1").await;
    let mut bob = test.connect("bob").await;
    let members = bob.join("chat:1").await["members"].clone();
    assert_eq!(members, json!([{"user": "bob"}, {"user": "ada"}]), "who is paused is listed");
    assert_eq!(ada.expect_event("viewer_joined").await["users"], json!([{"user": "bob"}]));

    let board = room("board:1");
    ada.join("board:1").await;
    ada.pause("board:1").await;
    test.rooms().broadcast_state(&board, &json!({"a": 1, "text": "x".repeat(50)})).await.unwrap();
    test.rooms().broadcast_state(&board, &json!({"a": 2, "text": "x".repeat(50)})).await.unwrap();
    ada.expect_nothing().await;
    assert_eq!(ada.resume("board:1").await["recovered"], true);
    assert_eq!(ada.expect_event("room_state").await["state"]["a"], 2);
    test.rooms().broadcast_state(&board, &json!({"a": 3, "text": "x".repeat(50)})).await.unwrap();
    assert_eq!(ada.expect_event("room_state").await["patch"], json!({"a": 3}));
}

#[tokio::test(start_paused = true)]
async fn who_is_put_out_while_paused_is_told_and_comes_back_as_anybody() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    ada.join("log:1").await;
    ada.pause("log:1").await;
    test.rooms().kick(&room("log:1"), "ada", "enough").await.unwrap();
    assert_eq!(ada.expect_event("room_left").await["message"], "enough");
    broadcast(&test, "log:1", [1]).await;
    assert_eq!(ada.join("log:1").await["recovered"], Value::Null);
    ada.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn the_application_pauses_its_own_connections_by_a_join() {
    use futures::{StreamExt as _, channel::mpsc};
    use rooms_core::{Identity, Message, RoomManager};

    let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let (sink, received) = mpsc::unbounded::<Message>();
    let mut connection = rooms.connect(Identity::new("5").unwrap(), sink).unwrap();
    let post = room("post:1");
    connection.join(&post).await.unwrap();
    assert_eq!(connection.join_with(&post, JoinOptions::new().paused()).await.unwrap(), 1);
    rooms.broadcast(&post, &1).await.unwrap();
    assert_eq!(connection.join(&post).await.unwrap(), 1);
    rooms.broadcast(&post, &2).await.unwrap();
    let driven = tokio::time::timeout(Duration::from_secs(1), connection.drive()).await;
    assert!(driven.is_err());
    drop((connection, rooms));
    let texts: Vec<String> = received.map(|message| message.as_text().unwrap_or_default().to_owned()).collect().await;
    let expected = [
        r#"{"type":"room_joined","room":"post:1","viewers":1}"#,
        r#"{"type":"room_joined","room":"post:1","viewers":1,"recovered":false}"#,
        r#"{"type":"resync","room":"post:1","reason":"history_gap"}"#,
        "2",
    ];
    assert_eq!(texts, expected);
}
