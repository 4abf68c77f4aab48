//! The kit for applications, tried on a small application.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use rooms_core::{
    Close, CloseCode, Identity, Kind, RoomKey, RoomManagerBuilder, bus::Retention, testing::kit::RoomsTest,
};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, time::timeout};

const HOUR: Duration = Duration::from_secs(3600);

fn kinds(rooms: RoomManagerBuilder) -> RoomManagerBuilder {
    let channel = Kind::authenticated().list_members().allow_publish().on_message(|member, message| async move {
        let message = message.json()?;
        if message["type"] == "quit" {
            return Err(Close::NORMAL.into());
        }
        member.send(&json!({"type": "echo", "of": message["text"]}));
        Ok(())
    });
    rooms.kind("channel", channel).kind("user", Kind::owner_only())
}

#[tokio::test(start_paused = true)]
async fn users_join_publish_and_hear_each_other_on_any_node() {
    let test = RoomsTest::with_nodes(2, kinds);
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect_to(1, Identity::new("bob").unwrap()).await;
    assert_eq!(ada.expect_event("room_joined").await["room"], "user:ada", "one's own room is joined from the start");
    assert_eq!(ada.join("channel:1").await["viewers"], 1);
    bob.join("channel:1").await;
    bob.publish("channel:1", &json!({"type": "said", "text": "hi"})).await;
    assert_eq!(ada.expect_event("said").await["text"], "hi");
    test.rooms().send_to_user("bob", &json!({"type": "notice"})).await.unwrap();
    bob.expect_event("notice").await;
    ada.send(&json!({"type": "say", "room": "channel:1", "text": "x".repeat(40_000)}));
    assert_eq!(ada.expect_event("echo").await["of"].as_str().unwrap().len(), 40_000);
    bob.leave("channel:1").await;
    ada.forget().await;
    ada.expect_nothing().await;
    test.advance(Duration::from_secs(600)).await;
    ada.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn users_publish_and_expect_bytes_on_any_node() {
    const BOARD: &str = "board:1";
    let test = RoomsTest::with_nodes(2, |rooms| {
        rooms.kind("board", Kind::authenticated().allow_publish().allow_binary().history(Retention::messages(10)))
    });
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect_to(1, Identity::new("bob").unwrap()).await;
    ada.join(BOARD).await;
    bob.join(BOARD).await;
    ada.publish_binary(BOARD, b"\0\xff").await;
    assert_eq!(bob.expect_binary(BOARD).await, &b"\0\xff"[..]);
    assert_eq!(ada.expect_binary(BOARD).await, &b"\0\xff"[..]);
    let refused = ada.try_publish_binary("board:2", b"").await.unwrap_err();
    assert_eq!(refused["code"], "not_joined");
    ada.send_binary(BOARD, b"x");
    assert_eq!(ada.expect_event("error").await["code"], "unsupported");
    ada.send_bytes([]);
    assert_eq!(ada.expect_event("error").await["code"], "bad_message");
    ada.forget().await;
    bob.forget().await;
    bob.expect_nothing().await;
}

/// A rule that asks a service outside the process, with a timeout as clients of databases have it.
fn asking(rooms: RoomManagerBuilder, service: std::net::SocketAddr) -> RoomManagerBuilder {
    let ask = move || async move {
        let mut answer = Vec::new();
        let mut socket = tokio::net::TcpStream::connect(service).await?;
        socket.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer == b"yes")
    };
    let rule = move |_, _| async move { matches!(timeout(Duration::from_secs(30), ask()).await, Ok(Ok(true))) };
    rooms.kind("post", Kind::new().join_rule(rule))
}

#[tokio::test]
async fn in_real_time_a_rule_may_ask_something_outside() {
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap();
    std::thread::spawn(move || {
        // Not at once: every task waits for it.
        for socket in service.incoming() {
            std::thread::sleep(Duration::from_millis(50));
            std::io::Write::write_all(&mut socket.unwrap(), b"yes").unwrap();
        }
    });
    let test = RoomsTest::with_nodes(2, |rooms| asking(rooms, address));
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect_to(1, Identity::new("bob").unwrap().expiring_at(test.now() + 3 * HOUR)).await;
    assert_eq!(ada.join("post:1").await["viewers"], 1);
    bob.join("post:1").await;
    assert_eq!(ada.expect_event("viewer_joined").await["viewers"], 2);
    ada.forget().await;

    // What needs nothing from outside takes no time, once the clock is stopped.
    tokio::time::pause();
    test.advance(2 * HOUR).await;
    ada.expect_nothing().await;
    test.advance(HOUR).await;
    assert_eq!(bob.expect_close().await.code(), CloseCode::TOKEN_EXPIRED);
    assert_eq!(ada.expect_event("viewer_left").await["viewers"], 1);
}

