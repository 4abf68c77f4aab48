//! Members that join, leave and read slowly while messages are lost in every way: whatever a member did not get, it was
//! told later that something is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/hand.rs"]
mod hand;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/valve.rs"]
mod valve;

use std::{collections::HashMap, ops::Range, time::Duration};

use proptest::prelude::*;
use rooms_core::{
    Close, Connection, Kind, LocalBus, Overflow, RoomManager,
    bus::{BusEvent, Lost, Topic},
};
use serde_json::Value;
use tokio::{runtime, task::JoinHandle, time::sleep};

use hand::Hand;
use rig::{idle, key, who};
use valve::{Valve, ValveSink};

const MEMBERS: usize = 4;
const ROOM: &str = "post:42";

/// The longest broadcast here.
const LONGEST: usize = 512;

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    /// The bus has so many messages.
    Say(usize),
    /// It has one that is not taken.
    Mute(Loss),
    /// Lets a member's sink take so many messages more.
    Open(usize, usize),
    Close(usize),
    /// Lets everything run that can.
    Idle,
    /// As long as a viewer window.
    Wait,
}

/// How a message is lost before the room has it.
#[derive(Debug, Clone, Copy)]
enum Loss {
    InTheRoom,
    Anywhere,
    TooLong,
    TooDeep,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    let loss = prop_oneof![Just(Loss::InTheRoom), Just(Loss::Anywhere), Just(Loss::TooLong), Just(Loss::TooDeep)];
    prop_oneof![
        3 => member.clone().prop_map(Step::Join),
        1 => member.clone().prop_map(Step::Leave),
        6 => (1..5_usize).prop_map(Step::Say),
        4 => loss.prop_map(Step::Mute),
        6 => (member.clone(), 0..6_usize).prop_map(|(member, more)| Step::Open(member, more)),
        1 => member.prop_map(Step::Close),
        4 => Just(Step::Idle),
        1 => Just(Step::Wait),
    ]
}

fn say_message(bus: &Hand<LocalBus>, payload: String) {
    bus.say(BusEvent::message(Topic::Room(key(ROOM)), payload.into()));
}

fn lose(bus: &Hand<LocalBus>, loss: Loss) {
    match loss {
        Loss::InTheRoom => bus.say(BusEvent::gap(Topic::Room(key(ROOM)))),
        Loss::Anywhere => {
            bus.say(BusEvent::Down);
            bus.say(BusEvent::up(Lost::Perhaps));
        }
        Loss::TooLong => say_message(bus, format!("\"{}\"", "x".repeat(LONGEST))),
        Loss::TooDeep => say_message(bus, "[".repeat(200) + &"]".repeat(200)),
    }
}

/// A connection, and what it should have got.
struct Actor {
    connection: Connection,
    valve: Valve,
    driven: JoinHandle<Option<Close>>,
    /// Since which message it is in the room.
    joined: Option<usize>,
    /// The messages of each of its times in the room.
    times: Vec<Range<usize>>,
    /// After each step, how much it has been given.
    given: Vec<usize>,
    closed: bool,
}

impl Actor {
    fn new(rooms: &RoomManager<ValveSink>) -> Self {
        let (valve, sink) = valve::new();
        let connection = rooms.connect(who("a"), sink).unwrap();
        let driven = tokio::spawn(connection.drive());
        Self { connection, valve, driven, joined: None, times: Vec::new(), given: Vec::new(), closed: false }
    }

    /// Checks what it got; `said` has the step of each message.
    fn check(&self, said: &[usize]) {
        let (mut got, mut told) = (HashMap::new(), 0);
        let mut last = None;
        for (place, message) in self.valve.taken().iter().enumerate() {
            let step = self.given.partition_point(|given| *given <= place);
            let Ok(event) = serde_json::from_slice::<Value>(message.payload()) else { continue };
            if let Some(number) = event["n"].as_u64() {
                let number = number as usize;
                assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
                assert!(
                    self.times.iter().any(|time| time.contains(&number)),
                    "{number} is not for it: {:?}",
                    self.times
                );
                last = Some(number);
                got.insert(number, step);
            } else if event["type"] == "resync" {
                told = told.max(step);
            }
        }
        if self.closed {
            return;
        }
        for number in self.times.iter().cloned().flatten() {
            let missing = !got.contains_key(&number);
            assert!(!missing || told >= said[number], "{number}, of step {}, is missing without a word", said[number]);
        }
    }
}

async fn play(steps: Vec<Step>, overflow: Overflow) {
    let bus = Hand::new(LocalBus::new());
    let kind = Kind::authenticated().overflow(overflow);
    let rooms = RoomManager::build_for().kind("post", kind).bus(bus.clone()).limits(|limits| {
        limits.max_broadcast_bytes = LONGEST;
        limits.max_log_messages = 8;
        limits.max_outbox_messages = 8;
    });
    let rooms: RoomManager<ValveSink> = rooms.build().unwrap();
    idle().await;
    let room = key(ROOM);
    let mut actors: Vec<_> = (0..MEMBERS).map(|_| Actor::new(&rooms)).collect();
    // The step in which each message was said.
    let mut said: Vec<usize> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Join(member) => {
                let actor = &mut actors[member];
                if actor.joined.is_none() && actor.connection.join(&room).await.is_ok() {
                    actor.joined = Some(said.len());
                }
            }
            Step::Leave(member) => {
                // What was said has been given out, so that the leave comes after it for certain.
                idle().await;
                let actor = &mut actors[member];
                if let Some(joined) = actor.joined.take() {
                    actor.connection.leave(&room);
                    actor.times.push(joined..said.len());
                }
            }
            Step::Say(count) => {
                for _ in 0..count {
                    say_message(&bus, format!("{{\"n\":{}}}", said.len()));
                    said.push(number);
                }
            }
            Step::Mute(loss) => {
                said.push(number);
                lose(&bus, loss);
            }
            Step::Open(member, more) => actors[member].valve.open(more),
            Step::Close(member) => {
                actors[member].connection.close(Close::NORMAL);
                actors[member].closed = true;
            }
            Step::Idle => idle().await,
            Step::Wait => sleep(Duration::from_millis(250)).await,
        }
        for actor in &mut actors {
            actor.given.push(actor.valve.taken().len());
        }
    }
    for actor in &mut actors {
        if let Some(joined) = actor.joined.take() {
            actor.times.push(joined..said.len());
        }
        actor.valve.open(usize::MAX / 2);
    }
    idle().await;
    for actor in &mut actors {
        actor.closed |= actor.driven.is_finished();
        actor.check(&said);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_misses_a_message_is_told_so_later(
        steps in prop::collection::vec(step(), 1..80),
        overflow in prop_oneof![Just(Overflow::Close), Just(Overflow::DropOldest), Just(Overflow::Resync)],
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps, overflow));
    }
}
