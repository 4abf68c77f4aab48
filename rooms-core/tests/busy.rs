//! What goes on while a hook or a rule is at work, and what of it goes on when its connection ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use rooms_core::{Close, Kind, MessageKind, Occupancy, RoomManager, ws::Incoming};
use serde_json::{Value, json};
use tokio::time::Instant;

use channels::{command, join};
use rig::{Client, Rooms, idle, key};
use talk::Talk;

type Notes = Arc<Mutex<Vec<&'static str>>>;

fn note(notes: &Notes, what: &'static str) {
    notes.lock().unwrap().push(what);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_and_a_good_bye_heard_while_a_rule_or_a_hook_is_at_work() {
    let rules = Kind::new().join_rule(|_, _| pending::<bool>());
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
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_just_before_it_goes_is_carried_out() {
    let kind = Kind::authenticated().allow_publish().on_publish(|_, data| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(data)
    });
    let rooms: Rooms = RoomManager::build_for().kind("channel", kind).build().unwrap();
    let mut other = Client::join(&rooms, "b", "channel:1").await;
    for good_bye in [true, false] {
        let mut talk = Talk::multi(&rooms, "a");
        join(&mut talk, "channel:1").await;
        other.inbox.all().await;
        talk.say(json!({"type": "publish", "room": "channel:1", "data": "first"}).to_string());
        talk.say(json!({"type": "publish", "room": "channel:1", "data": "last"}).to_string());
        if good_bye {
            talk.send.unbounded_send(Ok(Incoming::Close(None))).unwrap();
        }
        drop(talk.send);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let heard = other.inbox.all().await;
        assert_eq!(heard[..2], [json!("first"), json!("last")], "{heard:?}");
        assert_eq!(rooms.stats().connections, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_while_it_joins_has_left_what_it_joined() {
    let notes = Notes::default();
    let (joins, leaves) = (Arc::clone(&notes), Arc::clone(&notes));
    let kind = Kind::authenticated()
        .on_join(move |_| {
            let joins = Arc::clone(&joins);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                note(&joins, "join");
                Ok(Value::Null)
            }
        })
        .on_leave(move |_| {
            note(&leaves, "leave");
            async {}
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let talk = Talk::multi(&rooms, "a");
    talk.say(command("join", "post:42", 1));
    drop(talk.send);
    talk.ended.await.unwrap();
    rooms.shutdown(Duration::ZERO).await;
    assert_eq!(*notes.lock().unwrap(), ["join", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn the_hook_about_a_leave_has_run_before_the_room_is_joined_again() {
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
async fn the_hook_about_one_room_holds_up_no_other() {
    let kind = Kind::authenticated().allow_publish().on_leave(|_| tokio::time::sleep(Duration::from_secs(9)));
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    for n in 0..10 {
        talk.say(command("join", &format!("post:{n}"), n));
        talk.say(command("leave", &format!("post:{n}"), n));
    }
    let start = Instant::now();
    talk.inbox.all().await;
    join(&mut talk, "post:42").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_hooks_about_who_has_left_and_for_no_longer_than_it_may() {
    for (takes, noted) in [(Duration::from_secs(3), 20), (Duration::from_secs(9), 0)] {
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
        let mut talk = Talk::multi(&rooms, "a");
        for n in 0..20 {
            join(&mut talk, &format!("post:{n}")).await;
        }
        let start = Instant::now();
        rooms.shutdown(Duration::from_secs(5)).await;
        assert_eq!(notes.lock().unwrap().len(), noted);
        assert!(start.elapsed() <= Duration::from_secs(7), "{:?}", start.elapsed());
        drop(talk);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_of_an_empty_room_also_where_a_reload_would_be_waited_for() {
    let notes = Notes::default();
    let empty = Arc::clone(&notes);
    let kind = Kind::authenticated().leave_grace(Duration::from_secs(30)).on_occupancy(move |_, occupancy| {
        if occupancy == Occupancy::EmptyHere {
            note(&empty, "empty");
        }
        async {}
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let talk = Talk::joined(&rooms, "a").await;
    rooms.shutdown(Duration::from_secs(5)).await;
    assert_eq!(*notes.lock().unwrap(), ["empty"]);
    drop(talk);
}
