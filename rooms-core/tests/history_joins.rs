//! What a join says and is told in a room with a history: how much, how often, and what a hook knows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/history.rs"]
mod history;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rooms_core::{
    JoinOptions, Kind, LocalBus, Payload, RoomManager,
    bus::{Position, Retention},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use history::{POST, join, joined, numbers, over, posts, publish, rooms, single};
use rig::{Client, Rooms, idle, key};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn more_than_an_outbox_takes_is_a_resync_and_the_newest_are_as_many_as_it_takes() {
    let kind = Kind::authenticated().history(Retention::messages(10_000).bytes(Retention::MAX_BYTES));
    let rooms: Rooms =
        RoomManager::build_for().kind("post", kind).limits(|limits| limits.max_outbox_messages = 41).build().unwrap();
    let first = publish(&rooms, 1..=1).await;
    let many = publish(&rooms, 2..=20).await;
    publish(&rooms, 21..=50).await;
    let (mut talk, welcome) = joined(&rooms, json!({"since": many})).await;
    assert_eq!(welcome["recovered"], true);
    assert_eq!(numbers(&mut talk.inbox).await, (21..=50).collect::<Vec<_>>());
    let (mut talk, welcome) = joined(&rooms, json!({"since": first, "newest": 1_000_000})).await;
    assert_eq!(welcome["recovered"], false);
    assert_eq!(talk.inbox.next().await["reason"], "history_gap");
    assert_eq!(numbers(&mut talk.inbox).await, (21..=50).collect::<Vec<_>>(), "three quarters of an outbox");
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_is_given_the_newest() {
    let rooms = rooms();
    let (mut talk, _) = joined(&rooms, json!({"newest": 5})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [0; 0], "there are none");
    publish(&rooms, 1..=20).await;
    let (mut talk, welcome) = joined(&rooms, json!({"newest": 5})).await;
    publish(&rooms, 21..=21).await;
    assert_eq!(numbers(&mut talk.inbox).await, [16, 17, 18, 19, 20, 21]);
    let (mut talk, _) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [16, 17, 18, 19, 20, 21], "its position is before what it is given");
    let (mut talk, welcome) = joined(&rooms, json!({"newest": 1_000_000})).await;
    assert!(welcome.get("recovered").is_none());
    assert_eq!(numbers(&mut talk.inbox).await, (1..=21).collect::<Vec<_>>());
    let (mut talk, _) = joined(&rooms, json!({"since": "nonsense", "newest": 2})).await;
    assert_eq!(talk.inbox.next().await["type"], "resync");
    assert_eq!(numbers(&mut talk.inbox).await, [20, 21], "the page begins afresh with these");
    let mut one = Client::connect(&rooms, "b");
    one.connection.join_with(&key(POST), JoinOptions::new().newest(2)).await.unwrap();
    one.inbox.next().await;
    assert_eq!(one.inbox.all().await, [20, 21], "bare, on a connection for one room that is told no positions");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_newest_is_given_what_came_after_the_last_that_can_not_be_given() {
    use rooms_core::bus::{History as _, Topic};
    let hub = LocalBus::new();
    let foreign = hub.peer();
    let rooms = over(hub, posts());
    for payload in ["1".to_owned(), "[".repeat(100) + &"]".repeat(100), "2".to_owned(), "3".to_owned()] {
        foreign.append(&Topic::Room(key(POST)), payload.into(), Retention::messages(100)).await.unwrap();
    }
    let (mut talk, welcome) = joined(&rooms, json!({"newest": 50})).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2, 3], "and 1 would have another one between");
    let (mut talk, welcome) = joined(&rooms, json!({"since": welcome["position"]})).await;
    assert_eq!((&welcome["recovered"], numbers(&mut talk.inbox).await), (&json!(true), vec![2, 3]));
    let (mut talk, welcome) = joined(&rooms, json!({"since": "x", "newest": 50})).await;
    let told = talk.inbox.all().await;
    assert_eq!((&told[0]["type"], &told[0]["position"]), (&json!("resync"), &welcome["position"]));
    assert_eq!(told[1..].iter().map(|event| event["data"].clone()).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_while_the_hook_runs_follows_once_and_the_hook_knows_from_where() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let kind = posts().on_join(move |member| {
        let noted = Arc::clone(&noted);
        async move {
            noted.lock().unwrap().push((member.position(), member.with().map(|with| with.as_str().to_owned())));
            sleep(Duration::from_secs(1)).await;
            Ok(json!({"position": "mine", "version": 7}))
        }
    });
    let rooms = over(LocalBus::new(), kind);
    let first = publish(&rooms, 1..=3).await;
    for (more, expected, with) in [
        (json!({"with": {"version": 6}}), vec![4, 5], Some(r#"{"version":6}"#)),
        (json!({"since": Position::new(first.epoch(), 1)}), vec![2, 3, 4, 5, 4, 5], None),
        (json!({"newest": 1}), vec![5, 4, 5], None),
    ] {
        let mut talk = Talk::multi(&rooms, "a");
        talk.say(join(&more));
        idle().await;
        publish(&rooms, 4..=5).await;
        let welcome = talk.inbox.next().await;
        assert_eq!(numbers(&mut talk.inbox).await, expected);
        let (position, said) = told.lock().unwrap().pop().unwrap();
        assert_eq!((&welcome["position"], &welcome["version"]), (&json!(position.unwrap()), &json!(7)), "{welcome}");
        assert_eq!(said.as_deref(), with);
    }
}

#[tokio::test(start_paused = true)]
async fn the_query_of_a_url_is_for_the_hook_too() {
    let told = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&told);
    let kind = Kind::authenticated().on_join(move |member| {
        *noted.lock().unwrap() = member.with().map(|with| with.as_str().to_owned());
        assert_eq!(member.position(), None, "there is no history");
        async { Ok(Value::Null) }
    });
    let rooms = over(LocalBus::new(), kind);
    let with = Payload::encode(&json!({"version": "6"})).unwrap();
    let mut talk = single(&rooms, JoinOptions::new().with(with));
    assert_eq!(talk.inbox.next().await, json!({"type": "room_joined", "room": POST, "viewers": 1}));
    assert_eq!(told.lock().unwrap().as_deref(), Some(r#"{"version":"6"}"#));
}

#[tokio::test(start_paused = true)]
async fn one_that_resumes_in_a_loop_is_given_so_much_and_then_nothing_for_a_while() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", posts())
        .kind("silent", Kind::authenticated())
        .limits(|limits| limits.max_replay_bytes = 10_000)
        .build()
        .unwrap();
    let first = publish(&rooms, 1..=1).await;
    let text = "x".repeat(1_000);
    rooms.broadcast(&key(POST), &text).await.unwrap();
    let leave = json!({"type": "leave", "room": POST}).to_string();
    let mut talk = Talk::multi(&rooms, "a");
    let mut other = Talk::multi(&rooms, "b");
    // Each of them draws something more than 1,000 bytes.
    let mut given = 0;
    for _ in 0..30 {
        let answer = talk.ask(join(&json!({"since": first}))).await;
        if answer["code"] == "unavailable" {
            break;
        }
        assert_eq!(answer["recovered"], true);
        given += talk.inbox.all().await.iter().filter(|event| event["data"] == text).count();
        talk.ask(&*leave).await;
        talk.inbox.all().await;
    }
    assert_eq!(given, 10, "and what the last one goes beyond the bound");
    assert_eq!(talk.ask(join(&json!({}))).await["code"], "unavailable", "also without a position");
    let silent = talk.ask(json!({"type": "join", "room": "silent:1"}).to_string()).await;
    assert_eq!(silent["type"], "room_joined", "where there is nothing to draw it may join");
    assert_eq!(other.ask(join(&json!({"since": first}))).await["recovered"], true, "others are not concerned");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(talk.ask(join(&json!({"since": first}))).await["recovered"], true);
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_decide_by_what_the_join_says() {
    let kind = Kind::new().join_rule_with(|_, room, with| async move {
        with.and_then(|with| with.parse::<String>().ok()).is_some_and(|key| key == room.id())
    });
    let rooms = over(LocalBus::new(), kind);
    let mut talk = Talk::multi(&rooms, "a");
    for wrong in [json!({}), json!({"with": 42}), json!({"with": "43"})] {
        assert_eq!(talk.ask(join(&wrong)).await["code"], "not_allowed");
    }
    assert_eq!(talk.ask(join(&json!({"with": "42"}))).await["type"], "room_joined");
}

/// What follows a welcome is not too much because the welcome is long.
#[tokio::test(start_paused = true)]
async fn who_comes_back_is_given_what_it_missed_behind_a_long_snapshot() {
    let post = posts().keep_state(Duration::from_secs(60)).on_join(|_| async { Ok(json!("s".repeat(30_000))) });
    let limits = |limits: &mut rooms_core::Limits| limits.max_outbox_bytes = 64 * 1024;
    let rooms: Rooms = RoomManager::build_for().kind("post", post).limits(limits).build().unwrap();
    let first = publish(&rooms, 1..=1).await;
    for _ in 0..40 {
        rooms.broadcast(&key(POST), &"x".repeat(1_000)).await.unwrap();
    }
    rooms.broadcast_state(&key(POST), &"y".repeat(40_000)).await.unwrap();
    let (mut talk, welcome) = joined(&rooms, json!({"since": first})).await;
    assert_eq!(welcome["recovered"], true);
    let told = talk.inbox.all().await;
    assert_eq!(told.iter().filter(|event| event["type"] == "message").count(), 40);
    publish(&rooms, 2..=2).await;
    assert_eq!(numbers(&mut talk.inbox).await, [2]);
}
