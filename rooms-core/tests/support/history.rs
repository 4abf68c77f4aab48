//! A room with a history on one node or two, and what its members are told.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{ops::RangeInclusive, time::Duration};

use futures::channel::mpsc;
use rooms_core::{
    Bus, JoinOptions, Kind, LocalBus, RoomManager,
    bus::{Position, Retention},
};
use serde_json::{Value, json};

use crate::{
    flaky::Flaky,
    rig::{Inbox, Rooms, key, who},
    talk::Talk,
};

pub(crate) const POST: &str = "post:42";

pub(crate) fn posts() -> Kind {
    Kind::authenticated().allow_publish().history(Retention::messages(100))
}

pub(crate) fn over(bus: impl Bus, post: Kind) -> Rooms {
    let silent = Kind::authenticated();
    let kinds = RoomManager::build_for().kind("post", post).kind("silent", silent);
    // These pages answer no ping.
    kinds.limits(|limits| limits.ping_interval = Duration::MAX).bus(bus).build().unwrap()
}

pub(crate) fn rooms() -> Rooms {
    over(LocalBus::new(), posts())
}

/// A node whose bus fails as it is told to, and another one beside it.
pub(crate) fn two_nodes(kind: impl Fn() -> Kind) -> (Flaky, Rooms, Rooms) {
    let hub = LocalBus::new();
    let (bus, elsewhere) = (Flaky::new(hub.peer()), over(hub.peer(), kind()));
    (bus.clone(), over(bus, kind()), elsewhere)
}

/// Publishes numbers; gives the position of the last.
pub(crate) async fn publish(rooms: &Rooms, numbers: RangeInclusive<u64>) -> Position {
    let mut position = None;
    for number in numbers {
        position = rooms.broadcast(&key(POST), &number).await.unwrap().position;
    }
    position.unwrap()
}

/// The same on another node, while nothing reaches the one whose bus this is.
pub(crate) async fn lose(bus: &Flaky, elsewhere: &Rooms, numbers: RangeInclusive<u64>) -> Position {
    bus.set(|faults| &faults.muted, true);
    let last = publish(elsewhere, numbers).await;
    bus.set(|faults| &faults.muted, false);
    last
}

pub(crate) fn join(more: &Value) -> String {
    let mut command = json!({"type": "join", "room": POST, "ref": 1});
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command.to_string()
}

/// Joins on a connection that is for many rooms.
pub(crate) async fn joined(rooms: &Rooms, more: Value) -> (Talk, Value) {
    let mut talk = Talk::multi(rooms, "a");
    let welcome = talk.ask(join(&more)).await;
    assert_eq!((&welcome["type"], &welcome["ref"]), (&json!("room_joined"), &json!(1)), "{welcome}");
    (talk, welcome)
}

/// The numbers that came, which follow each other; their positions do too.
pub(crate) async fn numbers(inbox: &mut Inbox) -> Vec<u64> {
    let mut last = None;
    let mut numbers = Vec::new();
    for event in inbox.all().await {
        if event["type"] != "message" {
            assert!(event["type"] == "viewer_joined" || event["type"] == "viewer_left", "{event}");
            continue;
        }
        let position: Position = event["offset"].as_str().expect("an offset").parse().unwrap();
        if let Some(last) = last.replace(position) {
            assert_eq!(position, Position::new(last.epoch(), last.offset() + 1));
        }
        numbers.push(event["data"].as_u64().unwrap());
    }
    numbers
}

/// A connection that is for one room, as its URL says more.
pub(crate) fn single(rooms: &Rooms, options: JoinOptions) -> Talk {
    let (send, stream) = mpsc::unbounded();
    let (sink, receiver) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), options));
    Talk { send, inbox: Inbox(receiver), ended }
}
