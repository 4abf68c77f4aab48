//! Losses that a bus reports: each member is told of each, once, and nobody waits for that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/rig.rs"]
mod rig;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::join_all};
use rooms_core::{
    Kind, RoomManager,
    bus::{BusEvent, Lost, Topic},
};
use serde_json::json;

use faulty::{Faulty, rooms};
use rig::{Client, Rooms, idle, key};

#[tokio::test(start_paused = true)]
async fn where_nothing_was_lost_nobody_is_told_anything() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    bus.say(BusEvent::Down);
    assert!(rooms.stats().bus_down);
    bus.say(BusEvent::up(Lost::Nothing));
    assert!(member.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_one_room_is_told_in_that_room_alone() {
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let mut member = Client::join(&rooms, "a", "post:42").await;
    let mut elsewhere = Client::join(&rooms, "a", "post:7").await;
    bus.say(BusEvent::gap(Topic::Room(key("post:42"))));
    bus.say(BusEvent::gap(Topic::Room(key("post:nobody"))));
    assert_eq!(member.inbox.all().await, [json!({"type": "resync", "room": "post:42", "reason": "bus_gap"})]);
    assert!(elsewhere.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_outruns_the_room_costs_messages_and_that_is_said_once() {
    let bus = Arc::new(Faulty::default());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 4)
        .bus(Arc::clone(&bus))
        .build()
        .unwrap();
    let mut member = Client::join(&rooms, "a", "post:42").await;
    idle().await;
    for n in 0..20 {
        bus.say_message(n.to_string());
    }
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    let expected: Vec<_> = (0..8).map(|n| json!(n)).chain([resync]).collect();
    assert_eq!(member.inbox.all().await, expected);
    bus.say_message("20");
    assert_eq!(member.inbox.all().await, [20]);
}

/// A round of a large room takes a while, and the bus does not wait for it.
#[tokio::test(start_paused = true)]
async fn who_was_told_of_a_loss_before_its_end_is_told_again() {
    let bus = Arc::new(Faulty::default());
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_log_messages = 1)
        .bus(Arc::clone(&bus))
        .build()
        .unwrap();
    let mut members = Vec::new();
    for n in 0..200 {
        members.push(Client::join(&rooms, &format!("u{n}"), "post:42").await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for member in &mut members {
        member.inbox.all().await;
    }
    let lose = |from: usize| (from..from + 4).for_each(|n| bus.say_message(n.to_string()));
    lose(0);
    let first = loop {
        tokio::task::yield_now().await;
        if let Some(Some(message)) = members[0].inbox.0.next().now_or_never() {
            break message;
        }
    };
    assert_eq!(first.as_text(), Some("0"));
    assert!(members[199].inbox.0.next().now_or_never().is_none(), "the round is not over");
    lose(4);
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    assert_eq!(members[0].inbox.all().await, [json!(1), resync.clone(), resync.clone()]);
    assert_eq!(members[199].inbox.all().await, [json!(0), json!(1), resync.clone(), resync]);
    bus.say_message("8");
    assert_eq!(members[0].inbox.all().await, [8]);
}

/// It is told of the first loss with its welcome, which is before the second.
#[tokio::test(start_paused = true)]
async fn who_has_just_joined_is_told_of_a_loss_after_that() {
    let (bus, open) = (Arc::new(Faulty::default()), Arc::new(AtomicBool::new(true)));
    let door = Arc::clone(&open);
    let kind = Kind::authenticated().on_join(move |_| {
        let door = Arc::clone(&door);
        // It wakes nobody; the test polls.
        std::future::poll_fn(move |_| match door.load(Ordering::Relaxed) {
            true => std::task::Poll::Ready(Ok(json!({}))),
            false => std::task::Poll::Pending,
        })
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).bus(Arc::clone(&bus)).build().unwrap();
    let _member = Client::join(&rooms, "a", "post:42").await;
    let mut late = Client::connect(&rooms, "b");
    let gap = || bus.say(BusEvent::gap(Topic::Room(key("post:42"))));
    open.store(false, Ordering::Relaxed);
    {
        let room = key("post:42");
        let mut join = std::pin::pin!(late.connection.join(&room));
        assert!(join.as_mut().now_or_never().is_none());
        gap();
        open.store(true, Ordering::Relaxed);
        assert!(join.as_mut().now_or_never().is_some());
        gap();
    }
    let resync = json!({"type": "resync", "room": "post:42", "reason": "bus_gap"});
    let told = late.inbox.all().await.into_iter().filter(|event| *event == resync).count();
    assert_eq!(told, 2);
}

/// How many losses a client was told of since the last look.
fn losses(client: &mut Client) -> usize {
    let messages = std::iter::from_fn(|| client.inbox.0.try_recv().ok());
    messages.filter(|message| message.as_text().is_some_and(|text| text.contains(r#""type":"resync""#))).count()
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_all_rooms_keeps_neither_the_bus_nor_a_broadcast_waiting() {
    const ROOMS: usize = 100_000;
    const CONNECTIONS: usize = 4_000;
    let bus = Arc::new(Faulty::default());
    let rooms = rooms(Arc::clone(&bus));
    let in_many_rooms = async |number: usize| {
        let mut client = Client::connect(&rooms, &format!("u{number}"));
        for room in (number..ROOMS).step_by(CONNECTIONS) {
            client.connection.join(&key(&format!("post:{room}"))).await.unwrap();
        }
        client
    };
    let mut members = join_all((0..CONNECTIONS).map(in_many_rooms)).await;
    let mut watcher = Client::join(&rooms, "w", "post:watched").await;
    idle().await;
    watcher.inbox.now();
    let mut told = || members.iter_mut().map(losses).sum::<usize>();
    assert_eq!(told(), 0);
    assert_eq!(rooms.stats().rooms, ROOMS + 1);

    bus.say(BusEvent::up(Lost::Perhaps));
    assert_eq!(told(), 0, "not within the call of the bus");
    let mut all = 0;
    while all == 0 {
        tokio::task::yield_now().await;
        all = told();
    }
    assert!(all < ROOMS / 10, "{all} rooms in one turn");
    rooms.broadcast(&key("post:watched"), &"beside it").await.unwrap();
    while !watcher.inbox.now().contains(&json!("beside it")) {
        tokio::task::yield_now().await;
    }
    all += told();
    assert!(all < ROOMS / 5, "the broadcast waited for {all} rooms");
    idle().await;
    all += told();
    assert_eq!(all, ROOMS, "each is told once");
}
