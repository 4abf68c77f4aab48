//! What goes on while a client has much to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/valve.rs"]
mod valve;

use std::{task::Poll, time::Duration};

use futures::{channel::mpsc, stream};
use rooms_core::{
    Close, Kind, MessageKind, Overflow, RoomManager,
    bus::Retention,
    ws::{Incoming, WsError},
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use channels::command;
use rig::{idle, key, who};
use valve::{Valve, ValveSink};

type Says = mpsc::UnboundedSender<Result<Incoming, WsError>>;

/// A client in `post:42` that takes nothing yet but its welcome.
async fn joined(rooms: &RoomManager<ValveSink>) -> (Valve, Says, JoinHandle<Close>) {
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    valve.open(1);
    send.unbounded_send(Ok(Incoming::Text(command("join", "post:42", 1)))).unwrap();
    idle().await;
    (valve, send, ended)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_is_sent_all_that_it_asks_for_however_much_that_is() {
    let kind = Kind::authenticated().on_join(|_| async { Ok(json!({"history": "x".repeat(200_000)})) });
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded::<Result<Incoming, WsError>>();
    let ended = tokio::spawn(rooms.serve(stream, sink, who("a")));
    for n in 0..100 {
        send.unbounded_send(Ok(Incoming::Text(command("join", &format!("post:{n}"), n)))).unwrap();
    }
    // A message in a second: 1.6 Mbit/s.
    for n in 0..100 {
        idle().await;
        valve.open(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if valve.taken().last().is_some_and(|message| message.kind() == MessageKind::Ping) {
            send.unbounded_send(Ok(Incoming::Pong)).unwrap();
            valve.open(1);
            idle().await;
        }
        assert!(!ended.is_finished(), "after {n} rooms");
    }
    let joined = valve.taken().iter().filter(|message| message.kind() == MessageKind::Text).count();
    assert_eq!(joined, 100);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_much_and_reads_nothing_is_closed() {
    let kind = Kind::authenticated().on_join(|_| async { Ok(json!({"history": "x".repeat(200_000)})) });
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (_valve, sink) = valve::new();
    let (send, stream) = mpsc::unbounded::<Result<Incoming, WsError>>();
    for n in 0..100 {
        send.unbounded_send(Ok(Incoming::Text(command("join", &format!("post:{n}"), n)))).unwrap();
    }
    let start = Instant::now();
    assert_eq!(rooms.serve(stream, sink, who("a")).await, Close::NO_PONG);
    assert_eq!(start.elapsed().as_secs(), 40, "25 s to the ping, 10 for the pong, and 5 for the close frame");
    idle().await;
    assert_eq!(rooms.stats().connections, 0);
}

/// 928 KiB wait for it, of a room that drops the oldest; the bound is 1 MiB.
#[tokio::test(start_paused = true)]
async fn one_that_is_only_slow_may_join_where_the_answer_is_longer_than_the_space_that_is_left() {
    let flood = Kind::authenticated().overflow(Overflow::DropOldest);
    let long = Kind::authenticated().on_join(|_| async { Ok(json!({"history": "x".repeat(500_000)})) });
    let rooms: RoomManager<ValveSink> =
        RoomManager::build_for().kind("post", flood).kind("long", long).build().unwrap();
    let (valve, send, ended) = joined(&rooms).await;
    let payload = "x".repeat(32 * 1024 - 100);
    let publish = async |count: usize| {
        for _ in 0..count {
            rooms.broadcast(&key("post:42"), &payload).await.unwrap();
            idle().await;
        }
    };
    publish(29).await;
    send.unbounded_send(Ok(Incoming::Text(command("join", "long:1", 2)))).unwrap();
    idle().await;
    assert_eq!(rooms.local_viewers(&key("long:1")), 1);
    // What follows does not close it either, and its next command waits.
    publish(100).await;
    send.unbounded_send(Ok(Incoming::Text(command("join", "long:2", 3)))).unwrap();
    idle().await;
    assert!(!ended.is_finished() && rooms.local_viewers(&key("long:2")) == 0);
    valve.open(10_000);
    idle().await;
    assert!(!ended.is_finished());
    let taken = valve.taken();
    let told = |text: &str| taken.iter().any(|message| message.as_text().is_some_and(|told| told.contains(text)));
    assert!(told(r#""room":"long:1","viewers":1,"history":"xx"#) && told("slow_consumer"));
    assert_eq!(rooms.local_viewers(&key("long:2")), 1, "it has read, and so is answered");
}

/// As above; and then comes a ping.
#[tokio::test(start_paused = true)]
async fn what_a_join_replays_closes_nobody_for_what_waits_from_other_rooms() {
    let flood = Kind::authenticated().overflow(Overflow::DropOldest);
    let log = Kind::authenticated().history(Retention::messages(1_000).bytes(4_000_000));
    let board = Kind::authenticated().keep_state(Duration::from_secs(3600));
    let kinds = RoomManager::build_for().kind("post", flood).kind("log", log).kind("board", board);
    let rooms: RoomManager<ValveSink> = kinds.build().unwrap();
    let payload = "x".repeat(32 * 1024 - 100);
    let publish = async |room: &str, count: usize| {
        for _ in 0..count {
            rooms.broadcast(&key(room), &payload).await.unwrap();
            idle().await;
        }
    };
    publish("log:1", 22).await;
    let boards = ["board:1", "board:2", "board:3", "board:4"];
    for board in boards {
        rooms.broadcast_state(&key(board), &payload).await.unwrap();
    }
    let replay = json!({"type": "join", "room": "log:1", "newest": 22}).to_string();
    let states = boards.map(|board| command("join", board, 2));
    for (joins, given) in [(&[replay][..], 22), (&states[..], boards.len())] {
        let (valve, send, ended) = joined(&rooms).await;
        publish("post:42", 29).await;
        for join in joins {
            send.unbounded_send(Ok(Incoming::Text(join.clone()))).unwrap();
            idle().await;
        }
        sleep(Duration::from_secs(30)).await;
        assert!(!ended.is_finished(), "{given}");
        valve.open(10_000);
        idle().await;
        let taken = valve.taken();
        assert!(taken.iter().any(|message| message.kind() == MessageKind::Ping), "{given}");
        let texts = taken.iter().filter_map(rooms_core::Message::as_text);
        let of_joins = texts.filter(|text| text.contains("log:1") || text.contains("board:"));
        assert_eq!(of_joins.filter(|text| text.len() > payload.len()).count(), given);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_a_room_keeps_nobody_from_leaving_it() {
    let kind = Kind::authenticated().overflow(Overflow::DropOldest);
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (valve, send, _ended) = joined(&rooms).await;
    let room = key("post:42");
    for n in 0..3_000 {
        rooms.broadcast(&room, &n).await.unwrap();
        if n % 2 == 0 {
            valve.open(1);
        }
        if n == 2_500 {
            assert_eq!(rooms.local_viewers(&room), 1);
            send.unbounded_send(Ok(Incoming::Text(command("leave", "post:42", 2)))).unwrap();
        }
        idle().await;
    }
    assert_eq!(rooms.local_viewers(&room), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_room_drops_is_no_sign_that_its_member_lives() {
    let kind = Kind::authenticated().overflow(Overflow::DropOldest);
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (_valve, _send, ended) = joined(&rooms).await;
    let start = Instant::now();
    while !ended.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
        rooms.broadcast(&key("post:42"), &0).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ended.await.unwrap(), Close::NO_PONG);
}

#[tokio::test(start_paused = true)]
async fn who_takes_what_waits_lives_also_where_the_ping_stands_far_behind() {
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let (valve, _send, ended) = joined(&rooms).await;
    for n in 0..600 {
        rooms.broadcast(&key("post:42"), &n).await.unwrap();
    }
    for n in 0..300 {
        // As much comes as goes.
        rooms.broadcast(&key("post:42"), &n).await.unwrap();
        valve.open(1);
        sleep(Duration::from_secs(1)).await;
        assert!(!ended.is_finished(), "after {n} s");
    }
}

/// The process was stopped for a while: time has gone by, and what came meanwhile is still to be read.
#[tokio::test(start_paused = true)]
async fn a_pong_that_is_there_counts_before_its_time_is_looked_at() {
    let rooms: RoomManager<ValveSink> = RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
    let (valve, sink) = valve::new();
    valve.open(10);
    let start = Instant::now();
    let mut pong = Some(Ok(Incoming::Pong));
    // It wakes nobody: the timer for the pong is what the session wakes up by.
    let stream = stream::poll_fn(move |_| match start.elapsed() >= Duration::from_secs(34) && pong.is_some() {
        true => Poll::Ready(pong.take()),
        false => Poll::Pending,
    });
    let ended = tokio::spawn(rooms.serve_room(stream, sink, who("a"), key("post:42")));
    // The close frame would have its time, too.
    sleep(Duration::from_secs(40)).await;
    assert!(!ended.is_finished());
    assert_eq!(ended.await.unwrap(), Close::NO_PONG, "and then there is none");
}
