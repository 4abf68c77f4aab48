//! How often the log is read, and what is given out of the copy that a node has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/history.rs"]
mod history;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::time::Duration;

use rooms_core::{LocalBus, bus::Position};
use serde_json::json;
use tokio::time::sleep;

use flaky::Flaky;
use history::{POST, join, joined, numbers, over, posts, publish, two_nodes};
use rig::idle;
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn what_a_node_has_read_of_the_log_is_given_for_no_longer_than_the_log_keeps_it() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let before = publish(&elsewhere, 1..=1).await;
    publish(&elsewhere, 2..=3).await;
    sleep(Duration::from_secs(3000)).await;
    publish(&elsewhere, 4..=4).await;
    let (mut stays, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut stays.inbox).await, [1, 2, 3, 4]);
    sleep(Duration::from_secs(599)).await;
    let reads = bus.reads();
    let (mut talk, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3, 4], "the last second of the first three");
    sleep(Duration::from_secs(1)).await;
    let (mut talk, _) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [4]);
    let (mut talk, welcome) = joined(&rooms, json!({"since": before})).await;
    assert_eq!((&welcome["recovered"], &talk.inbox.next().await["reason"]), (&json!(false), &json!("history_gap")));
    // Beside the look at the position, which may be due.
    assert!(bus.reads() <= reads + 1, "all of it out of the node's memory");
}

#[tokio::test(start_paused = true)]
async fn however_many_come_back_at_once_the_history_is_read_once() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let last = publish(&elsewhere, 1..=50).await;
    let back = |n: u64| {
        let (rooms, since) = (rooms.clone(), Position::new(last.epoch(), n % 50));
        async move {
            let (mut talk, welcome) = joined(&rooms, json!({"since": since})).await;
            assert_eq!(welcome["recovered"], true);
            assert_eq!(numbers(&mut talk.inbox).await, (n % 50 + 1..=50).collect::<Vec<_>>());
            talk
        }
    };
    let all = futures::future::join_all((0..80).map(back)).await;
    assert_eq!(bus.reads(), 1, "whatever their positions");
    drop(all);
    publish(&elsewhere, 51..=60).await;
    futures::future::join_all((40..50).map(|n| {
        let (rooms, since) = (rooms.clone(), Position::new(last.epoch(), n));
        async move {
            let (mut talk, _) = joined(&rooms, json!({"since": since})).await;
            assert_eq!(numbers(&mut talk.inbox).await, (n + 1..=60).collect::<Vec<_>>());
        }
    }))
    .await;
    assert_eq!(bus.reads(), 1, "it stayed subscribed, and has its own copy");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_history_is_read_waits_for_that_read() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let last = publish(&elsewhere, 1..=50).await;
    bus.hold_reads();
    let mut talks = Vec::new();
    for n in 0..10 {
        let talk = Talk::multi(&rooms, "a");
        talk.say(join(&json!({"since": Position::new(last.epoch(), n)})));
        talks.push((talk, n));
        idle().await;
    }
    bus.faults().permits.add_permits(100);
    for (mut talk, n) in talks {
        assert_eq!(talk.inbox.next().await["recovered"], true);
        assert_eq!(numbers(&mut talk.inbox).await, (n + 1..=50).collect::<Vec<_>>());
    }
    assert_eq!(bus.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_history_can_not_be_read_fails_and_may_be_tried_again() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    bus.faults().failing.store(1, std::sync::atomic::Ordering::Relaxed);
    let mut talk = Talk::multi(&rooms, "a");
    assert_eq!(talk.ask(join(&json!({}))).await["code"], "unavailable");
    assert_eq!(talk.ask(join(&json!({}))).await["type"], "room_joined");
    // One whose reads hang holds up nobody else, and not for ever.
    bus.hold_reads();
    let mut hangs = Talk::multi(&rooms, "b");
    hangs.say(join(&json!({"since": "1.1"})).replace(POST, "post:43"));
    let silent = talk.ask(json!({"type": "join", "room": "silent:1"}).to_string()).await;
    assert_eq!(silent["type"], "room_joined");
    assert_eq!(hangs.inbox.next().await["code"], "unavailable");
}

#[tokio::test(start_paused = true)]
async fn a_position_that_this_node_has_not_heard_of_yet_is_waited_for() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (mut first, _) = joined(&rooms, json!({})).await;
    bus.set(|faults| &faults.frozen, true);
    let last = publish(&elsewhere, 1..=3).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": last})).await;
    assert_eq!(welcome["recovered"], true, "it has just posted that, elsewhere");
    bus.thaw();
    publish(&elsewhere, 4..=4).await;
    assert_eq!(numbers(&mut talk.inbox).await, [4]);
    assert_eq!(numbers(&mut first.inbox).await, [1, 2, 3, 4], "what came early by the read does not come again");
}

#[tokio::test(start_paused = true)]
async fn more_of_the_newest_than_a_log_may_have_is_not_looked_for() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (_stays, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=150).await;
    idle().await;
    let reads = bus.reads();
    let (mut late, _) = joined(&rooms, json!({"newest": 1_000_000})).await;
    assert_eq!(numbers(&mut late.inbox).await, (51..=150).collect::<Vec<_>>());
    assert_eq!(bus.reads(), reads, "the node has all that the log keeps");
}
