//! Who is resumed where, and what it is given then: rooms that it was given without asking, and messages that left it out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::time::Duration;

use rooms_core::{JoinOptions, Kind, RoomManager, bus::Retention};
use serde_json::{Value, json};
use tokio::time::sleep;

use rig::{Client, Inbox, Rooms, key};
use talk::Talk;

const OWN: &str = "user:5";

fn rooms() -> Rooms {
    let (retention, kinds) = (Retention::messages(100), RoomManager::build_for());
    let kinds = kinds.kind("user", Kind::owner_only().history(retention));
    let kinds = kinds.kind("post", Kind::authenticated().history(retention)).kind("plain", Kind::authenticated());
    // These pages answer no ping.
    kinds.limits(|limits| limits.ping_interval = Duration::MAX).build().unwrap()
}

/// A connection of user 5, and what its first event says.
async fn connected(rooms: &Rooms) -> (Talk, Value) {
    let mut talk = Talk::multi(rooms, "5");
    let first = talk.inbox.next().await;
    assert_eq!((&first["type"], &first["room"]), (&json!("room_joined"), &json!(OWN)));
    (talk, first)
}

fn join(room: &str, since: &Value) -> String {
    json!({"type": "join", "room": room, "since": since, "ref": 1}).to_string()
}

fn data(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["type"] == "message").map(|event| &event["data"]).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_user_was_sent_while_away_follows_the_first_join_of_its_own_room() {
    let rooms = rooms();
    let (talk, first) = connected(&rooms).await;
    drop(talk);
    for number in 1..=2 {
        rooms.send_to_user("5", &number).await.unwrap();
    }
    let (mut talk, _) = connected(&rooms).await;
    rooms.send_to_user("5", &3).await.unwrap();
    assert_eq!(talk.inbox.next().await["data"], 3);
    let answer = talk.ask(join(OWN, &first["position"])).await;
    assert_eq!((&answer["recovered"], &answer["position"]), (&json!(true), &first["position"]), "{answer}");
    assert_eq!((&answer["viewers"], &answer["ref"]), (&json!(1), &json!(1)));
    rooms.send_to_user("5", &4).await.unwrap();
    assert_eq!(data(&talk.inbox.all().await), [1, 2, 3, 4]);
    // From here on it is as any other room.
    let answer = talk.ask(join(OWN, &first["position"])).await;
    assert!(answer["type"] == "room_joined" && answer.get("recovered").is_none(), "{answer}");
    assert!(talk.inbox.is_silent().await);

    for (since, reason) in [(json!("1.1"), "epoch"), (json!("x"), "epoch")] {
        let (mut talk, _) = connected(&rooms).await;
        assert_eq!(talk.ask(join(OWN, &since)).await["recovered"], false);
        assert_eq!(talk.inbox.next().await["reason"], reason);
    }
    // One that asks for nothing to be resumed is answered as in any room that it is in.
    let (mut talk, _) = connected(&rooms).await;
    for since in [Value::Null, first["position"].clone()] {
        let answer = talk.ask(join(OWN, &since)).await;
        assert!(answer.get("position").is_none() && answer.get("recovered").is_none(), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_the_application_has_a_member_enter_is_resumed_as_by_a_leave_and_a_join() {
    let rooms = rooms();
    let mut other = Talk::multi(&rooms, "6");
    let before = other.ask(join("post:1", &Value::Null)).await;
    let before = if before["room"] == "user:6" { other.inbox.next().await } else { before };
    rooms.broadcast(&key("post:1"), &1).await.unwrap();
    let (mut talk, _) = connected(&rooms).await;
    for room in ["post:1", "plain:1"] {
        rooms.enter("5", &key(room)).await.unwrap();
        assert_eq!(talk.inbox.next().await["room"], room);
    }
    sleep(Duration::from_secs(1)).await;
    other.inbox.now();
    talk.inbox.now();
    let answer = talk.ask(join("post:1", &before["position"])).await;
    assert_eq!((&answer["recovered"], &answer["viewers"]), (&json!(true), &json!(2)), "{answer}");
    assert_eq!(talk.inbox.next().await["data"], 1);
    // Without a history there is nothing to resume.
    let answer = talk.ask(join("plain:1", &before["position"])).await;
    assert!(answer["type"] == "room_joined" && answer.get("recovered").is_none(), "{answer}");
    sleep(Duration::from_secs(1)).await;
    assert!(talk.inbox.now().is_empty());
    let told: Vec<_> =
        other.inbox.now().into_iter().map(|event| (event["type"].clone(), event["viewers"].clone())).collect();
    assert_eq!(told, [(json!("viewer_left"), json!(1)), (json!("viewer_joined"), json!(2))]);
    // One that was left by its client is joined as any other.
    let (mut talk, _) = connected(&rooms).await;
    rooms.enter("5", &key("post:1")).await.unwrap();
    talk.inbox.next().await;
    talk.ask(json!({"type": "leave", "room": "post:1"}).to_string()).await;
    assert_eq!(talk.ask(join("post:1", &before["position"])).await["recovered"], true);
}

/// What a connection is given that joins with options, once it was in the room.
async fn given_again(rooms: &Rooms, client: &mut Client, options: JoinOptions) -> Vec<Value> {
    assert!(client.connection.leave(&key("post:1")));
    client.inbox.all().await;
    client.connection.join_with(&key("post:1"), options).await.unwrap();
    rooms.broadcast(&key("post:1"), &"last").await.unwrap();
    numbers(&mut client.inbox).await
}

async fn numbers(inbox: &mut Inbox) -> Vec<Value> {
    inbox.all().await.into_iter().filter(|event| event.get("viewers").is_none()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_that_leaves_a_connection_out_does_so_when_it_comes_back_too() {
    let rooms = rooms();
    let mut page = Client::join(&rooms, "5", "post:1").await;
    let first = rooms.broadcast(&key("post:1"), &"first").await.unwrap().position.unwrap();
    rooms.to(&key("post:1")).except(page.connection.id()).json(&"its own").await.unwrap();
    rooms.broadcast(&key("post:1"), &"another").await.unwrap();
    let data = |events: Vec<Value>| {
        events.into_iter().map(|event| event.get("data").unwrap_or(&event).clone()).collect::<Vec<_>>()
    };
    assert_eq!(data(numbers(&mut page.inbox).await), ["first", "another"]);
    let since = || JoinOptions::new().since(first.to_string());
    assert_eq!(data(given_again(&rooms, &mut page, since()).await), ["another", "last"]);
    let newest = JoinOptions::new().newest(3);
    assert_eq!(data(given_again(&rooms, &mut page, newest).await), ["first", "another", "last", "last"]);
    // Another connection of the same page is another one.
    let mut other = Client::connect(&rooms, "5");
    other.connection.join_with(&key("post:1"), since()).await.unwrap();
    assert_eq!(data(numbers(&mut other.inbox).await), ["its own", "another", "last", "last"]);
}
