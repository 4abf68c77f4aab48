//! What is lost on the way to a node is read of the log, and only what the log does not have is a loss.

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

use rooms_core::{
    BroadcastError, Kind, LocalBus,
    bus::{BusError, BusEvent, Position, Retention, Topic},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use flaky::Flaky;
use history::{POST, join, joined, lose, numbers, over, posts, publish, two_nodes};
use rig::{Client, idle, key};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn a_gap_that_is_longer_than_what_may_wait_in_a_room_is_made_good() {
    let (bus, rooms, elsewhere) = two_nodes(|| Kind::authenticated().history(Retention::messages(10_000)));
    let (mut talk, _) = joined(&rooms, json!({})).await;
    lose(&bus, &elsewhere, 1..=5_000).await;
    publish(&elsewhere, 5_001..=5_002).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut talk.inbox).await, (1..=5_002).collect::<Vec<_>>());
}

/// Nothing follows that would show it.
#[tokio::test(start_paused = true)]
async fn more_than_may_wait_while_the_history_is_read_is_read_as_well() {
    let (bus, rooms, elsewhere) = two_nodes(|| Kind::authenticated().history(Retention::messages(10_000)));
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.hold_reads();
    lose(&bus, &elsewhere, 1..=1).await;
    publish(&elsewhere, 2..=2).await;
    idle().await;
    publish(&elsewhere, 3..=3_000).await;
    bus.faults().permits.add_permits(1_000);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(numbers(&mut talk.inbox).await, (1..=3_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_while_the_bus_is_down_is_an_error_where_there_is_a_history() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.go_down();
    let refused = rooms.broadcast(&key(POST), &1).await.unwrap_err();
    assert!(matches!(refused, BroadcastError::Bus { source: BusError::Down, .. }), "{refused:?}");
    assert!(rooms.broadcast(&key("silent:1"), &1).await.is_ok());
    bus.come_up();
    assert!(talk.inbox.is_silent().await, "nothing happened, and nothing was lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_read_and_nobody_is_told() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (mut many, _) = joined(&rooms, json!({})).await;
    let mut one = Client::join(&rooms, "b", POST).await;
    many.inbox.all().await;
    one.inbox.all().await;
    let reads = bus.reads();

    // The next one shows that some are missing.
    publish(&elsewhere, 1..=2).await;
    lose(&bus, &elsewhere, 3..=5).await;
    publish(&elsewhere, 6..=7).await;
    assert_eq!(numbers(&mut many.inbox).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(one.inbox.all().await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(bus.reads(), reads + 1);

    // The bus says so, and nothing comes after.
    lose(&bus, &elsewhere, 8..=9).await;
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    assert_eq!(numbers(&mut many.inbox).await, [8, 9]);

    // An outage, with reads that fail at first.
    bus.go_down();
    publish(&elsewhere, 10..=12).await;
    bus.faults().failing.store(2, std::sync::atomic::Ordering::Relaxed);
    bus.come_up();
    publish(&elsewhere, 13..=13).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut many.inbox).await, [10, 11, 12, 13]);
    assert_eq!(one.inbox.all().await, [8, 9, 10, 11, 12, 13]);
}

#[tokio::test(start_paused = true)]
async fn what_the_log_does_not_have_is_one_resync() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    let resync = |reason: &str| json!({"type": "resync", "room": POST, "reason": reason});
    let data = |events: Vec<Value>| -> Vec<Value> {
        let offset = |event: &Value| event["offset"].as_str().map(|offset| offset.parse::<Position>().unwrap());
        let mut follows = events.iter().skip(1).map(offset).collect::<Vec<_>>().into_iter();
        let brief = |mut event: Value| {
            let next = follows.next().flatten();
            if event["type"] == "message" {
                return event["data"].clone();
            }
            let next = next.expect("a message follows");
            let position = event.as_object_mut().unwrap().remove("position");
            assert_eq!(
                position,
                Some(json!(Position::new(next.epoch(), next.offset() - 1))),
                "all that comes after it"
            );
            event
        };
        events.into_iter().map(brief).collect()
    };

    publish(&elsewhere, 1..=1).await;
    lose(&bus, &elsewhere, 2..=150).await;
    publish(&elsewhere, 151..=152).await;
    assert_eq!(data(talk.inbox.all().await), [json!(1), resync("history_gap"), json!(151), json!(152)]);

    hub.forget_histories();
    publish(&elsewhere, 1..=2).await;
    assert_eq!(data(talk.inbox.all().await), [resync("epoch"), json!(1), json!(2)]);

    lose(&bus, &elsewhere, 3..=3).await;
    bus.faults().failing.store(100, std::sync::atomic::Ordering::Relaxed);
    publish(&elsewhere, 4..=5).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(data(talk.inbox.all().await), [resync("bus_gap"), json!(4), json!(5)], "nobody can be asked");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    publish(&elsewhere, 6..=6).await;
    assert_eq!(data(talk.inbox.all().await), [json!(6)], "and it goes on");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_and_nobody_misses_is_told_to_nobody() {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), posts()));
    publish(&elsewhere, 1..=1).await;
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 2..=2).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2]);
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    let reads = bus.reads();
    sleep(Duration::from_secs(120)).await;
    assert!(bus.reads() > reads + 6, "it was looked for what was lost without a word");
    let mut late = Talk::multi(&rooms, "b");
    assert_eq!(late.ask(join(&json!({"newest": 50}))).await["code"], "unavailable");
    sleep(Duration::from_secs(5)).await;
    assert!(talk.inbox.all().await.iter().all(|event| event["type"] != "resync"));
    publish(&elsewhere, 3..=3).await;
    assert_eq!(numbers(&mut talk.inbox).await, [3]);
    // What is seen to be missing is told, and once.
    lose(&bus, &elsewhere, 4..=4).await;
    publish(&elsewhere, 5..=5).await;
    sleep(Duration::from_secs(120)).await;
    let told = talk.inbox.all().await;
    let told: Vec<_> = told.iter().map(|event| event.get("reason").unwrap_or(&event["data"])).collect();
    assert_eq!(told, [&json!("bus_gap"), &json!(5)]);
    // A loss that the bus reports may be one.
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.next().await["reason"], "bus_gap");
    assert!(talk.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_made_up_position_disturbs_nobody() {
    let bus = Flaky::new(LocalBus::new());
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    let first = publish(&rooms, 1..=1).await;
    let made_up = [
        Position::new(first.epoch(), 1_000),
        Position::new(first.epoch(), u64::MAX),
        Position::new(first.epoch(), 0),
        Position::new(7, 2),
        first,
    ];
    for position in made_up {
        bus.say(BusEvent::message_at(Topic::Room(key(POST)), "\"made up\"".into(), position));
    }
    publish(&rooms, 2..=3).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3]);
    assert!(bus.reads() < 10, "{} reads", bus.reads());
}

