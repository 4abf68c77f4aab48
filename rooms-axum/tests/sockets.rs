//! Real sockets against a served Axum program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/service.rs"]
mod service;

use std::time::Duration;

use async_trait::async_trait;
use axum::{Extension, Router, routing::get};
use futures::SinkExt as _;
use rooms_core::{AuthError, Authenticator, BadToken, Endpoint, Identity, Kind, RoomKey, RoomManager};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use service::{Claims, Service, close_of, next_json, token};

/// The routes of the service under test.
fn routes() -> Router<RoomManager> {
    let strict = Endpoint::new().query_token("token").bad_token(BadToken::Refuse);
    Router::new()
        .route("/posts/{id}/live", get(service::live))
        .route("/any/{id}/live", get(service::any))
        .route("/strict/{id}/live", get(service::live).layer(Extension(strict)))
}

#[tokio::test]
async fn a_member_joins_and_gets_what_is_broadcast() {
    let service = Service::start().await;
    let mut a = service.connect("/posts/42/live", &token("5")).await;
    assert_eq!(next_json(&mut a).await, json!({"type": "room_joined", "room": "post:42", "viewers": 1}));
    let mut b = service.connect("/posts/42/live", &token("6")).await;
    assert_eq!(next_json(&mut b).await["viewers"], 2);
    assert_eq!(next_json(&mut a).await, json!({"type": "viewer_joined", "viewers": 2}));

    let comment = json!({"type": "new_comment", "text": "é\u{1f600}"});
    service.rooms.broadcast(&RoomKey::new("post", 42).unwrap(), &comment).await.unwrap();
    assert_eq!(next_json(&mut a).await, comment);
    assert_eq!(next_json(&mut b).await, comment);

    a.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    assert_eq!(next_json(&mut a).await, json!({"type": "pong"}));
    b.close(None).await.unwrap();
    assert_eq!(next_json(&mut a).await, json!({"type": "viewer_left", "viewers": 1}));
}

