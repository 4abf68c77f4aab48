//! The clauses about the end of a connection.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    Client, Serve, Suite, Theatre,
    client::{CLOSE, PING, Pace, TEXT, frame},
};
use crate::limits::Limits;

/// Whatever is wrong is said by a close frame, and nothing that the client sends behind it keeps it from arriving.
pub async fn closes_arrive(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    for (what, bytes, code) in [
        ("an unmasked frame", vec![0x81, 0x01, b'x'], 1002),
        ("a reserved bit", vec![0xC1, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved opcode", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("bad UTF-8", frame(TEXT, &[0xC3, 0x28]), 1007),
        ("a message over 64 KiB", vec![0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009),
        ("a good-bye", frame(CLOSE, &1001_u16.to_be_bytes()), 1001),
        ("a hook that fails", frame(TEXT, br#"{"type":"panic"}"#), 1011),
    ] {
        let mut client = stage.joined("5").await;
        client.write(&bytes).await;
        // Much more behind it, which means nothing any more: a reset must not overtake the close frame.
        client.write_in_vain(&vec![0; 300_000]).await;
        assert_eq!(client.close().await.0, code, "{what}");
    }
    stage.empty().await;
}

/// A member that does not read delays nobody, and is closed with 1013 once too much waits for it.
pub async fn slow_is_alone(suite: &Suite<impl Serve>) {
    let stage = suite
        .stage_with(|limits| {
            limits.max_outbox_bytes = 256 * 1024;
            limits.close_timeout = Duration::from_secs(30);
        })
        .await;
    let mut reads = stage.joined("5").await;
    let mut stalled = stage.joined("6").await;
    assert_eq!(reads.json().await["viewers"], 2);
    let payload = "x".repeat(60_000);
    // The kernel buffers megabytes before the outbox fills; the other one gets everything meanwhile, in order.
    let mut left = false;
    for n in 0..1_000 {
        stage.broadcast(&json!({"n": n, "payload": payload})).await;
        let got = reads.json().await;
        left = got["type"] == "viewer_left";
        if left {
            break;
        }
        assert_eq!(got["n"], n);
    }
    assert!(left, "the stalled member was never closed");
    // What is on its way ends at the border of a message, and then it is said why.
    assert_eq!(stalled.close().await.0, 1013);
}

/// A member that reads slowly gets a whole stream, with the close frame at its end, whatever it is closed for.
pub async fn slow_readers_are_told_why(suite: &Suite<impl Serve>) {
    let cases = [(200_000, 1013), (50_000, 1013), (200_000, 1011), (200_000, 1012), (200_000, 1009)];
    join_all(cases.map(|(pace, code)| slow_reader(suite, Pace::bytes_per_second(pace), code))).await;
}

async fn slow_reader(suite: &Suite<impl Serve>, pace: Pace, code: u16) {
    // A machine that is busy reads more slowly than that, and here it is no matter of time.
    let limits = |limits: &mut Limits| {
        limits.max_outbox_bytes = 512 * 1024;
        (limits.close_stall_timeout, limits.close_total_timeout) = (Duration::from_secs(60), Duration::from_secs(600));
    };
    let stage = suite.stage_with(limits).await;
    let target = "/rooms/post/42?token=user-5";
    let mut slow = Client::open_slow(stage.address, target, pace, stage.patience).await;
    assert_eq!(slow.json().await["type"], "room_joined");
    // More than both kernels hold, so that the close frame stands behind a frame that is out in part.
    let payload = "x".repeat(60_000);
    for n in 0..if code == 1013 { 1_000 } else { 6 } {
        stage.broadcast(&json!({"n": n, "payload": payload})).await;
        if stage.rooms.local_viewers(&super::room()) == 0 {
            break;
        }
    }
    match code {
        1011 => slow.send(TEXT, br#"{"type":"panic"}"#).await,
        1009 => slow.write(&[0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]).await,
        1012 => {
            let rooms = stage.rooms.clone();
            tokio::spawn(async move { rooms.shutdown(Duration::from_secs(60)).await });
        }
        _ => assert_eq!(stage.rooms.local_viewers(&super::room()), 0, "too much waits, so it is out of the room"),
    }
    let mut next = 0;
    let closed = loop {
        match slow.frame().await {
            (TEXT, text) => {
                let text: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                assert!(text["n"] == next || text["type"] == "reconnect", "{text}");
                next += 1;
            }
            (CLOSE, payload) => break payload,
            (opcode, _) => assert_eq!(opcode, PING),
        }
    };
    assert_eq!(closed.get(..2), Some(&code.to_be_bytes()[..]), "{pace:?}");
    slow.answer(code).await;
    slow.end().await;
    drop(slow);
    stage.empty().await;
}

/// The stream ends after the client has answered the close frame, or after some time without (RFC 6455 section 7.1.1).
pub async fn the_answer_to_a_close_is_waited_for(suite: &Suite<impl Serve>) {
    // Far beyond what this takes.
    let long = Duration::from_secs(600);
    let stage = suite.stage_with(|limits| (limits.close_timeout, limits.close_answer_timeout) = (long, long)).await;
    for (mut client, code) in closed_clients(&stage).await {
        assert_eq!(client.close().await.0, code);
        assert!(client.is_silent_for(Duration::from_millis(50)).await, "the end before the answer to {code}");
        client.answer(code).await;
        client.end().await;
    }
    stage.empty().await;
    let soon = Duration::from_millis(100);
    let stage = suite.stage_with(|limits| (limits.close_timeout, limits.close_answer_timeout) = (long, soon)).await;
    for (mut client, code) in closed_clients(&stage).await {
        assert_eq!(client.close().await.0, code);
        client.end().await;
    }
    stage.empty().await;
}

/// Clients that are turned away, that may not join, and whose message makes a hook fail.
async fn closed_clients(stage: &Theatre) -> [(Client, u16); 3] {
    let mut fails = stage.joined("5").await;
    fails.send(TEXT, br#"{"type":"panic"}"#).await;
    [
        (stage.connect("/rooms/post/42?token=bad").await, 1008),
        (stage.connect("/rooms/post/13?token=user-5").await, 4403),
        (fails, 1011),
    ]
}

/// A client that is gone without a good-bye has left its room.
pub async fn a_vanished_client_is_counted_out(suite: &Suite<impl Serve>) {
    let stage = suite.stage().await;
    let mut stays = stage.joined("5").await;
    let vanishes = stage.joined("6").await;
    assert_eq!(stays.json().await["viewers"], 2);
    vanishes.vanish();
    assert_eq!(stays.json().await, json!({"type": "viewer_left", "viewers": 1}));
    stays.vanish();
    stage.empty().await;
}

/// A client is pinged, and one that does not answer is closed with 4408.
pub async fn silence_is_noticed(suite: &Suite<impl Serve>) {
    let stage = suite
        .stage_with(|limits| {
            limits.ping_interval = Duration::from_millis(50);
            limits.pong_timeout = Duration::from_millis(50);
        })
        .await;
    let mut silent = stage.joined("5").await;
    assert_eq!(silent.frame().await.0, PING);
    assert_eq!(silent.closed().await, (4408, "no pong".to_owned()));
    stage.empty().await;
}

/// A process that goes down refuses upgrades with 503 and `Retry-After`; its members get what waits for them, are told
/// when to come back, and are closed with 1012.
pub async fn a_drain_ends_well(suite: &Suite<impl Serve>) {
    const MEMBERS: usize = 50;
    let stage = suite.stage().await;
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        let mut member = stage.connect(&format!("/socket?token=user-{n}")).await;
        assert_eq!(member.json().await["room"], format!("user:{n}"));
        members.push(member);
    }
    let rooms = stage.rooms.clone();
    let start = Instant::now();
    let drained = tokio::spawn(async move { rooms.shutdown(Duration::from_secs(5)).await });
    while !stage.rooms.is_draining() {
        tokio::task::yield_now().await;
    }
    for path in ["/rooms/post/42?token=user-5", "/strict/post/42?token=garbage", "/socket?token=user-5"] {
        let refused = super::Client::open(stage.address, path, &[], &[], stage.patience).await;
        let head = refused.err().expect("a refusal");
        assert_eq!(head.status(), 503, "{head:?}");
        assert!(head.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{head:?}");
    }
    for member in &mut members {
        let told = member.json().await;
        assert_eq!(told["type"], "reconnect", "{told}");
        assert!(told["in_ms"].is_u64(), "{told}");
        assert_eq!(member.closed().await, (1012, "restart".to_owned()));
    }
    timeout(stage.patience, drained).await.expect("an end of the drain").expect("no panic");
    assert!(start.elapsed() < Duration::from_secs(7), "{:?} for 5 s of grace", start.elapsed());
    assert_eq!(stage.rooms.stats().connections, 0);
}
