//! Payloads that are bytes: who may publish them, what hooks make of them, how they reach each sort of connection, and what is
//! answered to a binary message that is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::channel::mpsc;
use rooms_core::{
    BroadcastError, Bus as _, Close, HookError, JoinOptions, Kind, LocalBus, Message, MessageKind, Oversize,
    RoomManager, Sent,
    bus::{BusEvent, BusReceiver, Position, Retention, Topic},
    ws::Incoming,
};
use serde_json::{Value, json};

use rig::{Inbox, Rooms, idle, key, who};
use talk::Talk;

const POST: &str = "post:42";

/// Who publishes, and hears nothing.
struct Nobody;

impl BusReceiver for Nobody {
    fn event(&self, _: BusEvent) {}
}

fn rooms(post: Kind) -> Rooms {
    let silent = Kind::authenticated();
    let kinds = RoomManager::build_for().kind("post", post).kind("silent", silent);
    kinds.limits(|limits| limits.max_broadcast_bytes = 1_000).build().unwrap()
}

fn open() -> Kind {
    Kind::authenticated().allow_publish().allow_binary()
}

/// A connection that is for one room.
fn single(rooms: &Rooms, options: JoinOptions) -> Talk {
    let (send, stream) = mpsc::unbounded();
    let (sink, receiver) = mpsc::unbounded();
    let ended = tokio::spawn(rooms.serve_room_with(stream, sink, who("a"), key(POST), options));
    Talk { send, inbox: Inbox(receiver), ended }
}

/// One that is in the room, and has been told so.
async fn in_many(rooms: &Rooms) -> Talk {
    let mut talk = Talk::multi(rooms, "a");
    talk.ask(json!({"type": "join", "room": POST}).to_string()).await;
    talk
}

fn says(talk: &Talk, bytes: impl AsRef<[u8]>) {
    talk.send.unbounded_send(Ok(Incoming::Binary(bytes.as_ref().to_vec()))).unwrap();
}

/// A binary message that names its room, with a `ref` or a position.
fn framed(what: u8, room: &str, beside: &str, payload: &[u8]) -> Vec<u8> {
    let [room_length, length] = [room, beside].map(|part| u8::try_from(part.len()).unwrap());
    [&[what, room_length], room.as_bytes(), &[length], beside.as_bytes(), payload].concat()
}

/// The messages that have come, but for what tells of viewers.
async fn messages(talk: &mut Talk) -> Vec<Message> {
    idle().await;
    let mut messages = Vec::new();
    while let Ok(message) = talk.inbox.0.try_recv() {
        let viewers = message.as_text().is_some_and(|text| text.contains("viewer"));
        if !viewers && message.kind() != MessageKind::Ping {
            messages.push(message);
        }
    }
    messages
}

/// The same, of which each is bytes.
async fn bytes(talk: &mut Talk) -> Vec<Vec<u8>> {
    let messages = messages(talk).await;
    for message in &messages {
        assert_eq!(message.kind(), MessageKind::Binary, "{:?}", message.as_text());
    }
    messages.iter().map(|message| message.payload().to_vec()).collect()
}

async fn error(talk: &mut Talk) -> Value {
    let [message] = &messages(talk).await[..] else { panic!("one answer") };
    let event: Value = serde_json::from_slice(message.payload()).unwrap();
    assert_eq!(event["type"], "error", "{event}");
    event
}

