//! A client that joins, leaves, publishes and asks in any order, of rules and hooks that take their time: each command is
//! answered once, in order, and what it hears of a room is what is said while it is there, without a hole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use rooms_core::{HookError, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::{runtime, time::sleep};

use channels::command;
use rig::{Rooms, idle, key};
use talk::Talk;

const ROOMS: [&str; 4] = ["channel:1", "channel:2", "channel:slow", "post:1"];

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Publish(usize),
    Ping,
    Nonsense,
    /// Somebody else says something in a room.
    Broadcast(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..ROOMS.len();
    prop_oneof![
        5 => room.clone().prop_map(Step::Join),
        4 => room.clone().prop_map(Step::Leave),
        3 => room.clone().prop_map(Step::Publish),
        2 => Just(Step::Ping),
        1 => Just(Step::Nonsense),
        6 => room.prop_map(Step::Broadcast),
        4 => (0..200_u64).prop_map(Step::Wait),
    ]
}

/// What the hooks did, and how long the next one takes.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Past>>);

#[derive(Default)]
struct Past {
    done: Vec<(String, &'static str)>,
    random: u64,
}

impl Trace {
    async fn pass(&self, room: &str, what: &'static str) {
        let millis = {
            let mut past = self.0.lock().unwrap();
            past.done.push((room.to_owned(), what));
            past.random = past.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            past.random >> 33
        };
        // Half of them take no time at all.
        if millis % 2 == 0 {
            sleep(Duration::from_millis(millis % 128)).await;
        }
    }

    /// Whether joins and leaves took turns in a room, and each join had its leave.
    fn took_turns(&self, room: &str) -> bool {
        let past = self.0.lock().unwrap();
        let turns: Vec<_> = past.done.iter().filter(|(of, _)| of == room).map(|(_, what)| *what).collect();
        turns.chunks(2).all(|pair| pair == ["join", "leave"])
    }
}

fn rooms(trace: &Trace) -> Rooms {
    let (on_join, on_leave, rule) = (trace.clone(), trace.clone(), trace.clone());
    let channel = Kind::new()
        .join_rule(|_, room| async move {
            sleep(Duration::from_millis(if room.id() == "slow" { 90 } else { 0 })).await;
            true
        })
        .publish_rule(move |_, _| {
            let rule = rule.clone();
            async move {
                rule.pass("", "publish").await;
                true
            }
        })
        .on_join(move |member| {
            let trace = on_join.clone();
            async move {
                trace.pass(member.room().as_str(), "join").await;
                Ok::<_, HookError>(json!({"topic": "tea"}))
            }
        })
        .on_leave(move |member| {
            let trace = on_leave.clone();
            async move { trace.pass(member.room().as_str(), "leave").await }
        });
    let rooms = RoomManager::build_for().kind("channel", channel).kind("post", Kind::new());
    // The client of this test answers no pings.
    rooms.limits(|limits| limits.ping_interval = Duration::MAX).build().unwrap()
}

/// Checks what the client was given, for so many commands, and so many broadcasts in each room.
fn check(given: &[Value], commands: u64, said: &[u64; ROOMS.len()]) {
    let answered: Vec<u64> = given.iter().filter_map(|event| event["ref"].as_u64()).collect();
    assert_eq!(answered, (0..commands).collect::<Vec<_>>(), "each is answered once, in order");
    // For each room that it is in, the number that it heard last.
    let mut heard: HashMap<&str, Option<u64>> = HashMap::new();
    for event in given {
        let room = event["room"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "room_joined" => _ = heard.entry(room).or_default(),
            "room_left" => _ = heard.remove(room).expect("it was in the room"),
            "message" => {
                let last = heard.get_mut(room).unwrap_or_else(|| panic!("it is not in {room}: {event}"));
                let Some(number) = event["data"]["n"].as_u64() else { continue };
                assert!(last.is_none_or(|last| last + 1 == number), "{number} after {last:?} in {room}");
                *last = Some(number);
            }
            _ => {}
        }
    }
    for (room, said) in ROOMS.iter().zip(said) {
        if let Some(Some(last)) = heard.get(room) {
            assert_eq!(last + 1, *said, "the last that was said in {room}");
        }
    }
}

async fn play(steps: Vec<Step>, seed: u64) {
    let trace = Trace::default();
    trace.0.lock().unwrap().random = seed;
    let rooms = rooms(&trace);
    let mut talk = Talk::multi(&rooms, "a");
    let (mut commands, mut said) = (0, [0; ROOMS.len()]);
    for step in steps {
        let text = match step {
            Step::Join(room) => command("join", ROOMS[room], commands),
            Step::Leave(room) => command("leave", ROOMS[room], commands),
            Step::Publish(room) => {
                json!({"type": "publish", "room": ROOMS[room], "data": "mine", "ref": commands}).to_string()
            }
            Step::Ping => json!({"type": "ping", "ref": commands}).to_string(),
            Step::Nonsense => json!({"type": "dance", "ref": commands}).to_string(),
            Step::Broadcast(room) => {
                rooms.broadcast(&key(ROOMS[room]), &json!({"n": said[room]})).await.unwrap();
                said[room] += 1;
                continue;
            }
            Step::Wait(millis) => {
                sleep(Duration::from_millis(millis)).await;
                continue;
            }
        };
        talk.say(text);
        commands += 1;
    }
    // Longer than all rules and hooks together may take.
    sleep(Duration::from_secs(60)).await;
    check(&talk.inbox.all().await, commands, &said);
    drop(talk.send);
    talk.ended.await.unwrap();
    sleep(Duration::from_secs(20)).await;
    for room in ROOMS {
        assert!(trace.took_turns(room), "{:?}", trace.0.lock().unwrap().done);
    }
    idle().await;
    assert_eq!((rooms.stats().connections, rooms.stats().rooms), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_command_is_answered_once_in_order_and_rooms_are_heard_without_a_hole(
        steps in prop::collection::vec(step(), 1..80),
        seed in any::<u64>(),
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps, seed));
    }
}
