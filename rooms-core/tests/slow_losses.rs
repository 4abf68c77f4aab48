//! What a slow member of a room with a history can't be given: it is told of that, and only of that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/slow.rs"]
mod slow;
#[path = "support/valve.rs"]
mod valve;

use std::time::Duration;

use bytes::Bytes;
use rooms_core::{
    Bus, Kind, Limits, LocalBus, Overflow, RoomManager,
    bus::{BusEvent, History as _, Position, Retention, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use rig::{idle, key};
use slow::{OUTBOX, POST, Rooms, Slow, brief, numbers, over, publish, rooms};

#[tokio::test(start_paused = true)]
async fn what_the_log_has_no_more_is_one_resync_and_then_everything_again() {
    let rooms = over(LocalBus::new(), Retention::messages(40));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    slow.valve.open(1_000);
    idle().await;
    publish(&rooms, 101..=102).await;
    let told = slow.takes(0).await;
    assert!(told[1]["position"].as_str().is_some_and(|position| position.ends_with(".100")), "{told:?}");
    assert_eq!(brief(told), [json!(1), json!("history_gap"), json!(101), json!(102)]);
    // Again and again: it has all that is kept, or is told.
    let mut got = Vec::new();
    for round in 0..40_u64 {
        publish(&rooms, 30 * round + 103..=30 * round + 132).await;
        got.extend(slow.takes((round % 5 * 8) as usize).await);
    }
    got.extend(slow.takes(1_000).await);
    let (mut last, mut resyncs) = (102, 0);
    for told in brief(got) {
        match told.as_u64() {
            Some(number) => {
                assert!(number == last + 1 || last == 0 && number > 102, "{number} after {last}");
                last = number;
            }
            None => {
                assert_eq!(told, "history_gap");
                (last, resyncs) = (0, resyncs + 1);
            }
        }
    }
    assert!(resyncs > 0 && (last == 0 || last == 1_302), "{resyncs}, {last}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_everybody_is_told_of_ends_what_is_owed_to_a_slow_member() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&elsewhere, 1..=20).await;
    hub.forget_histories();
    publish(&elsewhere, 21..=30).await;
    slow.valve.open(1_000);
    publish(&elsewhere, 31..=32).await;
    let told = brief(slow.takes(0).await);
    let expected: Vec<Value> = [json!("epoch")].into_iter().chain(numbers(21..=32)).collect();
    assert_eq!((&told[0], &told[1..]), (&json!(1), &*expected));
}

/// It may fall behind before what can't be given and after it, and in one round with it.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_given_is_told_to_a_slow_member_where_it_lies_in_what_it_is_owed() {
    let hub = LocalBus::new();
    let elsewhere = hub.peer();
    let rooms = over(hub, Retention::messages(1_000));
    let append = async |payload: String| {
        let position = elsewhere.append(&Topic::Room(key(POST)), payload.into(), Retention::messages(1_000)).await;
        position.unwrap().offset()
    };
    for pause_after in [0, 1, 20, 21, 22, 30] {
        let (mut slow, mut other) = (Slow::many(&rooms, &[POST]).await, Slow::many(&rooms, &[POST]).await);
        other.valve.open(1_000);
        let (mut first, mut spoilt) = (0, 0);
        for n in 1..=30 {
            let payload = if n == 21 { "[".repeat(100) } else { n.to_string() };
            let offset = append(payload).await;
            first = if n == 1 { offset } else { first };
            spoilt = if n == 21 { offset } else { spoilt };
            if n == pause_after {
                idle().await;
            }
        }
        idle().await;
        let all = [numbers(1..=20), vec![json!("bus_gap")], numbers(22..=30)].concat();
        assert_eq!(brief(other.takes(1_000).await), all);
        let told = slow.takes(1_000).await;
        let mut next = first;
        for event in &told {
            if event["type"] == "resync" {
                next = 0;
            } else if let Some(offset) = event["offset"].as_str() {
                let offset = offset.parse::<Position>().unwrap().offset();
                assert!(next == 0 || offset == next, "{offset} without a word, paused after {pause_after}: {told:?}");
                next = offset + 1;
            }
        }
        assert!(next == 0 || next > spoilt, "it was told: {told:?}");
        slow.valve.open(1_000);
        publish(&rooms, 31..=32).await;
        assert_eq!(brief(slow.takes(0).await), numbers(31..=32), "and it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_log_reaches_a_slow_member_or_it_is_told() {
    let rooms = rooms();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    let second = Slow::one(&rooms).await;
    sleep(Duration::from_secs(1)).await;
    drop(second);
    let told = slow.takes(1_000).await;
    assert!(told.iter().any(|event| event["viewers"] == 2), "{told:?}");
    assert_eq!(brief(told), numbers(1..=100));
    // A stranger that only publishes.
    let foreign = LocalBus::new();
    let rooms = over(foreign.peer(), Retention::messages(1_000));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    for number in 0..50 {
        foreign.publish(&Topic::Room(key(POST)), Bytes::from(format!("\"bare {number}\""))).await.unwrap();
        idle().await;
    }
    let told = brief(slow.takes(1_000).await);
    assert_eq!((told.first(), told.last()), (Some(&json!("slow_consumer")), Some(&json!("bare 49"))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_just_now_is_tried_until_it_can_or_all_are_told() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(1_000)));
    let rooms = over(bus.clone(), Retention::messages(1_000));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&elsewhere, 1..=40).await;
    bus.go_down();
    publish(&elsewhere, 41..=60).await;
    slow.valve.open(1_000);
    idle().await;
    assert_eq!(brief(slow.takes(0).await), numbers(1..=40).as_slice(), "what is here does not wait for the bus");
    bus.come_up();
    bus.faults().failing.store(2, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    slow.valve.open(1_000);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(brief(slow.takes(0).await), numbers(41..=60));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_not_given_to_who_was_slow() {
    let rooms = over(LocalBus::new(), Retention::messages(1_000).age(Duration::from_secs(10)));
    let mut slow = Slow::many(&rooms, &[POST]).await;
    publish(&rooms, 1..=100).await;
    sleep(Duration::from_secs(10)).await;
    let told = brief(slow.takes(1_000).await);
    assert_eq!(told.last(), Some(&json!("history_gap")), "{told:?}");
    assert!(told.len() <= OUTBOX + 4, "what waited for its socket, and nothing of the log: {told:?}");
    publish(&rooms, 101..=102).await;
    assert_eq!(brief(slow.takes(1_000).await), numbers(101..=102));
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_can_be_asked_for_is_told_alone() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let (mut slow, mut other) = (Slow::many(&rooms, &[POST]).await, Slow::many(&rooms, &[POST]).await);
    other.valve.open(1_000);
    publish(&elsewhere, 1..=200).await;
    let reads = bus.reads();
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    // What waited for it, and then it is to be healed.
    slow.valve.open(1_000);
    sleep(Duration::from_secs(15)).await;
    let told = brief(slow.takes(0).await);
    assert_eq!((told.first(), told.last()), (Some(&json!(1)), Some(&json!("bus_gap"))), "{told:?}");
    assert!(bus.reads() > reads, "the bus was asked");
    assert_eq!(brief(other.takes(0).await), numbers(1..=200));
    slow.valve.open(1_000);
    other.valve.open(1_000);
    publish(&elsewhere, 201..=202).await;
    assert_eq!(brief(slow.takes(0).await), numbers(201..=202), "and it goes on");
    assert_eq!(brief(other.takes(0).await), numbers(201..=202));
}

#[tokio::test(start_paused = true)]
async fn however_many_the_log_has_overtaken_it_is_read_once_for_them() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), Retention::messages(40)));
    let rooms = over(bus.clone(), Retention::messages(40));
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(Slow::many(&rooms, &[POST]).await);
    }
    publish(&elsewhere, 1..=200).await;
    let reads = bus.reads();
    slow.iter().for_each(|slow| slow.valve.open(1_000));
    idle().await;
    for slow in &mut slow {
        let told = brief(slow.takes(0).await);
        assert_eq!(told.last(), Some(&json!("history_gap")), "{told:?}");
    }
    assert_eq!(bus.reads() - reads, 1);
}