#[tokio::test(start_paused = true)]
async fn bytes_reach_each_sort_of_connection_in_order_with_text_and_share_one_frame() {
    let rooms = rooms(Kind::authenticated());
    let mut bare = [single(&rooms, JoinOptions::new()), single(&rooms, JoinOptions::new())];
    let mut framed_ones = [in_many(&rooms).await, single(&rooms, JoinOptions::new().since(""))];
    for talk in bare.iter_mut().chain(&mut framed_ones) {
        messages(talk).await;
    }
    rooms.broadcast(&key(POST), &1).await.unwrap();
    let receipt = rooms.to(&key(POST)).binary(&b"\0\xff"[..]).await.unwrap();
    assert_eq!((receipt.position, receipt.repeated), (None, false));
    rooms.broadcast(&key(POST), &2).await.unwrap();
    rooms.to(&key(POST)).binary(Vec::new()).await.unwrap();

    let mut frames = Vec::new();
    for talk in &mut bare {
        let came = messages(talk).await;
        let all: Vec<_> = came.iter().map(|message| (message.kind(), message.payload())).collect();
        let expected: [(MessageKind, &[u8]); 4] = [
            (MessageKind::Text, b"1"),
            (MessageKind::Binary, b"\0\xff"),
            (MessageKind::Text, b"2"),
            (MessageKind::Binary, b""),
        ];
        assert_eq!(all, expected);
        frames.push(came[1].frame().as_ptr());
    }
    assert_eq!(frames[0], frames[1], "encoded once");
    let mut frames = Vec::new();
    for talk in &mut framed_ones {
        let came = messages(talk).await;
        assert_eq!(came[0].as_text(), Some(r#"{"type":"message","room":"post:42","data":1}"#));
        assert_eq!((came[1].kind(), came[1].payload()), (MessageKind::Binary, &b"\x01\x07post:42\0\0\xff"[..]));
        assert_eq!(came[3].payload(), b"\x01\x07post:42\0");
        frames.push(came[1].frame().as_ptr());
    }
    assert_eq!(frames[0], frames[1], "encoded once for this form");
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_left_out_gets_no_bytes() {
    let rooms = rooms(Kind::authenticated().on_message(|member, _| async move {
        member.broadcast_binary_to_others(vec![1]).await.map_err(|_| HookError::unavailable())?;
        member.broadcast_binary(vec![2]).await.map_err(|_| HookError::unavailable())?;
        assert_eq!(member.send_binary([3]), Sent::Taken);
        Ok(())
    }));
    let (mut one, mut other) = (in_many(&rooms).await, single(&rooms, JoinOptions::new()));
    messages(&mut one).await;
    messages(&mut other).await;
    one.say(json!({"type": "x", "room": POST}).to_string());
    assert_eq!(bytes(&mut other).await, [[1], [2]]);
    let mut mine = bytes(&mut one).await;
    mine.sort();
    assert_eq!(mine, [framed(1, POST, "", &[2]), framed(1, POST, "", &[3])], "its own `send` names the room too");
}

#[tokio::test(start_paused = true)]
async fn a_member_publishes_bytes_where_its_kind_lets_it() {
    let rooms = rooms(open());
    let (mut one, mut other) = (in_many(&rooms).await, single(&rooms, JoinOptions::new()));
    messages(&mut one).await;
    messages(&mut other).await;
    says(&one, framed(1, POST, "", b"quiet"));
    says(&one, framed(1, POST, r#"{"n":1}"#, b""));
    one.say(json!({"type": "publish", "room": POST, "data": "text"}).to_string());
    let came = messages(&mut other).await;
    let payloads: Vec<_> = came.iter().map(|message| (message.kind(), message.payload())).collect();
    let expected: [(MessageKind, &[u8]); 3] =
        [(MessageKind::Binary, b"quiet"), (MessageKind::Binary, b""), (MessageKind::Text, br#""text""#)];
    assert_eq!(payloads, expected, "in the order in which they were said");
    let mine = messages(&mut one).await;
    let answers: Vec<_> = mine.iter().filter_map(Message::as_text).collect();
    let published = r#"{"type":"published","room":"post:42","ref":{"n":1}}"#;
    assert!(answers.contains(&published) && answers.len() == 2, "{answers:?}");
    says(&other, b"bare");
    assert_eq!(bytes(&mut one).await, [framed(1, POST, "", b"bare")]);
    assert_eq!(bytes(&mut other).await, [b"bare"], "and no answer");
}

#[tokio::test(start_paused = true)]
async fn a_binary_message_that_is_not_taken_is_answered_and_the_connection_goes_on() {
    let denied = open().publish_rule(|_, _| async { false });
    let unsure = open().publish_rule(|_, _| std::future::pending::<bool>());
    for (what, kind, code) in [
        ("nothing", Kind::authenticated(), "unsupported"),
        ("JSON alone", Kind::authenticated().allow_publish(), "unsupported"),
        ("the hook alone", Kind::authenticated().on_binary_message(|_, _| async { Ok(()) }), "unsupported"),
        ("no member", Kind::authenticated().allow_binary(), "not_allowed"),
        ("not this one", denied, "not_allowed"),
        ("a rule without an answer", unsure, "unavailable"),
    ] {
        let rooms = rooms(kind);
        let mut talk = in_many(&rooms).await;
        says(&talk, framed(1, POST, "7", b"x"));
        tokio::time::sleep(Duration::from_secs(20)).await;
        let error = error(&mut talk).await;
        assert_eq!((&error["code"], &error["room"], &error["ref"]), (&json!(code), &json!(POST), &json!(7)), "{what}");
        assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
    }
    let rooms = rooms(open());
    for options in [JoinOptions::new(), JoinOptions::new().since("")] {
        let mut talk = single(&rooms, options);
        messages(&mut talk).await;
        says(&talk, [7; 1_001]);
        assert!(["too_big", "bad_message"].contains(&error(&mut talk).await["code"].as_str().unwrap()));
        says(&talk, framed(1, POST, "", &[7; 1_001]));
        assert_eq!(error(&mut talk).await["code"], "too_big", "whatever the form");
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_binary_messages_are_each_one_error() {
    let rooms = rooms(open());
    let mut talk = in_many(&rooms).await;
    messages(&mut talk).await;
    let long = "9".repeat(129);
    for (what, frame, code) in [
        ("an empty one", Vec::new(), "bad_message"),
        ("one byte", vec![1], "bad_message"),
        ("no room", vec![1, 0, 0, b'x'], "bad_message"),
        ("a name past the end", [&[1, 233], POST.as_bytes()].concat(), "bad_message"),
        ("a ref past the end", [&[1, 7], POST.as_bytes(), &[9], b"1"].concat(), "bad_message"),
        ("no length of a ref", [&[1, 7], POST.as_bytes()].concat(), "bad_message"),
        ("no UTF-8", [&[1, 7], &b"post:4\xff\0"[..]].concat(), "bad_message"),
        ("no room's name", framed(1, "post:*", "", b""), "bad_room"),
        ("a long name", framed(1, &format!("post:{}", "4".repeat(201)), "", b""), "bad_room"),
        ("a room that it is not in", framed(1, "post:43", "", b""), "not_joined"),
        ("a room that it is not in, for the hook", framed(2, "post:43", "", b""), "not_joined"),
        ("a kind that is none", framed(1, "nothing:1", "", b""), "not_joined"),
        ("another first byte", framed(0, POST, "", b""), "bad_message"),
        ("another first byte", framed(255, POST, "", b""), "bad_message"),
        ("a long ref", framed(1, POST, &long, b""), "bad_message"),
        ("a ref that is no JSON", framed(1, POST, "{", b""), "bad_message"),
        ("JSON in a binary message", br#"{"type":"ping"}"#.to_vec(), "bad_message"),
        ("for a hook that is none", framed(2, POST, "", b""), "unsupported"),
    ] {
        says(&talk, frame);
        let error = error(&mut talk).await;
        assert_eq!(error["code"], code, "{what}: {error}");
        assert!(error["message"].is_string() && error.get("ref").is_none(), "{what}: {error}");
    }
    says(&talk, framed(1, POST, &long[..128], b""));
    assert_eq!(messages(&mut talk).await.len(), 2, "a `ref` of 128 bytes is one");
}

#[tokio::test(start_paused = true)]
async fn a_hook_makes_other_bytes_of_what_is_published_or_refuses_it() {
    let rooms = rooms(open().on_publish(|_, _| async { Ok(json!("not for bytes")) }).on_binary_publish(
        |member, bytes| async move {
            match bytes.first() {
                Some(0) => Err(HookError::refused("no zeros")),
                Some(1) => Err(Close::NOT_ALLOWED.into()),
                Some(2) => panic!("a mistake of the hook"),
                _ => Ok([member.identity().user().as_bytes(), &bytes].concat()),
            }
        },
    ));
    let mut listener = single(&rooms, JoinOptions::new());
    let mut talk = in_many(&rooms).await;
    messages(&mut listener).await;
    messages(&mut talk).await;
    says(&talk, framed(1, POST, "1", b"\x09"));
    assert_eq!(bytes(&mut listener).await, [b"a\x09"]);
    messages(&mut talk).await;
    says(&talk, framed(1, POST, "2", b"\0"));
    let refused = error(&mut talk).await;
    assert_eq!(
        (&refused["code"], &refused["message"], &refused["ref"]),
        (&json!("refused"), &json!("no zeros"), &json!(2))
    );
    for (first, code) in [(1, 4403), (2, 1011)] {
        let mut talk = in_many(&rooms).await;
        says(&talk, framed(1, POST, "", &[first]));
        assert_eq!(talk.inbox.close().await.code().get(), code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_for_the_hook_is_no_publication() {
    // Nobody may publish; the hook is asked in any case.
    let rooms = rooms(Kind::authenticated().on_binary_message(|member, bytes| async move {
        if bytes.is_empty() {
            return Err(HookError::refused("some bytes"));
        }
        member.send_binary([member.room().as_str().as_bytes(), &bytes].concat());
        Ok(())
    }));
    for (options, bare, answer) in [
        (None, false, framed(1, POST, "", b"post:42x")),
        (Some(JoinOptions::new().newest(1)), false, framed(1, POST, "", b"post:42x")),
        (Some(JoinOptions::new()), true, b"post:42x".to_vec()),
    ] {
        let mut talk = match options {
            None => in_many(&rooms).await,
            Some(options) => single(&rooms, options),
        };
        messages(&mut talk).await;
        let frame = |payload: &[u8]| if bare { payload.to_vec() } else { framed(2, POST, "3", payload) };
        says(&talk, frame(b"x"));
        assert_eq!(bytes(&mut talk).await, [answer]);
        says(&talk, frame(b""));
        let refused = error(&mut talk).await;
        assert_eq!((&refused["code"], refused.get("ref").is_some()), (&json!("refused"), !bare));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_and_what_is_for_the_hook_counts_against_what_a_user_may_publish() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", open())
        .limits(|limits| (limits.publishes_per_second_per_user, limits.publish_burst_per_user) = (1, 1))
        .build()
        .unwrap();
    let mut talk = in_many(&rooms).await;
    messages(&mut talk).await;
    for _ in 0..40 {
        says(&talk, framed(1, POST, "1", b"x"));
    }
    let came = messages(&mut talk).await;
    let limited = came.iter().filter_map(Message::as_text).find(|text| text.contains("rate_limited"));
    let limited: Value = serde_json::from_str(limited.expect("a limit")).unwrap();
    assert_eq!((&limited["room"], &limited["ref"]), (&json!(POST), &json!(1)));
    assert!(limited["retry_after_ms"].is_number());
}

#[tokio::test(start_paused = true)]
async fn bytes_have_the_bound_of_a_broadcast() {
    for (kind, refreshed) in [(open(), false), (open().oversize(Oversize::Refresh), true)] {
        let rooms = rooms(kind);
        let mut talk = in_many(&rooms).await;
        messages(&mut talk).await;
        rooms.to(&key(POST)).binary(vec![0xff; 1_000]).await.unwrap();
        assert_eq!(bytes(&mut talk).await, [framed(1, POST, "", &[0xff; 1_000])], "at the limit");
        let long = rooms.to(&key(POST)).binary(vec![b'['; 1_001]).await;
        if refreshed {
            long.unwrap();
            let [refresh] = &messages(&mut talk).await[..] else { panic!("one message") };
            assert_eq!(refresh.as_text(), Some(r#"{"type":"refresh","room":"post:42"}"#));
        } else {
            assert!(matches!(long, Err(BroadcastError::TooBig { length: 1_001, limit: 1_000, .. })), "{long:?}");
        }
        rooms.to(&key(POST)).binary(vec![b'['; 1_000]).await.expect("bytes are nested nowhere");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_over_the_bus_is_checked_again() {
    let bus = LocalBus::new();
    let other = bus.peer();
    other.attach(Arc::new(Nobody));
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", open())
        .bus(bus)
        .limits(|limits| limits.max_broadcast_bytes = 1_000)
        .build()
        .unwrap();
    let mut talk = in_many(&rooms).await;
    messages(&mut talk).await;
    let publish = async |payload: &[u8]| {
        other.publish(&Topic::Room(key(POST)), Bytes::copy_from_slice(payload)).await.unwrap();
    };
    publish(b"\x01v1;b;\0\xff").await;
    publish(b"\x01v1;b;").await;
    assert_eq!(bytes(&mut talk).await, [framed(1, POST, "", b"\0\xff"), framed(1, POST, "", b"")]);
    for broken in [&b"\x01v1;b"[..], b"\x01v1;B;x", b"\x01v1;bb;x", b"\x01v1;x=;b;x", b"\x01v2;b;x", b"\x01v1;w;b;x"] {
        publish(broken).await;
        assert!(messages(&mut talk).await.is_empty(), "{broken:?}");
    }
    publish(&[&b"\x01v1;b;"[..], &[7; 1_001]].concat()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [told] = &messages(&mut talk).await[..] else { panic!("one message") };
    assert!(told.as_text().unwrap().contains("resync"), "too long for this node, which says so");
    assert_eq!(rooms.stats().bad_payloads, 7);
}

#[tokio::test(start_paused = true)]
async fn a_history_keeps_bytes_among_json_and_gives_them_back_as_bytes() {
    let rooms = rooms(open().history(Retention::messages(100)));
    let mut talk = in_many(&rooms).await;
    messages(&mut talk).await;
    let room = key(POST);
    let first = rooms.broadcast(&room, &1).await.unwrap().position.unwrap();
    let second = rooms.to(&room).idempotency_key("k").binary(vec![0xff]).await.unwrap();
    let again = rooms.to(&room).idempotency_key("k").binary(vec![0xff]).await.unwrap();
    assert!(again.repeated && again.position == second.position, "{again:?}");
    says(&talk, framed(1, POST, "7", b"published"));
    let at = |offset: u64| Position::new(first.epoch(), offset).to_string();
    let expected = [framed(1, POST, &at(2), &[0xff]), framed(1, POST, &at(3), b"published")];
    let came = messages(&mut talk).await;
    let live: Vec<_> = came.iter().filter(|message| message.kind() == MessageKind::Binary).collect();
    assert_eq!(live.iter().map(|message| message.payload()).collect::<Vec<_>>(), expected);
    let published = format!(r#"{{"type":"published","room":"post:42","position":"{}","ref":7}}"#, at(3));
    assert!(came.iter().any(|message| message.as_text() == Some(&published)), "{published}");

    let mut resumed = Talk::multi(&rooms, "a");
    let joined = resumed.ask(json!({"type": "join", "room": POST, "since": at(1)}).to_string()).await;
    assert_eq!(joined["recovered"], true);
    assert_eq!(bytes(&mut resumed).await, expected);
    let mut newest = single(&rooms, JoinOptions::new().newest(2));
    assert_eq!(newest.inbox.next().await["type"], "room_joined");
    assert_eq!(bytes(&mut newest).await, expected);
}
