//! Pages that come and go while messages are lost, buses are down, reads fail and logs are trimmed or lost: what a page is
//! given is in order and once, and nothing is missing without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use proptest::prelude::*;
use rooms_core::{
    Kind, LocalBus, MessageKind, RoomManager,
    bus::{BusEvent, Position, Retention, Topic},
    ws::Incoming,
};
use serde_json::{Value, json};
use tokio::{runtime, time::sleep};

use flaky::Flaky;
use rig::{Rooms, idle, key};
use talk::Talk;

const ROOM: &str = "post:42";
const NODES: usize = 2;
const PAGES: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, usize),
    /// Comes back with the position that it has, or for the first time; with the newest, if a number.
    Join(usize, usize),
    Go(usize),
    Deaf(usize, bool),
    Gap(usize),
    Down(usize),
    Up(usize),
    Freeze(usize),
    Thaw(usize),
    Fail(usize, usize),
    Forget,
    Idle,
    Wait,
}

/// How much may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// The log has everything, and can be read in the end.
    Mild,
    /// It is trimmed and lost, and can't be read.
    Harsh,
}

fn step(weather: Weather) -> impl Strategy<Value = Step> {
    let (node, page) = (0..NODES, 0..PAGES);
    let harsh = u32::from(weather == Weather::Harsh);
    prop_oneof![
        10 => (node.clone(), 1..6usize).prop_map(|(node, count)| Step::Publish(node, count)),
        8 => (page.clone(), 0..8usize).prop_map(|(page, newest)| Step::Join(page, newest.saturating_sub(5))),
        4 => page.prop_map(Step::Go),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Step::Deaf(node, on)),
        2 => node.clone().prop_map(Step::Gap),
        1 => node.clone().prop_map(Step::Down),
        2 => node.clone().prop_map(Step::Up),
        1 => node.clone().prop_map(Step::Freeze),
        2 => node.clone().prop_map(Step::Thaw),
        1 + harsh => (node, 1..3 + 6 * harsh as usize).prop_map(|(node, count)| Step::Fail(node, count)),
        1 => Just(if weather == Weather::Harsh { Step::Forget } else { Step::Idle }),
        6 => Just(Step::Idle),
        2 => Just(Step::Wait),
    ]
}

struct Node {
    bus: Flaky,
    rooms: Rooms,
}

/// A page, and what it has seen.
#[derive(Default)]
struct Page {
    talk: Option<Talk>,
    /// The position that it stands at; `None` before the first, and where it has been told to fetch again.
    position: Option<Position>,
    /// What it comes back with.
    since: Option<Position>,
    /// The last number that it was given since it began, or began afresh.
    last: Option<u64>,
    resyncs: usize,
}

impl Page {
    fn join(&mut self, node: &Node, newest: usize) {
        let talk = Talk::multi(&node.rooms, "a");
        talk.say(json!({"type": "join", "room": ROOM, "since": self.since, "newest": newest}).to_string());
        self.talk = Some(talk);
    }

    /// Takes what has come, and checks it.
    fn look(&mut self, truth: &HashMap<Position, u64>) {
        let Some(talk) = &mut self.talk else { return };
        let mut events = Vec::new();
        while let Ok(message) = talk.inbox.0.try_recv() {
            match message.kind() {
                MessageKind::Text => events.push(serde_json::from_slice::<Value>(message.payload()).unwrap()),
                MessageKind::Ping => _ = talk.send.unbounded_send(Ok(Incoming::Pong)),
                other => panic!("{other:?}"),
            }
        }
        for event in events {
            self.take(&event, truth);
        }
    }

    fn take(&mut self, event: &Value, truth: &HashMap<Position, u64>) {
        let place = |field: &str| event[field].as_str().map(|text| text.parse::<Position>().unwrap());
        match event["type"].as_str().unwrap() {
            "room_joined" => {
                let position = place("position");
                assert_eq!(event["recovered"].as_bool().is_some(), self.since.is_some(), "{event}");
                match event["recovered"].as_bool() {
                    Some(true) => assert_eq!(position, self.since, "{event}"),
                    // It begins afresh, with a `resync`.
                    Some(false) => self.last = None,
                    None => {}
                }
                (self.position, self.since) = (position, position);
            }
            "resync" => {
                self.position = None;
                self.resyncs += 1;
            }
            "message" => {
                let at = place("offset").unwrap();
                let number = event["data"].as_u64().unwrap();
                assert_eq!(truth.get(&at), Some(&number), "{event}");
                if let Some(position) = self.position {
                    assert_eq!(at, Position::new(position.epoch(), position.offset() + 1), "something is missing");
                }
                assert!(self.last.is_none_or(|last| last < number), "{number} after {:?}", self.last);
                (self.position, self.since, self.last) = (Some(at), Some(at), Some(number));
            }
            "error" => {
                assert_eq!(event["code"], "unavailable", "{event}");
                self.talk = None;
            }
            _ => {}
        }
    }
}