#[tokio::test]
async fn every_bad_token_is_upgraded_and_closed_alike() {
    let service = Service::start().await;
    let past = service::now() - 60;
    let future = service::now() + 600;
    let good = token("5");
    let bad = [
        service::sign(&Claims::of("5").build(), b"another secret of at least 32 bytes!"),
        service::token_with(Claims::of("5").set("exp", json!(past))),
        service::token_with(Claims::of("5").without("exp")),
        service::token_with(Claims::of("5").without("sub")),
        service::token_with(Claims::of("5").set("nbf", json!(future))),
        service::token_with(Claims::of("5\n")),
        service::token_with(Claims::of("\u{0}")),
        service::token_with(Claims::of("*")),
        service::with_header(r#"{"alg":"none"}"#, &Claims::of("5").build()),
        service::with_header(r#"{"alg":"HS512"}"#, &Claims::of("5").build()),
        good[..good.len() - 2].to_owned(),
        "garbage".to_owned(),
        String::new(),
        "a".repeat(9000),
    ];
    for token in &bad {
        let mut socket = service.connect("/posts/42/live", token).await;
        assert_eq!(close_of(&mut socket).await, (CloseCode::Policy, "Invalid token".to_owned()), "{token:.40}");
    }
    let mut without = service.try_connect("/posts/42/live").await.unwrap();
    assert_eq!(close_of(&mut without).await, (CloseCode::Policy, "Invalid token".to_owned()));
    assert_eq!(service.rooms.stats().connections, 0);
    assert_eq!(service.rooms.stats().rooms, 0, "no room was made");
}

#[tokio::test]
async fn an_endpoint_of_its_own_may_refuse_with_401() {
    let service = Service::start().await;
    assert_eq!(service.refusal("/strict/42/live?token=garbage", &[]).await, 401);
    assert!(service.try_connect(&format!("/strict/42/live?token={}", token("5"))).await.is_ok());
}

/// The application's check, as it should not be.
#[derive(Debug)]
enum Broken {
    Hangs,
    Panics,
}

#[async_trait]
impl Authenticator for Broken {
    async fn authenticate(&self, _: &str) -> Result<Identity, AuthError> {
        match self {
            Self::Hangs => std::future::pending().await,
            Self::Panics => panic!("the table of users is gone"),
        }
    }
}

#[tokio::test]
async fn an_authenticator_without_an_answer_is_no_fault_of_the_token() {
    for broken in [Broken::Hangs, Broken::Panics] {
        let case = format!("{broken:?}");
        let service = Service::with_authenticator(broken).await;
        let mut socket = service.connect("/posts/42/live", "abc").await;
        assert_eq!(close_of(&mut socket).await.0, CloseCode::Again, "{case}");
        assert_eq!(service.refusal("/strict/42/live?token=abc", &[]).await, 503, "{case}");
        assert_eq!(service.rooms.stats().connections, 0);
    }
}

#[tokio::test]
async fn the_token_may_be_in_a_header_but_not_in_two_places() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", token("5"));
    let mut socket = service.connect_with("/posts/42/live", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    let both = format!("/posts/42/live?token={}", token("5"));
    assert_eq!(service.refusal(&both, &[("authorization", &bearer)]).await, 400);
}

#[tokio::test]
async fn a_foreign_origin_is_refused_and_the_same_host_is_not() {
    let service = Service::start().await;
    let uri = format!("/posts/42/live?token={}", token("5"));
    for origin in ["https://evil.example", "null", "file://", "http://127.0.0.1:1"] {
        assert_eq!(service.refusal(&uri, &[("origin", origin)]).await, 403, "{origin}");
    }
    let same = format!("http://{}", service.address);
    assert!(service.connect_with(&uri, &[("origin", &same)]).await.is_ok());
}

#[tokio::test]
async fn a_bad_room_is_400_and_a_forbidden_one_is_4403_and_neither_is_made() {
    let service = Service::start().await;
    for id in ["a%20b", "%2A", "%00", "%7Bx%7D", "a%0Ab", &"x".repeat(201)] {
        let uri = format!("/any/{id}/live?token={}", token("5"));
        assert_eq!(service.refusal(&uri, &[]).await, 400, "{id}");
    }
    let mut forbidden = service.connect("/posts/13/live", &token("5")).await;
    assert_eq!(close_of(&mut forbidden).await, (CloseCode::Library(4403), "not allowed".to_owned()));
    assert_eq!(service.rooms.stats().rooms, 0);
}

#[tokio::test]
async fn what_is_no_upgrade_gets_an_http_answer() {
    let service = Service::start().await;
    assert_eq!(service.raw("GET /posts/42/live HTTP/1.1\r\nHost: x\r\n\r\n").await, 426);
    assert_eq!(service.raw("POST /any/42/live HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await, 405);
    let old = "GET /posts/42/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(service.raw(old).await, 426);
}

#[tokio::test]
async fn a_bad_message_is_an_error_event_and_the_connection_lives() {
    let service = Service::start().await;
    let mut socket = service.joined("5").await;
    let deep = format!("{{\"type\":\"x\",\"a\":{}", "[".repeat(50_000));
    for (message, code) in [
        (Message::text("not JSON"), "bad_message"),
        (Message::text("[1]"), "bad_message"),
        (Message::text(deep), "bad_message"),
        (Message::text(r#"{"type":"dance"}"#), "unknown_type"),
        (Message::binary(vec![0, 1, 2]), "unsupported"),
    ] {
        socket.send(message).await.unwrap();
        let answer = next_json(&mut socket).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)));
    }
    socket.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    assert_eq!(next_json(&mut socket).await, json!({"type": "pong"}));
}

#[tokio::test]
async fn faults_are_answered_by_a_close_frame_that_arrives() {
    let service = Service::start().await;
    for (name, bytes, code) in [
        ("unmasked", vec![0x81, 0x01, b'x'], 1002),
        ("reserved bit", vec![0xC1, 0x80, 0, 0, 0, 0], 1002),
        ("reserved opcode", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("bad UTF-8", vec![0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28], 1007),
        ("over 64 KiB", vec![0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009),
    ] {
        let mut socket = service.raw_joined("5").await;
        socket.write_all(&bytes).await.unwrap();
        // Much more behind it, which means nothing any more: a reset must not overtake the close frame.
        _ = socket.write_all(&vec![0; 300_000]).await;
        assert_eq!(service::raw_close(&mut socket).await, code, "{name}");
    }
    service.viewers("post:42", 0).await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_counted_out() {
    let service = Service::start().await;
    let mut stays = service.joined("5").await;
    let vanishes = service.raw_joined("6").await;
    assert_eq!(next_json(&mut stays).await["viewers"], 2);
    // A reset instead of a good-bye.
    vanishes.set_zero_linger().unwrap();
    drop(vanishes);
    assert_eq!(next_json(&mut stays).await, json!({"type": "viewer_left", "viewers": 1}));
}

#[tokio::test]
async fn a_client_that_stops_answering_pings_is_closed() {
    let service = Service::with(|limits| {
        limits.ping_every = Duration::from_millis(50);
        limits.pong_within = Duration::from_millis(50);
    })
    .await;
    let mut silent = service.raw_joined("5").await;
    assert_eq!(service::raw_close(&mut silent).await, 4408);
    service.viewers("post:42", 0).await;
}

#[tokio::test]
async fn a_stalled_socket_is_cut_by_the_pong_deadline_before_its_outbox_is_full() {
    let service = Service::with(|limits| {
        limits.outbox_bytes = usize::MAX;
        limits.outbox_messages = usize::MAX;
        limits.ping_every = Duration::from_millis(200);
        limits.pong_within = Duration::from_millis(200);
        limits.close_within = Duration::from_millis(100);
    })
    .await;
    let stalled = service.raw_joined("5").await;
    let payload = "x".repeat(60_000);
    // More than the kernel takes in its buffers, so that the ping waits behind it.
    for n in 0..200 {
        service
            .rooms
            .broadcast(&RoomKey::new("post", 42).unwrap(), &json!({"n": n, "payload": payload}))
            .await
            .unwrap();
    }
    service.viewers("post:42", 0).await;
    drop(stalled);
}

#[tokio::test]
async fn a_token_that_expires_ends_its_connection() {
    let service = Service::start().await;
    // The leeway is ten seconds, so this token has two or three to go.
    let short = service::token_with(Claims::of("5").set("exp", json!(service::now() - 7)));
    let mut socket = service.connect("/posts/42/live", &short).await;
    assert_eq!(next_json(&mut socket).await["type"], "room_joined");
    assert_eq!(close_of(&mut socket).await, (CloseCode::Library(4401), "token expired".to_owned()));
}

#[tokio::test]
async fn a_panic_in_a_hook_closes_that_connection_alone() {
    let kind = Kind::authenticated().on_message(|_, message| async move {
        assert!(message["type"] != "panic", "a hook that panics");
        Ok(())
    });
    let service = Service::with_kind(kind).await;
    let mut other = service.joined("5").await;
    let mut victim = service.joined("6").await;
    assert_eq!(next_json(&mut other).await["viewers"], 2);
    victim.send(Message::text(r#"{"type":"panic"}"#)).await.unwrap();
    assert_eq!(close_of(&mut victim).await, (CloseCode::Error, "internal error".to_owned()));
    assert_eq!(next_json(&mut other).await["viewers"], 1);
    other.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
    assert_eq!(next_json(&mut other).await, json!({"type": "pong"}));
}

#[tokio::test]
async fn a_member_that_does_not_read_delays_nobody_and_is_closed() {
    let service = Service::with(|limits| {
        limits.outbox_bytes = 256 * 1024;
        limits.close_within = Duration::from_secs(30);
    })
    .await;
    let mut reads = service.joined("5").await;
    let mut stalled = service.raw_joined("6").await;
    assert_eq!(next_json(&mut reads).await["viewers"], 2);
    let room = RoomKey::new("post", 42).unwrap();
    let payload = "x".repeat(60_000);
    // The kernel buffers megabytes before the outbox fills; the other one gets everything meanwhile, in order.
    let mut left = false;
    for n in 0..2_000 {
        service.rooms.broadcast(&room, &json!({"n": n, "payload": payload})).await.unwrap();
        let got = next_json(&mut reads).await;
        left = got["type"] == "viewer_left";
        if left {
            break;
        }
        assert_eq!(got["n"], n);
    }
    assert!(left, "the stalled member was never closed");
    // What is on its way ends at the border of a message, and then it is said why.
    assert_eq!(service::raw_close(&mut stalled).await, 1013);
}

#[tokio::test]
async fn many_broadcasts_reach_many_members_in_order() {
    let service = Service::start().await;
    let room = RoomKey::new("post", 42).unwrap();
    let mut readers = Vec::new();
    for n in 0..200 {
        let mut member = service.joined(&format!("u{n}")).await;
        readers.push(tokio::spawn(async move {
            let mut next = 0;
            while next < 500 {
                let message = next_json(&mut member).await;
                if let Some(n) = message["n"].as_u64() {
                    assert_eq!(n, next);
                    next += 1;
                }
            }
        }));
    }
    for n in 0..500 {
        service.rooms.broadcast(&room, &json!({"n": n})).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_shutdown_closes_with_1012_and_refuses_with_503() {
    let service = Service::start().await;
    let mut socket = service.joined("5").await;
    let rooms = service.rooms.clone();
    let shutdown = tokio::spawn(async move { rooms.shutdown(Duration::from_secs(5)).await });
    assert_eq!(close_of(&mut socket).await, (CloseCode::Restart, "restart".to_owned()));
    drop(socket);
    shutdown.await.unwrap();
    assert_eq!(service.refusal(&format!("/posts/42/live?token={}", token("5")), &[]).await, 503);
    assert_eq!(service.rooms.stats().connections, 0);
}
