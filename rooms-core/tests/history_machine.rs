//! Pages that come and go, and read slowly, while nodes crash, messages are lost, buses are down, reads fail and logs are
//! trimmed, spoilt or lost: what a page is given, JSON or bytes, is in order and once, and nothing is missing without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/flaky.rs"]
mod flaky;
#[path = "support/page.rs"]
mod page;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/tap.rs"]
mod tap;

use std::{sync::atomic::Ordering, time::Duration};

use futures::{FutureExt as _, channel::mpsc};
use proptest::prelude::*;
use rooms_core::{
    Kind, Limits, LocalBus, Overflow, RoomManager,
    bus::{BusEvent, History as _, Retention, Topic},
};
use tokio::{runtime, time::sleep};

use flaky::Flaky;
use page::{Page, Truth, as_bytes};
use rig::{Inbox, idle, key, who};
use talk::Talk;
use tap::{Tap, TapSink};

const ROOM: &str = "post:42";
const NODES: usize = 2;
const PAGES: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Publish(usize, usize),
    /// Comes back with the position that it has, or for the first time; with the newest, if a number.
    Join {
        page: usize,
        node: usize,
        newest: usize,
    },
    Go(usize),
    /// Leaves the room, and keeps its connection.
    Leave(usize),
    Hide(usize),
    Show(usize),
    /// Its socket takes so many messages, and no more until it is opened.
    Shut(usize, usize),
    Open(usize),
    Muted(usize, bool),
    Gap(usize),
    Down(usize),
    Up(usize),
    Freeze(usize),
    Thaw(usize),
    Fail(usize, usize),
    /// The node ends with all that it has not done, after it was told to publish so many; another one begins, and the pages
    /// come back to one of those that there are.
    Crash {
        node: usize,
        publishing: usize,
        to: usize,
    },
    Forget,
    /// Somebody appends what is no message.
    Spoil,
    Idle,
    Wait,
}

/// How much may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    /// The log has everything, and can be read in the end.
    Mild,
    /// So it is, and little may wait for a page.
    Slow,
    /// It is trimmed, spoilt and lost, and can't be read.
    Harsh,
}

fn step(faults: Faults) -> impl Strategy<Value = Step> {
    let (node, page) = (0..NODES, 0..PAGES);
    let harsh = u32::from(faults == Faults::Harsh);
    prop_oneof![
        10 => (node.clone(), 1..6usize).prop_map(|(node, count)| Step::Publish(node, count)),
        8 => (page.clone(), 0..NODES, 0..8usize).prop_map(|(page, node, newest)| {
            Step::Join { page, node, newest: newest.saturating_sub(5) }
        }),
        4 => page.clone().prop_map(Step::Go),
        2 => page.clone().prop_map(Step::Leave),
        4 => page.clone().prop_map(Step::Hide),
        4 => page.clone().prop_map(Step::Show),
        4 => (page.clone(), 0..20_usize).prop_map(|(page, but)| Step::Shut(page, but)),
        2 => page.prop_map(Step::Open),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Step::Muted(node, on)),
        2 => node.clone().prop_map(Step::Gap),
        1 => node.clone().prop_map(Step::Down),
        2 => node.clone().prop_map(Step::Up),
        1 => node.clone().prop_map(Step::Freeze),
        2 => node.clone().prop_map(Step::Thaw),
        2 => (node.clone(), 0..3_usize, 0..NODES).prop_map(|(node, publishing, to)| Step::Crash { node, publishing, to }),
        1 + harsh => (node, 1..3 + 6 * harsh as usize).prop_map(|(node, count)| Step::Fail(node, count)),
        1 => Just(if faults == Faults::Harsh { Step::Forget } else { Step::Idle }),
        1 => Just(if faults == Faults::Harsh { Step::Spoil } else { Step::Idle }),
        6 => Just(Step::Idle),
        2 => Just(Step::Wait),
    ]
}

const fn retention(faults: Faults) -> Retention {
    Retention::messages(if matches!(faults, Faults::Harsh) { 12 } else { 10_000 })
}

struct Node {
    bus: Flaky,
    rooms: RoomManager<TapSink>,
}

impl Node {
    fn over(bus: LocalBus, faults: Faults) -> Self {
        let bus = Flaky::new(bus);
        let kind = Kind::authenticated().history(retention(faults)).overflow(Overflow::Resync);
        let limits = |limits: &mut Limits| {
            // One that does not read is not alive; here it is.
            limits.ping_interval = Duration::from_secs(100_000);
            if faults != Faults::Mild {
                limits.max_outbox_messages = 16;
            }
        };
        let rooms = RoomManager::build_for().kind("post", kind).limits(limits).bus(bus.clone()).build().unwrap();
        Self { bus, rooms }
    }

    /// Nothing that it does from here on reaches anybody, nor anything it.
    fn crash(&self) {
        self.bus.set(|faults| &faults.down, true);
    }

    fn talk(&self, tap: &Tap) -> Talk {
        let (send, stream) = mpsc::unbounded();
        let (sink, receiver) = mpsc::unbounded();
        let ended = tokio::spawn(self.rooms.serve(stream, tap.sink(sink), who("a")));
        Talk { send, inbox: Inbox(receiver), ended }
    }
}

