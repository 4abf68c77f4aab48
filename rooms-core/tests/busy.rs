//! What goes on while a hook or a rule is at work, and while a client has much to read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/valve.rs"]
mod valve;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc};
use rooms_core::{
    Close, Kind, MessageKind, RoomManager,
    ws::{Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use channels::{command, join};
use rig::{Rooms, idle, key, who};
use talk::Talk;
use valve::ValveSink;

type Notes = Arc<Mutex<Vec<&'static str>>>;

fn note(notes: &Notes, what: &'static str) {
    notes.lock().unwrap().push(what);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_and_a_good_bye_heard_while_a_rule_or_a_hook_is_at_work() {
    let rules = Kind::new().join(|_, _| pending());
    let hooks = Kind::authenticated().on_message(|_, _| pending());
    let rooms: Rooms = RoomManager::build_for().kind("rule", rules).kind("post", hooks).build().unwrap();
    for busy in [command("join", "rule:1", 1), json!({"type": "x", "room": "post:42"}).to_string()] {
        let mut talk = Talk::multi(&rooms, "a");
        join(&mut talk, "post:42").await;
        let start = Instant::now();
        talk.say(busy);
        idle().await;
        talk.send.unbounded_send(Ok(Incoming::Ping("payload".into()))).unwrap();
        let pong = talk.inbox.0.next().await.unwrap();
        assert_eq!((pong.kind(), pong.payload()), (MessageKind::Pong, &b"payload"[..]));
        talk.send.unbounded_send(Ok(Incoming::Close(None))).unwrap();
        assert_eq!(talk.inbox.close().await, Close::NORMAL);
        assert_eq!((rooms.stats().connections, rooms.local_viewers(&key("post:42"))), (1, 0), "it has left");
        talk.ended.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
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
    assert_eq!(start.elapsed().as_secs(), 37, "25 s to the ping, 10 for the pong, and 2 for the close frame");
    idle().await;
    assert_eq!(rooms.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_a_connection_run_in_order_that_about_its_leave_too() {
    let notes = Notes::default();
    let (joins, leaves) = (Arc::clone(&notes), Arc::clone(&notes));
    let kind = Kind::authenticated()
        .on_join(move |_| {
            note(&joins, "join");
            async { Ok(Value::Null) }
        })
        .on_leave(move |_| {
            let leaves = Arc::clone(&leaves);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                note(&leaves, "leave");
            }
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    for action in ["join", "leave", "join"] {
        talk.say(command(action, "post:42", 1));
    }
    for answer in ["room_joined", "room_left", "room_joined"] {
        assert_eq!(talk.inbox.next().await["type"], answer);
    }
    assert_eq!(*notes.lock().unwrap(), ["join", "leave", "join"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_hooks_about_who_has_left_and_for_no_longer_than_it_may() {
    for (takes, noted) in [(Duration::from_secs(3), true), (Duration::from_secs(9), false)] {
        let notes = Notes::default();
        let leaves = Arc::clone(&notes);
        let kind = Kind::authenticated().on_leave(move |_| {
            let leaves = Arc::clone(&leaves);
            async move {
                tokio::time::sleep(takes).await;
                note(&leaves, "leave");
            }
        });
        let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
        let talk = Talk::joined(&rooms, "a").await;
        let start = Instant::now();
        rooms.shutdown(Duration::from_secs(5)).await;
        assert_eq!(!notes.lock().unwrap().is_empty(), noted);
        assert!(start.elapsed() <= Duration::from_secs(7), "{:?}", start.elapsed());
        drop(talk);
    }
}
