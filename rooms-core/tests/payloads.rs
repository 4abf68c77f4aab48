//! What members publish reaches others as it came, and never as the server's word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/channels.rs"]
mod channels;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use rooms_core::{
    Bus as _, HookError, Kind, LocalBus, Payload, RoomManager,
    bus::{BusEvent, BusReceiver, Topic},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use channels::{command, error, join, limited, publish};
use rig::{Rooms, idle, key};
use talk::Talk;

/// JSON that a parser and a writer would change, or not take.
const ODD: [&str; 12] = [
    "31.245270191439438",
    "18446744073709551616",
    "-0",
    "0.10",
    "1E400",
    r#""\ud800""#,
    r#""\u0061\/""#,
    r#"{"b":1,"a":2}"#,
    r#"{"a":1,"a":2}"#,
    r#"{ "a" : [ ] }"#,
    r#"{"\udfff":null}"#,
    "null",
];

/// Two nodes with a kind `post`, where everybody may publish.
fn nodes(kind: impl Fn() -> Kind) -> (Rooms, Rooms, LocalBus) {
    let bus = LocalBus::new();
    let node = |bus| RoomManager::build_for().kind("post", kind()).bus(bus).build().unwrap();
    (node(bus.peer()), node(bus.peer()), bus)
}

/// A member who publishes, and the members of `post:42` of both forms on both nodes, in the order of `wrapped`.
async fn members(one: &Rooms, two: &Rooms) -> (Talk, [Talk; 4]) {
    let mut author = Talk::multi(one, "author");
    join(&mut author, "post:42").await;
    let mut members =
        [Talk::joined(one, "a").await, Talk::joined(two, "b").await, Talk::multi(one, "c"), Talk::multi(two, "d")];
    for member in &mut members[2..] {
        join(member, "post:42").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for talk in members.iter_mut().chain([&mut author]) {
        talk.inbox.all().await;
    }
    (author, members)
}

async fn text(talk: &mut Talk) -> String {
    let message = tokio::time::timeout(Duration::from_secs(60), talk.inbox.0.next()).await;
    message.expect("a message in time").unwrap().as_text().unwrap().to_owned()
}

fn publish_text(data: &str) -> String {
    format!(r#"{{"type":"publish","room":"post:42","data":{data}}}"#)
}

fn wrapped(data: &str) -> String {
    format!(r#"{{"type":"message","room":"post:42","data":{data}}}"#)
}

#[tokio::test(start_paused = true)]
async fn what_a_member_publishes_is_not_changed() {
    let as_it_comes = || Kind::authenticated().allow_publish();
    for kind in [as_it_comes(), as_it_comes().on_publish(|_, data| async move { Ok(data) })] {
        let (one, two, _) = nodes(|| kind.clone());
        let (author, mut members) = members(&one, &two).await;
        for data in ODD {
            author.say(publish_text(data));
            for (n, member) in members.iter_mut().enumerate() {
                let expected = if n < 2 { data.to_owned() } else { wrapped(data) };
                assert_eq!(text(member).await, expected);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_given_the_text_that_came_and_may_pass_it_on_inside_its_own() {
    #[derive(Serialize)]
    struct Signed<'a> {
        by: &'a str,
        said: &'a RawValue,
    }

    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let signed = |member: &rooms_core::Member, said: &Payload| {
        Payload::encode(&Signed { by: member.identity().user(), said: said.raw() })
    };
    let kind = Kind::authenticated()
        .allow_publish()
        .on_publish(move |member, data| async move { Ok(signed(&member, &data)?) })
        .on_message(move |_, message| {
            log.lock().unwrap().push(message.as_str().to_owned());
            async { Ok(()) }
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let (mut multi, single) = (Talk::multi(&rooms, "a"), Talk::joined(&rooms, "b").await);
    join(&mut multi, "post:42").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    multi.inbox.all().await;
    for data in ODD {
        let message = format!(r#"{{ "type":"x","room":"post:42", "data":{data}}}"#);
        multi.say(message.clone());
        single.say(message.clone());
        idle().await;
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [message.clone(), message]);
        multi.say(publish_text(data));
        assert_eq!(text(&mut multi).await, wrapped(&format!(r#"{{"by":"a","said":{data}}}"#)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_can_not_parse_is_refused_and_the_connection_goes_on() {
    #[derive(Deserialize)]
    struct Said {
        text: String,
    }

    let kind = Kind::authenticated()
        .allow_publish()
        .on_publish(|_, data| async move {
            let said: Said = data.parse()?;
            Ok(json!({"text": said.text}))
        })
        .on_message(|member, message| async move {
            member.send(&json!({"of": message.json()?}));
            Ok(())
        });
    let rooms: Rooms = RoomManager::build_for().kind("post", kind).build().unwrap();
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "post:42").await;
    let refused = json!({"code": "refused", "room": "post:42", "ref": "p"});
    for data in [json!({"txt": 1}), json!({"text": 1}), json!([])] {
        assert_eq!(error(&mut talk, publish("post:42", data)).await, refused);
    }
    let twice = r#"{"type":"publish","room":"post:42","data":{"text":"a","text":"b"},"ref":"p"}"#;
    assert_eq!(error(&mut talk, twice).await, refused, "a struct takes a field once");
    for odd in ["1E400", r#""\ud800""#] {
        let message = format!(r#"{{"type":"x","room":"post:42","ref":"p","n":{odd}}}"#);
        assert_eq!(error(&mut talk, message).await, refused);
    }
    let long = talk.ask(publish("post:42", json!({"text": {"é".repeat(20_000): 1}}))).await;
    assert!(long["message"].as_str().unwrap().len() <= 200, "{long:.300}");
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn a_payload_with_the_type_of_an_event_reaches_nobody_bare_on_any_node() {
    let plain = || Kind::authenticated().allow_publish();
    // A hook that passes on a field of the client's under its own name is as good a way to forge.
    let hooked = || plain().on_publish(|_, data| async move { Ok::<_, HookError>(data.json().unwrap_or_default()) });
    for kind in [plain(), hooked()] {
        let (one, two, _) = nodes(|| kind.clone());
        let (mut author, mut members) = members(&one, &two).await;
        for name in ["message", "error", "ping", "pong", "refresh", "viewer_left", "room_joined", "resync", "reconnect"]
        {
            let data = format!(r#"{{"type":"{name}","viewers":0}}"#);
            author.say(publish_text(&data));
            for member in members.iter_mut().chain([&mut author]) {
                assert_eq!(text(member).await, wrapped(&data));
            }
        }
        let data = r#"{"type":"mine","viewers":0}"#;
        author.say(publish_text(data));
        assert_eq!(text(&mut members[0]).await, data);
        assert_eq!(text(&mut members[1]).await, data);
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_several_types_is_looked_at() {
    let (one, two, _) = nodes(|| Kind::authenticated().allow_publish());
    let (author, mut members) = members(&one, &two).await;
    for data in [
        r#"{"type":"error","type":"mine"}"#,
        r#"{"type":"mine","type":"error"}"#,
        r#"{"t\u0079pe":"\u0065rror"}"#,
        r#"{"\ud800":1,"type":"error"}"#,
    ] {
        author.say(publish_text(data));
        for member in &mut members {
            assert_eq!(text(member).await, wrapped(data));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_application_broadcasts_here_or_over_the_bus_travels_bare_whatever_its_type() {
    let (one, two, bus) = nodes(|| Kind::authenticated().allow_publish());
    let (mut author, mut members) = members(&one, &two).await;
    let data = r#"{"type":"viewer_left","viewers":0}"#;
    let mut all: Vec<_> = members.iter_mut().chain([&mut author]).collect();
    for by in ["the manager", "another language"] {
        match by {
            "the manager" => {
                _ = one.broadcast(&key("post:42"), &json!({"type": "viewer_left", "viewers": 0})).await.unwrap()
            }
            _ => bus.publish(&Topic::Room(key("post:42")), data.into()).await.unwrap(),
        }
        for (n, member) in all.iter_mut().enumerate() {
            let expected = if n < 2 { data.to_owned() } else { wrapped(data) };
            assert_eq!(text(member).await, expected, "{by}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_meanwhile_is_not_given_it_bare_either() {
    let slow = Kind::authenticated().allow_publish().on_join(|member| async move {
        if member.identity().user() == "late" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Value::Null)
    });
    let rooms: Rooms = RoomManager::build_for().kind("post", slow).build().unwrap();
    let mut author = Talk::multi(&rooms, "author");
    join(&mut author, "post:42").await;
    let mut late = Talk::open(&rooms, rig::who("late"));
    idle().await;
    author.say(publish_text(r#"{"type":"error"}"#));
    assert_eq!(late.inbox.next().await["type"], "room_joined");
    assert_eq!(text(&mut late).await, wrapped(r#"{"type":"error"}"#));
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_such_a_payload_is_on_the_bus() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl BusReceiver for Heard {
        fn event(&self, event: BusEvent) {
            if let BusEvent::Message { topic: Topic::Room(_), payload, .. } = event {
                self.0.lock().unwrap().push(String::from_utf8(payload.to_vec()).unwrap());
            }
        }
    }

    let (one, two, bus) = nodes(|| Kind::authenticated().allow_publish());
    let heard = Arc::new(Heard::default());
    bus.attach(Arc::clone(&heard) as Arc<dyn BusReceiver>);
    bus.subscribe(&[Topic::Room(key("post:42"))]);
    let (author, _members) = members(&one, &two).await;
    author.say(publish_text(r#"{"type":"mine"}"#));
    author.say(publish_text(r#"{"type":"pong"}"#));
    idle().await;
    assert_eq!(*heard.0.lock().unwrap(), [r#"{"type":"mine"}"#, "\u{1}v1;w;{\"type\":\"pong\"}"]);
}

#[tokio::test(start_paused = true)]
async fn arrays_and_objects_are_counted_in_what_clients_send_and_not_in_what_the_application_does() {
    let kind = || {
        Kind::authenticated().allow_publish().on_message(|member, message| async move {
            member.send(&message.as_str().len());
            Ok(())
        })
    };
    let limited = |containers| -> Rooms {
        RoomManager::build_for()
            .kind("post", kind())
            .limits(|limits| limits.max_containers = containers)
            .build()
            .unwrap()
    };
    let rooms = limited(10);
    let mut talk = Talk::multi(&rooms, "a");
    join(&mut talk, "post:42").await;
    let objects = |n: usize| json!(vec![json!({"": 0}); n - 1]);
    let too_big = json!({"code": "too_big", "room": "post:42", "ref": "p"});
    assert_eq!(error(&mut talk, publish("post:42", objects(11))).await, too_big);
    talk.say(publish("post:42", objects(10)));
    assert_eq!(talk.inbox.all().await.len(), 2, "the message, and that it is published");

    let message = |n| json!({"type": "x", "room": "post:42", "of": objects(n), "ref": "p"}).to_string();
    assert_eq!(error(&mut talk, message(10)).await, too_big);
    assert_eq!(talk.ask(message(9)).await["data"], message(9).len());
    let deep =
        |depth| format!(r#"{{"type":"x","room":"post:42","ref":"p","of":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let deep_rooms = limited(1_000);
    let mut talk = Talk::multi(&deep_rooms, "a");
    join(&mut talk, "post:42").await;
    assert_eq!(error(&mut talk, deep(64)).await, too_big);
    assert_eq!(talk.ask(deep(63)).await["data"], deep(63).len());

    let mut single = Talk::joined(&rooms, "b").await;
    assert_eq!(error(&mut single, message(10)).await, json!({"code": "too_big"}));
    rooms.broadcast(&key("post:42"), &objects(1_000)).await.unwrap();
    assert_eq!(single.inbox.next().await, objects(1_000));
    let none: Result<Rooms, _> = RoomManager::build_for().limits(|limits| limits.max_containers = 0).build();
    assert!(none.unwrap_err().to_string().contains("containers_in"));
}

#[tokio::test(start_paused = true)]
async fn whether_somebody_may_is_asked_before_what_they_sent_is_looked_at() {
    let rooms = limited(|limits| limits.max_containers = 2);
    let mut talk = Talk::multi(&rooms, "a");
    let much = json!([[[[]]]]);
    let say = |room: &str| json!({"type": "say", "room": room, "of": much, "ref": "p"}).to_string();
    for (room, code) in [("channel:1", "not_joined"), ("post:1", "not_joined")] {
        let fault = json!({"code": code, "room": room, "ref": "p"});
        assert_eq!(error(&mut talk, publish(room, much.clone())).await, fault);
        assert_eq!(error(&mut talk, say(room)).await, fault);
    }
    for room in ["channel:1", "post:1"] {
        join(&mut talk, room).await;
    }
    assert_eq!(error(&mut talk, publish("post:1", much.clone())).await["code"], "not_allowed");
    assert_eq!(error(&mut talk, say("post:1")).await["code"], "unknown_type");
    assert_eq!(error(&mut talk, publish("channel:1", much.clone())).await["code"], "too_big");
    // What nobody reads has no bounds but the message's.
    let ping = json!({"type": "ping", "of": much}).to_string();
    assert_eq!(talk.ask(ping).await, json!({"type": "pong"}));
    assert_eq!(talk.ask(command("leave", "post:1", 1)).await["type"], "room_left");
}