#[tokio::test(start_paused = true)]
async fn texts_are_sent_and_seen_as_they_are() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    ada.join("channel:1").await;
    let raw: &serde_json::value::RawValue = serde_json::from_str("[1E400,\"\\ud800\",0.10]").unwrap();
    ada.publish("channel:1", raw).await;
    let came = ada.expect_text("1E400").await;
    assert_eq!(came, format!(r#"{{"type":"message","room":"channel:1","data":{raw}}}"#));
    ada.send_text("no JSON");
    assert_eq!(ada.expect_event("error").await["code"], "bad_message");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_closes_are_seen() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    assert_eq!(ada.try_join("user:bob").await.unwrap_err()["code"], "not_allowed");
    assert_eq!(ada.try_publish("channel:1", &1).await.unwrap_err()["code"], "not_joined");
    ada.join("channel:1").await;
    ada.send(&json!({"type": "quit", "room": "channel:1"}));
    assert_eq!(ada.expect_close().await.code(), CloseCode::NORMAL);
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_is_gone_and_a_token_ends_when_the_test_says() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect("bob").await;
    ada.join("channel:1").await;
    ada.forget().await;
    bob.join("channel:1").await;
    let start = tokio::time::Instant::now();
    drop(bob);
    assert_eq!(ada.expect_event("viewer_left").await["users"], json!([{"user": "bob"}]));
    assert!(start.elapsed() < Duration::from_secs(1), "and not when it answers no ping");
    assert_eq!(test.rooms().stats().connections, 1);

    test.advance(Duration::from_secs(7200)).await;
    let hour = test.now() + Duration::from_secs(3600);
    let mut eve = test.connect_to(0, Identity::new("eve").unwrap().expiring_at(hour)).await;
    eve.join("channel:1").await;
    test.advance(Duration::from_secs(3590)).await;
    eve.send(&json!({"type": "ping"}));
    eve.expect_event("pong").await;
    test.advance(Duration::from_secs(11)).await;
    assert_eq!(eve.expect_close().await, Close::TOKEN_EXPIRED);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_killed_is_noticed_by_the_others() {
    let test = RoomsTest::with_nodes(2, kinds);
    let mut ada = test.connect("ada").await;
    let mut bob = test.connect_to(1, Identity::new("bob").unwrap()).await;
    ada.join("channel:1").await;
    bob.join("channel:1").await;
    ada.forget().await;
    test.faults(1).kill();
    let left = ada.expect_event("viewer_left").await;
    assert_eq!((&left["viewers"], &left["users"]), (&json!(1), &json!([{"user": "bob"}])));
    let room = RoomKey::new("channel", 1).unwrap();
    assert_eq!(test.rooms().viewers(&room).await.viewers, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_and_does_not_come_fails_the_test_and_says_what_came() {
    let test = RoomsTest::new(kinds);
    let mut ada = test.connect("ada").await;
    let failed = AssertUnwindSafe(ada.expect_event("miracle")).catch_unwind().await.unwrap_err();
    let said = failed.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("ada: no `miracle` came") && said.contains("room_joined"), "{said}");
    let failed = AssertUnwindSafe(ada.expect_nothing()).catch_unwind().await.unwrap_err();
    assert!(failed.downcast_ref::<String>().unwrap().contains("user:ada"));
    let failed = AssertUnwindSafe(ada.join("user:bob")).catch_unwind().await.unwrap_err();
    assert!(failed.downcast_ref::<String>().unwrap().contains("not_allowed"));
    let failed = AssertUnwindSafe(ada.expect_close()).catch_unwind().await.unwrap_err();
    assert!(failed.downcast_ref::<String>().unwrap().contains("goes on"));
}
