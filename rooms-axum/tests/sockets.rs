//! Real sockets against a served Axum program, for what is not in the contract of every adapter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/service.rs"]
mod service;

use std::time::Duration;

use axum::{Extension, Router, extract::Path, response::Response, routing::get};
use futures::SinkExt as _;
use rooms_axum::RoomUpgrade;
use rooms_core::{Endpoint, Kind, RoomKey, RoomManager};
use serde_json::json;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        ClientRequestBuilder, Error, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode,
    },
};

use service::{Claims, Service, close_of, next_json, token};

/// The routes of the service under test.
fn routes() -> Router<RoomManager> {
    let versioned = Endpoint::new().subprotocols(["app.v1", "app.v2"]).require_subprotocol().query_token("token");
    Router::new()
        .route("/posts/{id}/live", get(service::live))
        .route("/versioned/{id}", get(in_a_room_of_its_version).layer(Extension(versioned)))
}

async fn in_a_room_of_its_version(upgrade: RoomUpgrade, Path(id): Path<u64>) -> Response {
    let version = upgrade.subprotocol().unwrap_or("none").to_owned();
    upgrade.room("post", format!("{version}-{id}"))
}

#[tokio::test]
async fn a_handler_and_hooks_see_the_subprotocol_that_was_chosen() {
    let kind = Kind::authenticated()
        .on_join(|member| async move { Ok(json!({"speaks": member.subprotocol()})) })
        .on_message(|member, _| async move {
            member.send(&json!({"still": member.subprotocol()}));
            Ok(())
        });
    let service = Service::with_kind(kind).await;
    let uri = format!("ws://{}/versioned/42?token={}", service.address, token("5"));
    for (offers, chosen) in [(["app.v2", "app.v1"], "app.v2"), (["other", "app.v1"], "app.v1")] {
        let request = ClientRequestBuilder::new(uri.parse().unwrap());
        let request = offers.into_iter().fold(request, ClientRequestBuilder::with_sub_protocol);
        // A client checks that what is answered is what it offers.
        let (mut socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], chosen);
        let joined = next_json(&mut socket).await;
        assert_eq!((&joined["room"], &joined["speaks"]), (&json!(format!("post:{chosen}-42")), &json!(chosen)));
        socket.send(Message::text(r#"{"type":"x"}"#)).await.unwrap();
        assert_eq!(next_json(&mut socket).await, json!({"still": chosen}));
    }
    for request in [
        uri.clone().into_client_request(),
        ClientRequestBuilder::new(uri.parse().unwrap()).with_sub_protocol("app.v3").into_client_request(),
    ] {
        let Err(Error::Http(refused)) = connect_async(request.unwrap()).await else { panic!("an upgrade") };
        assert_eq!(refused.status(), 400);
    }
    let mut plain = service.joined("6").await;
    plain.send(Message::text(r#"{"type":"x"}"#)).await.unwrap();
    assert_eq!(next_json(&mut plain).await, json!({"still": null}));
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
        format!("{good}%"),
        format!("{good}%zz"),
        format!("{good}%FF"),
        service::token_with(Claims::of("5").set("exp", json!(service::now() * 1000))),
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
async fn a_token_that_a_page_has_escaped_is_good() {
    let service = Service::start().await;
    let escaped = token("auth0|5f7c").replace('.', "%2E").replace('_', "%5f");
    let mut socket = service.try_connect(&format!("/posts/%34%32/live?%74oken={escaped}")).await.unwrap();
    let joined = next_json(&mut socket).await;
    assert_eq!((&joined["type"], &joined["room"]), (&json!("room_joined"), &json!("post:42")));
    let unset = service::token_with(Claims::of("5").set("aud", json!(null)).set("nbf", json!(null)));
    assert_eq!(next_json(&mut service.connect("/posts/42/live", &unset).await).await["type"], "room_joined");
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
async fn a_stalled_socket_is_cut_by_the_pong_deadline_before_its_outbox_is_full() {
    let service = Service::with(|limits| {
        limits.max_outbox_bytes = usize::MAX;
        limits.max_outbox_messages = usize::MAX;
        limits.ping_interval = Duration::from_millis(200);
        limits.pong_timeout = Duration::from_millis(200);
        limits.close_timeout = Duration::from_millis(100);
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
        assert!(message.json()?["type"] != "panic", "a hook that panics");
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
