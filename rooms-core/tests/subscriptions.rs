//! What is broadcast to a room, received by the service itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use rooms_core::{
    JoinError, JoinOptions, Kind, LocalBus, Publisher, Received, RoomKey, RoomManager, RoomManagerBuilder, Shutdown,
    Subscription,
    bus::{BusEvent, Lost, Position, Retention},
    testing::kit::RoomsTest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{task::yield_now, time::timeout};

use flaky::Flaky;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PostEvent {
    Liked { likes: u64 },
}

fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let log = Kind::authenticated().history(Retention::messages(100));
    rooms
        .kind("post", Kind::new().events::<PostEvent>())
        .kind("free", Kind::authenticated().list_members())
        .kind("log", log)
        .limits(|limits| limits.max_outbox_messages = 40)
}

fn room(name: &str) -> RoomKey {
    name.parse().unwrap()
}

/// The next item, as text.
async fn next(subscription: &mut Subscription) -> String {
    match timeout(Duration::from_secs(30), subscription.next()).await.expect("something in time").expect("no end") {
        Received::Message { data, position: None, .. } => data.as_str().to_owned(),
        Received::Message { data, position: Some(position), .. } => format!("{} {}", position.offset(), data.as_str()),
        Received::Binary { data, position, .. } => format!("{data:?} {:?}", position.map(|at| at.offset())),
        Received::Missed(missed) => format!("{missed:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_any_node_broadcasts_is_received_in_order_and_nobody_sees_the_one_who_receives() {
    let test = RoomsTest::with_nodes(2, kinds);
    let mut ada = test.connect("ada").await;
    assert_eq!(ada.join("free:1").await["viewers"], 1);
    let mut first = test.node(1).subscribe(&room("free:1")).await.unwrap();
    for number in 0..5 {
        test.node(number % 2).broadcast(&room("free:1"), &json!({"type": "resync", "n": number})).await.unwrap();
    }
    for number in 0..5 {
        assert_eq!(next(&mut first).await, json!({"type": "resync", "n": number}).to_string());
    }
    let bob = test.connect("bob").await;
    drop(bob);
    ada.forget().await;
    test.advance(Duration::from_secs(60)).await;
    ada.expect_nothing().await;
    assert_eq!(test.node(0).viewers(&room("free:1")).await.viewers, 1);
    assert_eq!(test.node(1).stats().connections, 0);
    assert!(first.next().now_or_never().is_none(), "who comes and goes is not told");
}

#[tokio::test(start_paused = true)]
async fn it_leaves_by_being_dropped_and_the_topic_is_given_back() {
    let test = RoomsTest::new(kinds);
    let begun = test.rooms().subscribe(&room("free:1")).await.unwrap();
    test.advance(Duration::from_secs(600)).await;
    assert_eq!(test.rooms().stats().rooms, 1, "the room is wanted as long as the stream lives");
    drop(begun);
    test.advance(Duration::from_secs(600)).await;
    assert_eq!(test.rooms().stats().rooms, 0);
    let unknown = test.rooms().subscribe(&room("shop:1")).await.unwrap_err();
    assert!(matches!(unknown, JoinError::NotAllowed { .. }), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_one_loses_the_oldest_is_told_so_and_holds_up_nobody() {
    let test = RoomsTest::new(kinds);
    let mut slow = test.rooms().subscribe(&room("free:1")).await.unwrap();
    let mut ada = test.connect("ada").await;
    ada.join("free:1").await;
    for number in 0..100 {
        test.rooms().broadcast(&room("free:1"), &number).await.unwrap();
        ada.expect_text(&format!("\"data\":{number}}}")).await;
    }
    assert_eq!(next(&mut slow).await, "SlowConsumer");
    for number in 60..100 {
        assert_eq!(next(&mut slow).await, number.to_string());
    }
    test.rooms().broadcast(&room("free:1"), &100).await.unwrap();
    assert_eq!(next(&mut slow).await, "100");
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_woken_and_an_event_of_another_make_is_an_error_between_two_events() {
    let test = RoomsTest::new(kinds);
    let mut events = test.rooms().subscribe(&room("post:1")).await.unwrap().typed::<PostEvent>();
    let reader = tokio::spawn(async move {
        let mut read = Vec::new();
        for _ in 0..3 {
            read.push(match events.next().await.unwrap() {
                Ok(Received::Message { data: PostEvent::Liked { likes }, .. }) => likes.to_string(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string(),
            });
        }
        read
    });
    yield_now().await;
    let posts = test.rooms().typed::<PostEvent>("post").unwrap();
    posts.room(1).unwrap().broadcast(&PostEvent::Liked { likes: 1 }).await.unwrap();
    // One that does not know what the kind declares.
    let foreign = Publisher::builder(test.bus()).build().unwrap();
    foreign.broadcast(&room("post:1"), &json!({"type": "disliked"})).await.unwrap();
    posts.room(1).unwrap().broadcast(&PostEvent::Liked { likes: 2 }).await.unwrap();
    let read = timeout(Duration::from_secs(30), reader).await.expect("it is woken").unwrap();
    assert_eq!((&*read[0], &*read[2]), ("1", "2"));
    assert!(read[1].starts_with("post:1: a message is no `") && read[1].contains("PostEvent"), "{}", read[1]);
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_lost_is_said_and_with_a_history_read_again() {
    let bus = Flaky::new(LocalBus::new());
    let rooms: RoomManager = kinds(RoomManager::builder()).bus(bus.clone()).build().unwrap();
    let mut free = rooms.subscribe(&room("free:1")).await.unwrap();
    let mut log = rooms.subscribe(&room("log:1")).await.unwrap();
    rooms.broadcast(&room("log:1"), &1).await.unwrap();
    assert_eq!(next(&mut log).await, "1 1");
    bus.set(|faults| &faults.muted, true);
    for name in ["free:1", "log:1"] {
        rooms.broadcast(&room(name), &2).await.unwrap();
    }
    bus.set(|faults| &faults.muted, false);
    bus.say(BusEvent::up(Lost::Perhaps));
    assert_eq!(next(&mut free).await, "BusGap");
    assert_eq!(next(&mut log).await, "2 2");
}

#[tokio::test(start_paused = true)]
async fn one_who_kept_its_position_goes_on_from_there() {
    let test = RoomsTest::new(kinds);
    let mut position = None;
    for number in 1..=10 {
        position = test.rooms().broadcast(&room("log:1"), &number).await.unwrap().position;
    }
    let at = |offset| Position::new(position.unwrap().epoch(), offset).to_string();
    let since = |offset| JoinOptions::new().since(at(offset));
    let mut resumed = test.rooms().subscribe_with(&room("log:1"), since(7)).await.unwrap();
    for number in 8..=10 {
        assert_eq!(next(&mut resumed).await, format!("{number} {number}"));
    }
    test.rooms().to(&room("log:1")).binary(vec![0xff, 0]).await.unwrap();
    assert_eq!(next(&mut resumed).await, r#"b"\xff\0" Some(11)"#);
    let mut newest = test.rooms().subscribe_with(&room("log:1"), JoinOptions::new().newest(2)).await.unwrap();
    assert_eq!(next(&mut newest).await, "10 10");
    let lost = JoinOptions::new().since("7.7");
    let mut lost = test.rooms().subscribe_with(&room("log:1"), lost).await.unwrap();
    assert_eq!(next(&mut lost).await, "Epoch");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_shutdown_once_what_came_is_read() {
    let test = RoomsTest::new(kinds);
    let mut stream = test.rooms().subscribe(&room("free:1")).await.unwrap();
    test.rooms().broadcast(&room("free:1"), &1).await.unwrap();
    // It is given to those in the room by a task.
    test.advance(Duration::from_millis(1)).await;
    test.rooms().shutdown(Shutdown::within(Duration::from_secs(1))).await;
    assert_eq!(next(&mut stream).await, "1");
    let end = timeout(Duration::from_secs(30), stream.next()).await.expect("an end in time");
    assert!(end.is_none(), "{end:?}");
}
