//! The life of one connection in one room: messages, heartbeat, expiry, hooks, closes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/talk.rs"]
mod talk;
#[path = "support/valve.rs"]
mod valve;

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, channel::mpsc};
use rooms_core::{
    Close, CloseCode, Decision, Identity, Kind, Limits, MessageKind, RoomManager, WallClock,
    ws::{Incoming, WsError},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use rig::{Rooms, idle, key, who};
use talk::Talk;
use valve::ValveSink;

fn rooms(kind: Kind) -> Rooms {
    RoomManager::build_for().kind("post", kind).clock(Arc::new(Paused::new())).build().unwrap()
}

/// A wall clock that goes with tokio's, and so stands still with it.
#[derive(Debug)]
struct Paused(Instant);

const START: u64 = 1_800_000_000;

impl Paused {
    fn new() -> Self {
        Self(Instant::now())
    }
}

impl WallClock for Paused {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START) + self.0.elapsed()
    }
}

fn expiring_in(seconds: u64) -> Identity {
    who("a").expiring_at(UNIX_EPOCH + Duration::from_secs(START + seconds))
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_by_a_pong() {
    let rooms = rooms(Kind::authenticated());
    let mut talk = Talk::joined(&rooms, "a").await;
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
    talk.send.unbounded_send(Ok(Incoming::Ping("payload".into()))).unwrap();
    let pong = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
    assert_eq!((pong.kind(), pong.payload()), (MessageKind::Pong, &b"payload"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_is_one_error_and_the_connection_lives() {
    let rooms = rooms(Kind::authenticated());
    let mut talk = Talk::joined(&rooms, "a").await;
    let deep = format!("{{\"type\":\"x\",\"a\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    for (text, code) in [
        ("not JSON", "bad_message"),
        ("", "bad_message"),
        ("[]", "bad_message"),
        ("5", "bad_message"),
        ("{}", "bad_message"),
        (r#"{"type":5}"#, "bad_message"),
        // Nobody would read it, so its depth does not matter.
        (&deep, "unknown_type"),
        (r#"{"type":"vote"}"#, "unknown_type"),
    ] {
        let answer = talk.ask(text).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{text:.30}");
        assert!(answer["message"].is_string());
    }
    talk.send.unbounded_send(Ok(Incoming::Binary(vec![1, 2, 3]))).unwrap();
    assert_eq!(talk.inbox.next().await["code"], "unsupported");
    assert_eq!(talk.ask(r#"{"type":"ping"}"#).await, json!({"type": "pong"}));
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_stream_has_its_close() {
    for (fault, code) in [
        (WsError::Protocol("reserved bit set"), CloseCode::PROTOCOL),
        (WsError::TooBig { limit: 1 }, CloseCode::TOO_BIG),
        (WsError::InvalidText, CloseCode::INVALID_TEXT),
    ] {
        let rooms = rooms(Kind::authenticated());
        let mut talk = Talk::joined(&rooms, "a").await;
        talk.send.unbounded_send(Err(fault)).unwrap();
        assert_eq!(talk.inbox.close().await.code(), code);
        assert_eq!(rooms.local_viewers(&key("post:42")), 0, "it has left before its close is answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_is_answered_and_counted_out() {
    let rooms = rooms(Kind::authenticated());
    let mut stays = Talk::joined(&rooms, "a").await;
    let mut goes = Talk::joined(&rooms, "b").await;
    let bye = Close::new(CloseCode::GOING_AWAY, "bye");
    goes.send.unbounded_send(Ok(Incoming::Close(Some(bye)))).unwrap();
    assert_eq!(goes.inbox.close().await.code(), CloseCode::GOING_AWAY);
    let vanishes = Talk::joined(&rooms, "c").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.local_viewers(&key("post:42")), 2);
    drop(vanishes);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rooms.local_viewers(&key("post:42")), 1);
    assert_eq!(stays.inbox.all().await.last().unwrap(), &json!({"type": "viewer_left", "viewers": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_closed() {
    let rooms = rooms(Kind::authenticated());
    let mut talk = Talk::joined(&rooms, "a").await;
    let start = Instant::now();
    let ping = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
    assert_eq!((ping.kind(), start.elapsed().as_secs()), (MessageKind::Ping, 25));
    talk.send.unbounded_send(Ok(Incoming::Pong)).unwrap();
    assert_eq!(talk.inbox.close().await, Close::NO_PONG);
    assert_eq!(start.elapsed().as_secs(), 60, "25 s to the second ping and 10 s for its pong");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_token() {
    // One that is over already, one that is not, and one far beyond the longest single wait.
    for seconds in [0, 5, 90_000] {
        let rooms = rooms(Kind::authenticated());
        let start = Instant::now();
        let mut talk = Talk::open(&rooms, expiring_in(seconds));
        let answers = talk.send.clone();
        tokio::spawn(async move {
            while answers.unbounded_send(Ok(Incoming::Pong)).is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_with_a_token_that_has_ended_is_told_nothing_else_and_seen_by_nobody() {
    let rooms = rooms(Kind::authenticated());
    let mut other = Talk::joined(&rooms, "b").await;
    let mut talk = Talk::open(&rooms, expiring_in(0));
    let first = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
    assert_eq!(rig::parse_close(&first), Close::TOKEN_EXPIRED);
    talk.ended.await.unwrap();
    assert!(other.inbox.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_sending_too_much_is_closed_with_4429() {
    let rooms = rooms(Kind::authenticated());
    let mut talk = Talk::joined(&rooms, "a").await;
    let start = Instant::now();
    for _ in 0..10_000 {
        talk.say(r#"{"type":"ping"}"#);
    }
    let first = talk.inbox.all().await;
    assert_eq!(first.len(), 200 + 1, "the burst is read at once");
    let told = json!({"type": "error", "code": "rate_limited", "message": "too many messages", "retry_after_ms": 20});
    assert_eq!(first[200], told, "and it is told so, once");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let read = talk.inbox.all().await.len();
    assert!((495..=505).contains(&read), "and then 50 a second: {read} in 10 s");
    assert_eq!(talk.inbox.close().await, Close::TOO_MANY_MESSAGES);
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_closes_nobody_who_kept_to_the_rate() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.ping_interval = Duration::MAX)
        .build()
        .unwrap();
    let mut talk = Talk::joined(&rooms, "a").await;
    let (mut said, mut heard) = (0, 0);
    // Three times: twelve seconds of 20 messages a second that are there at once, and then as before.
    for _ in 0..3 {
        for _ in 0..12 * 20 {
            talk.say(r#"{"type":"ping"}"#);
            said += 1;
        }
        for _ in 0..12 * 20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            talk.say(r#"{"type":"ping"}"#);
            said += 1;
        }
        heard += talk.inbox.all().await.len();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    heard += talk.inbox.all().await.len();
    assert_eq!(heard, said + 3, "each has its answer, and each time it was told that it is read more slowly");
    assert!(!talk.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_read_slowly_is_not_taken_for_one_that_answers_no_ping() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| {
            (limits.messages_per_second, limits.message_burst) = (1, 1);
            (limits.ping_interval, limits.pong_timeout) = (Duration::from_secs(2), Duration::from_millis(200));
        })
        .build()
        .unwrap();
    let mut talk = Talk::joined(&rooms, "a").await;
    for _ in 0..20 {
        talk.say(r#"{"type":"ping"}"#);
    }
    talk.send.unbounded_send(Ok(Incoming::Ping("x".into()))).unwrap();
    let start = Instant::now();
    loop {
        let message = futures::StreamExt::next(&mut talk.inbox.0).await.unwrap();
        match message.kind() {
            MessageKind::Pong => break,
            kind => assert!(kind != MessageKind::Close, "{:?}", rig::parse_close(&message)),
        }
    }
    assert_eq!(start.elapsed().as_secs(), 20, "its own pings are answered, in their turn");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_may_not_join_is_told_so() {
    let rooms = rooms(Kind::new().join_rule(|who, _| async move { who.user() == "a" }));
    let mut refused = Talk::open(&rooms, who("b"));
    assert_eq!(refused.inbox.close().await, Close::NOT_ALLOWED);
    assert_eq!(refused.ended.await.unwrap(), Close::NOT_ALLOWED);
    assert_eq!(rooms.stats().connections, 0);
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_rule_can_not_tell_is_told_to_come_back() {
    let rooms = rooms(Kind::new().join_rule(|_, _| async { Decision::Unavailable }));
    let mut refused = Talk::open(&rooms, who("a"));
    assert_eq!(refused.inbox.close().await, Close::UNAVAILABLE);
    assert_eq!(refused.ended.await.unwrap(), Close::UNAVAILABLE);
    assert_eq!(rooms.stats().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_reaches_a_connection_that_is_still_joining() {
    let rooms = rooms(Kind::authenticated().on_join(|_| pending()));
    let mut talk = Talk::open(&rooms, who("a"));
    idle().await;
    let start = Instant::now();
    rooms.shutdown(Duration::from_secs(5)).await;
    assert_eq!(talk.inbox.close().await, Close::RESTART);
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// Its upgrade was under way when the drain began.
#[tokio::test(start_paused = true)]
async fn who_comes_too_late_is_told_when_to_come_back_too() {
    let rooms = rooms(Kind::authenticated());
    rooms.shutdown(Duration::from_secs(5)).await;
    let mut late = Talk::open(&rooms, who("a"));
    let told = late.inbox.next().await;
    assert_eq!(told["type"], "reconnect");
    assert!((500..5_500).contains(&told["in_ms"].as_u64().unwrap()), "{told}");
    assert_eq!(late.inbox.close().await, Close::RESTART);
    assert_eq!(late.ended.await.unwrap(), Close::RESTART);
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_a_slow_member_its_time_and_one_that_is_stuck_no_more() {
    for opens in [true, false] {
        let rooms: RoomManager<ValveSink> =
            RoomManager::build_for().kind("post", Kind::authenticated()).build().unwrap();
        let (valve, sink) = valve::new();
        let (send, stream) = mpsc::unbounded::<Result<Incoming, WsError>>();
        let ended = tokio::spawn(rooms.serve_room(stream, sink, who("a"), key("post:42")));
        valve.open(1);
        idle().await;
        for n in 0..20 {
            rooms.broadcast(&key("post:42"), &n).await.unwrap();
        }
        idle().await;
        let (start, draining) = (Instant::now(), rooms.clone());
        let drained = tokio::spawn(async move { draining.shutdown(Duration::from_secs(20)).await });
        // Far longer than any other close frame may take.
        tokio::time::sleep(Duration::from_secs(15)).await;
        if opens {
            valve.open(22);
            // The client closes its side once it has the close frame.
            idle().await;
            drop(send);
        }
        drained.await.unwrap();
        let within = if opens { 16 } else { 23 };
        assert!(start.elapsed() <= Duration::from_secs(within), "{:?}", start.elapsed());
        assert_eq!(ended.await.unwrap(), Close::RESTART);
        let taken = valve.taken();
        assert_eq!(taken.len(), if opens { 23 } else { 1 });
        if let [.., last, reconnect, close] = &*taken {
            assert_eq!(last.as_text(), Some("19"));
            let told: Value = serde_json::from_slice(reconnect.payload()).unwrap();
            assert_eq!(told["type"], "reconnect");
            assert!((500..5_500).contains(&told["in_ms"].as_u64().unwrap()));
            assert_eq!(rig::parse_close(close), Close::RESTART);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_session_leaves_the_room() {
    let rooms = rooms(Kind::authenticated());
    let talk = Talk::joined(&rooms, "a").await;
    talk.ended.abort();
    idle().await;
    assert_eq!((rooms.local_viewers(&key("post:42")), rooms.stats().connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_during_a_join_ends_the_join() {
    let rooms = rooms(Kind::authenticated().on_join(|_| pending()));
    let mut talk = Talk::open(&rooms, expiring_in(2));
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
    assert_eq!(rooms.local_viewers(&key("post:42")), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_taken_is_told_why() {
    let rooms: Rooms = RoomManager::build_for()
        .kind("post", Kind::authenticated())
        .limits(|limits| limits.max_connections_per_user = 1)
        .build()
        .unwrap();
    let first = Talk::joined(&rooms, "a").await;
    let mut second = Talk::open(&rooms, who("a"));
    assert_eq!(second.inbox.close().await, Close::TOO_MANY_CONNECTIONS);
    drop(second.send);
    assert_eq!(second.ended.await.unwrap(), Close::TOO_MANY_CONNECTIONS);
    rooms.shutdown(Duration::ZERO).await;
    drop(first);
    let mut third = Talk::open(&rooms, who("b"));
    assert_eq!(third.inbox.close().await, Close::RESTART);
}

#[tokio::test]
async fn a_shutdown_misses_no_connection_that_is_made_meanwhile() {
    for round in 0..2_000 {
        let limit = |limits: &mut Limits| limits.close_timeout = Duration::ZERO;
        let rooms: Rooms = RoomManager::build_for().limits(limit).build().unwrap();
        let connecting = rooms.clone();
        let connections = std::thread::spawn(move || {
            let connect = || {
                let (sink, inbox) = mpsc::unbounded();
                connecting.connect(who("a"), sink).ok().map(|connection| (connection, inbox))
            };
            std::iter::from_fn(connect).take(100).collect::<Vec<_>>()
        });
        while rooms.stats().connections < round % 90 {
            std::hint::spin_loop();
        }
        rooms.shutdown(Duration::ZERO).await;
        for (connection, _inbox) in connections.join().unwrap() {
            let closed = connection.drive().now_or_never();
            assert_eq!(closed, Some(Some(Close::RESTART)), "round {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_under_way_is_dropped_before_on_leave_runs() {
    let held = Arc::new(tokio::sync::Mutex::new(()));
    let (left, was_left) = tokio::sync::oneshot::channel();
    let left = Arc::new(Mutex::new(Some(left)));
    let (at_message, at_leave) = (Arc::clone(&held), Arc::clone(&held));
    let kind = Kind::authenticated()
        .on_message(move |_, _| {
            let held = Arc::clone(&at_message);
            async move {
                let _held = held.lock().await;
                pending().await
            }
        })
        .on_leave(move |_| {
            let (held, left) = (Arc::clone(&at_leave), Arc::clone(&left));
            async move {
                let _held = held.lock().await;
                _ = left.lock().unwrap().take().unwrap().send(Instant::now());
            }
        });
    let rooms = rooms(kind);
    let mut talk = Talk::open(&rooms, expiring_in(2));
    assert_eq!(talk.inbox.next().await["type"], "room_joined");
    talk.say(r#"{"type":"x"}"#);
    assert_eq!(talk.inbox.close().await, Close::TOKEN_EXPIRED);
    let closed = Instant::now();
    assert!(was_left.await.unwrap() <= closed + Duration::from_millis(1), "not held up by the good-bye");
}
