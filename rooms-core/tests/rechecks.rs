//! Rules that are asked again: whoever is not allowed any more is put out on all nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/board.rs"]
mod board;
#[path = "support/rig.rs"]
mod rig;

use std::{sync::atomic::Ordering, time::Duration};

use rooms_core::Close;
use serde_json::json;
use tokio::time::{Instant, sleep};

use board::{App, Talk, settle};
use rig::{key, who};

#[tokio::test(start_paused = true)]
async fn a_recheck_puts_out_on_all_nodes_whom_the_rule_does_not_allow_any_more() {
    let app = App::default();
    let nodes = app.nodes(3).await;
    let (mut stays, mut goes) = (Vec::new(), Vec::new());
    for node in 0..3 {
        for (user, talks) in [("a", &mut stays), ("b", &mut goes)] {
            let mut talk = Talk::multi(&nodes, node, who(user));
            talk.join("board:7").await;
            talk.join("slow:7").await;
            talks.push(talk);
        }
    }
    let mut single = Talk::single(&nodes, 2, "b", "board:7");
    single.next_of("room_joined").await;
    settle().await;
    nodes.node(0).recheck(&key("board:7")).await.unwrap();
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 7, "all are allowed");

    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck(&key("board:7")).await.unwrap();
    for talk in &mut goes {
        let left = talk.next_of("room_left").await;
        assert_eq!(left, json!({"type": "room_left", "room": "board:7", "reason": "not_allowed"}));
    }
    assert_eq!(single.inbox.close().await, Close::NOT_ALLOWED);
    settle().await;
    assert_eq!(nodes.node(0).viewers(&key("board:7")).await.viewers, 3);
    assert_eq!(nodes.node(0).viewers(&key("slow:7")).await.viewers, 6, "that room only");

    nodes.node(1).recheck_user("b").await.unwrap();
    for talk in &mut goes {
        assert_eq!(talk.next_of("room_left").await["room"], "slow:7");
    }
    for talk in &mut stays {
        assert!(talk.others().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_was_allowed_a_moment_ago_is_asked_about_again() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.say(&json!({"type": "join", "room": "slow:1"}));
    sleep(Duration::from_millis(500)).await;
    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck_user("b").await.unwrap();
    assert_eq!(talk.next_of("room_left").await["reason"], "not_allowed");
    assert_eq!(nodes.node(0).local_viewers(&key("slow:1")), 0);
}

#[tokio::test(start_paused = true)]
async fn a_recheck_behind_one_that_runs_asks_once_more() {
    let app = App::default();
    let nodes = app.nodes(1).await;
    let mut talk = Talk::multi(&nodes, 0, who("b"));
    talk.join("slow:1").await;
    nodes.node(0).recheck_user("b").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    app.barred.store(true, Ordering::Relaxed);
    nodes.node(0).recheck_user("b").await.unwrap();
    let start = Instant::now();
    assert_eq!(talk.next_of("room_left").await["room"], "slow:1");
    assert_eq!(start.elapsed().as_millis(), 1_500);
}
