//! What a client may not say on the multi-room endpoint: each is a clear error, and everybody else goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rooms_core::{Close, Decision, Kind, RoomManager};
use serde_json::{Value, json};
use tokio::time::Instant;

use channels::{command, error, join, limited, publish, rooms};
use rig::{Rooms, idle};
use talk::Talk;

#[tokio::test(start_paused = true)]
async fn a_ref_of_any_shape_is_repeated() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    for reference in [json!(1), json!(-1.5), json!("x\ny"), json!([1, [2]]), json!({"type": "pong"}), json!(true)] {
        let pong = talk.ask(json!({"type": "ping", "ref": reference}).to_string()).await;
        assert_eq!(pong, json!({"type": "pong", "ref": reference}));
    }
    assert_eq!(talk.ask(r#"{"type":"ping","ref":null}"#).await, json!({"type": "pong"}));
    let long = json!({"type": "ping", "ref": "x".repeat(127)}).to_string();
    assert_eq!(error(&mut talk, long).await, json!({"code": "bad_message"}));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_command_and_a_wrong_field_are_errors_and_the_connection_lives() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    let deep = format!("{{\"type\":\"join\",\"room\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    for (text, fault) in [
        ("not JSON", json!({"code": "bad_message"})),
        ("[]", json!({"code": "bad_message"})),
        (&deep, json!({"code": "bad_message"})),
        (r#"{"ref":1}"#, json!({"code": "bad_message", "ref": 1})),
        (r#"{"type":5,"ref":1}"#, json!({"code": "bad_message", "ref": 1})),
        (r#"{"type":"dance","ref":[1]}"#, json!({"code": "unknown_type", "ref": [1]})),
        (r#"{"type":"room_joined","room":"post:42"}"#, json!({"code": "not_joined", "room": "post:42"})),
        (r#"{"type":"join","ref":1}"#, json!({"code": "bad_message", "ref": 1})),
        (r#"{"type":"join","room":["post:42"],"ref":1}"#, json!({"code": "bad_message", "ref": 1})),
        (r#"{"type":"leave","room":5}"#, json!({"code": "bad_message"})),
        (r#"{"type":"join","room":"a:1","room":"a:2","ref":1}"#, json!({"code": "bad_message"})),
        (r#"{"type":"publish","room":"a:1","ref":1}"#, json!({"code": "bad_message", "room": "a:1", "ref": 1})),
    ] {
        assert_eq!(error(&mut talk, text).await, fault, "{text:.60}");
    }
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hostile_name_of_a_room_is_an_error_and_no_room() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    let long = format!("post:{}", "x".repeat(10_000));
    for name in [
        "post:*",
        "post:?",
        "post:[a]",
        "post:{x}",
        "p{o}st:1",
        "*:*",
        "post:\u{0}",
        "post:\u{1b}[31m",
        "post:\n",
        "post:42\r\n",
        "post:é",
        "пост:42",
        "post:\u{202e}",
        "",
        ":",
        "post:",
        ":42",
        "post",
        "Post:42",
        " post:42",
        "post:42 ",
        "post:\"",
        &long,
    ] {
        for (text, reference) in [(command("join", name, 1), json!(1)), (publish(name, json!(1)), json!("p"))] {
            let told = talk.ask(text).await;
            assert_eq!((&told["code"], &told["ref"]), (&json!("bad_room"), &reference), "{name:.40}");
            // What is longer than any room's name is not sent back.
            let named = if name.len() <= 233 { json!(name) } else { Value::Null };
            assert_eq!(told["room"], named, "{name:.40}");
            let message = told["message"].as_str().unwrap();
            assert!(message.contains(" is no room: ") && message.len() < 400, "{message}");
            assert!(message.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{message:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_room_and_one_that_does_not_exist_are_answered_alike() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    let mut answers = Vec::new();
    for room in ["post:13", "nothing:13"] {
        let mut answer = talk.ask(command("join", room, 1)).await;
        assert_eq!((&answer["code"], &answer["room"]), (&json!("not_allowed"), &json!(room)));
        answer.as_object_mut().unwrap().remove("room");
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_in_a_room_neither_leaves_it_nor_publishes_there() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    let fault = |reference: &str| json!({"code": "not_joined", "room": "channel:1", "ref": reference});
    assert_eq!(error(&mut talk, command("leave", "channel:1", "l")).await, fault("l"));
    assert_eq!(error(&mut talk, publish("channel:1", json!(1))).await, fault("p"));
    join(&mut talk, "channel:1").await;
    talk.ask(command("leave", "channel:1", "l")).await;
    assert_eq!(error(&mut talk, publish("channel:1", json!(1))).await, fault("p"));
}

#[tokio::test(start_paused = true)]
async fn by_a_rule_that_panics_or_hangs_nothing_is_published() {
    let panics = Kind::authenticated().publish_rule(|_, room| async move {
        assert!(room.id() == "fine", "a rule that panics");
        true
    });
    let hangs = Kind::authenticated().publish_rule(|_, _| pending::<bool>());
    let rooms: Rooms = RoomManager::build_for().kind("panics", panics).kind("hangs", hangs).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    for room in ["panics:1", "hangs:1"] {
        join(&mut talk, room).await;
        let start = Instant::now();
        assert_eq!(error(&mut talk, publish(room, json!(1))).await["code"], "unavailable");
        assert!(start.elapsed() <= Duration::from_secs(6));
    }
}

#[tokio::test(start_paused = true)]
async fn by_a_rule_that_can_not_tell_nobody_joins_or_publishes_for_now() {
    let up = Arc::new(AtomicBool::new(false));
    let rule = {
        let up = Arc::clone(&up);
        move |_, _| {
            let up = up.load(Ordering::Relaxed);
            async move { if up { Decision::Allow } else { Decision::Unavailable } }
        }
    };
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::new().join_rule(rule.clone()))
        .kind("channel", Kind::authenticated().publish_rule(rule))
        .build()
        .unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "channel:1").await;
    assert_eq!(error(&mut talk, command("join", "post:1", "j")).await["code"], "unavailable");
    assert_eq!(error(&mut talk, publish("channel:1", json!(1))).await["code"], "unavailable");
    up.store(true, Ordering::Relaxed);
    join(&mut talk, "post:1").await;
    assert_eq!(
        talk.ask(publish("channel:1", json!({"type": "x"}))).await["type"],
        "published",
        "the connection went on"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_room_is_said() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    for (name, words) in [
        ("post:a*", r#""post:a*" is no room: the id of a room is 1 to 200 of"#),
        ("post:a*", "byte 1 is wrong"),
        ("Post:a", "byte 0 is wrong"),
        ("post", "there is no `:` in it"),
        ("a\u{1b}\"", r#""a\u{1b}\"" is no room"#),
    ] {
        let told = talk.ask(command("join", name, 1)).await;
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_bounded() {
    let rooms = limited(|limits| limits.max_broadcast_bytes = 100);
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "channel:1").await;
    let fault = json!({"code": "too_big", "room": "channel:1", "ref": "p"});
    assert_eq!(error(&mut talk, publish("channel:1", json!("x".repeat(99)))).await, fault);
    talk.say(publish("channel:1", json!("x".repeat(98))));
    assert_eq!(talk.inbox.all().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_in_so_many_rooms_and_no_more() {
    let rooms = rooms();
    let mut talk = Talk::multi(&rooms, "a");
    // As a page does that comes back: all at once, and below the limit of what it may send.
    for n in 0..128 {
        talk.say(command("join", &format!("post:x{n}"), n));
    }
    for _ in 0..128 {
        assert_eq!(talk.inbox.next().await["type"], "room_joined");
    }
    let fault = json!({"code": "too_many_rooms", "room": "post:129", "ref": 1});
    assert_eq!(error(&mut talk, command("join", "post:129", 1)).await, fault);
    talk.ask(command("leave", "post:x0", 1)).await;
    join(&mut talk, "post:129").await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_joins_in_a_second_end_the_connection_that_sent_them_and_no_other() {
    let rooms = limited(|limits| limits.overload_timeout = Duration::from_secs(5));
    let mut other = Talk::multi(&rooms, "b");
    join(&mut other, "post:1").await;
    let mut talk = Talk::multi(&rooms, "a");
    for n in 0..10_000 {
        talk.say(command("join", &format!("post:x{n}"), n));
    }
    assert_eq!(talk.inbox.close().await, Close::TOO_MANY_MESSAGES);
    drop(talk);
    assert_eq!(other.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((rooms.stats().rooms, rooms.stats().connections), (1, 1));

    // Where the application lets so many through, each has its answer.
    let rooms = limited(|limits| {
        (limits.message_burst, limits.messages_per_second) = (20_000, 20_000);
        (limits.joins_per_second, limits.bytes_per_second) = (20_000, u32::MAX);
    });
    let mut talk = Talk::multi(&rooms, "a");
    for n in 0..10_000 {
        talk.say(command("join", &format!("post:x{n}"), n));
        if n % 500 == 0 {
            idle().await;
        }
    }
    for n in 0..10_000 {
        let answer = talk.inbox.next().await;
        assert_eq!((&answer["ref"], answer["type"] == "room_joined"), (&json!(n), n < 128), "{answer}");
    }
    assert_eq!(rooms.stats().rooms, 128);
}
