//! What is in the log: nothing of a token, good or bad, at any level, and a proxy that does not pass `Host` on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the support module serves other tests, too")]

#[path = "support/log.rs"]
mod log;
#[path = "support/service.rs"]
mod service;

use axum::{Router, routing::get};
use futures::SinkExt as _;
use rooms_core::{HookError, Kind, RoomManager};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_tungstenite::tungstenite::Message;

use log::Log;
use service::{Claims, Service, close_of, next_json, token};

fn routes() -> Router<RoomManager> {
    Router::new().route("/posts/{id}/live", get(service::live))
}

#[tokio::test]
async fn a_proxy_that_does_not_pass_host_is_told_of_once_with_both_hosts() {
    let (log, _guard) = Log::warnings_here();
    let service = Service::start().await;
    for _ in 0..20 {
        let answer = by_proxy(&service).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    let log = log.text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("`Origin`")).collect();
    assert!(
        matches!(lines[..], [line] if line.contains("https://app.example") && line.contains("backend:3000")),
        "{log}"
    );
}

/// The answer to a page of `https://app.example`, whose proxy names the backend as the host.
async fn by_proxy(service: &Service) -> String {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = format!(
        "GET /posts/42/live?token={} HTTP/1.1\r\nHost: backend:3000\r\nOrigin: https://app.example\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token("5")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    service::read_until(&mut stream, "\r\n\r\n").await
}

#[tokio::test]
async fn no_token_is_logged() {
    let log = Log::start();
    // Who publishes, and has hooks about it: their spans are there, too.
    let kind = Kind::new().join_rule(|who, _| async move { who.user() != "outsider" });
    let kind = kind.on_join(|_| async { Ok(json!({"secret": "of-the-snapshot"})) });
    let service = Service::with_kind(kind.on_message(|member, message| async move {
        member.broadcast(&message.json()?).await.map(drop).map_err(|_| HookError::unavailable())
    }))
    .await;
    let good = token("5");
    let expired = service::token_with(Claims::of("5").set("exp", json!(1)));
    let hostile = service::token_with(Claims::of("evil\nuser"));
    let mut socket = service.connect("/posts/42/live", &good).await;
    next_json(&mut socket).await;
    socket.send(Message::text(r#"{"type":"said","text":"of-a-payload"}"#)).await.unwrap();
    while next_json(&mut socket).await["type"] != "said" {}
    // What goes wrong has an outcome, too.
    by_proxy(&service).await;
    close_of(&mut service.connect("/posts/42/live", &token("outsider")).await).await;
    for bad in [&expired, &hostile, &"garbage-of-a-token".to_owned()] {
        let mut socket = service.connect("/posts/42/live", bad).await;
        close_of(&mut socket).await;
    }
    let ours = log.ours();
    assert!(ours.iter().any(|line| line.contains("a token was refused")), "{}", log.text());
    for (span, fields) in [
        ("upgrade", ["connection", "outcome=\"connected\""]),
        ("upgrade", ["outcome=\"origin\"", ""]),
        ("upgrade", ["outcome=\"turned_away\"", ""]),
        ("join", ["kind=\"post\"", "outcome=\"joined\""]),
        ("join", ["kind=\"post\"", "outcome=\"not_allowed\""]),
        ("hook", ["hook=\"on_join\"", "outcome=\"ended\""]),
        ("hook", ["hook=\"on_message\"", "outcome=\"ended\""]),
        ("publish", ["kind=\"post\"", "outcome=\"all_nodes\""]),
    ] {
        let is_there = |line: &String| line.contains(span) && fields.iter().all(|field| line.contains(field));
        assert!(ours.iter().any(is_there), "{span} {fields:?}: {ours:#?}");
    }
    for secret in [&good, &expired, &hostile, "garbage-of-a-token", "evil", "of-a-payload", "of-the-snapshot"] {
        let parts = secret.split('.').filter(|part| part.len() > 3);
        for part in parts.filter(|part| !part.starts_with("eyJ0eXAi")) {
            assert!(!ours.iter().any(|line| line.contains(part)), "{part}: {ours:#?}");
        }
    }
}
