//! Clients of a room with a history whose sockets take what the test lets them take.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use futures::channel::mpsc;
use rooms_core::{
    Bus, Close, JoinOptions, Kind, Limits, LocalBus, Overflow, RoomManager,
    bus::Retention,
    ws::{Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    rig::{idle, key, who},
    valve::{self, Valve, ValveSink},
};

pub(crate) const POST: &str = "post:42";

/// Messages that may wait for a member here.
pub(crate) const OUTBOX: usize = 16;

pub(crate) type Rooms = RoomManager<ValveSink>;

pub(crate) fn over(bus: impl Bus, retention: Retention) -> Rooms {
    let limits = |limits: &mut Limits| {
        limits.max_outbox_messages = OUTBOX;
        limits.ping_interval = Duration::from_secs(100_000);
    };
    let post = Kind::authenticated().history(retention).overflow(Overflow::Resync);
    let chat = Kind::authenticated().overflow(Overflow::DropOldest);
    RoomManager::build_for().kind("post", post).kind("chat", chat).limits(limits).bus(bus).build().unwrap()
}

pub(crate) fn rooms() -> Rooms {
    over(LocalBus::new(), Retention::messages(1_000))
}

/// A client whose socket takes what its valve lets through.
pub(crate) struct Slow {
    pub(crate) valve: Valve,
    pub(crate) send: mpsc::UnboundedSender<Result<Incoming, WsError>>,
    pub(crate) _ended: JoinHandle<Close>,
    pub(crate) seen: usize,
}

impl Slow {
    /// For many rooms.
    pub(crate) async fn many(rooms: &Rooms, names: &[&str]) -> Self {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
        let mut slow = Self { valve, send, _ended: ended, seen: 0 };
        for room in names {
            slow.say(&json!({"type": "join", "room": room}));
            slow.takes(1).await;
        }
        slow.settle(names.len()).await;
        slow
    }

    /// For `post:42`.
    pub(crate) async fn one(rooms: &Rooms) -> Self {
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded();
        let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), JoinOptions::new()));
        let mut slow = Self { valve, send, _ended: ended, seen: 0 };
        slow.settle(1).await;
        slow
    }

    /// Takes its welcomes, and the numbers of viewers that follow.
    pub(crate) async fn settle(&mut self, welcomes: usize) {
        self.valve.open(2 * welcomes);
        sleep(Duration::from_secs(1)).await;
        let all = self.valve.taken();
        assert!(all.len() >= welcomes && all[0].as_text().unwrap().contains("room_joined"), "{all:?}");
        self.seen = all.len();
        self.valve.shut();
    }

    pub(crate) fn say(&self, value: &Value) {
        self.send.unbounded_send(Ok(Incoming::Text(value.to_string()))).unwrap();
    }

    /// Reads so many messages more, and no further; gives what there was.
    pub(crate) async fn takes(&mut self, count: usize) -> Vec<Value> {
        self.valve.open(count);
        idle().await;
        self.valve.shut();
        let all = self.valve.taken();
        let new = all[self.seen..].iter().map(|message| serde_json::from_slice(message.payload()).unwrap()).collect();
        self.seen = all.len();
        new
    }
}

pub(crate) async fn publish(rooms: &Rooms, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        rooms.broadcast(&key(POST), &number).await.unwrap();
        idle().await;
    }
}

/// What was told: numbers as they are, and the reason of each `resync`.
pub(crate) fn brief(events: Vec<Value>) -> Vec<Value> {
    let brief = |event: Value| match event["type"].as_str() {
        Some("message") => Some(event["data"].clone()),
        Some("resync") => Some(event["reason"].clone()),
        Some(_) => None,
        None => Some(event),
    };
    events.into_iter().filter_map(brief).collect()
}

pub(crate) fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}