async fn run(faults: Faults, steps: Vec<Step>) {
    let hub = LocalBus::new();
    let elsewhere = hub.peer();
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::over(hub.peer(), faults)).collect();
    let mut pages: Vec<Page> = (0..PAGES).map(|_| Page::default()).collect();
    let taps: Vec<Tap> = (0..PAGES).map(|_| Tap::default()).collect();
    // The node that each page was with last.
    let mut homes = [0; PAGES];
    let (mut truth, mut number) = (Truth::default(), 0);
    for step in steps {
        match step {
            Step::Publish(node, count) => {
                for _ in 0..count {
                    number += 1;
                    let room = key(ROOM);
                    // Every third is no JSON.
                    let published = if number % 3 == 0 {
                        nodes[node].rooms.to(&room).binary(as_bytes(number)).await
                    } else {
                        nodes[node].rooms.broadcast(&room, &number).await
                    };
                    if let Ok(receipt) = published {
                        truth.published.insert(receipt.position.unwrap(), number);
                    }
                }
            }
            Step::Join { page, node, newest } if pages[page].talk.is_none() => {
                pages[page].join_over(nodes[node].talk(&taps[page]), ROOM, newest);
                homes[page] = node;
            }
            Step::Join { page, newest, .. } if pages[page].is_out() => pages[page].join_again(ROOM, newest),
            Step::Join { .. } => {}
            Step::Leave(page) => pages[page].leave(ROOM),
            Step::Go(page) => pages[page].go(),
            Step::Hide(page) => pages[page].show(ROOM, false),
            Step::Show(page) => pages[page].show(ROOM, true),
            Step::Shut(page, but) => taps[page].shut(but),
            Step::Open(page) => taps[page].open(),
            Step::Muted(node, on) => nodes[node].bus.set(|faults| &faults.muted, on),
            Step::Gap(node) => nodes[node].bus.say(BusEvent::gap(Topic::Room(key(ROOM)))),
            Step::Down(node) => nodes[node].bus.go_down(),
            Step::Up(node) => nodes[node].bus.come_up(),
            Step::Freeze(node) => nodes[node].bus.set(|faults| &faults.frozen, true),
            Step::Thaw(node) => nodes[node].bus.thaw(),
            Step::Fail(node, count) => nodes[node].bus.faults().failing.store(count, Ordering::Relaxed),
            Step::Crash { node, publishing, to } => {
                for _ in 0..publishing {
                    number += 1;
                    // It is not told any more how the others ended.
                    match nodes[node].rooms.broadcast(&key(ROOM), &number).now_or_never() {
                        Some(Ok(receipt)) => _ = truth.published.insert(receipt.position.unwrap(), number),
                        Some(Err(_)) => {}
                        None => _ = truth.perhaps.insert(number),
                    }
                }
                nodes[node].crash();
                let there = |page: &usize| homes[*page] == node && pages[*page].talk.is_some();
                let there: Vec<usize> = (0..PAGES).filter(there).collect();
                there.iter().for_each(|page| pages[*page].is_cut_off());
                nodes[node] = Node::over(hub.peer(), faults);
                for page in there {
                    pages[page].join_over(nodes[to].talk(&taps[page]), ROOM, 0);
                    homes[page] = to;
                }
            }
            Step::Forget => hub.forget_histories(),
            Step::Spoil => {
                let nonsense = "[".repeat(100).into();
                _ = elsewhere.append(&Topic::Room(key(ROOM)), nonsense, retention(faults)).await.unwrap();
            }
            Step::Idle => idle().await,
            Step::Wait => sleep(Duration::from_secs(5)).await,
        }
        pages.iter_mut().for_each(|page| page.look(&truth));
    }
    taps.iter().for_each(Tap::open);
    for node in &nodes {
        node.bus.faults().failing.store(0, Ordering::Relaxed);
        node.bus.set(|faults| &faults.muted, false);
        node.bus.thaw();
        node.bus.come_up();
    }
    for _ in 0..4 {
        sleep(Duration::from_secs(5)).await;
        pages.iter_mut().for_each(|page| page.look(&truth));
    }
    for page in 0..PAGES {
        if pages[page].talk.is_none() {
            pages[page].join_over(nodes[(page + 1) % NODES].talk(&taps[page]), ROOM, 0);
        } else if pages[page].is_out() {
            pages[page].join_again(ROOM, 0);
        } else {
            pages[page].show(ROOM, true);
        }
    }
    idle().await;
    let receipt = nodes[0].rooms.broadcast(&key(ROOM), &(number + 1)).await.unwrap();
    truth.published.insert(receipt.position.unwrap(), number + 1);
    sleep(Duration::from_secs(5)).await;
    for (number_of, page) in pages.iter_mut().enumerate() {
        page.look(&truth);
        assert_eq!(page.last, Some(number + 1), "page {number_of} has the last");
        assert!(faults == Faults::Harsh || page.resyncs == 0, "page {number_of}: the log had everything");
    }
}

fn check(faults: Faults, steps: Vec<Step>) {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(faults, steps));
}

proptest! {
    #[test]
    fn nothing_is_missing_and_nobody_is_told_to_fetch_while_the_log_has_everything(
        steps in prop::collection::vec(step(Faults::Mild), 1..80)
    ) {
        check(Faults::Mild, steps);
    }

    #[test]
    fn nothing_is_missing_and_nobody_is_told_to_fetch_though_pages_read_slowly(
        steps in prop::collection::vec(step(Faults::Slow), 1..120)
    ) {
        check(Faults::Slow, steps);
    }

    #[test]
    fn nothing_is_missing_without_a_word_whatever_becomes_of_the_log(
        steps in prop::collection::vec(step(Faults::Harsh), 1..80)
    ) {
        check(Faults::Harsh, steps);
    }
}
