//! Rooms that keep a state, and what a page makes of it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use rooms_core::{Bus, Kind, LocalBus, RoomManager, bus::Position};
use serde_json::{Value, json};

use crate::{
    rig::{Inbox, Rooms, key},
    talk::Talk,
};

pub(crate) const POST: &str = "post:42";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn over(bus: impl Bus, post: Kind) -> Rooms {
    let kinds = RoomManager::build_for().kind("post", post).kind("silent", Kind::authenticated());
    // These pages answer no ping.
    kinds.limits(|limits| limits.ping_interval = Duration::MAX).bus(bus).build().unwrap()
}

pub(crate) fn posts() -> Kind {
    Kind::authenticated().keep_state(DAY)
}

pub(crate) fn rooms() -> Rooms {
    over(LocalBus::new(), posts())
}

pub(crate) fn join() -> String {
    json!({"type": "join", "room": POST, "ref": 1}).to_string()
}

pub(crate) async fn joined(rooms: &Rooms, user: &str) -> Talk {
    let mut talk = Talk::multi(rooms, user);
    let welcome = talk.ask(join()).await;
    assert_eq!(welcome["type"], "room_joined", "{welcome}");
    talk
}

pub(crate) async fn set(rooms: &Rooms, value: &Value) -> Position {
    rooms.broadcast_state(&key(POST), value).await.unwrap()
}

pub(crate) fn long() -> String {
    "x".repeat(1_000)
}

/// What a page makes of the events: the state, and whether it has to ask for it anew.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) revision: Value,
    pub(crate) state: Value,
    /// The events that had all of the state, and those that had a patch.
    pub(crate) came: [usize; 2],
    pub(crate) lost: bool,
}

impl Page {
    pub(crate) async fn look(&mut self, inbox: &mut Inbox) {
        for event in inbox.all().await {
            if event["type"] == "resync" {
                self.lost = true;
            }
            if event["type"] != "room_state" {
                continue;
            }
            assert_eq!(event["room"], POST);
            if event.get("state").is_some() {
                self.came[0] += 1;
                (self.state, self.lost) = (event["state"].clone(), false);
            } else {
                self.came[1] += 1;
                self.lost |= event["since"] != self.revision;
                json_patch::merge(&mut self.state, &event["patch"]);
            }
            self.revision = event["revision"].clone();
        }
    }
}