async fn run(weather: Weather, steps: Vec<Step>) {
    let hub = LocalBus::new();
    let retention = match weather {
        Weather::Mild => Retention::messages(10_000),
        Weather::Harsh => Retention::messages(12),
    };
    let nodes: Vec<Node> = (0..NODES)
        .map(|_| {
            let bus = Flaky::new(hub.peer());
            let kind = Kind::authenticated().history(retention);
            let rooms = RoomManager::build_for().kind("post", kind).bus(bus.clone()).build().unwrap();
            Node { bus, rooms }
        })
        .collect();
    let mut pages: Vec<Page> = (0..PAGES).map(|_| Page::default()).collect();
    let (mut truth, mut number) = (HashMap::new(), 0);
    for step in steps {
        match step {
            Step::Publish(node, count) => {
                for _ in 0..count {
                    number += 1;
                    if let Ok(receipt) = nodes[node].rooms.broadcast(&key(ROOM), &number).await {
                        truth.insert(receipt.position.unwrap(), number);
                    }
                }
            }
            Step::Join(page, newest) if pages[page].talk.is_none() => pages[page].join(&nodes[page % NODES], newest),
            Step::Go(page) => {
                // What is on its way to it is lost.
                pages[page].talk = None;
                pages[page].position = None;
            }
            Step::Deaf(node, on) => nodes[node].bus.set(|faults| &faults.deaf, on),
            Step::Gap(node) => nodes[node].bus.say(BusEvent::gap(Topic::Room(key(ROOM)))),
            Step::Down(node) => nodes[node].bus.go_down(),
            Step::Up(node) => nodes[node].bus.come_up(),
            Step::Freeze(node) => nodes[node].bus.set(|faults| &faults.frozen, true),
            Step::Thaw(node) => nodes[node].bus.thaw(),
            Step::Fail(node, count) => nodes[node].bus.faults().failing.store(count, Ordering::Relaxed),
            Step::Forget => hub.forget_histories(),
            Step::Idle => idle().await,
            Step::Wait => sleep(Duration::from_secs(5)).await,
            Step::Join(..) => {}
        }
        pages.iter_mut().for_each(|page| page.look(&truth));
    }
    for node in &nodes {
        node.bus.faults().failing.store(0, Ordering::Relaxed);
        node.bus.set(|faults| &faults.deaf, false);
        node.bus.thaw();
        node.bus.come_up();
    }
    for _ in 0..4 {
        sleep(Duration::from_secs(5)).await;
        pages.iter_mut().for_each(|page| page.look(&truth));
    }
    for page in 0..PAGES {
        if pages[page].talk.is_none() {
            pages[page].join(&nodes[page % NODES], 0);
        }
    }
    idle().await;
    let receipt = nodes[0].rooms.broadcast(&key(ROOM), &(number + 1)).await.unwrap();
    truth.insert(receipt.position.unwrap(), number + 1);
    sleep(Duration::from_secs(5)).await;
    for (number_of, page) in pages.iter_mut().enumerate() {
        page.look(&truth);
        assert_eq!(page.last, Some(number + 1), "page {number_of} has the last");
        assert!(weather == Weather::Harsh || page.resyncs == 0, "page {number_of}: the log had everything");
    }
}

fn check(weather: Weather, steps: Vec<Step>) {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(weather, steps));
}

proptest! {
    #[test]
    fn nothing_is_missing_and_nobody_is_told_to_fetch_while_the_log_has_everything(
        steps in prop::collection::vec(step(Weather::Mild), 1..80)
    ) {
        check(Weather::Mild, steps);
    }

    #[test]
    fn nothing_is_missing_without_a_word_whatever_becomes_of_the_log(
        steps in prop::collection::vec(step(Weather::Harsh), 1..80)
    ) {
        check(Weather::Harsh, steps);
    }
}
