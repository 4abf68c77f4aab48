//! Kicks: a user is put out of a room, and of that room only, on all nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/board.rs"]
mod board;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use futures::FutureExt as _;
use rooms_core::{Close, CloseCode, Reach};
use serde_json::json;
use tokio::time::{Instant, sleep};

use board::{App, Talk, settle};
use rig::{Client, idle, key, who};

#[tokio::test(start_paused = true)]
async fn a_kick_puts_a_user_out_of_that_room_on_all_nodes_at_once_and_out_of_no_other() {
    let app = App::default();
    let nodes = app.nodes(4).await;
    let mut watcher = Talk::multi(&nodes, 3, who("w"));
    watcher.join("board:7").await;
    let mut kicked = Vec::new();
    for node in 0..3 {
        let mut talk = Talk::multi(&nodes, node, who("b"));
        talk.join("board:7").await;
        talk.join("post:1").await;
        kicked.push(talk);
    }
    let mut single = Talk::single(&nodes, 1, "b", "board:7");
    single.next_of("room_joined").await;
    let mut elsewhere = Talk::single(&nodes, 1, "b", "post:1");
    elsewhere.next_of("room_joined").await;
    settle().await;
    watcher.inbox.now();

    let start = Instant::now();
    assert_eq!(nodes.node(3).kick(&key("board:7"), "b", "spam").await.unwrap(), Reach::AllNodes);
    for talk in &mut kicked {
        let left = talk.next_of("room_left").await;
        assert_eq!(left, json!({"type": "room_left", "room": "board:7", "reason": "kicked", "message": "spam"}));
    }
    assert_eq!(single.inbox.close().await, Close::new(CloseCode::NOT_ALLOWED, "spam"));
    // Named once the last of the connections is out.
    let gone = loop {
        let left = watcher.next_of("viewer_left").await;
        if left["users"].is_array() {
            break left;
        }
    };
    let named = (&gone["viewers"], &gone["users"][0]["user"]);
    assert_eq!(named, (&json!(1), &json!("b")), "without the grace of ten seconds");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("post:1")).await.viewers, 4, "that room only");
    let seen = app.seen.lock().unwrap().clone();
    assert_eq!(seen.iter().filter(|line| **line == "b leaves board:7").count(), 4);

    // They may come back where the rule lets them.
    kicked[0].join("board:7").await;
    assert!(elsewhere.others().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kick_ends_a_join_that_is_under_way() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.say(&json!({"type": "join", "room": "slow:1", "ref": 5}));
    sleep(Duration::from_millis(500)).await;
    nodes.node(1).kick(&key("slow:1"), "b", "").await.unwrap();
    let refused = talk.inbox.next().await;
    assert_eq!(
        (&refused["code"], &refused["room"], &refused["ref"]),
        (&json!("not_allowed"), &json!("slow:1"), &json!(5))
    );
    sleep(Duration::from_secs(5)).await;
    assert!(talk.inbox.is_silent().await);
    assert_eq!(nodes.node(0).local_viewers(&key("slow:1")), 0);
    let mut single = Talk::single(&nodes, 0, "b", "slow:1");
    sleep(Duration::from_millis(500)).await;
    nodes.node(1).kick(&key("slow:1"), "b", "").await.unwrap();
    assert_eq!(single.inbox.close().await, Close::NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_and_is_still_shown_is_shown_no_more_after_a_kick() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut watcher = Talk::multi(&nodes, 1, who("w"));
    watcher.join("board:7").await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("board:7").await;
    settle().await;
    drop(talk);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.node(1).viewers(&key("board:7")).await.viewers, 2, "within its grace");
    nodes.node(1).kick(&key("board:7"), "b", "").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(nodes.node(1).viewers(&key("board:7")).await.viewers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_application_drives_is_closed_by_a_kick_from_a_room_that_it_is_in() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut here = Client::join(nodes.node(0), "b", "board:7").await;
    let there = Client::join(nodes.node(0), "b", "post:1").await;
    nodes.node(0).kick(&key("board:7"), "b", "spam").await.unwrap();
    assert_eq!(here.inbox.close().await, Close::new(CloseCode::NOT_ALLOWED, "spam"));
    idle().await;
    assert!(!there.driven.is_finished());
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_kick_at_once_put_out_once() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let mut talk = Talk::multi(&nodes, 2, who("b"));
    talk.join("board:7").await;
    settle().await;
    talk.inbox.now();
    let room = key("board:7");
    let (one, other) = tokio::join!(nodes.node(0).kick(&room, "b", "x"), nodes.node(1).kick(&room, "b", "x"));
    assert!(one.is_ok() && other.is_ok());
    settle().await;
    assert_eq!(talk.others().await.len(), 1);
    assert_eq!(app.seen.lock().unwrap().iter().filter(|line| line.contains("leaves")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_kick_that_is_dropped_once_it_was_polled_is_carried_out_here() {
    let app = App::default();
    let nodes = app.nodes(2).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("board:7").await;
    let room = key("board:7");
    drop(nodes.node(0).kick(&room, "b", "").now_or_never());
    assert_eq!(talk.next_of("room_left").await["reason"], "kicked");
    drop(nodes.node(0).kick(&room, "b", ""));
    talk.join("board:7").await;
    settle().await;
    assert!(talk.others().await.is_empty(), "one that was never polled did nothing");
}