#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_silence_is_found_missing_within_half_a_minute() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let mut one = Client::join(&rooms, "a", POST).await;
    for begin in [0, 3, 7, 11] {
        sleep(Duration::from_secs(begin)).await;
        lose(&bus, &elsewhere, 1..=2).await;
        assert!(one.inbox.is_silent().await);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(one.inbox.all().await, [1, 2], "and nobody is told to fetch");
    }
    let reads = bus.reads();
    drop(one);
    sleep(Duration::from_secs(300)).await;
    assert!(bus.reads() <= reads + 1, "a room without members is not looked at");
}

#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_silence_is_found_missing_where_the_log_could_not_be_read_before() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=1).await;
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.all().await.last().unwrap()["reason"], "bus_gap");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    lose(&bus, &elsewhere, 2..=3).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_to_nobody_while_the_bus_is_down_and_made_good_when_it_is_back() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.go_down();
    publish(&elsewhere, 1..=3).await;
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [0; 0], "and no resync");
    bus.come_up();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_last_messages_of_many_rooms_are_found_missing_in_one_round() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let names: Vec<String> = (0..500).map(|n| format!("post:{n}")).collect();
    let mut clients = Vec::new();
    for name in &names {
        clients.push(Client::join(&rooms, name, name).await);
    }
    bus.set(|faults| &faults.muted, true);
    for name in &names {
        elsewhere.broadcast(&key(name), name).await.unwrap();
    }
    bus.set(|faults| &faults.muted, false);
    sleep(Duration::from_secs(30)).await;
    for (name, client) in names.iter().zip(&mut clients) {
        assert_eq!(client.inbox.all().await, [name.as_str()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_while_the_history_is_read_is_looked_at_again() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    bus.hold_reads();
    let mut talk = Talk::multi(&rooms, "a");
    talk.say(join(&json!({})));
    idle().await;
    assert_eq!(bus.reads(), 1);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    bus.faults().permits.add_permits(1_000);
    idle().await;
    assert_eq!(bus.reads(), 2, "what the first did not see was lost perhaps");
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    publish(&elsewhere, 1..=1).await;
    assert_eq!(numbers(&mut talk.inbox).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_jump_while_the_history_is_read_again_is_no_loss() {
    let (bus, rooms, elsewhere) = two_nodes(posts);
    let (mut talk, _) = joined(&rooms, json!({})).await;
    publish(&elsewhere, 1..=1).await;
    bus.faults().failing.store(usize::MAX, std::sync::atomic::Ordering::Relaxed);
    bus.say(BusEvent::gap(Topic::Room(key(POST))));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.inbox.all().await.last().unwrap()["reason"], "bus_gap", "it could not be read");
    bus.faults().failing.store(0, std::sync::atomic::Ordering::Relaxed);
    bus.hold_reads();
    let late = Talk::multi(&rooms, "b");
    late.say(join(&json!({})));
    idle().await;
    lose(&bus, &elsewhere, 2..=3).await;
    publish(&elsewhere, 4..=4).await;
    idle().await;
    bus.faults().permits.add_permits(1_000);
    assert_eq!(numbers(&mut talk.inbox).await, [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_and_can_not_be_given_is_told_where_it_was() {
    use rooms_core::bus::History as _;
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), hub.peer());
    let rooms = over(bus.clone(), posts());
    let (mut talk, _) = joined(&rooms, json!({})).await;
    bus.set(|faults| &faults.muted, true);
    // A publisher with another limit.
    for payload in ["1".to_owned(), "[".repeat(100) + &"]".repeat(100), "2".to_owned()] {
        elsewhere.append(&Topic::Room(key(POST)), payload.into(), Retention::messages(100)).await.unwrap();
    }
    bus.set(|faults| &faults.muted, false);
    publish(&rooms, 3..=3).await;
    let events = talk.inbox.all().await;
    let brief: Vec<_> = events.iter().map(|event| [&event["data"], &event["reason"]]).collect();
    let (none, gap) = (&Value::Null, &json!("bus_gap"));
    assert_eq!(brief, [[&json!(1), none], [none, gap], [&json!(2), none], [&json!(3), none]]);
}
