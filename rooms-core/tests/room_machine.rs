//! Members that join, leave, read slowly and are closed in any order: each gets exactly the messages between its join and
//! its leave, once, in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/valve.rs"]
mod valve;

use std::ops::Range;

use proptest::prelude::*;
use rooms_core::{Close, Connection, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::{runtime, task::JoinHandle};

use rig::{idle, key, who};
use valve::{Valve, ValveSink};

const MEMBERS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Publish(usize),
    /// Lets a member's sink take so many messages more.
    Open(usize, usize),
    Close(usize),
    /// Lets everything run that can.
    Idle,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        2 => member.clone().prop_map(Step::Join),
        2 => member.clone().prop_map(Step::Leave),
        6 => (1..5usize).prop_map(Step::Publish),
        6 => (member.clone(), 0..6usize).prop_map(|(member, more)| Step::Open(member, more)),
        1 => member.prop_map(Step::Close),
        4 => Just(Step::Idle),
    ]
}

/// A connection, and what it should have got.
struct Actor {
    connection: Connection,
    valve: Valve,
    driven: JoinHandle<Option<Close>>,
    /// Since which publish it is in the room.
    joined: Option<usize>,
    /// The publishes of each of its times in the room.
    times: Vec<Range<usize>>,
    closed: bool,
}

impl Actor {
    fn new(rooms: &RoomManager<ValveSink>) -> Self {
        let (valve, sink) = valve::new();
        let connection = rooms.connect(who("a"), sink).unwrap();
        let driven = tokio::spawn(connection.drive());
        Self { connection, valve, driven, joined: None, times: Vec::new(), closed: false }
    }

    /// The numbers that it was given, for each `room_joined` a list.
    fn given(&self) -> Vec<Vec<usize>> {
        let mut given: Vec<Vec<usize>> = Vec::new();
        for message in self.valve.taken() {
            let Ok(event) = serde_json::from_slice::<Value>(message.payload()) else { continue };
            match (event["type"].as_str(), event["n"].as_u64()) {
                (Some("room_joined"), _) => given.push(Vec::new()),
                (_, Some(n)) => given.last_mut().expect("nothing before room_joined").push(n as usize),
                _ => {}
            }
        }
        given
    }

    fn check(&self) {
        let given = self.given();
        let expected: Vec<Vec<usize>> = self.times.iter().cloned().map(Vec::from_iter).collect();
        if self.closed {
            let (given, expected) = (given.concat(), expected.concat());
            assert!(expected.starts_with(&given), "{given:?} is no beginning of {expected:?}");
        } else {
            assert_eq!(given, expected);
        }
    }
}

async fn play(steps: Vec<Step>) {
    let rooms = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let room = key("post:42");
    let mut actors: Vec<_> = (0..MEMBERS).map(|_| Actor::new(&rooms)).collect();
    let mut published = 0;
    for step in steps {
        match step {
            Step::Join(member) => {
                let actor = &mut actors[member];
                if actor.joined.is_none() {
                    actor.connection.join(&room).await.unwrap();
                    actor.joined = Some(published);
                }
            }
            Step::Leave(member) => {
                // What is published has been given out, so that the leave comes after it for certain.
                idle().await;
                let actor = &mut actors[member];
                if let Some(joined) = actor.joined.take() {
                    assert!(actor.connection.leave(&room));
                    actor.times.push(joined..published);
                }
            }
            Step::Publish(count) => {
                for _ in 0..count {
                    rooms.broadcast(&room, &json!({"n": published})).await.unwrap();
                    published += 1;
                }
            }
            Step::Open(member, more) => actors[member].valve.open(more),
            Step::Close(member) => {
                actors[member].connection.close(Close::NORMAL);
                actors[member].closed = true;
            }
            Step::Idle => idle().await,
        }
    }
    for actor in &mut actors {
        if let Some(joined) = actor.joined.take() {
            actor.times.push(joined..published);
        }
        actor.valve.open(usize::MAX / 2);
    }
    idle().await;
    for actor in &actors {
        actor.check();
    }
    for actor in actors {
        if actor.closed {
            assert_eq!(actor.driven.await.unwrap(), Some(Close::NORMAL), "the close frame is out");
        }
        drop(actor.connection);
    }
    assert_eq!((rooms.stats().connections, rooms.local_viewers(&room)), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_member_gets_what_was_published_between_its_join_and_its_leave(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps));
    }
}