/// A room with a history that drops the oldest.
fn lossy() -> Rooms {
    let post = Kind::authenticated().history(Retention::messages(1_000)).overflow(Overflow::DropOldest);
    let limits = |limits: &mut Limits| limits.max_outbox_messages = OUTBOX;
    RoomManager::build_for().kind("post", post).limits(limits).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_leaves_the_position_after_which_everything_is_given() {
    let rooms = lossy();
    let mut slow = Slow::many(&rooms, &[POST]).await;
    let mut told = Vec::new();
    for round in 0..10 {
        publish(&rooms, 20 * round + 1..=20 * round + 20).await;
        told.extend(slow.takes(round as usize).await);
    }
    told.extend(slow.takes(1_000).await);
    let (mut last, mut resyncs) = (0, 0);
    for event in &told {
        if event["type"] == "message" {
            assert_eq!(offset(&event["offset"]), last + 1, "{told:?}");
            last += 1;
        } else if event["type"] == "resync" {
            let after = offset(&event["position"]);
            assert!(after > last, "{told:?}");
            (last, resyncs) = (after, resyncs + 1);
        }
    }
    assert!(last == 200 && resyncs > 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_after_a_new_join_is_told_after_its_answer() {
    for (before, after) in [(1, 15), (5, 12), (12, 15), (20, 40)] {
        let rooms = lossy();
        let mut slow = Slow::many(&rooms, &[POST]).await;
        publish(&rooms, 1..=before).await;
        for command in ["leave", "join"] {
            slow.say(&json!({"type": command, "room": POST}));
            idle().await;
        }
        publish(&rooms, before + 1..=before + after).await;
        let told = slow.takes(1_000).await;
        let joined = told.iter().position(|event| event["type"] == "room_joined").unwrap();
        let mut last = offset(&told[joined]["position"]);
        assert_eq!(last, before);
        for event in &told[joined..] {
            if event["type"] == "message" {
                assert_eq!(offset(&event["offset"]), last + 1, "{before}, {after}: {told:?}");
                last += 1;
            } else if event["type"] == "resync" {
                last = offset(&event["position"]);
            }
        }
        assert_eq!(last, before + after, "{before}, {after}: {told:?}");
        assert!(told.iter().any(|event| event["type"] == "resync"), "{before}, {after}: {told:?}");
    }
}

fn offset(position: &Value) -> u64 {
    position.as_str().and_then(|text| text.parse::<Position>().ok()).expect("a position").offset()
}
