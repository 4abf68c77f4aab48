//! Slow members of a room with a history that have just joined, left, or come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/slow.rs"]
mod slow;
#[path = "support/valve.rs"]
mod valve;

use std::time::Duration;

use futures::channel::mpsc;
use rooms_core::{Kind, Limits, Overflow, RoomManager, bus::Retention};
use serde_json::json;
use tokio::time::sleep;

use rig::{idle, key, who};
use slow::{OUTBOX, POST, Rooms, Slow, brief, numbers, publish, rooms};

#[tokio::test(start_paused = true)]
async fn a_slow_member_goes_and_comes_as_any_other() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST, "post:43"]).await;
    publish(&rooms, 1..=100).await;
    slow.say(&json!({"type": "leave", "room": POST}));
    slow.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 101..=102).await;
    let told = slow.takes(1_000).await;
    let joined = told.iter().position(|event| event["type"] == "room_joined").expect("a welcome");
    assert_eq!(brief(told[joined..].to_vec()), numbers(101..=102), "nothing from before it came back");
    publish(&rooms, 103..=104).await;
    assert_eq!(brief(slow.takes(9).await), numbers(103..=104));
}

#[tokio::test(start_paused = true)]
async fn one_that_left_while_it_was_behind_takes_nothing_from_who_has_its_place_now() {
    let rooms = rooms();
    let mut left = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    left.say(&json!({"type": "leave", "room": POST}));
    idle().await;
    // In its place, and behind as well.
    let mut stays = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 101..=200).await;
    let told = brief(left.takes(1_000).await);
    assert!(told.iter().all(|told| told.as_u64().is_none_or(|number| number <= 100)), "{told:?}");
    assert_eq!(brief(stays.takes(1_000).await), numbers(101..=200));
    // It comes back while the other one is behind.
    publish(&rooms, 201..=300).await;
    left.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 301..=302).await;
    assert_eq!(brief(left.takes(1_000).await), numbers(301..=302));
    assert_eq!(brief(stays.takes(1_000).await), numbers(201..=302));
}

/// What waits since before it left is not what it is owed.
#[tokio::test(start_paused = true)]
async fn one_that_leaves_and_comes_back_on_its_connection_while_messages_wait_is_given_none_twice() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    let first = rooms.broadcast(&key(POST), &1).await.unwrap().position.unwrap();
    assert_eq!(brief(slow.takes(1).await), [1]);
    publish(&rooms, 2..=6).await;
    slow.say(&json!({"type": "leave", "room": POST}));
    slow.say(&json!({"type": "join", "room": POST, "since": first}));
    idle().await;
    publish(&rooms, 7..=40).await;
    let told = slow.takes(1_000).await;
    let back = told.iter().position(|event| event["type"] == "room_joined").unwrap();
    assert_eq!((&told[back]["position"], &told[back]["recovered"]), (&json!(first), &json!(true)));
    assert_eq!(brief(told[back..].to_vec()), numbers(2..=40));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_given_more_than_may_wait_for_it_as_it_reads() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=1).await;
    let first = slow.takes(1).await[0]["offset"].clone();
    publish(&rooms, 2..=300).await;
    drop(slow);
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut back = Slow { valve, send, _ended: ended, seen: 0 };
    back.say(&json!({"type": "join", "room": POST, "since": first}));
    let mut told = back.takes(3).await;
    publish(&rooms, 301..=400).await;
    told.extend(back.takes(100).await);
    publish(&rooms, 401..=402).await;
    told.extend(back.takes(1_000).await);
    assert_eq!((&told[0]["recovered"], &told[0]["position"]), (&json!(true), &first));
    assert_eq!(brief(told), numbers(2..=402));
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_hook_runs_may_be_more_than_may_wait() {
    let post =
        Kind::authenticated().history(Retention::messages(1_000)).overflow(Overflow::Resync).on_join(|_| async {
            sleep(Duration::from_secs(1)).await;
            Ok(json!({"snapshot": true}))
        });
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut slow = Slow { valve, send, _ended: ended, seen: 0 };
    slow.say(&json!({"type": "join", "room": POST}));
    idle().await;
    publish(&rooms, 1..=100).await;
    sleep(Duration::from_secs(1)).await;
    publish(&rooms, 101..=102).await;
    let told = slow.takes(1_000).await;
    assert_eq!(told[0]["snapshot"], true);
    assert_eq!(brief(told), numbers(1..=102));
}

#[tokio::test(start_paused = true)]
async fn one_that_asked_for_the_newest_and_does_not_read_has_these_and_then_everything() {
    let rooms = rooms();
    publish(&rooms, 1..=50).await;
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut slow = Slow { valve, send, _ended: ended, seen: 0 };
    slow.say(&json!({"type": "join", "room": POST, "newest": 5}));
    idle().await;
    publish(&rooms, 51..=150).await;
    let mut told = slow.takes(3).await;
    publish(&rooms, 151..=160).await;
    told.extend(slow.takes(1_000).await);
    assert_eq!(told[0]["type"], "room_joined");
    assert_eq!(brief(told), numbers(46..=160));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_is_given_as_it_reads_counts_where_it_resumes_in_a_loop() {
    let limits = |limits: &mut Limits| (limits.max_outbox_messages, limits.max_replay_bytes) = (OUTBOX, 20_000);
    let post = Kind::authenticated().history(Retention::messages(1_000)).overflow(Overflow::Resync);
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let first = rooms.broadcast(&key(POST), &1).await.unwrap().position.unwrap();
    for _ in 0..100 {
        rooms.broadcast(&key(POST), &"x".repeat(500)).await.unwrap();
    }
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    let mut talk = Slow { valve, send, _ended: ended, seen: 0 };
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    let told = talk.takes(1_000).await;
    assert_eq!((&told[0]["recovered"], brief(told.clone()).len()), (&json!(true), 100));
    talk.say(&json!({"type": "leave", "room": POST}));
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    let told = talk.takes(1_000).await;
    assert_eq!(told.last().unwrap()["code"], "unavailable", "{told:?}");
    sleep(Duration::from_secs(10)).await;
    talk.say(&json!({"type": "join", "room": POST, "since": first}));
    assert_eq!(talk.takes(1_000).await[0]["recovered"], true);
}

#[tokio::test(start_paused = true)]
async fn a_slow_observer_has_everything_and_comes_back_as_any_other() {
    let post = Kind::new()
        .join_rule(|_, _| async move { true })
        .observe_claim("observes")
        .history(Retention::messages(1_000))
        .overflow(Overflow::Resync);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let open = || {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let observer = who("a").with_claims(r#"{"observes":["post:*"]}"#);
        let ended = tokio::spawn(rooms.serve(stream, sink, observer));
        Slow { valve, send, _ended: ended, seen: 0 }
    };
    let mut slow = open();
    slow.say(&json!({"type": "join", "room": POST, "observe": true}));
    let welcome = slow.takes(1).await.remove(0);
    assert_eq!(welcome["observer"], true, "{welcome}");
    publish(&rooms, 1..=100).await;
    assert_eq!(brief(slow.takes(1_000).await), numbers(1..=100));
    drop(slow);
    let mut back = open();
    back.say(&json!({"type": "join", "room": POST, "observe": true, "since": welcome["position"]}));
    let told = back.takes(1_000).await;
    assert_eq!(
        (&told[0]["observer"], &told[0]["recovered"], &told[0]["viewers"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(brief(told), numbers(1..=100));
}
