//! The `live_posts` program, over HTTP and WebSocket: its answers, who is told what, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/lines.rs"]
mod lines;
#[path = "support/program.rs"]
mod program;
#[path = "support/user.rs"]
mod user;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::protocol::frame::coding::CloseCode};

use program::Program;
use user::{Live, User};

#[tokio::test]
async fn a_comment_and_a_like_reach_those_who_watch_that_post_and_nobody_else() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (mut one, mut joined) = user.watch(42).await;
    assert!(joined.as_object_mut().unwrap().remove("position").is_some_and(|position| position.is_string()));
    assert_eq!(joined, json!({"type": "room_joined", "post_id": 42, "room": "post:42", "viewers": 1}));
    let (mut two, joined) = user.watch(42).await;
    assert_eq!(joined["viewers"], 2);
    let (mut elsewhere, joined) = user.watch(1).await;
    assert_eq!(joined["viewers"], 1);

    let (status, comment) = user.post("/posts/42/comments", &json!({"text": " so it is "})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&comment["author"], &comment["text"], &comment["post_id"]),
        (&json!("5"), &json!("so it is"), &json!(42))
    );
    assert!(comment["id"].is_u64() && comment["created_at"].is_string(), "{comment}");
    let (status, like) = user.post("/posts/42/likes", &json!({})).await;
    assert_eq!((status, &like["post_id"]), (StatusCode::CREATED, &json!(42)));

    let told = [
        json!({"type": "new_comment", "comment": comment}),
        json!({"type": "like_count", "post_id": 42, "likes": like["likes"]}),
    ];
    for live in [&mut one, &mut two] {
        // The answer to a request does not wait for the members: theirs may come after it.
        for expected in &told {
            let mut event = live.event().await;
            while event["type"] == "viewer_joined" {
                event = live.event().await;
            }
            assert_eq!(event, *expected);
        }
        assert!(live.until_pong().await.iter().all(|event| event["type"] == "viewer_joined"), "and nothing else");
    }
    assert_eq!(elsewhere.until_pong().await, [] as [Value; 0]);
    let (_, comments) = user.get("/posts/42/comments").await;
    assert!(comments.as_array().unwrap().contains(&comment));
}

#[tokio::test]
async fn a_bad_request_is_refused_with_words_and_nobody_is_told() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (mut live, _) = user.watch(42).await;
    let stranger = User { token: String::new(), http: Client::new(), program: &program };
    let forged = User { token: format!("{}x", user.token), http: Client::new(), program: &program };

    let cases = [
        (&stranger, "/posts/42/comments", json!({"text": "hi"}), 401),
        (&forged, "/posts/42/comments", json!({"text": "hi"}), 401),
        (&stranger, "/posts/42/likes", json!({}), 401),
        (&user, "/posts/9999/comments", json!({"text": "hi"}), 404),
        (&user, "/posts/9999/likes", json!({}), 404),
        (&user, "/posts/42/comments", json!({"text": ""}), 422),
        (&user, "/posts/42/comments", json!({"text": " \n "}), 422),
        (&user, "/posts/42/comments", json!({"text": "é".repeat(2_001)}), 422),
        (&user, "/posts/42/comments", json!({"text": 5}), 422),
        (&user, "/posts/42/comments", json!({}), 422),
        (&user, "/posts/42/comments", json!({"text": "x".repeat(70_000)}), 413),
        (&user, "/login", json!({"user": "a b"}), 422),
        (&user, "/login", json!([]), 422),
        (&user, "/login", json!({"user": "*"}), 422),
    ];
    for (who, path, body, expected) in cases {
        let (status, answer) = who.post(path, &body).await;
        assert_eq!(status.as_u16(), expected, "{path} {body}");
        assert!(answer["error"].as_str().is_some_and(|text| text.len() > 10), "{path}: {answer}");
    }
    let (status, answer) = user.request(Method::POST, "/posts/42/comments", "{no json".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().is_some_and(|text| text.contains("JSON")), "{answer}");
    assert_eq!(live.until_pong().await, [] as [Value; 0]);

    let (status, _) = user.post("/posts/42/comments", &json!({"text": "é".repeat(2_000)})).await;
    assert_eq!(status, StatusCode::CREATED, "2,000 characters are allowed, however many bytes they are");
}

#[tokio::test]
async fn a_signal_closes_the_members_with_1012_and_the_program_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let program = Program::start().await;
        let user = User::login(&program, "5").await;
        let (mut live, _) = user.watch(42).await;
        let (status, health) = user.get("/healthz").await;
        assert_eq!(
            (status, health),
            (StatusCode::OK, json!({"status": "ok", "connections": 1, "rooms": 1, "bus": null}))
        );

        program.signal(signal);
        assert_eq!(live.close_code().await, CloseCode::Restart, "after SIG{signal}");
        drop(live);
        drop(user);
        let (status, log) = program.ended().await;
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {log}");
    }
}

#[tokio::test]
async fn a_token_is_not_in_the_log() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let (live, _) = user.watch(42).await;
    let forged = User { token: format!("{}x", user.token), http: Client::new(), program: &program };
    let url = program.url(&format!("/ws/posts/42/live?token={}", forged.token)).replace("http", "ws");
    let mut refused = Live(connect_async(url).await.unwrap().0);
    assert_eq!(refused.close_code().await, CloseCode::Policy);
    let token = user.token.clone();
    drop((live, refused));
    program.signal("TERM");
    let (_, log) = program.ended().await;
    assert!(log.contains("shutting down") && !log.contains(&token), "{log}");
}

#[tokio::test]
async fn a_browser_that_offers_compression_is_answered_so() {
    let program = Program::start().await;
    let user = User::login(&program, "5").await;
    let request = user.http.get(program.url(&format!("/ws/posts/42/live?token={}", user.token)));
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let answer =
        upgrade.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let agreed = answer.headers()["sec-websocket-extensions"].to_str().unwrap();
    assert!(agreed.starts_with("permessage-deflate; server_no_context_takeover"), "{agreed}");
}
